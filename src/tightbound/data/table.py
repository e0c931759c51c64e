"""Tables of named columns, and which kind each column is: real, binary, categorical or count."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightbound.data.part import Part, Source, as_tensor, read_labels, sha256_of
from tightbound.data.settings import DataSettings
from tightbound.errors import TightboundError
from tightbound.spec import Column, ColumnKind

Values = NDArray[Any]
MOST_TEXTS, LEAST_COUNT = 100, 1


def row_called(number: int) -> str:
    return f"row {number} (counting from 0)"


@dataclass
class Table:
    """Named columns, each (n,), of numbers, truth values or objects.

    row: what a row is called in messages.  categories: values of columns that say themselves which they may have.
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
        return TightboundError(f"{self.where}: {self.row(number)}, column {name!r} {what}")


def frame_source(frame: Any, y: Any, settings: DataSettings, label: int | None, notices: list[str]) -> Source:
    """A pandas DataFrame as a source, its column number `label` apart; x stays open where columns are no numbers."""
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
        raise TightboundError(f"{what} has no column beside its label: nothing can be learned from it")
    table = Table(what, columns, categories=categories)
    x = as_tensor(np.stack(list(columns.values()), 1), what, notices) if table.numeric else None
    labels, label_names = read_labels(y, len(frame), what, notices)
    digest = sha256_of(x, labels) if x is not None else ""
    return Source(
        "table", what, {"all": Part(x, labels)}, digest, label_names=label_names, notices=notices, table=table
    )  # fmt: skip


def text_table(
    path: Path, delimiter: str, header: bool, names: dict[int, str], settings: DataSettings
) -> Table | int | None:
    """A CSV file some of whose columns (number: name) are texts throughout; None where rows are torn or have no names.

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
    if not rows or not header or any(len(row) != len(rows[0]) for row in rows) or width > len(rows[0]):
        return None
    columns: dict[str, Values] = {}
    for i, name in names.items():
        cells = [row[i] for row in rows]
        numbers = [_number(cell) for cell in cells]
        if None not in numbers:
            columns[name] = whole(np.array(numbers, dtype=float))
        elif any(n is not None for n in numbers) and settings.fields.get(name) not in ("categorical", "binary", "skip"):
            return i
        else:
            truths = {cell.lower() for cell in cells} <= {"true", "false"}
            columns[name] = np.array([cell.lower() == "true" for cell in cells] if truths else cells, dtype=object)
    return Table(str(path), columns, lambda row: f"line {lines[row]}")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def whole(values: Values) -> Values:
    """Numbers of a text file, as integers where all of them are whole."""
    fits = np.isfinite(values).all() and (np.abs(values) < 2**53).all() and (values == np.round(values)).all()
    return values.astype(np.int64) if fits else values


# ---- which kind a column is


def unlike(table: Table) -> bool:
    """True where numbers are of several kinds: fractions beside 0 and 1, or beside counts."""
    if any(not np.isfinite(values).all() for values in table.columns.values()):
        return False  # refused by the sentence for numbers
    fractions = [bool((values != np.round(values)).any()) for values in table.columns.values()]
    return any(fractions) and not all(
        fraction or _guess(values) == "real" for fraction, values in zip(fractions, table.columns.values(), strict=True)
    )


def _guess(values: Values) -> ColumnKind:
    """0 and 1: binary.  Whole from 0 or 1 up, scattered at least as Poisson's: counts.  Other numbers: reals."""
    if (values != np.round(values)).any():
        return "real"
    if set(np.unique(values).tolist()) == {0, 1}:
        return "binary"
    low, mean = values.min(), values.mean()
    return "count" if 0 <= low <= LEAST_COUNT and values.max() > 2 and values.var() >= mean else "real"


def column(table: Table, name: str, asked: str | None) -> Column:
    """What a column is, by its values or as it was asked for."""
    values = present(table, name)
    if values.dtype.kind in "iuf" and asked not in ("binary", "categorical"):
        kind: Any = asked or _guess(values)
        own: tuple[Any, ...] = tuple(np.unique(values).tolist()) if kind == "binary" else ()
        return Column(name=name, kind=kind, values=own, type=str(values.dtype))
    if values.dtype.kind == "b":
        known: list[Any] = [False, True]
    else:
        known = table.categories.get(name) or np.unique(values).tolist()
    if asked in ("real", "count"):
        raise TightboundError(
            f"{table.where}: column {name!r} holds no numbers: it cannot be {asked}, drop data.fields"
        )
    if asked == "binary" and len(known) > 2:
        raise TightboundError(f"{table.where}: column {name!r} has {len(known)} values: it cannot be binary")
    if asked is None and len(known) > MOST_TEXTS:
        raise TightboundError(
            f"{table.where}: column {name!r} has {len(known)} different texts, more than {MOST_TEXTS}: leave it out "
            f"with data.fields.{name}=skip, or set data.fields.{name}=categorical if they are categories after all"
        )
    kind = asked or ("binary" if len(known) == 2 else "categorical")
    type_ = "category" if name in table.categories else "str" if values.dtype.kind in "OU" else str(values.dtype)
    return Column(name=name, kind=kind, values=tuple(known), type=type_)


def present(table: Table, name: str) -> Values:
    """A column as numbers, truth values or texts; raises where a cell is missing, or is none of these."""
    values = table.columns[name]
    if values.dtype.kind in "iub":
        return values
    if values.dtype.kind == "f":
        if not (finite := np.isfinite(values)).all():
            number = int(np.argmin(finite))
            gap = np.isnan(values[number])
            what = "is missing" if gap else f"is {values[number]}"
            raise table.complain(name, number, f"{what}: drop such rows or fill them in")
        return values
    if values.dtype.kind not in "OU":
        raise TightboundError(
            f"{table.where}: column {name!r} holds {values.dtype}, no numbers, texts or truth values: make numbers "
            f"of it, or leave it out with data.fields.{name}=skip"
        )
    for number, value in enumerate(values):
        if value is None or value is np.nan or (value != value) is True or str(value) in ("", "<NA>", "nan"):
            raise table.complain(name, number, "is missing: drop such rows or fill them in")
        if not isinstance(value, (str, bool, int, float, np.generic)):
            raise table.complain(name, number, f"holds a {type(value).__name__}: use numbers, texts and truth values")
    kinds = ["text" if isinstance(v, str) else "truth" if isinstance(v, bool | np.bool_) else "number" for v in values]
    if len(set(kinds)) > 1:
        number = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
        raise table.complain(
            name, number, f"holds {values[number]!r}, and the rows before it {values[0]!r}: make the column of one kind"
        )
    dtype: Any = {"text": object, "truth": bool, "number": None}[kinds[0]] if kinds else object
    return values if dtype is object else np.array(values.tolist(), dtype=dtype)
