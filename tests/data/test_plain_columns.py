"""Cells, categories and names of a DataFrame that a table does not hold as they are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tightbound import data as data_room
from tightbound.data import DataSettings
from tightbound.runtime.errors import TightboundError

N = 40


def read(frame: pd.DataFrame, **settings: Any) -> data_room.Data:
    return data_room.load(frame, DataSettings(**settings))


def drawn(frame: pd.DataFrame, rows: list[list[float]]) -> pd.DataFrame:
    """These numbers as draws of a model of the table."""
    fields = read(frame).spec.fields
    return data_room.frame(data_room.rounded(torch.tensor(rows), fields), fields)


def reals(names: Any) -> pd.DataFrame:
    x = np.random.default_rng(0).normal(size=(N, len(names)))
    return pd.DataFrame(x, columns=names)


@pytest.mark.parametrize(
    "names",
    [
        [2, 0, 1],
        [0.5, 1.5, -2.0],
        pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")]),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
    ],
)
def test_names_of_columns_come_back(names: Any) -> None:
    frame = reals(names)
    out = drawn(frame, [[0.0, 1.0, 2.0]])
    assert out.columns.equals(frame.columns)
    turned = frame[frame.columns[::-1]]
    spec = read(frame).spec
    rows = data_room.read(turned, spec).examples(torch.arange(N)).x
    assert torch.equal(rows, data_room.read(frame, spec).examples(torch.arange(N)).x)


def test_other_names_are_texts_and_said() -> None:
    data = read(reals(pd.date_range("2020-01-01", periods=2)))
    assert data.spec.fields[0].name == "2020-01-01 00:00:00"
    assert "names of these columns are read as texts" in data.notices[0]


def test_names_that_break_lines_stay_in_one_line() -> None:
    spec = read(reals(["a\nb", "c"])).spec
    with pytest.raises(TightboundError, match=r"no column 'c'") as error:
        data_room.read(reals(["a\nb", "d"]), spec)
    assert "\n" not in str(error.value)


def test_decimal_numbers_are_read_with_their_digits() -> None:
    cells = [Decimal(i) / 4 for i in range(N)]
    data = read(pd.DataFrame({"x": reals(["a"])["a"], "d": cells}))
    assert data.spec.fields[1].digits == 2
    assert "decimal numbers of these columns are read as float64: d" in data.notices[0]
    assert data.train.examples(torch.arange(32)).x.isfinite().all()


def test_objects_of_numbers_are_numbers() -> None:
    whole = [2**60 + 1 + i for i in range(N)]
    frame = pd.DataFrame(
        {
            "whole": pd.Series(whole, dtype=object),
            "gaps": pd.Series([None, *whole[1:]], dtype=object),
            "x": pd.Series([0.5, *range(1, N)], dtype=object),
        }
    )
    spec = read(frame, allow_missing=True).spec
    assert [f.type for f in spec.fields] == ["int64", "Int64", "float64"]
    split = data_room.read(frame, spec)
    rows = torch.zeros(N, 3).double()
    out = data_room.filled_frame(rows, spec.fields, split.table)
    assert out["whole"].tolist() == whole
    assert out["gaps"].tolist()[1:] == whole[1:]


def test_categories_that_are_intervals_are_texts_in_their_order() -> None:
    x = np.linspace(0, 3, N)
    frame = pd.DataFrame({"x": x**2, "bin": pd.cut(x, [-1, 1, 2, 3])})
    data = read(frame)
    assert data.spec.fields[1].values == ("(-1, 1]", "(1, 2]", "(2, 3]")
    assert "categories of these columns are read as texts: bin" in data.notices[0]
    out = drawn(frame, [[1.0, 2.0], [1.0, 0.0]])["bin"]
    assert out.cat.ordered
    assert out.tolist() == ["(2, 3]", "(-1, 1]"]


def test_draws_have_the_decimal_places_of_their_columns() -> None:
    r = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "price": np.exp(3 * r.normal(size=N)).round(2) + 0.01,
            "single": r.normal(size=N).round(1).astype(np.float32),
            "any": r.normal(size=N),
        }
    )
    kinds = [(f.kind, f.digits) for f in read(frame).spec.fields]
    assert kinds == [("positive", 2), ("real", 1), ("real", None)]
    out = drawn(frame, [[3.14159, 0.271828, 0.577], [0.001, -0.04, 0.1]])
    assert out["price"].tolist() == [3.14, 0.01], "a positive number stays above 0"
    assert out["single"].tolist() == [np.float32(0.3), np.float32(-0.0)]
    assert out["any"].tolist() == torch.tensor([0.577, 0.1]).double().tolist()


def test_constants_come_out_as_they_are() -> None:
    when = pd.Timestamp("2020-05-01")
    frame = reals(["x"]).assign(c=3.7, n=5, zero=0, t=when)
    out = drawn(frame, [[0.0, 2.9, 6.2, -1.0, 0.0]])
    assert out.iloc[0, 1:].tolist() == [3.7, 5, 0, when]
    assert read(reals(["x"])).spec.fields[0].constant is None


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float64", "bool", "Int64"])
def test_columns_of_two_numbers_come_out_in_their_type(dtype: str) -> None:
    frame = reals(["x"]).assign(b=pd.Series(np.arange(N) % 2).astype(dtype))
    out = drawn(frame, [[0.1, 1.0], [0.2, 0.0]])["b"]
    assert str(out.dtype) == dtype
    assert out.tolist() == [1, 0]


def test_numbers_of_both_signs_with_zeros_are_read_again() -> None:
    x = np.random.default_rng(2).normal(size=N)
    frame = pd.DataFrame({"x": x, "z": np.where(x > 0, 0, x)})
    spec = read(frame).spec
    assert spec.fields[1].kind == "zero-inflated-real"
    rows = data_room.read(frame, spec).examples(torch.arange(N)).x
    assert rows[:, 1].double().numpy() == pytest.approx(frame["z"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "object"])
def test_a_number_that_is_not_finite_is_named_by_its_column(
    bad: float, dtype: str
) -> None:
    frame = reals(["x", "y"])
    frame.loc[3, "y"] = bad
    with pytest.raises(TightboundError, match=r"row 3 .*column 'y' is"):
        read(frame.astype({"y": dtype}))


def test_whole_numbers_that_float64_merges_are_said() -> None:
    frame = reals(["x"]).assign(id=2**60 + np.arange(N))
    assert any(
        "'id' has whole numbers of more digits" in n for n in read(frame).notices
    )
    far = reals(["x"]).assign(id=2**60 + 2**40 * np.arange(N))
    assert not any("more digits" in n for n in read(far).notices)


def test_texts_with_spaces_match_those_of_a_file() -> None:
    frame = reals(["x"]).assign(k=["u ", " v"] * (N // 2))
    spec = read(frame).spec
    stripped = frame.assign(k=frame["k"].str.strip())
    rows = data_room.read(stripped, spec).examples(torch.arange(N)).x
    assert torch.equal(rows, data_room.read(frame, spec).examples(torch.arange(N)).x)


def test_times_do_not_stand_for_numbers_nor_numbers_for_times() -> None:
    times = pd.date_range("2020-01-01", periods=N)
    of_numbers = reals(["x", "y"])
    of_times = of_numbers.assign(y=times)
    of_spans = of_numbers.assign(y=times - times[0])
    frames = {"numbers": of_numbers, "times": of_times, "time spans": of_spans}
    for learned, frame in frames.items():
        spec = read(frame).spec
        for given, other in frames.items():
            if given == learned:
                assert len(data_room.read(other, spec)) == N
                continue
            message = f"column 'y' holds {given}, and {learned} in training"
            with pytest.raises(TightboundError, match=message):
                data_room.read(other, spec)
    gaps = read(of_times, allow_missing=True).spec
    assert len(data_room.read(of_numbers.assign(y=np.nan), gaps)) == N


def test_poisson_counts_are_counts_whatever_the_draw() -> None:
    r = np.random.default_rng(4)
    tables = [reals(["x"]).assign(n=r.poisson(3, N)) for _ in range(40)]
    kinds = [read(table).spec.fields[1].kind for table in tables]
    assert kinds.count("count") >= 38
    ages = reals(["x"]).assign(n=r.integers(30, 40, N))
    assert read(ages).spec.fields[1].kind == "real"


def test_a_series_is_a_table_of_one_column_or_a_row() -> None:
    frame = reals(["x", "y"])
    one = data_room.load(frame["x"], DataSettings())
    assert [f.name for f in one.spec.fields] == ["x"]
    rows = data_room.read(frame["x"], one.spec).examples(torch.arange(N)).x
    assert rows[:, 0].double().numpy() == pytest.approx(frame["x"])
    assert len(data_room.read(frame.iloc[3], read(frame).spec)) == 1


def test_periods_are_said_to_be_times() -> None:
    months = pd.period_range("2020-01", periods=N, freq="M")
    data = read(reals(["x"]).assign(p=months))
    assert (
        "periods of these columns are read as the times of their starts: p"
        in data.notices[0]
    )


def test_whole_numbers_with_gaps_of_a_text_file_come_out_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,x\n1,0.5\n,1.5\n3,\n4,2.5\n")
    data = data_room.load(str(path), DataSettings(allow_missing=True))
    spec = data.spec
    assert [f.type for f in spec.fields] == ["Int64", "float64"]
    split = data_room.read(str(path), spec, data.settings)
    filled = torch.tensor([[1.0, 0.5], [2.2, 1.5], [3.0, 7.25], [4.0, 2.5]]).double()
    out = data_room.filled_frame(filled, spec.fields, split.table)
    assert out["n"].tolist() == [1, 2, 3, 4]
    assert out["x"].tolist() == [0.5, 1.5, 7.25, 2.5]


def test_a_model_of_a_table_reads_a_built_in_set_of_its_shape() -> None:
    """The kinds of its columns, which training writes to the settings, are no setting of
    the set.
    """
    names = [f"p{i}" for i in range(64)]
    data = read(reals(names))
    kinds = {column.name: column.kind for column in data.spec.fields}
    settings = data.settings.model_copy(update={"fields": kinds})
    digits = data_room.load("digits", DataSettings()).test
    assert isinstance(digits, data_room.Split)
    rows = torch.arange(len(digits))
    split = data_room.read("digits", data.spec, settings)
    assert torch.equal(split.raw(rows).double(), digits.raw(rows).flatten(1).double())
    with pytest.raises(TightboundError, match=r"shape \(8, 8\), the model was trained"):
        data_room.read("digits", read(reals(names[:5])).spec, settings)
