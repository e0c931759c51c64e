"""Read delimited text files (.csv, .tsv, also packed by gzip) as tables."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tightbound.data.formats.cells import (
    LARGEST_WHOLE,
    Place,
    Texts,
    TypedColumn,
    chosen_sign,
    decimal_sign,
    has_two_readings,
    label_values,
    notices_of,
    number_column,
    plain_numbers,
    plain_text,
    resolved_by,
    typed,
)
from tightbound.data.formats.header import find_header
from tightbound.data.formats.labels import find_label, unknown_notice
from tightbound.data.formats.text_file import (
    Rows,
    TextFile,
    check_rows,
    find_delimiter,
    first_rows,
    has_leading_zeros,
)
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    read_labels,
    sha256_of,
)
from tightbound.data.tables.table import Table, whole
from tightbound.runtime.errors import (
    TightboundError,
    cut,
    listed,
    machine_reason,
    shortened,
)
from tightbound.runtime.foreign_errors import first_line

if TYPE_CHECKING:
    import pandas

Values = np.ndarray
_ROWS = 20_000
_CELLS = 2_000_000


def load_delimited(path: Path, settings: DataSettings) -> RawSource:
    """Read a text file of cells between commas, semicolons, tabs or bars.

    Columns are numbers, truth values, dates or texts. One called label, class, y or target
    that holds classes, or the one that `data.label` names, holds labels.

    Raises:
        TightboundError: for a row with another number of cells, a cell that does not fit
            its column, and a column that may be read in two ways.
    """
    try:
        head, rows = _inspected(path, settings)
        columns = _Columns(head, rows, settings)
        return _source(columns, settings)
    except (EOFError, zlib.error, OSError) as error:
        reason = machine_reason(error)
        if reason is not None:
            raise TightboundError(f"cannot read {cut(path)} ({reason})") from None
        raise TightboundError(
            f"{cut(path)} is truncated or not packed by gzip ({cut(error)}): save it again"
        ) from None


@dataclass(frozen=True)
class _Head:
    """The file, its delimiter, and the names of its columns.

    Attributes:
        file: the file.
        delimiter: the character between cells.
        has_header: whether the first row names the columns.
        names: the names of the columns; their numbers where they have none.
        is_unnamed: whether the first column has an empty name.
        notice: how the first row was read where that is not plain, or "".
    """

    file: TextFile
    delimiter: str
    has_header: bool
    names: list[str]
    is_unnamed: bool
    notice: str = ""

    @property
    def where(self) -> str:
        """The name of the file in messages."""
        return str(self.file.path)


def _inspected(path: Path, settings: DataSettings) -> tuple[_Head, Rows]:
    """The head of a file and the lines of its rows below the header."""
    file = TextFile.of(path, settings)
    text, is_whole = file.sample()
    delimiter = find_delimiter(text, is_whole)
    first = first_rows(text, delimiter, is_whole)
    rows = check_rows(
        file, delimiter, first[0] if first else [], has_gaps=settings.allow_missing
    )
    if not first or not len(rows.lines):
        raise TightboundError(
            f"{path} is empty: expected one row of numbers for each example"
        )
    has_header, notice = find_header(first, settings.header, path.name)
    names = [str(i) for i in range(rows.width)]
    if has_header:
        _check_spaces(path, first)
        names = _names(path, first[0])
    is_unnamed = has_header and not first[0][0]
    head = _Head(file, delimiter, has_header, names, is_unnamed, notice)
    lines = rows.lines[int(has_header) :]
    if not len(lines):
        raise TightboundError(
            f"{path} has a header and no rows: expected one row of numbers for each example"
        )
    return head, Rows(rows.width, lines)


def _names(path: Path, first: list[str]) -> list[str]:
    """The names in a header; a column without one is called by its number.

    Raises:
        TightboundError: where two columns have one name.
    """
    names: list[str] = []
    for i, name in enumerate(first):
        free = f"Unnamed: {i}" if str(i) in first else str(i)
        names.append(name or free)
    counts = Counter(names)
    twice = next((name for name in names if counts[name] > 1), None)
    if twice is not None:
        raise TightboundError(
            f"{cut(path)} has two columns {shortened(twice)}: rename one (data.header=false "
            "if the first row names no columns)"
        )
    return names


def _check_spaces(path: Path, rows: list[list[str]]) -> None:
    """Refuse columns, or numbers, that are separated by spaces."""
    cells = [cell for row in rows for cell in row]
    if len(rows[0]) > 1 or not any(" " in cell for cell in cells):
        return
    what = _between_spaces(cells)
    if what:
        raise TightboundError(
            f"{path}: the {what} are separated by spaces: save it with commas between them"
        )


def _between_spaces(cells: list[str]) -> str:
    """What spaces separate in a file of a single column: columns, numbers or nothing."""
    parts = [part for cell in cells[1:] for part in cell.split()]
    if parts and plain_numbers(parts).all():
        return "numbers"
    widths = {len(re.split(" {2,}", cell)) for cell in cells}
    return "columns" if len(cells) > 1 and len(widths) == 1 and widths != {1} else ""


def _exact(version: str) -> dict[str, str]:
    """The option by which numbers are rounded exactly, where that is not the default."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return {} if (major, minor) >= (3, 1) else {"float_precision": "round_trip"}


class _Columns:
    """The columns of a file, numbers as pandas parsed them and all others as texts."""

    def __init__(self, head: _Head, rows: Rows, settings: DataSettings) -> None:
        self.head = head
        self.rows = rows
        self.settings = settings
        self.numbers, self.texts = self._read()

    def __len__(self) -> int:
        return len(self.rows.lines)

    def line(self, row: int) -> str:
        """The line of a row, for messages."""
        return f"line {self.rows.lines[row]}"

    def texts_in(self, column: int, *, as_label: bool = False) -> Texts:
        """The cells of a column as texts; any are allowed as labels."""
        name = self.head.names[column]
        place = Place.of(self.head.where, name, self.line, self.settings)
        return Texts.of(self.texts[column], plain_text(place) if as_label else place)

    def _read(self) -> tuple[dict[int, Values], dict[int, Values]]:
        """Columns of plain numbers, and the texts of all others."""
        numbers: dict[int, list[Values]] = {}
        texts: dict[int, list[Values]] = {}
        again: set[int] = set()
        for chunk in self._chunks(None, as_text=False):
            for i in chunk.columns:
                cells = chunk[i]
                if cells.dtype.kind in "if":
                    numbers.setdefault(i, []).append(cells.to_numpy())
                elif _are_texts(cells):
                    texts.setdefault(i, []).append(cells.to_numpy(dtype=object))
                else:
                    again.add(i)
        again |= numbers.keys() & texts.keys()
        again |= self._other_than_written(numbers, again)
        parsed = {i: np.concatenate(numbers[i]) for i in numbers if i not in again}
        read = {i: np.concatenate(texts[i]) for i in texts if i not in again}
        read |= self._texts_of(sorted(again))
        return parsed, read

    def _other_than_written(
        self, numbers: Mapping[int, list[Values]], others: set[int]
    ) -> set[int]:
        """Columns of numbers that lose digits: leading zeros, or more than float64 holds."""
        inexact = {i for i, parts in numbers.items() if _are_not_exact(parts)}
        whole_numbers = {i for i in numbers if _are_whole(numbers[i])} - others
        if whole_numbers and has_leading_zeros(self.head.file, self.head.delimiter):
            return inexact | whole_numbers
        return inexact

    def _texts_of(self, columns: list[int]) -> dict[int, Values]:
        """The texts of some columns."""
        if not columns:
            return {}
        parts: dict[int, list[Values]] = {i: [] for i in columns}
        for chunk in self._chunks(columns, as_text=True):
            for i in columns:
                parts[i].append(chunk[i].to_numpy(dtype=object))
        return {i: np.concatenate(cells) for i, cells in parts.items()}

    def _chunks(
        self, columns: list[int] | None, *, as_text: bool
    ) -> Iterator[pandas.DataFrame]:
        """Blocks of rows as pandas parses them, with columns called by their numbers."""
        import pandas

        count = 0
        with self.head.file.open() as file:
            try:
                reader = pandas.read_csv(
                    file,
                    sep=self.head.delimiter,
                    header=0 if self.head.has_header else None,
                    usecols=columns,
                    dtype=str if as_text else None,
                    na_filter=False,
                    low_memory=False,
                    skipinitialspace=True,
                    encoding="utf-8",
                    chunksize=max(1, min(_ROWS, _CELLS // self.rows.width)),
                    **_exact(pandas.__version__),
                )
                for chunk in reader:
                    chunk.columns = columns or list(range(self.rows.width))
                    count += len(chunk)
                    yield chunk
            except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
                raise self._divided(first_line(error)) from None
        if count != len(self):
            raise self._divided(f"{count} or {len(self)} rows")

    def _divided(self, reason: str) -> TightboundError:
        """The error for a file that pandas divides into other rows than the csv module."""
        return TightboundError(
            f"{self.head.where} can be divided into rows in two ways ({reason}): remove "
            "lines of spaces, and put cells that hold quotes or tabs in quotes"
        )

    # ---- values

    def typed(self, columns: list[int]) -> dict[int, TypedColumn]:
        """The values of some columns."""
        texts = {i: self.texts_in(i) for i in columns if i in self.texts}
        signs = {decimal_sign(column) for column in texts.values()} - {""}
        is_open = any(has_two_readings(column) for column in texts.values())
        if is_open or "comma" in {*signs, self.settings.decimal}:
            texts |= self._with_points(columns)
            signs = {decimal_sign(column) for column in texts.values()} - {""}
        sign = chosen_sign(self.settings.decimal, signs)
        plain = {i: self._plain(i) for i in columns if i not in texts}
        return {i: plain[i] if i in plain else typed(texts[i], sign) for i in columns}

    def _with_points(self, columns: list[int]) -> dict[int, Texts]:
        """The numbers with a point in some columns, as the texts that they are."""
        floats = [i for i in columns if i in self.numbers and self._has_point(i)]
        self.texts |= self._texts_of(floats)
        return {i: self.texts_in(i) for i in floats}

    def _has_point(self, column: int) -> bool:
        return self.numbers[column].dtype.kind == "f"

    def _plain(self, column: int) -> TypedColumn:
        return number_column(self.numbers.pop(column).astype(np.float64, copy=False))

    def labels(self, column: int) -> Values:
        """A column of labels as numbers or texts, which may have gaps."""
        if column in self.numbers:
            return self.numbers[column]
        return label_values(self.texts_in(column, as_label=True))

    def unknown_labels(self, column: int) -> list[str]:
        """The message that names words for missing among labels, as NA, if there are any."""
        if column in self.numbers:
            return []
        texts = self.texts_in(column, as_label=True)
        words = sorted({str(cell) for cell in texts.cells[texts.gaps]} - {""})
        return [*unknown_notice(self.head.names[column], words)]

    def is_empty(self, column: int) -> bool:
        """True for a column without any cell that is filled."""
        if column in self.numbers:
            return False
        return not any(str(cell).strip() for cell in self.texts[column])

    def counts_rows(self) -> bool:
        """True where the first column is 0, 1, 2, ...: the index that pandas writes."""
        numbers = self.numbers.get(0)
        if numbers is None:  # a file with zeros in front is read as texts
            cells = enumerate(self.texts[0])
            return all(str(cell).strip() == str(i) for i, cell in cells)
        return np.array_equal(numbers, np.arange(len(self)))


def _are_whole(parts: list[Values]) -> bool:
    """True for numbers that are written without a point."""
    return all(part.dtype.kind == "i" for part in parts)


def _are_not_exact(parts: list[Values]) -> bool:
    """True where a number is infinite, or whole with more digits than float64 holds."""
    if _are_whole(parts):
        return any((np.abs(part) > LARGEST_WHOLE).any() for part in parts)
    return any(not np.isfinite(part).all() for part in parts)


def _are_texts(cells: pandas.Series) -> bool:
    """True for a column of texts, false for truth values, objects and huge integers."""
    if str(cells.dtype) in ("str", "string"):
        return True
    return cells.dtype.kind == "O" and all(isinstance(cell, str) for cell in cells)


def _source(columns: _Columns, settings: DataSettings) -> RawSource:
    """The source over the columns of a file."""
    head = columns.head
    path = head.file.path
    found = find_label(path, head.names, columns.labels, settings)
    notices = [head.notice] if head.notice else []
    notices += found.notices
    left_out = {found.number, *_left_out(columns, found.number, notices)}
    kept = [i for i in range(len(head.names)) if i not in left_out]
    if not kept:
        raise TightboundError(
            f"{path} has no column of numbers beside the label {shortened(head.names[0])}"
        )
    labels = None
    if found.number is not None:
        labels = columns.labels(found.number)
        notices += columns.unknown_labels(found.number)
    values = columns.typed(kept)
    notices += notices_of(head.where, {head.names[i]: c for i, c in values.items()})
    resolved = {**found.resolved, **resolved_by(values.values())}
    y, label_names = read_labels(labels, len(columns), str(path), notices)
    rows = _numbers(values)
    x = None if rows is None else as_tensor(rows, str(path), notices)
    return RawSource(
        path.stem.removesuffix(".csv").removesuffix(".tsv"),
        str(path),
        {"all": RawSplit(x, y)},
        "" if x is None else sha256_of(x, y),
        label_names=label_names,
        notices=tuple(notices),
        table=_table(columns, values),
        resolved=resolved,
    )


def _left_out(columns: _Columns, label: int | None, notices: list[str]) -> set[int]:
    """Columns without a name that count the rows or are empty."""
    head = columns.head
    width = len(head.names)
    left_out: set[int] = set()
    if head.is_unnamed and label != 0 and width > 1 and columns.counts_rows():
        left_out.add(0)
        notices.append(
            f"the first column of {head.file.path.name} has no name and counts the rows, "
            "so it is left out"
        )
    empty = {
        i
        for i in range(width)
        if head.names[i] == str(i) and i != label and columns.is_empty(i)
    }
    if empty and len(empty) < width:
        numbers = listed([str(i) for i in sorted(empty)])
        notices.append(
            f"{head.file.path.name}: column {numbers} (counting from 0) has no name and "
            "no values, so it is left out"
        )
        left_out |= empty
    return left_out


def _numbers(values: dict[int, TypedColumn]) -> Values | None:
    """Columns of plain numbers as rows (n, D), whose fractions then are views of them.

    None where a column is of another kind.
    """
    columns = [column.values for column in values.values()]
    if any(column.dtype.kind not in "iuf" for column in columns):
        return None
    rows = np.empty((len(columns[0]), len(columns)))
    for i, (number, column) in enumerate(values.items()):
        rows[:, i] = column.values
        if column.values.dtype.kind == "f":
            values[number] = replace(column, values=rows[:, i])
    return rows


def _table(columns: _Columns, values: Mapping[int, TypedColumn]) -> Table:
    """The named columns."""
    names = columns.head.names
    return Table(
        columns.head.where,
        {names[i]: column.values for i, column in values.items()},
        columns.line,
        zones={names[i]: c.zone for i, c in values.items() if c.zone},
        types={names[i]: "Int64" for i, c in values.items() if _is_whole(c.values)},
    )


def _is_whole(values: np.ndarray) -> bool:
    """True for whole numbers with gaps, which float64 holds."""
    if values.dtype.kind != "f":
        return False
    gaps = np.isnan(values)
    return (
        bool(gaps.any() and not gaps.all()) and whole(values[~gaps]).dtype.kind == "i"
    )
