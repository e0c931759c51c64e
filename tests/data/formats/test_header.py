"""Whether the first row of a text file names its columns, where it holds numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tightbound.data import DataSettings
from tightbound.data.formats.header import find_header
from tightbound.data.opening import open_source
from tightbound.data.source import RawSource

X = np.random.default_rng(0).normal(size=(30, 4))


def opened(path: Path, text: str, **settings: bool) -> RawSource:
    path.write_text(text)
    return open_source(path, DataSettings(**settings))


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("order", [False, True])
def test_the_header_that_pandas_writes_for_numbered_columns_is_no_row(
    width: int, index: bool, order: bool, tmp_path: Path
) -> None:
    frame = pd.DataFrame(X[:, :width])
    if order:
        frame = frame.iloc[::-1]
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=index)
    source = open_source(path, DataSettings())
    columns = dict(source.table.columns)
    if index and order:
        assert columns.pop("Unnamed: 0").tolist() == list(range(29, -1, -1))
    assert list(columns) == [str(i) for i in range(width)]
    for i in range(width):
        assert columns[str(i)].tolist() == frame[i].tolist()
    assert "numbers the columns" in " ".join(source.notices)


def test_years_after_the_index_of_pandas_are_names(tmp_path: Path) -> None:
    frame = pd.DataFrame(X[:, :3], columns=[2019, 2020, 2021])
    frame.to_csv(tmp_path / "t.csv")
    columns = open_source(tmp_path / "t.csv", DataSettings()).table.columns
    assert list(columns) == ["2019", "2020", "2021"]
    assert columns["2021"].tolist() == frame[2021].tolist()


@pytest.mark.parametrize(
    ("text", "rows", "sentence"),
    [
        ("2019,2020,2021\n1.5,2.5,3.5\n2.5,3.5,4\n", 3, "data.header=true"),
        ("land,2019,2020\nA,1.5,2.5\nB,2.5,3.5\n", 3, "data.header=true"),
        ("0,1\n1,0\n1,1\n", 3, ""),
        ("0\n0.25\n0.5\n1\n", 4, ""),
        ("0,1,3\n1,0,2\n", 2, ""),
        ("3,2,1\n1.5,0.5,2.5\n", 2, ""),
        ("0,1,2.5\n1,0,3.5\n", 2, ""),
        ("1,2\n3,4\n", 2, ""),
    ],
)
def test_a_first_row_of_other_numbers_is_a_row(
    text: str, rows: int, sentence: str, tmp_path: Path
) -> None:
    source = opened(tmp_path / "t.csv", text)
    assert len(source.table) == rows
    notices = " ".join(source.notices)
    assert sentence in notices if sentence else not notices
    assert len(opened(tmp_path / "t.csv", text, header=True).table) == rows - 1


def test_the_setting_makes_the_first_row_a_row(tmp_path: Path) -> None:
    text = "0,1,2\n1.5,2.5,3.5\n"
    assert len(opened(tmp_path / "t.csv", text).table) == 1
    source = opened(tmp_path / "t.csv", text, header=False)
    assert source.splits["all"].x.tolist() == [[0, 1, 2], [1.5, 2.5, 3.5]]
    assert not source.notices


def test_a_wide_header_is_judged_by_few_calls_of_pandas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    plain = pd.to_numeric

    def counted(*args: object, **options: object) -> object:
        calls.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(pd, "to_numeric", counted)
    names = [f"gene_{i}" for i in range(20_000)]
    assert find_header([names, ["1.5"] * 20_000], "auto", "t.csv") == (True, "")
    assert len(calls) <= 2
