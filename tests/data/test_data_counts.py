"""Counts: whole numbers from 0 without an upper end."""

from __future__ import annotations

import numpy as np
import pytest

from tightbound.data import load
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError

COUNTS = np.random.default_rng(0).negative_binomial(2, 0.01, (60, 5))


def test_counts_are_read_when_asked_for_and_pointed_to_otherwise() -> None:
    data = load(COUNTS, DataSettings(domain="count"))
    assert (data.spec.domain, data.spec.levels, data.spec.bounds) == (
        "count",
        None,
        (0.0, float("inf")),
    )
    assert data.spec.discrete and data.train.batch(data.train.spread(3)).shape == (3, 5)
    plain = load(COUNTS, DataSettings())
    assert plain.spec.domain == "real" and any(
        "data.domain=count" in note for note in plain.notices
    )


@pytest.mark.parametrize("bad", [-1.0, 2.5])
def test_what_is_no_count_is_refused_with_its_row(bad: float) -> None:
    x = COUNTS.astype(np.float64)
    x[17, 2] = bad
    with pytest.raises(
        TightboundError, match=f"row 17 .* holds {bad:g}.*whole numbers from 0 up"
    ):
        load(x, DataSettings(domain="count"))
