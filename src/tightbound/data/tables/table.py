"""Tables of named columns, each real, binary, categorical or count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tightbound.core.data_spec import Column, ColumnKind, ColumnLabel
from tightbound.data.source import is_gap
from tightbound.data.tables.times import seconds, step_of
from tightbound.runtime.errors import TightboundError, shortened

if TYPE_CHECKING:
    from pandas import Index
    from pandas.api.extensions import ExtensionArray

Values = np.ndarray
Mask = NDArray[np.bool_]
MOST_TEXTS = 100
LEAST_COUNT = 1
LOOKED_AT = 100_000  # rows of a table of numbers alone, for columns that are no reals
# of columns that are not negative, or have exact zeros:
ONE_SIDED = ("positive", "zero-inflated", "zero-inflated-real")
ZEROS = 0.05  # share of exact zeros beside fractions, or beyond those of a count
FREQUENT = 5  # times as many zeros as of any other number, of numbers of both signs
LARGE_COUNT = 10  # median of the values above 0, below which whole numbers stay counts
FEWEST_VALUES = 5  # different ones above 0
SKEWED = 1.0  # skewness; that of an exponential distribution is 2
TAIL = 0.25  # skewness by quantiles; that of an exponential distribution is 0.56
MOST_DIGITS = 6  # decimal places of a column whose draws are rounded to them
FILL = "drop such rows, fill them in, or train recipe missing-data, which takes missing values"


def are_numbers(names: Sequence[str]) -> bool:
    """True for the names 0, 1, ... of columns without names."""
    return list(names) == [str(i) for i in range(len(names))]


def row_called(number: int) -> str:
    """The name of a row in messages."""
    return f"row {number} (counting from 0)"


@dataclass(frozen=True)
class Table:
    """Named columns (n,) of numbers, truth values or objects.

    Attributes:
        where: the name of the table in messages.
        columns: the values of each column.
        row: the name of a row in messages, by its number.
        categories: the values that a column may have, for columns that define them.
        zones: the time zone of each column of times that has one, as "UTC"; its values
            are then datetime64 in UTC.
        index: the pandas Index of the rows of a DataFrame, or None.
        types: the pandas type of each column that numpy has no type for, as "Int64".
        labels: the names of columns that are numbers or tuples in a DataFrame.
        nullable: the columns of pandas' integers with gaps as they were given, where
            `columns` has them as float64.
        ordered: the columns whose categories have an order.
    """

    where: str
    columns: Mapping[str, Values]
    row: Callable[[int], str] = row_called
    categories: Mapping[str, list[Any]] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    index: Index | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, ColumnLabel] = field(default_factory=dict)
    nullable: Mapping[str, ExtensionArray] = field(default_factory=dict)
    ordered: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def numeric(self) -> bool:
        """True where all columns are plain numbers, times or time spans."""
        return all(values.dtype.kind in "iufMm" for values in self.columns.values())

    @property
    def times(self) -> list[str]:
        """The names of the columns of times and time spans."""
        return [
            name for name, values in self.columns.items() if values.dtype.kind in "Mm"
        ]

    @property
    def has_names(self) -> bool:
        """False where the columns are only numbered 0, 1, ..., as without a header."""
        return not are_numbers(list(self.columns))

    def take(self, rows: NDArray[np.int64]) -> Table:
        """The table of some of the rows, by their numbers."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            row=lambda number: self.row(int(rows[number])),
            index=None if self.index is None else self.index[rows],
            nullable={name: cells.take(rows) for name, cells in self.nullable.items()},
        )

    def complain(self, name: str, number: int, problem: str) -> TightboundError:
        """The error for one cell."""
        return TightboundError(
            f"{self.where}: {self.row(number)}, column {shortened(name)} {problem}"
        )


def _spread(values: Values, missing: list[bool], gap: object) -> Values:
    """The values at the places that are not missing, and `gap` at the others."""
    out = np.full(len(missing), gap, dtype=values.dtype)
    out[~np.array(missing, dtype=bool)] = values
    return out


def whole(values: Values) -> Values:
    """Numbers of a text file, as integers where all of them are whole."""
    fits = (
        np.isfinite(values).all()
        and (np.abs(values) < 2**53).all()
        and (values == np.round(values)).all()
    )
    if fits:
        return values.astype(np.int64)
    return values


# ---- the kind of a column


def unlike(table: Table, masked: bool = False) -> bool:
    """True for numbers of several kinds: fractions beside 0 and 1, or beside counts."""
    columns = _finite_columns(table, masked)
    if columns is None:
        return False  # refused later, when the numbers are checked
    fractions = [bool((values != np.round(values)).any()) for values in columns]
    has_reals = any(fractions) or len(columns) < len(table.columns)
    return has_reals and not all(
        fraction or guess(values) in ("real", "positive")
        for fraction, values in zip(fractions, columns, strict=True)
    )


def has_one_sided(table: Table, masked: bool = False) -> bool:
    """True for named columns of fractions, one of which has zeros or is above 0 and skewed."""
    columns = _finite_columns(table, masked)
    if columns is None or not table.has_names:
        return False
    has_fractions = any((values != np.round(values)).any() for values in columns)
    step = max(1, len(table) // LOOKED_AT)
    return has_fractions and any(guess(x[::step]) in ONE_SIDED for x in columns)


def _finite_columns(table: Table, masked: bool) -> list[Values] | None:
    """The values of each column but times; None where some are absent or not finite."""
    columns = [
        values[~np.isnan(values)] if masked else values
        for values in table.columns.values()
        if values.dtype.kind not in "Mm"
    ]
    if any(not len(values) or not np.isfinite(values).all() for values in columns):
        return None
    return columns


def guess(values: Values) -> ColumnKind:
    """The kind of a column of numbers.

    0 and 1 are binary. Whole numbers from 0 or 1 up, with a variance of at least the
    mean up to its standard error (as Poisson counts have), are counts. Numbers of which
    some are 0 and the others above it are zero-inflated, where a negative binomial has
    fewer zeros or none are whole; of both signs, where zero is far more frequent than
    any other number.
    Skewed numbers above 0 are positive. Other numbers are real.
    """
    is_whole = bool((values == np.round(values)).all())
    if is_whole and set(np.unique(values).tolist()) == {0, 1}:
        return "binary"
    if values.min() == 0 and _has_excess_zeros(values, is_whole):
        return "zero-inflated"
    if values.min() < 0 and _has_frequent_zero(values):
        return "zero-inflated-real"
    if is_whole and _is_spread_as_counts(values):
        return "count"
    if values.min() > 0 and _is_skewed(values):
        return "positive"
    return "real"


def _is_spread_as_counts(values: Values) -> bool:
    """True for numbers from 0 or 1 up whose variance is at least their mean.

    That of n Poisson counts is the mean up to a standard error of sqrt(2 / n) of it; two of
    them may lack, and half of the mean at most.
    """
    from_zero = 0 <= values.min() <= LEAST_COUNT and values.max() > 2
    least = max(0.5, 1 - 2 * math.sqrt(2 / len(values)))
    return bool(from_zero and values.var() >= least * values.mean())


def _has_excess_zeros(values: Values, is_whole: bool) -> bool:
    """True for numbers from 0 up with more zeros than their other values account for.

    Of whole numbers, more than a negative binomial of their mean and variance has, beside
    values that are large: small counts stay counts. Of fractions, a share of zeros, or any
    zero beside skewed values.
    """
    above = values[values > 0].astype(np.float64)
    if len(np.unique(above)) < FEWEST_VALUES:
        return False
    share = 1 - len(above) / len(values)
    if not is_whole:
        return share >= ZEROS or _is_skewed(above)
    if np.median(above) < LARGE_COUNT:
        return False
    mean = float(values.mean())
    excess = max(float(values.var()) - mean, 1e-9)
    r = mean**2 / excess
    is_above: bool = share > (r / (r + mean)) ** r + ZEROS
    return is_above


def _has_frequent_zero(values: Values) -> bool:
    """True for numbers of which many are 0, and no other number is as frequent by far.

    Rounded numbers have zeros too, as often as the numbers beside it.
    """
    numbers, counts = np.unique(values, return_counts=True)
    others = counts[numbers != 0]
    zeros = len(values) - int(others.sum())
    if len(others) < FEWEST_VALUES or zeros < ZEROS * len(values):
        return False
    return bool(zeros > FREQUENT * others.max())


def _is_skewed(values: Values) -> bool:
    """True for numbers with a long upper tail, by their moments and by their quantiles.

    Quantiles alone are uncertain in few rows, and moments alone are moved by one outlier.
    """
    numbers = values.astype(np.float64)
    if len(np.unique(numbers)) < FEWEST_VALUES or not numbers.std() > 0:
        return False
    skewness = (((numbers - numbers.mean()) / numbers.std()) ** 3).mean()
    low, middle, high = np.quantile(numbers, [0.05, 0.5, 0.95])
    return bool(skewness > SKEWED and high + low - 2 * middle > TAIL * (high - low))


def column(table: Table, name: str, chosen: str | None, masked: bool) -> Column:
    """The kind and values of a column, chosen by the user or inferred."""
    values, is_present = present(table, name, masked)
    values = values[is_present]
    is_time = table.columns[name].dtype.kind in "Mm"
    if is_time and chosen not in (None, "real"):
        raise TightboundError(
            f"{table.where}: column {shortened(name)} holds times: it can be real, not {chosen}"
        )
    if not len(values):
        raise TightboundError(
            f"{table.where}: column {shortened(name)} has no value that is known: leave "
            f"it out with data.fields.{name}=skip"
        )
    is_number = values.dtype.kind in "iuf" and chosen not in ("binary", "categorical")
    if is_number and (chosen is not None or name not in table.categories):
        if is_time:
            return number_column(table, name, "real", ())
        return _numbers_of_kind(table, name, chosen or guess(values), values)
    return _category_column(table, name, chosen, values)


def _numbers_of_kind(table: Table, name: str, kind: Any, values: Values) -> Column:
    """A column of numbers of a kind, with both values where it is binary."""
    levels: tuple[float, ...] = ()
    if kind == "binary":
        levels = tuple(np.unique(values).tolist())
    return number_column(table, name, kind, levels)


def _category_column(table: Table, name: str, chosen: Any, values: Values) -> Column:
    """A column of categories, binary where there are two of them."""
    categories: list[Any] = [False, True]
    if values.dtype.kind != "b":
        categories = table.categories.get(name) or np.unique(values).tolist()
    _check_categories(table, name, chosen, len(categories))
    kind = chosen or ("binary" if len(categories) == 2 else "categorical")
    type_ = _type_name(table, name, values)
    return Column(
        name=name,
        kind=kind,
        values=tuple(categories),
        type=type_,
        **_label(table, name),
    )


def _label(table: Table, name: str) -> dict[str, Any]:
    """The name of a column in a DataFrame, where it is no text, as arguments of `Column`."""
    label = table.labels.get(name)
    if label is None:
        return {}
    return {"levels" if isinstance(label, tuple) else "number": label}


def number_column(
    table: Table, name: str, kind: ColumnKind, values: tuple[float, ...] = ()
) -> Column:
    """A column of numbers or times, with its type, zone and step."""
    cells = table.columns[name]
    type_ = table.types.get(name, str(cells.dtype))
    if cells.dtype.kind == "O":
        type_ = str(np.array([c for c in cells if not is_gap(c)]).dtype)
    return Column(
        name=name,
        kind=kind,
        values=values,
        type=type_,
        zone=table.zones.get(name, ""),
        step=0.0 if values else _step(cells),
        constant=None if values else _constant(cells),
        digits=None if values else _digits(cells),
        **_label(table, name),
    )


def _constant(cells: Values) -> float | None:
    """The only number of a column, of times in seconds; None where there are several."""
    numbers = seconds(cells) if cells.dtype.kind in "Mm" else cells
    if numbers.dtype.kind not in "iuf":
        return None
    present_numbers = numbers[~np.isnan(numbers)]
    if not len(present_numbers) or (present_numbers != present_numbers[0]).any():
        return None
    return float(present_numbers[0])


def _digits(cells: Values) -> int | None:
    """Decimal places that are enough for all numbers, up to six; None for whole ones."""
    if cells.dtype.kind != "f" or _step(cells):
        return None
    numbers = cells[np.isfinite(cells)]
    tolerance = 1e-12 * np.maximum(1, np.abs(numbers))  # of sums such as 0.1 + 0.2
    for digits in range(1, MOST_DIGITS + 1):
        if (np.abs(np.round(numbers, digits) - numbers) <= tolerance).all():
            return digits
    return None


def _step(cells: Values) -> float:
    """What all values of a column are multiples of: 1, or the step of times; else 0."""
    if cells.dtype.kind in "Mm":
        return step_of(seconds(cells[~np.isnat(cells)]))
    if cells.dtype.kind in "iu":
        return 1.0
    if cells.dtype.kind == "f":
        numbers = cells[~np.isnan(cells)]
    else:
        numbers = np.array([cell for cell in cells if not is_gap(cell)], np.float64)
    return float((numbers == np.round(numbers)).all())


def _type_name(table: Table, name: str, values: Values) -> str:
    """The type of a column, for decoding: a category, "str", or numpy's or pandas' own."""
    if name in table.types:
        return table.types[name]
    if name in table.categories:
        return "ordered category" if name in table.ordered else "category"
    if values.dtype.kind in "OU":
        return "str"
    return str(values.dtype)


def _check_categories(table: Table, name: str, chosen: str | None, count: int) -> None:
    """Refuse a column of values that the chosen kind cannot have, or with too many."""
    where = f"{table.where}: column {shortened(name)}"
    if chosen in ("real", "count", *ONE_SIDED):
        raise TightboundError(
            f"{where} holds no numbers: it cannot be {chosen}, drop data.fields"
        )
    if chosen == "binary" and count > 2:
        raise TightboundError(f"{where} has {count} values: it cannot be binary")
    if chosen is None and count > MOST_TEXTS:
        raise TightboundError(
            f"{where} has {count} different texts, more than {MOST_TEXTS}: leave it out "
            f"with data.fields.{name}=skip, or set data.fields.{name}=categorical if "
            "they are categories"
        )


def present(table: Table, name: str, masked: bool) -> tuple[Values, Mask]:
    """A column as numbers, truth values or texts, and which cells are not missing.

    Raises:
        TightboundError: for a cell of another kind, and, unless `masked`, for one that
            is missing.
    """
    values = table.columns[name]
    if values.dtype.kind in "Mm":
        values = seconds(values)
    if values.dtype.kind in "iub":
        return values, np.ones(len(values), dtype=bool)
    if values.dtype.kind == "f":
        return values, _present_numbers(table, name, values, masked)
    if values.dtype.kind not in "OU":
        raise TightboundError(
            f"{table.where}: column {shortened(name)} holds {values.dtype}, not numbers, texts "
            "or truth values: convert it to numbers, or leave it out with "
            f"data.fields.{name}=skip"
        )
    is_present = np.array([not is_gap(value) for value in values], dtype=bool)
    if not masked and not is_present.all():
        raise table.complain(name, int(np.argmin(is_present)), f"is missing: {FILL}")
    return _one_kind(table, name, values, is_present), is_present


def _present_numbers(table: Table, name: str, values: Values, masked: bool) -> Mask:
    """Which numbers of a column are not NaN; refuses what is not finite."""
    is_present: Mask = ~np.isnan(values)
    allowed = np.isfinite(values) | (masked & ~is_present)
    if not allowed.all():
        row = int(np.argmin(allowed))
        problem = f"is missing: {FILL}"
        if is_present[row]:
            problem = f"is {values[row]}, not a finite number: correct it"
        raise table.complain(name, row, problem)
    return is_present


def _one_kind(table: Table, name: str, values: Values, is_present: Mask) -> Values:
    """Objects as texts, truth values or numbers; missing cells have any value."""
    rows: list[int] = np.flatnonzero(is_present).tolist()
    for row in rows:
        if not isinstance(values[row], (str, bool, int, float, np.generic)):
            kind = type(values[row]).__name__
            raise table.complain(
                name, row, f"holds a {kind}: use numbers, texts and truth values"
            )
    kinds = [_kind(values[row]) for row in rows]
    if len(set(kinds)) > 1:
        row = rows[next(i for i, kind in enumerate(kinds) if kind != kinds[0])]
        problem = (
            f"holds {shortened(values[row])}, and the rows before it {shortened(values[rows[0]])}: "
            "make the column of one kind"
        )
        raise table.complain(name, row, problem)
    if not kinds or kinds[0] == "text":
        return values
    dtype = bool if kinds[0] == "truth" else None
    typed = np.array(values[is_present].tolist(), dtype=dtype)
    return _spread(typed, (~is_present).tolist(), 0)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "truth"
    return "number"
