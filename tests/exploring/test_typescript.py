"""The tests of the page's own code: densities, scenes and numbers in TypeScript, by vitest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import build_page as page  # noqa: E402

FEWEST = 200  # tests that there are at least


def test_the_tests_in_typescript_pass() -> None:
    try:
        folder = page.node_folder()
    except page.NotBuilt as error:
        pytest.skip(str(error))
    if not page.has_modules():
        pytest.skip("the packages of web/ are not installed: make web")
    vitest = page.WEB / "node_modules" / "vitest" / "vitest.mjs"
    done = subprocess.run(
        [str(folder / "node"), str(vitest), "run"],
        cwd=page.WEB,
        env=os.environ | {"CI": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"Tests\s+(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= FEWEST, done.stdout[-1000:]
