"""Tables of named columns, and which kind each column is: real, binary, categorical or count."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightbound.core.data_spec import Column, ColumnKind
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    Part,
    Source,
    as_tensor,
    is_gap,
    read_labels,
    sha256_of,
)
from tightbound.runtime.errors import TightboundError

Values = NDArray[Any]
MOST_TEXTS, LEAST_COUNT = 100, 1
MISSING = (
    "",
    "na",
    "n/a",
    "nan",
    "null",
    "none",
    "?",
)  # cells of a text file that say that a value is missing
FILL = "drop such rows, fill them in, or train recipe missing-data, which takes missing values"


def row_called(number: int) -> str:
    return f"row {number} (counting from 0)"


@dataclass
class Table:
    """Named columns, each (n,), of numbers, truth values or objects.

    row: what a row is called in messages.  categories: values of columns that say themselves which
    they may have.
    """

    where: str
    columns: dict[str, Values]
    row: Callable[[int], str] = row_called
    categories: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def numeric(self) -> bool:
        """True where all columns are plain numbers."""
        return all(values.dtype.kind in "iuf" for values in self.columns.values())

    def complain(self, name: str, number: int, what: str) -> TightboundError:
        """The sentence about one cell."""
        return TightboundError(
            f"{self.where}: {self.row(number)}, column {name!r} {what}"
        )


def frame_source(
    frame: Any, y: Any, settings: DataSettings, label: int | None, notices: list[str]
) -> Source:
    """A pandas DataFrame as a source, its column number `label` apart; x stays open where columns
    are no numbers.
    """
    what, names = "the DataFrame", [str(name) for name in frame.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TightboundError(f"{what} has two columns {twice!r}: rename one")
    columns, categories = {}, {}
    for i, name in enumerate(names):
        column = frame.iloc[:, i]
        if i == label:
            y = column.to_numpy()
            continue
        if hasattr(column.dtype, "categories"):
            categories[name] = column.dtype.categories.tolist()
            column = column.astype(object)
        columns[name] = column.to_numpy()
    if not len(frame):
        raise TightboundError(f"{what} is empty: nothing can be learned from it")
    if not columns:
        raise TightboundError(
            f"{what} has no column beside its label: nothing can be learned from it"
        )
    table = Table(what, columns, categories=categories)
    x = (
        as_tensor(np.stack(list(columns.values()), 1), what, notices)
        if table.numeric
        else None
    )
    labels, label_names = read_labels(y, len(frame), what, notices)
    digest = sha256_of(x, labels) if x is not None else ""
    return Source(
        "table",
        what,
        {"all": Part(x, labels)},
        digest,
        label_names=label_names,
        notices=notices,
        table=table,
    )


def text_table(
    path: Path,
    delimiter: str,
    header: bool,
    names: dict[int, str],
    settings: DataSettings,
) -> Table | int | None:
    """A CSV file some of whose columns (number: name) are texts throughout; None where rows are
    torn or have no names.

    The number of a column where only some cells are numbers, so that it is complained of.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        lines, rows = [], []
        for row in reader:
            if row:
                lines.append(reader.line_num)
                rows.append([cell.strip() for cell in row])
    lines, rows = lines[int(header) :], rows[int(header) :]
    width = max([*names, *map(len, rows[:1])]) if rows else 0
    if (
        not rows
        or not header
        or any(len(row) != len(rows[0]) for row in rows)
        or width > len(rows[0])
    ):
        return None
    columns: dict[str, Values] = {}
    for i, name in names.items():
        cells = [row[i] for row in rows]
        gone = [settings.allow_missing and cell.lower() in MISSING for cell in cells]
        known = [cell for cell, gap in zip(cells, gone, strict=True) if not gap]
        numbers = [_number(cell) for cell in known]
        if None not in numbers:
            columns[name] = whole(
                _spread(np.array(numbers, dtype=float), gone, math.nan)
            )
        elif any(n is not None for n in numbers) and settings.fields.get(name) not in (
            "categorical",
            "binary",
            "skip",
        ):
            return i
        else:
            truths = {cell.lower() for cell in known} <= {"true", "false"}
            values = np.array(
                [cell.lower() == "true" for cell in known] if truths else known,
                dtype=object,
            )
            columns[name] = _spread(values, gone, None)
    return Table(str(path), columns, lambda row: f"line {lines[row]}")


def _spread(known: Values, gone: list[bool], gap: Any) -> Values:
    """The values that there are in their places, and `gap` in the others."""
    out = np.full(len(gone), gap, dtype=known.dtype)
    out[~np.array(gone, dtype=bool)] = known
    return out


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def whole(values: Values) -> Values:
    """Numbers of a text file, as integers where all of them are whole."""
    fits = (
        np.isfinite(values).all()
        and (np.abs(values) < 2**53).all()
        and (values == np.round(values)).all()
    )
    return values.astype(np.int64) if fits else values


# ---- which kind a column is


def unlike(table: Table, masked: bool = False) -> bool:
    """True where numbers are of several kinds: fractions beside 0 and 1, or beside counts."""
    columns = [
        values[~np.isnan(values)] if masked else values
        for values in table.columns.values()
    ]
    if any(not len(values) or not np.isfinite(values).all() for values in columns):
        return False  # refused by the sentence for numbers
    fractions = [bool((values != np.round(values)).any()) for values in columns]
    return any(fractions) and not all(
        fraction or _guess(values) == "real"
        for fraction, values in zip(fractions, columns, strict=True)
    )


def _guess(values: Values) -> ColumnKind:
    """0 and 1: binary.  Whole from 0 or 1 up, scattered at least as Poisson's: counts.

    Other numbers: reals.
    """
    if (values != np.round(values)).any():
        return "real"
    if set(np.unique(values).tolist()) == {0, 1}:
        return "binary"
    low, mean = values.min(), values.mean()
    return (
        "count"
        if 0 <= low <= LEAST_COUNT and values.max() > 2 and values.var() >= mean
        else "real"
    )


def column(table: Table, name: str, asked: str | None, masked: bool) -> Column:
    """What a column is, by its values or as it was asked for."""
    values, there = present(table, name, masked)
    values = values[there]
    if not len(values):
        raise TightboundError(
            f"{table.where}: column {name!r} has no value that is known: leave "
            f"it out with data.fields.{name}=skip"
        )
    if values.dtype.kind in "iuf" and asked not in ("binary", "categorical"):
        kind: Any = asked or _guess(values)
        own: tuple[Any, ...] = (
            tuple(np.unique(values).tolist()) if kind == "binary" else ()
        )
        return Column(name=name, kind=kind, values=own, type=str(values.dtype))
    if values.dtype.kind == "b":
        known: list[Any] = [False, True]
    else:
        known = table.categories.get(name) or np.unique(values).tolist()
    if asked in ("real", "count"):
        raise TightboundError(
            f"{table.where}: column {name!r} holds no numbers: it cannot be "
            f"{asked}, drop data.fields"
        )
    if asked == "binary" and len(known) > 2:
        raise TightboundError(
            f"{table.where}: column {name!r} has {len(known)} values: it cannot be binary"
        )
    if asked is None and len(known) > MOST_TEXTS:
        raise TightboundError(
            f"{table.where}: column {name!r} has {len(known)} different texts, "
            f"more than {MOST_TEXTS}: leave it out "
            f"with data.fields.{name}=skip, or set "
            f"data.fields.{name}=categorical if they are categories after all"
        )
    kind = asked or ("binary" if len(known) == 2 else "categorical")
    type_ = (
        "category"
        if name in table.categories
        else "str"
        if values.dtype.kind in "OU"
        else str(values.dtype)
    )
    return Column(name=name, kind=kind, values=tuple(known), type=type_)


def present(table: Table, name: str, masked: bool) -> tuple[Values, NDArray[np.bool_]]:
    """A column as numbers, truth values or texts, and which of its cells are known, all of them
    unless `masked`.

    Raises where a cell is none of these, or missing where it may not be.
    """
    values = table.columns[name]
    if values.dtype.kind in "iub":
        return values, np.ones(len(values), dtype=bool)
    if values.dtype.kind == "f":
        known = ~np.isnan(values)
        if not (right := np.isfinite(values) | (masked & ~known)).all():
            number = int(np.argmin(right))
            what = (
                f"is {values[number]}, not a finite number: mend it"
                if known[number]
                else f"is missing: {FILL}"
            )
            raise table.complain(name, number, what)
        return values, known
    if values.dtype.kind not in "OU":
        raise TightboundError(
            f"{table.where}: column {name!r} holds {values.dtype}, no numbers, "
            "texts or truth values: make numbers "
            f"of it, or leave it out with data.fields.{name}=skip"
        )
    known = np.array([not is_gap(value) for value in values], dtype=bool)
    if not masked and not known.all():
        raise table.complain(name, int(np.argmin(known)), f"is missing: {FILL}")
    return _one_kind(table, name, values, known), known


def _one_kind(
    table: Table, name: str, values: Values, known: NDArray[np.bool_]
) -> Values:
    """Objects as texts, truth values or numbers, by the kind of those that are known; the others
    stand for nothing.
    """
    at: list[int] = np.flatnonzero(known).tolist()
    for number in at:
        if not isinstance(values[number], (str, bool, int, float, np.generic)):
            what = type(values[number]).__name__
            raise table.complain(
                name, number, f"holds a {what}: use numbers, texts and truth values"
            )
    kinds = [_kind(values[number]) for number in at]
    if len(set(kinds)) > 1:
        number = at[next(i for i, kind in enumerate(kinds) if kind != kinds[0])]
        said = (
            f"holds {values[number]!r}, and the rows before it {values[at[0]]!r}: "
            "make the column of one kind"
        )
        raise table.complain(name, number, said)
    if not kinds or kinds[0] == "text":
        return values
    made = np.array(values[known].tolist(), dtype=bool if kinds[0] == "truth" else None)
    return _spread(made, (~known).tolist(), 0)


def _kind(value: Any) -> str:
    return (
        "text"
        if isinstance(value, str)
        else "truth"
        if isinstance(value, bool | np.bool_)
        else "number"
    )
