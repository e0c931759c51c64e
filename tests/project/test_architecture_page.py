"""The picture and the quiz of the architecture page agree with the package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import architecture_picture


def test_the_picture_is_up_to_date() -> None:
    drawn = architecture_picture.PICTURE.read_text(encoding="utf-8")
    command = "python scripts/architecture_picture.py"
    assert drawn == architecture_picture.picture(), f"draw it again: {command}"


def test_an_import_that_others_imply_is_left_out() -> None:
    counts = {("c", "b"): 1, ("b", "a"): 2, ("c", "a"): 3}
    expected = {("b", "a"): 2, ("c", "b"): 1}
    assert architecture_picture.without_implied(counts) == expected
