"""Columns of a DataFrame whose cells, categories or names a table does not hold as they are."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from tightbound.core.data_spec import ColumnLabel
from tightbound.data.source import is_gap
from tightbound.runtime.errors import TightboundError, listed

if TYPE_CHECKING:
    import pandas

_INTEGERS = (int, np.integer)
_NUMBERS = (*_INTEGERS, float, np.floating, Decimal)
_PLAIN = (bool, int, float, str)


def label_of(name: object) -> ColumnLabel | None:
    """The name of a column that is a number, or a tuple of numbers and texts; else None."""
    if not isinstance(name, tuple):
        return _number_of(name)
    levels: list[float | str] = []
    for part in name:
        level = part if isinstance(part, str) else _number_of(part)
        if level is None:
            return None
        levels.append(level)
    return tuple(levels)


def _number_of(name: object) -> int | float | None:
    """A number as Python's own; None for another value, a truth value or one not finite."""
    if isinstance(name, bool):
        return None
    if isinstance(name, _INTEGERS):
        return int(name)
    if isinstance(name, float | np.floating) and np.isfinite(name):
        return float(name)
    return None


def with_plain_cells(series: pandas.Series) -> pandas.Series:
    """Objects that are all numbers in a type of numbers; other columns unchanged.

    Whole numbers become int64, with gaps Int64; fractions and decimal numbers float64.
    """
    if series.dtype != object:
        return series
    gaps = np.array([is_gap(value) for value in series], dtype=bool)
    present = series[~gaps]
    if not len(present) or not all(_is_number(value) for value in present):
        return series
    if not all(isinstance(value, _INTEGERS) for value in present):
        return series.mask(gaps, np.nan).astype("float64")
    limits = np.iinfo(np.int64)
    if min(present) < limits.min or max(present) > limits.max:
        return series
    return series.mask(gaps, None).astype("Int64" if gaps.any() else "int64")


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def with_plain_categories(series: pandas.Series) -> pandas.Series:
    """A column of categories with those that are times, intervals and the like as texts.

    Raises:
        TightboundError: where two categories are then equal.
    """
    categories = series.dtype.categories
    if are_plain(categories):
        return series
    texts = [str(value) for value in categories]
    if len(set(texts)) < len(texts):
        raise TightboundError(
            f"column {str(series.name)!r} has categories that are equal as texts: rename them"
        )
    return series.cat.rename_categories(texts)


def are_plain(categories: pandas.Index) -> bool:
    """True for categories that are texts, numbers and truth values."""
    return all(isinstance(value, _PLAIN) for value in categories.tolist())


def notices_of(what: str, columns: Iterable[tuple[object, pandas.Series]]) -> list[str]:
    """Messages on names, cells and categories that are not kept as they are given.

    Args:
        what: the name of the table.
        columns: the name and the cells of each column.
    """
    changed: dict[str, list[str]] = {}
    for name, series in columns:
        for kind in _changes(name, series):
            changed.setdefault(kind, []).append(str(name))
    return [f"{what}: {kind}: {listed(names)}" for kind, names in changed.items()]


def _changes(name: object, series: pandas.Series) -> list[str]:
    """What of a column is read as something else."""
    kinds = []
    if not isinstance(name, str) and label_of(name) is None:
        kinds.append("the names of these columns are read as texts")
    if str(series.dtype).startswith("period"):
        kinds.append(
            "the periods of these columns are read as the times of their starts"
        )
    if hasattr(series.dtype, "categories"):
        if not are_plain(series.dtype.categories):
            kinds.append("the categories of these columns are read as texts")
    elif series.dtype == object and any(isinstance(x, Decimal) for x in series):
        kinds.append("the decimal numbers of these columns are read as float64")
    return kinds
