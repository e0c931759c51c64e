"""The page of an installed wheel, in an empty environment without node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "installed_page.py"


@pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"),
    reason="long, minutes, and installs from a registry: TIGHTBOUND_LONG=1",
)
def test_an_installed_wheel_serves_the_page_without_node(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for what in ("has no node", "the page is sent", "blocks are sent"):
        assert what in done.stdout
