"""Each script in examples/ runs to its end, from another folder, and says something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "TIGHTBOUND_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() and "Traceback" not in done.stderr
    promised = re.findall(r"writes ([\w-]+\.png)", script.read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.glob("*.png")} == set(promised)
