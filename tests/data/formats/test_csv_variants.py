"""Ways to write a CSV file: each gives the right values, or a sentence that says why not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from csv_ways import AB, NAN, PLAIN, READ, REFUSED, check, dates

from tightbound import data as data_room
from tightbound.data import DataSettings
from tightbound.data.formats.text_file import TextFile, check_rows
from tightbound.data.opening import open_source
from tightbound.data.source import RawSource
from tightbound.runtime.errors import TightboundError


def read(
    tmp_path: Path, content: str | bytes, name: str = "t.csv", **settings: Any
) -> RawSource:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_source(str(path), DataSettings(**settings))


def stored(frame: pd.DataFrame, kind: str, folder: Path) -> pd.DataFrame | Path:
    """A DataFrame, or a file of it."""
    if kind == "frame":
        return frame
    pytest.importorskip("pyarrow")
    path = folder / f"t.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_feather(path)
    return path


@pytest.mark.parametrize("name", READ)
def test_a_way_to_write_a_table_is_read(name: str, tmp_path: Path) -> None:
    content, settings, columns = READ[name]
    if "before 1678" in name and int(pd.__version__.split(".")[0]) < 3:
        with pytest.raises(TightboundError, match="install pandas 3"):
            read(tmp_path, content, **settings)
        return
    check(read(tmp_path, content, **settings), columns)


@pytest.mark.parametrize("name", REFUSED)
def test_a_way_to_write_a_table_is_refused(name: str, tmp_path: Path) -> None:
    content, settings, sentence = REFUSED[name]
    with pytest.raises(TightboundError, match=sentence) as error:
        read(tmp_path, content, **settings)
    assert "\n" not in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 400


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz"])
def test_packed_files_are_read(name: str, tmp_path: Path) -> None:
    text = PLAIN.replace(",", "\t") if "tsv" in name else PLAIN
    check(read(tmp_path, gzip.compress(text.encode()), name), AB)
    packed = gzip.compress(text.encode() * 99)
    for bad in (packed[:-20], b"no gzip", packed[:30] + b"\xff" * 20 + packed[50:]):
        with pytest.raises(TightboundError, match=r"gzip|cells|not text"):
            read(tmp_path, bad, name)


def test_a_packed_file_unpacks_to_no_more_than_the_memory_setting(
    tmp_path: Path,
) -> None:
    packed = gzip.compress(b"a,b\n" + b"1.5,1\n" * 400_000)
    assert len(packed) < 20_000
    assert len(read(tmp_path, packed, "t.csv.gz", memory=3).table) == 400_000
    with pytest.raises(TightboundError, match="unpacks to more than 2 MB"):
        read(tmp_path, packed, "t.csv.gz", memory=2)


@pytest.mark.parametrize(
    ("cells", "zone", "utc"),
    [
        (["2021-01-02 00:00:00+00:00"], "UTC", "2021-01-02"),
        (["2021-01-02T00:00:00Z"], "UTC", "2021-01-02"),
        (["2021-01-02 01:00:00+01:00"], "UTC+01:00", "2021-01-02"),
        (["2021-01-02 01:00+01:00", "2021-06-02 02:00+02:00"], "UTC", "2021-01-02"),
    ],
)
def test_times_have_their_zone(
    cells: list[str], zone: str, utc: str, tmp_path: Path
) -> None:
    text = "t,v\n" + "".join(f"{cell},1.5\n" for cell in cells)
    table = read(tmp_path, text).table
    assert table.zones == {"t": zone}
    assert table.columns["t"][0] == np.datetime64(utc)


@pytest.mark.parametrize(
    ("text", "new", "resolved", "values"),
    [
        ("a;b\n1,5;1\n", "a;b\n1,234;1\n", {"decimal": "comma"}, [1.234]),
        ('a,b\n"1,000.5",1\n', 'a,b\n"1,234",1\n', {"decimal": "point"}, [1234]),
        (
            "a,b\n31.01.2021,1\n",
            "a,b\n01/02/2021,1\n",
            {"dates": "day-first"},
            [np.datetime64("2021-02-01", "us")],
        ),
        ("a,b\n1.5,1\n", "a,b\n1.234,1\n", {}, [1.234]),
    ],
)
def test_new_data_are_read_by_what_training_proved(
    text: str, new: str, resolved: dict[str, str], values: list[Any], tmp_path: Path
) -> None:
    source = read(tmp_path, text)
    proved = {key: source.resolved.get(key) for key in ("decimal", "dates")}
    assert proved == {"decimal": None, "dates": None} | resolved
    check(read(tmp_path, new, **resolved), {"a": values, "b": [1]})
    again = read(tmp_path, text, **resolved)
    np.testing.assert_equal(again.table.columns["a"], source.table.columns["a"])


def test_texts_of_a_data_frame_are_read_in_the_same_way() -> None:
    frame = pd.DataFrame(
        {
            "price": ["1,5", "22,75", None],
            "when": ["31.01.2021", "02.03.2021", "04.05.2021"],
            "code": ["10", "20", "30"],
            "kind": ["a", "b", "a"],
        }
    )
    source = open_source(frame, DataSettings(allow_missing=True))
    check(
        source,
        {
            "price": [1.5, 22.75, NAN],
            "when": dates("2021-01-31", "2021-03-02", "2021-05-04"),
            "code": ["10", "20", "30"],
            "kind": ["a", "b", "a"],
        },
    )
    assert source.resolved["decimal"] == "comma"
    assert source.resolved["dates"] == "day-first"
    kept = DataSettings(fields={"price": "categorical", "when": "categorical"})
    columns = open_source(frame.head(2), kept).table.columns
    assert columns["price"].tolist() == ["1,5", "22,75"]
    for column in (["1,234", "2,345"], ["12%", "5%"], ["01/02/2021", "03/04/2021"]):
        with pytest.raises(TightboundError, match="column 'x' is"):
            open_source(pd.DataFrame({"x": column, "z": [1.5, 2.5]}), DataSettings())


@pytest.mark.parametrize("kind", ["frame", "parquet", "feather"])
def test_codes_with_an_e_stay_texts_beside_decimal_commas(
    kind: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"price": ["1,5", "2,5"], "code": ["E11", "E12"]})
    check(
        open_source(stored(frame, kind, tmp_path), DataSettings()),
        {"price": [1.5, 2.5], "code": ["E11", "E12"]},
    )


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_words_for_missing_mean_the_same_in_each_file(
    kind: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"a": ["A", "NA", "B", "none"], "b": [1.5, 2.5, 3.5, 4.5]})
    path = tmp_path / "t.csv"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        path = stored(frame, kind, tmp_path)
    missing = open_source(path, DataSettings(allow_missing=True))
    check(missing, {"a": ["A", None, "B", None], "b": frame["b"].tolist()})
    kept = open_source(path, DataSettings(fields={"a": "categorical"}))
    check(kept, {"a": ["A", "NA", "B", "none"], "b": frame["b"].tolist()})
    with pytest.raises(TightboundError, match="column 'a' is 'NA', which stands for"):
        open_source(path, DataSettings())


def test_texts_of_a_data_frame_stay_texts() -> None:
    frame = pd.DataFrame({"a": ["A", "NA", None], "b": [1.5, 2.5, 3.5]})
    source = open_source(frame, DataSettings(allow_missing=True))
    assert source.table.columns["a"][:2].tolist() == ["A", "NA"]
    source = open_source(frame.head(2), DataSettings())
    check(source, {"a": ["A", "NA"], "b": [1.5, 2.5]})


def test_what_is_not_plain_is_said(tmp_path: Path) -> None:
    notices = read(tmp_path, "t;p\n31.01.2021;1,5\n02.03.2021;2,5\n").notices
    assert any("column 't' is read as dates, day first" in line for line in notices)
    assert any(
        "'p' is read as numbers with a decimal comma" in line for line in notices
    )
    assert not read(tmp_path, PLAIN).notices


def test_what_separates_thousands_is_said(tmp_path: Path) -> None:
    notices = read(tmp_path, "n;v\n1.234.567;1,5\n12;2,5\n").notices
    assert any("'n' is read as numbers with separators of" in line for line in notices)
    assert any(
        "'v' is read as numbers with a decimal comma" in line for line in notices
    )


def test_times_of_day_are_said_once(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t,v\n" + "".join(f"{i + 1}:30,{i}.5\n" for i in range(12)))
    data = data_room.load(path)
    assert len([line for line in data.notices if "'t'" in line]) == 1


@pytest.mark.parametrize(
    ("column", "is_said"),
    [
        ([20200131, 20191231], True),
        ([20200131, 20201331], False),
        ([20200131, 20200132], False),
        ([20200131, 7], False),
    ],
)
def test_numbers_that_may_be_dates_are_said(
    column: list[int], is_said: bool, tmp_path: Path
) -> None:
    source = read(tmp_path, "t,v\n" + "".join(f"{n},1.5\n" for n in column))
    check(source, {"t": column, "v": [1.5, 1.5]})
    assert ("'t' is read as numbers, and may" in " ".join(source.notices)) == is_said


def test_notices_of_many_columns_are_short(tmp_path: Path) -> None:
    names = [f"{'n' * 3000}{i}" for i in range(500)]
    text = ";".join(names) + "\n" + ";".join(["1,5"] * 500) + "\n"
    for source in (
        read(tmp_path, text),
        open_source(pd.DataFrame({n: ["1,5", "2,5"] for n in names}), DataSettings()),
    ):
        assert source.table.columns[names[499]][0] == 1.5
        (notice,) = source.notices
        assert "and 480 more are read as numbers with a decimal comma" in notice
        assert len(notice.replace(str(tmp_path), "")) < 1600
    gaps = read(tmp_path, "a" + "," * 800 + "\n1.5" + "," * 800 + "\n2.5" + "," * 800)
    assert "and 780 more" in gaps.notices[-1] and len(gaps.notices[-1]) < 400


def test_a_text_file_is_no_larger_than_the_memory_setting(tmp_path: Path) -> None:
    text = "a,b\n" + "1.5,1\n" * 400_000
    assert len(read(tmp_path, text, memory=3).table) == 400_000
    with pytest.raises(TightboundError, match=r"t.csv has 3 MB.*data.memory=3 if"):
        read(tmp_path, text, memory=2)


@pytest.mark.parametrize("gap", [0, 1, 30_000, 49_999])
def test_lines_of_rows_take_memory_only_where_lines_are_empty(
    gap: int, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    rows = [
        f"{i * 0.25},{i},xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        for i in range(50_000)
    ]
    if gap:
        rows[gap] = "\n" + rows[gap]
    path.write_text("\n".join(rows) + "\n")
    file = TextFile.of(path, DataSettings())
    checked = check_rows(file, ",", rows[0].split(","))
    assert isinstance(checked.lines, range) == (gap == 0)
    lines = np.arange(1, 50_001)
    lines[gap:] += int(gap > 0)
    assert np.array_equal(np.asarray(checked.lines), lines)


def test_rows_of_a_large_file_keep_their_lines(tmp_path: Path) -> None:
    """Rows of several blocks and chunks, with texts that begin in a late chunk."""
    rows = [f"{i * 0.25},{i}" for i in range(50_000)]
    text = "a,b\n" + "\n".join(rows) + "\n"
    source = read(tmp_path, text)
    assert np.array_equal(source.table.columns["b"], np.arange(50_000))
    assert np.array_equal(
        source.splits["all"].x[:, 0].numpy(), np.arange(50_000) * 0.25
    )
    rows[45_000] = "x,1"
    with pytest.raises(TightboundError, match="line 45002, column 'a' is 'x'"):
        read(tmp_path, "a,b\n" + "\n".join(rows))
    with pytest.raises(TightboundError, match="line 45003, column 'a' is 'x'"):
        read(tmp_path, "\na,b\r\n" + "\r\n".join(rows))
