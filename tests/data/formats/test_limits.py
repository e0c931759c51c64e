"""Sources that declare more than `data.memory`, and long names in messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tightbound.data.formats.limits import check_declared
from tightbound.data.formats.sparse import check_dense
from tightbound.data.opening import open_source
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError


def test_a_source_at_the_bound_is_read_and_a_byte_more_is_refused() -> None:
    settings = DataSettings(memory=2)
    assert settings.memory_bytes == 2_000_000
    check_declared("a.csv has", 2_000_000, settings)
    with pytest.raises(TightboundError) as error:
        check_declared("a.csv has", 2_000_001, settings, "save it as .parquet")
    assert str(error.value) == (
        "a.csv has 3 MB, more than data.memory (2 MB): set data.memory=3 if this is so, "
        "or save it as .parquet"
    )


def test_a_sparse_matrix_says_what_it_needs_when_made_dense() -> None:
    with pytest.raises(TightboundError) as error:
        check_dense((1000, 1000), 8, DataSettings(memory=7), "the matrix")
    assert str(error.value) == (
        "the matrix is sparse, and its (1000, 1000) values made dense need 8 MB, more than "
        "data.memory (7 MB): set data.memory=8 if this is so, or choose fewer columns"
    )


def test_a_long_name_of_an_array_is_cut_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 2)), y=np.zeros(4))
    with pytest.raises(TightboundError) as error:
        open_source(str(path), DataSettings(condition="c" * 5000))
    assert f"{'c' * 57!r}... (5,000 characters)" in str(error.value)
    assert len(str(error.value)) < 300
