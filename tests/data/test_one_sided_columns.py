"""Columns of numbers that are not negative: which are found, and what is refused in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tightbound import data as data_room
from tightbound.data import DataSettings
from tightbound.data.tables.table import guess
from tightbound.runtime.errors import TightboundError

pd = pytest.importorskip("pandas")
N = 400


def zeros(r: np.random.Generator, share: float, values: Any) -> Any:
    return np.where(r.random(len(values)) < share, 0, values)


def columns() -> dict[str, tuple[str, Any]]:
    """Columns by the kind that they have."""
    r = np.random.default_rng(0)
    return {
        "normal": ("real", r.normal(10, 1, N)),
        "uniform": ("real", r.random(N)),
        "signed": ("real", r.normal(0, 1, N) ** 3),
        "one outlier": ("real", np.where(np.arange(N) == 7, 1e6, r.normal(10, 1, N))),
        "grades": ("real", r.integers(0, 3, N) / 2),
        "log-normal": ("positive", r.lognormal(2, 0.8, N)),
        "exponential": ("positive", r.exponential(3, N)),
        "salary": ("positive", np.round(r.lognormal(10, 0.6, N))),
        "nine zeros in ten": ("zero-inflated", zeros(r, 0.9, r.lognormal(0, 1, N))),
        "zeros beside a normal": ("zero-inflated", zeros(r, 0.3, r.normal(9, 1, N))),
        "few zeros, long tail": ("zero-inflated", zeros(r, 0.01, r.lognormal(0, 1, N))),
        "gains": ("zero-inflated", zeros(r, 0.9, np.round(r.lognormal(8, 1, N)))),
        "profit": ("zero-inflated-real", zeros(r, 0.9, r.normal(0, 3, N))),
        "rounded": ("real", np.round(r.normal(0, 1, N), 1)),
        "steps": ("real", r.integers(-4, 5, N)),
        "visits": ("count", r.negative_binomial(1, 0.05, N)),
        "few visits": ("count", zeros(r, 0.6, r.poisson(4, N))),
    }


@pytest.mark.parametrize("name", columns())
def test_the_kind_of_a_column(name: str) -> None:
    kind, values = columns()[name]
    assert guess(values) == kind


def frame(**more: Any) -> Any:
    """A table of fractions, one column of which has nine zeros in ten."""
    spent = columns()["nine zeros in ten"][1]
    return pd.DataFrame({"x": columns()["normal"][1], "spent": spent, **more})


def kinds(source: Any, domains: tuple[str, ...] = (), **settings: Any) -> list[str]:
    data = data_room.load(source, DataSettings(**settings), domains=domains)
    assert (data.spec.domain == "mixed") == any(
        f.kind != "real" for f in data.spec.fields
    )
    return [f.kind for f in data.spec.fields]


def test_a_table_of_numbers_alone_has_such_columns_and_says_so() -> None:
    assert kinds(frame()) == ["real", "zero-inflated"]
    notices = data_room.load(frame()).notices
    assert any("zero-inflated: spent" in line for line in notices)


def test_settings_likelihoods_and_arrays_keep_plain_numbers() -> None:
    assert kinds(frame(), domain="real") == ["real", "real"]
    assert kinds(frame(), domains=("real", "unit")) == ["real", "real"]
    assert kinds(frame(), domains=("mixed",)) == ["real", "zero-inflated"]
    assert not data_room.load(frame().to_numpy()).spec.fields
    assert kinds(frame(), fields={"spent": "real", "x": "positive"}) == [
        "positive",
        "real",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("positive", 0.0, "is 0, not a number above 0: choose zero-inflated or real"),
        ("positive", -2.0, "is -2, not a number above 0"),
        ("zero-inflated", -2.0, "is -2, not a number from 0 up: choose real"),
    ],
)
def test_values_that_a_column_cannot_have_are_refused(
    kind: str, value: float, says: str
) -> None:
    r = np.random.default_rng(0)
    values = r.lognormal(0, 1, N)
    values[3] = value
    table = pd.DataFrame({"x": r.normal(size=N), "spent": values})
    with pytest.raises(TightboundError, match=r"row 3 .*column 'spent' " + says):
        data_room.load(table, DataSettings(fields={"spent": kind}))
    with pytest.raises(TightboundError, match="holds no numbers"):
        words = pd.DataFrame({"x": r.normal(size=N), "spent": ["a"] * N})
        data_room.load(words, DataSettings(fields={"spent": kind}))


def test_new_data_are_held_against_the_kind_of_training() -> None:
    data = data_room.load(frame())
    new = frame()
    new.loc[5, "spent"] = -1.0
    with pytest.raises(TightboundError, match=r"row 5 .*'spent' .*-1.* from 0 up"):
        data_room.read(new, data.spec)


@pytest.mark.parametrize("kind", ["real", "zero-inflated-real"])
def test_new_data_of_both_signs_are_read(kind: str) -> None:
    table = frame(profit=columns()["profit"][1])
    data = data_room.load(table, DataSettings(fields={"profit": kind}))
    assert [f.kind for f in data.spec.fields][-1] == kind
    rows = data_room.read(table, data.spec).raw(torch.arange(N))
    assert rows[:, 2].tolist() == table["profit"].tolist()
