"""The map from old test names to new ones, and the script that checks that it is complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import check_moved_tests as script

ROOT = script.ROOT
BEFORE_THE_MOVES = "5daae93"


def test_functions_and_methods_are_tests() -> None:
    source = (
        "def test_a(): ...\ndef helper(): ...\nclass TestB:\n def test_c(self): ..."
    )
    assert script.tests_in(source) == ["test_a", "TestB::test_c"]


def test_each_old_test_is_moved_renamed_gone_or_missing() -> None:
    old = {"a.py::test_1", "a.py::test_2", "a.py::test_3", "a.py::test_4"}
    moved = {
        "files": {"a.py": "room/a.py"},
        "tests": {"a.py::test_2": ["room/a.py::test_2a", "room/a.py::test_2b"]},
        "gone": {"a.py::test_3": "its function is gone", "a.py::test_9": ""},
    }
    new = {"room/a.py::test_1", "room/a.py::test_2a", "room/a.py::test_2b"}
    result = script.compare(old, new, moved)
    assert set(result.now) == {"a.py::test_1", "a.py::test_2"}
    assert result.gone == {"a.py::test_3": "its function is gone"}
    assert result.missing == ["a.py::test_4 is not at room/a.py::test_4"]
    assert len(result.mistakes) == 2


def test_every_test_of_before_the_moves_is_here() -> None:
    inside = ["git", "-C", str(ROOT), "cat-file", "-e", BEFORE_THE_MOVES]
    if subprocess.run(inside, capture_output=True).returncode:
        pytest.skip("the history is not here")
    command = [sys.executable, str(ROOT / "scripts" / "check_moved_tests.py")]
    done = subprocess.run([*command, BEFORE_THE_MOVES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
