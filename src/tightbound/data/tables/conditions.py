"""Columns of a table that a model is conditioned on: numbers, or one of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    for_digest,
    read_labels,
    read_numbers,
    sha256_of,
    sha256_text,
)
from tightbound.data.tables.frames import table_numbers
from tightbound.data.tables.table import Table
from tightbound.runtime.errors import TightboundError, nearest, shortened


def condition_names(settings: DataSettings) -> tuple[str, ...]:
    """The columns that `data.condition` names."""
    if settings.condition is None or settings.condition == "labels":
        return ()
    if isinstance(settings.condition, str):
        return (settings.condition,)
    return tuple(settings.condition)


def take_conditions(
    source: RawSource, settings: DataSettings, *, optional: bool = False
) -> RawSource:
    """The source with the columns that `data.condition` names as its condition.

    Columns of numbers are conditions (n, C); one column of texts, categories or truth values
    is a class condition, of ids (n,) of `condition_names`.

    Args:
        source: the source.
        settings: the data settings.
        optional: whether the columns may be absent, as in new data that are given a condition
            of their own.

    Raises:
        TightboundError: where a column is absent, has gaps, or several are not numbers.
    """
    names = condition_names(settings)
    table = source.table
    if not names or table is None or source.condition_names:
        return source
    names = tuple(_column_named(name, table, source.where) for name in names)
    if optional and not set(names) & set(table.columns):
        return source
    left = _without(table, names, source.where)
    c, classes = _condition(table, names)
    split = source.splits["all"]
    notices: list[str] = []
    x = table_numbers(left, notices)
    source = source.with_split("all", replace(split, x=x, c=c))
    digest = ""
    if x is not None:
        digest = sha256_text(sha256_of(x, split.y), sha256_of(for_digest(c)))
    return replace(
        source.with_notices(*notices),
        table=left,
        condition_names=classes or names,
        digest=digest,
    )


def _without(table: Table, names: tuple[str, ...], where: str) -> Table:
    """A table without its columns of conditions; refuses one that lacks such a column."""
    for name in names:
        if name not in table.columns:
            raise TightboundError(
                f"{where} has no column {shortened(name)} for data.condition: "
                f"{nearest(name, table.columns)}"
            )
    others = {
        name: values for name, values in table.columns.items() if name not in names
    }
    if not others:
        raise TightboundError(
            f"{where} has no column beside those of data.condition: nothing can be "
            "learned from it"
        )
    return replace(table, columns=others)


def _column_named(wanted: str, table: Table, where: str) -> str:
    """The name of a column that is given by its name, or by its number from 0."""
    names = list(table.columns)
    if wanted in names or not str(wanted).lstrip("-").isdigit():
        return str(wanted)
    if not -len(names) <= int(wanted) < len(names):
        raise TightboundError(
            f"data.condition={wanted}, but {where} has {len(names)} columns, counted from 0"
        )
    return names[int(wanted)]


def _condition(
    table: Table, names: tuple[str, ...]
) -> tuple[Tensor, tuple[str, ...] | None]:
    """Numbers (n, C) and None, or the ids (n,) of one column and its classes."""
    columns = [table.columns[name] for name in names]
    are_classes = [
        name in table.categories or values.dtype.kind not in "iuf"
        for name, values in zip(names, columns, strict=True)
    ]
    if not any(are_classes):
        numbers = np.stack([values.astype(np.float64) for values in columns], 1)
        return read_numbers(numbers, len(table), table.where), None
    if len(names) > 1:
        name = names[are_classes.index(True)]
        raise TightboundError(
            f"{table.where}: column {shortened(name)} of data.condition holds no numbers: a "
            "model is conditioned on one column of classes, or on columns of numbers"
        )
    name = names[0]
    if table.columns[name].dtype.kind in "Mm":
        raise TightboundError(
            f"{table.where}: column {shortened(name)} of data.condition holds times: convert it to "
            "numbers, or to classes such as the year as text"
        )
    cells = [str(value) for value in _filled(table, name)]
    ids, classes = read_labels(np.array(cells), len(table), table.where, [])
    assert ids is not None and classes is not None
    return ids.to(torch.int64), classes


def _filled(table: Table, name: str) -> np.ndarray:
    """A column of classes without gaps."""
    from tightbound.data.source import is_gap

    values = table.columns[name]
    gaps = np.array([is_gap(value) for value in values], dtype=bool)
    if gaps.any():
        raise table.complain(
            name,
            int(np.argmax(gaps)),
            "is missing, and data.condition names it: drop such rows",
        )
    return values
