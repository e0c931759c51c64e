"""Encode the columns of a table as numbers and codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import Column, ColumnKind, DataSpec
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, sha256_of, sha256_text
from tightbound.data.tables.frames import table_numbers
from tightbound.data.tables.table import (
    Table,
    Values,
    column,
    number_column,
    present,
    row_called,
    unlike,
)
from tightbound.runtime.errors import TightboundError, listed, nearest, shortened


def settle_fields(source: RawSource, settings: DataSettings) -> RawSource:
    """The source with the kinds and codes of its columns, where it is a mixed table.

    A table is mixed where a column is text, a category or a truth value, where
    `data.fields` says so, or where a column of 0 and 1 or of counts stands beside one of
    fractions. Other sources are returned unchanged.
    """
    table = source.table
    if table is None and settings.fields:
        table = _numbered_table(source)
        source = replace(source, table=table)
    if table is None:
        return source
    for name in settings.fields:
        if name not in table.columns:
            raise TightboundError(
                f"{source.where} has no column {shortened(name)} for data.fields: "
                f"{nearest(name, table.columns)}"
            )
    if not _is_mixed(table, settings):
        return _numbers(source, table)
    if settings.domain != "auto":
        raise TightboundError(
            f"{source.where} has columns of text or of several kinds: "
            "data.domain is not for it, drop it"
        )
    return _encoded(source, table, settings)


def _numbers(source: RawSource, table: Table) -> RawSource:
    """A table of plain numbers with its rows (n, columns); times are real, in seconds."""
    split = source.splits.get("all")
    notices: list[str] = []
    if split is not None and split.x is None:
        x = table_numbers(table, notices)
        source = replace(
            source.with_split("all", replace(split, x=x)), digest=sha256_of(x, split.y)
        )
    if table.times:
        source = replace(source, domain="real")
    return source.with_notices(*notices, *_times_notice(table))


def _times_notice(table: Table) -> list[str]:
    """The message that names the columns of times."""
    if not table.times:
        return []
    names = ", ".join(repr(name) for name in table.times)
    what = "column" if len(table.times) == 1 else "columns"
    return [f"{table.where}: {what} {names} read as time, in seconds"]


def _numbered_table(source: RawSource) -> Table:
    """The table over an array (n, D), whose columns are called 0, 1, ..."""
    x = source.splits["all"].x if "all" in source.splits else None
    if not isinstance(x, Tensor) or x.dim() != 2:
        raise TightboundError(
            f"data.fields is for tables of columns, and {source.where} is none: drop it"
        )
    columns = {str(i): x[:, i].numpy() for i in range(x.shape[1])}
    return Table(source.where, columns)


def _is_mixed(table: Table, settings: DataSettings) -> bool:
    if settings.fields or not table.numeric:
        return True
    return settings.domain == "auto" and unlike(table, settings.allow_missing)


def _encoded(source: RawSource, table: Table, settings: DataSettings) -> RawSource:
    """A mixed table with its columns as numbers and codes."""
    chosen = settings.fields
    skipped = {name: "skip" for name, kind in chosen.items() if kind == "skip"}
    fields = tuple(
        column(table, name, chosen.get(name), settings.allow_missing)
        for name in table.columns
        if name not in skipped
    )
    if not fields:
        raise TightboundError(
            f"{source.where} has no column left: data.fields skips them all"
        )
    x = torch.from_numpy(codes(table, fields, settings.allow_missing))
    split = replace(source.splits["all"], x=x)
    kinds = {f.name: f.kind for f in fields} | skipped
    encoded = replace(
        source.with_split("all", split),
        fields=fields,
        resolved={**source.resolved, "fields": kinds},
        digest=sha256_text(
            sha256_of(x, split.y), *(f.model_dump_json() for f in fields)
        ),
    )
    encoded = encoded.with_notices(*_times_notice(table))
    if chosen:
        return encoded
    return encoded.with_notices(_kinds_notice(source, fields))


def _kinds_notice(source: RawSource, fields: tuple[Column, ...]) -> str:
    """The message that names the kind of each column."""
    by_kind: dict[str, list[str]] = {}
    for f in fields:
        by_kind.setdefault(f.kind, []).append(f.name)
    kinds = "; ".join(f"{kind}: {listed(names)}" for kind, names in by_kind.items())
    return (
        f"{source.where} is read as a table of {kinds} (--set "
        "data.fields.NAME=KIND to change one)"
    )


def table_fields(source: RawSource, spec: DataSpec) -> tuple[Column, ...]:
    """The columns of a table of plain numbers; empty where they have no names."""
    names = list(source.column_types)
    if source.table is not None:
        names = list(source.table.columns)
        if not source.table.has_names and source.table.index is None:
            return ()
    if spec.shape != (len(names),):
        return ()
    kinds: dict[str, ColumnKind] = {
        "binary": "binary",
        "levels": "count",
        "categorical": "count",
        "count": "count",
    }
    kind = kinds.get(spec.domain, "real")
    values = (0, 1) if kind == "binary" else ()
    return tuple(_number_column(source, name, kind, values) for name in names)


def _number_column(
    source: RawSource, name: str, kind: ColumnKind, values: tuple[float, ...]
) -> Column:
    """A column of plain numbers in memory, or by its type alone where it is on the disk."""
    if source.table is not None:
        return number_column(source.table, name, kind, values)
    type_ = source.column_types[name]
    step = 1.0 if type_.startswith(("int", "uint")) and not values else 0.0
    return Column(name=name, kind=kind, values=values, type=type_, step=step)


def codes(
    table: Table, fields: tuple[Column, ...], masked: bool
) -> NDArray[np.float64]:
    """Encode columns as numbers, or as codes 0, 1, ... of their values.

    Args:
        table: the table.
        fields: the columns to encode.
        masked: values may be missing and are then NaN.

    Returns:
        float64 (n, columns).

    Raises:
        TightboundError: for the first cell that a column cannot have.
    """
    out = np.empty((len(table), len(fields)))
    for i, f in enumerate(fields):
        values, is_present = present(table, f.name, masked)
        if f.values:
            encoded = _value_codes(table, f, values, is_present)
        else:
            encoded = _plain_numbers(table, f, values, is_present)
        out[~is_present, i] = np.nan
        out[is_present, i] = encoded[is_present]
    return out


def _value_codes(
    table: Table, f: Column, values: Values, is_present: NDArray[np.bool_]
) -> Values:
    """The position of each cell in the values of a column (n,)."""
    code = {value: number for number, value in enumerate(f.values)}
    cells = values.tolist()
    out = np.array([code.get(cell, code.get(str(cell), -1)) for cell in cells])
    unknown = is_present & (out < 0)
    if unknown.any():
        row = int(np.argmax(unknown))
        near = nearest(str(cells[row]), map(str, f.values))
        problem = (
            f"has {shortened(cells[row])}, which the training data did not have: {near}"
        )
        raise table.complain(f.name, row, problem)
    return out


def _plain_numbers(
    table: Table, f: Column, values: Values, is_present: NDArray[np.bool_]
) -> Values:
    """The cells of a column of numbers (n,), checked to be counts where it is one."""
    if values.dtype.kind not in "iufb":
        if not is_present.any():
            return np.zeros(len(values))
        row = int(np.argmax(is_present))
        problem = (
            f"is {shortened(values[row])}, not a number, but the column is {f.kind}"
        )
        raise table.complain(f.name, row, problem)
    if f.kind == "count":
        numbers = values.astype(np.float64)
        bad = is_present & ((numbers < 0) | (numbers != np.round(numbers)))
        if bad.any():
            row = int(np.argmax(bad))
            problem = (
                f"is {values[row]:g}, not a count 0, 1, 2, ...: choose real for it"
            )
            raise table.complain(f.name, row, problem)
    return values


def check_codes(x: Tensor, spec: DataSpec, what: str) -> None:
    """Refuse numbers that are not codes of a column's values, or not counts."""
    for values, f in zip(x.double().unbind(1), spec.fields, strict=True):
        if f.kind == "real":
            continue
        top: float = np.inf
        wanted = "a count 0, 1, 2, ..."
        if f.values:
            top = len(f.values) - 1
            wanted = f"a code from 0 to {top}"
        is_gap = values.isnan() & spec.missing
        not_whole = (values != values.round()) & ~is_gap
        bad = (values < 0) | (values > top) | not_whole
        if bad.any():
            row = int(bad.nonzero()[0])
            raise TightboundError(
                f"{what}: {row_called(row)}, column {shortened(f.name)} holds "
                f"{values[row]:g}, not {wanted}: correct it"
            )
