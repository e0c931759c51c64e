"""pandas DataFrames in and out: columns with their names, types, zones and index."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import Column, ColumnLabel
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    is_gap,
    read_labels,
    sha256_of,
)
from tightbound.data.tables.plain_columns import (
    label_of,
    notices_of,
    with_plain_categories,
    with_plain_cells,
)
from tightbound.data.tables.table import Table, Values
from tightbound.data.tables.times import seconds, times
from tightbound.runtime.errors import TightboundError, shortened

if TYPE_CHECKING:
    import pandas
    from pandas.api.extensions import ExtensionArray

_TIMES = (datetime.date, datetime.datetime, np.datetime64)
_SPANS = (datetime.timedelta, np.timedelta64)
# pandas' types of numbers and truth values with gaps, and what their values are
_NULLABLE = ("Int", "UInt", "Float", "boolean", "string")
_NULLABLE_WHOLE = ("Int", "UInt")
_CATEGORIES = ("category", "ordered category")
_OBJECTS = ("str", "string", "boolean", *_CATEGORIES)


def frame_source(
    frame: pandas.DataFrame,
    y: object,
    settings: DataSettings,
    label: int | None,
    notices: list[str],
) -> RawSource:
    """A pandas DataFrame as a source.

    Args:
        frame: the DataFrame.
        y: its labels, or None.
        settings: the data settings.
        label: the number of the column that holds the labels, or None.
        notices: messages so far.
    """
    what = "the DataFrame"
    check_names(frame, what)
    names = [str(name) for name in frame.columns]
    if label is not None:
        y = frame.iloc[:, label].to_numpy()
    kept = frame.iloc[:, [i for i in range(len(names)) if i != label]]
    if not len(frame):
        raise TightboundError(f"{what} is empty: nothing can be learned from it")
    if not len(kept.columns):
        raise TightboundError(
            f"{what} has no column beside its label: nothing can be learned from it"
        )
    columns = [(name, without_arrow(cells)) for name, cells in kept.items()]
    notices += notices_of(what, columns)
    table = table_of(kept, what)
    x = table_numbers(table, notices)
    labels, label_names = read_labels(y, len(frame), what, notices)
    return RawSource(
        "table",
        what,
        {"all": RawSplit(x, labels, row_names(table))},
        sha256_of(x, labels) if x is not None else "",
        label_names=label_names,
        notices=tuple(notices),
        table=table,
    )


def check_names(frame: pandas.DataFrame, what: str) -> None:
    """Refuse two columns of one name; 1 and "1" are one name."""
    counts = Counter(str(name) for name in frame.columns)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise TightboundError(f"{what} has two columns {shortened(twice)}: rename one")


def table_of(frame: pandas.DataFrame, what: str) -> Table:
    """The columns of a DataFrame as arrays, with their types, zones and categories."""
    columns: dict[str, Values] = {}
    categories: dict[str, list[bool | int | float | str]] = {}
    zones: dict[str, str] = {}
    types: dict[str, str] = {}
    labels: dict[str, ColumnLabel] = {}
    nullable: dict[str, ExtensionArray] = {}
    ordered: set[str] = set()
    for i, label in enumerate(frame.columns):
        name = str(label)
        series = with_plain_cells(without_arrow(frame.iloc[:, i]))
        plain_label = label_of(label)
        if plain_label is not None:
            labels[name] = plain_label
        kind = str(series.dtype)
        if hasattr(series.dtype, "categories"):
            series = with_plain_categories(series)
            categories[name] = series.dtype.categories.tolist()
            if series.dtype.ordered:
                ordered.add(name)
            series = series.astype(object)
        elif kind.startswith(_NULLABLE):
            types[name] = kind
        if kind.startswith(_NULLABLE_WHOLE) and series.isna().any():
            nullable[name] = series.array
        zone = _zone(series)
        if zone:
            zones[name] = zone
        columns[name] = _values(series)
    return Table(
        what,
        columns,
        categories=categories,
        zones=zones,
        index=frame.index,
        types=types,
        labels=labels,
        nullable=nullable,
        ordered=frozenset(ordered),
    )


def without_arrow(series: pandas.Series) -> pandas.Series:
    """A column of an Arrow type in pandas' own type; others unchanged.

    Texts, truth values and integers become pandas' types with gaps, floats those of numpy,
    and dictionaries categories.
    """
    import pandas

    if not isinstance(series.dtype, pandas.ArrowDtype):
        return series
    arrow = series.array.__arrow_array__()
    name = str(arrow.type)
    if name in ("string", "large_string"):
        return series.astype("string")
    if name == "bool":
        return series.astype("boolean")
    if name.startswith(("int", "uint")):
        return series.astype(name.replace("uint", "UInt").replace("int", "Int"))
    plain = arrow.to_pandas()
    plain.index = series.index
    return plain.rename(series.name)


def _zone(series: pandas.Series) -> str:
    """The time zone of a column of times; "" for none."""
    import pandas

    if isinstance(series.dtype, pandas.DatetimeTZDtype):
        return str(series.dtype.tz)
    return ""


def _values(series: pandas.Series) -> Values:
    """The values of a column: numbers, datetime64, timedelta64 or objects."""
    import pandas

    kind = str(series.dtype)
    values: Values
    if isinstance(series.dtype, pandas.DatetimeTZDtype):
        values = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    elif isinstance(series.dtype, pandas.PeriodDtype):
        values = series.dt.to_timestamp().to_numpy()
    elif not kind.startswith(_NULLABLE) or kind in ("boolean", "string"):
        values = series.to_numpy()
    elif series.isna().any():
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = series.to_numpy(dtype=kind.lower())
    if values.dtype == object:
        return _times_of(values)
    return values


def _times_of(values: Values) -> Values:
    """Objects that are all dates or time spans as such an array, others unchanged."""
    import pandas

    filled = [value for value in values if not is_gap(value)]
    if not filled:
        return values
    try:
        if all(isinstance(value, _TIMES) for value in filled):
            moments: Values = pandas.to_datetime(pandas.Series(values)).to_numpy()
            return moments
        if all(isinstance(value, _SPANS) for value in filled):
            spans: Values = pandas.to_timedelta(pandas.Series(values)).to_numpy()
            return spans
    except (ValueError, TypeError, OverflowError):
        pass  # with several time zones, or beyond pandas' range: refused as objects
    return values


def table_numbers(table: Table, notices: list[str]) -> Tensor | None:
    """The columns of a table side by side (n, columns); None where some are no numbers."""
    if not table.numeric:
        return None
    columns = [
        seconds(values) if values.dtype.kind in "Mm" else values
        for values in table.columns.values()
    ]
    return as_tensor(np.stack(columns, 1), table.where, notices)


def row_names(table: Table) -> Sequence[str] | None:
    """The names of the rows by the index of a DataFrame; None where it only counts them."""
    import pandas

    if table.index is None or isinstance(table.index, pandas.RangeIndex):
        return None
    return [str(name) for name in table.index]


def columns_frame(columns: Mapping[object, object]) -> pandas.DataFrame:
    """A DataFrame of a dict of columns.

    Raises:
        TightboundError: where the columns have different lengths.
    """
    import pandas

    try:
        return pandas.DataFrame(dict(columns))
    except ValueError as error:
        raise TightboundError(
            f"a dict cannot be read as data, columns of a table ({error}): give columns of "
            "equal lengths"
        ) from None


# ---- out


def rounded(raw: Tensor, fields: Sequence[Column]) -> Tensor:
    """Numbers and codes (n, columns) with the decimal places of their columns.

    Numbers of a positive column stay above 0.
    """
    numbers = raw.double().cpu().numpy().copy()
    for i, f in enumerate(fields):
        if f.digits is None:
            continue
        numbers[:, i] = np.round(numbers[:, i], f.digits)
        if f.kind == "positive":
            least = round(10.0**-f.digits, f.digits)
            numbers[:, i] = np.maximum(numbers[:, i], least)
    return torch.from_numpy(numbers)


def back(raw: Tensor, fields: Sequence[Column]) -> dict[str, Values]:
    """Numbers and codes (n, columns) as columns of their own types.

    Codes become the nearest value, and numbers the nearest multiple of the step of the
    column, as of whole numbers. NaN becomes None in a column of values, NaT in one of
    times, and stays NaN in one of numbers.
    """
    columns = raw.double().cpu().numpy().T
    return {
        f.name: _values_of(numbers, f) if f.values else _numbers_of(numbers, f)
        for numbers, f in zip(columns, fields, strict=True)
    }


def _values_of(numbers: Values, f: Column) -> Values:
    """The values of a column that are nearest to these codes."""
    missing = np.isnan(numbers)
    rounded = np.rint(np.where(missing, 0, numbers))
    at = np.clip(rounded, 0, len(f.values) - 1).astype(int)
    is_object = missing.any() or f.type in _OBJECTS
    kind = object if is_object else f.type.lower()
    values: Values = np.array(f.values, dtype=kind)[at]
    if missing.any():
        values[missing] = None
    return values


def _numbers_of(numbers: Values, f: Column) -> Values:
    """The numbers of a column in its dtype; float where an integer column has gaps."""
    if f.constant is not None:
        numbers = np.where(np.isnan(numbers), np.nan, f.constant)
    if f.step:
        numbers = np.rint(numbers / f.step) * f.step
    if f.is_time:
        return times(numbers, f.type)
    dtype = np.dtype(f.type.lower())
    if dtype.kind not in "iu":
        return numbers.astype(dtype)
    limits = np.iinfo(dtype)
    rounded: Values = np.rint(numbers)
    if np.isnan(rounded).any():
        return rounded
    inside = rounded.clip(float(limits.min), float(limits.max))
    return _integers(inside, dtype)


def _integers(whole: NDArray[np.float64], dtype: np.dtype) -> Values:
    """Whole numbers as integers; the largest float64 may lie just above the largest."""
    limits = np.iinfo(dtype)
    top = whole >= float(limits.max)
    out = np.where(top, 0, whole).astype(dtype)
    out[top] = limits.max
    return out


def frame(
    raw: Tensor, fields: Sequence[Column], given: Table | None = None
) -> pandas.DataFrame:
    """Numbers and codes (n, columns) as a DataFrame.

    Args:
        raw: numbers and codes, float64, NaN where a value is missing.
        fields: the columns.
        given: the table that the rows belong to, whose index they get.
    """
    return _frame(back(raw, fields), fields, given)


def filled_frame(
    raw: Tensor, fields: Sequence[Column], given: Table
) -> pandas.DataFrame:
    """`frame`, with the cells that `given` has copied from it as they are."""
    columns = back(raw, fields)
    for f in fields:
        source = given.columns.get(f.name)
        if source is None or f.values:
            continue
        columns[f.name] = _with_given(columns[f.name], source)
    out = _frame(columns, fields, given)
    for f in fields:
        if f.name in given.nullable and not f.values:
            out[f.label] = _with_whole(out[f.label], given.nullable[f.name])
    return out


def _with_given(values: Values, given: Values) -> Values:
    """The values with those of `given` where it is not missing."""
    if given.dtype.kind == "O":
        given = np.array([np.nan if is_gap(v) else v for v in given], dtype=float)
    if given.dtype.kind in "Mm":
        dtype = np.promote_types(values.dtype, given.dtype)
        return np.where(np.isnat(given), values, given).astype(dtype)
    observed = ~np.isnan(given)
    if observed.all():
        return given.copy()
    if values.dtype.kind in "iu":
        whole = given[observed].astype(values.dtype)
        if (whole != given[observed]).any():
            values = values.astype(np.float64)
    elif values.dtype.itemsize < given.dtype.itemsize:
        values = values.astype(given.dtype)
    out = values.copy()
    out[observed] = given[observed]
    return out


def _with_whole(values: pandas.Series, given: ExtensionArray) -> pandas.Series:
    """Whole numbers with those of `given` where it is not missing, in all digits.

    Numbers of another type, as in a column of float64, stay as they are.
    """
    kind = str(values.dtype)
    whole = str(given.dtype).lower()
    if not kind.lower().startswith(("int", "uint")):
        return values
    dtype = np.promote_types(kind.lower(), whole)
    if dtype.kind not in "iu":
        return values
    name = dtype.name
    if kind.startswith(_NULLABLE_WHOLE):
        name = name.replace("uint", "UInt").replace("int", "Int")
    observed = ~np.asarray(given.isna())
    out = values.astype(name)
    out[observed] = given[observed].to_numpy(dtype=dtype)
    return out


def _frame(
    columns: Mapping[str, Values], fields: Sequence[Column], given: Table | None
) -> pandas.DataFrame:
    """Columns as a DataFrame, with pandas' own types, zones and the index of a table."""
    import pandas

    index = None if given is None else given.index
    out = pandas.DataFrame(
        {f.name: _series(columns[f.name], f) for f in fields},
    )
    if index is not None:
        out.index = index
    out.columns = pandas.Index([f.label for f in fields])
    return out


def _series(values: Values, f: Column) -> pandas.Series | pandas.Categorical:
    """One column as pandas holds it."""
    import pandas

    if f.type in _CATEGORIES:
        is_ordered = f.type != _CATEGORIES[0]
        return pandas.Categorical(values, list(f.values), ordered=is_ordered)
    if f.zone:
        return pandas.Series(values).dt.tz_localize("UTC").dt.tz_convert(f.zone)
    if f.type.startswith(_NULLABLE):
        return pandas.Series(values).astype(f.type)
    return pandas.Series(values)


def plain_frame(
    numbers: Tensor, fields: Sequence[Column], given: Table | None = None
) -> pandas.DataFrame:
    """Real numbers (n, columns) under the names of these columns, as a DataFrame."""
    plain = [
        Column(name=f.name, kind="real", number=f.number, levels=f.levels)
        for f in fields
    ]
    return frame(numbers, plain, given)
