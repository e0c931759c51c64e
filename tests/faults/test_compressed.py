"""Some of the damaged compressed files of `compressed.py`; all of them by `make faults`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("constriction")

from faults import compressed

LONG = bool(os.environ.get("TIGHTBOUND_LONG"))


def test_damaged_files_are_refused_with_one_sentence(tmp_path: Path) -> None:
    count = compressed.COUNT if LONG else 48
    assert compressed.campaign(0, count, tmp_path) == []


def test_each_kind_of_damage_changes_the_file(tmp_path: Path) -> None:
    import random

    case = compressed.cases(tmp_path)[0]
    for damage in compressed.DAMAGES:
        changed = [damage(random.Random(seed), case.data) for seed in range(8)]
        assert sum(data != case.data for data in changed) >= 6, damage
    assert compressed.wrong(case, case.data, case.run, tmp_path / "whole.tb") is None
    other = compressed.cases(tmp_path / "other")[0]
    swapped = compressed.Case(case.run, case.x + 1, case.data)
    fault = compressed.wrong(swapped, case.data, case.run, tmp_path / "whole.tb")
    assert fault == "wrong examples"
    assert other.data == case.data


def test_commands_in_trouble_end_with_a_sentence_and_leave_no_part(
    tmp_path: Path,
) -> None:
    assert compressed.in_trouble(tmp_path) == []
