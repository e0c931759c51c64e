"""The faults of scripts/mutations.py still fit the sources; the script itself is run by hand."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import mutations


def test_each_old_text_occurs_once_and_each_test_is_there() -> None:
    assert mutations.wrong_texts(mutations.MUTATIONS) == []
    assert len(mutations.MUTATIONS) >= 20
