"""Encode the columns of a table as numbers and codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import Column, ColumnKind, DataSpec
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    for_digest,
    sha256_of,
    sha256_text,
)
from tightbound.data.tables.frames import table_numbers
from tightbound.data.tables.table import (
    Table,
    Values,
    column,
    has_one_sided,
    number_column,
    present,
    row_called,
    unlike,
)
from tightbound.runtime.errors import TightboundError, listed, nearest, shortened

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray


def settle_fields(
    source: RawSource, settings: DataSettings, domains: Collection[str] = ()
) -> RawSource:
    """The source with the kinds and codes of its columns, where it is a mixed table.

    A table is mixed where a column is text, a category or a truth value, where
    `data.fields` says so, where a column of 0 and 1 or of counts stands beside one of
    fractions, or where a named column of fractions is not negative, with many zeros or a
    long tail, and the likelihood accepts such tables. Other sources are returned unchanged.

    Args:
        source: the source.
        settings: the data settings.
        domains: the domains that the model's likelihood accepts, or none for any.
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
    source = source.with_notices(*_digits_notice(table, settings))
    if not _is_mixed(table, settings, domains):
        return _numbers(source, table, settings.allow_missing)
    if settings.domain != "auto":
        raise TightboundError(
            f"{source.where} has columns of text or of several kinds: "
            "data.domain is not for it, drop it"
        )
    return _encoded(source, table, settings)


def _numbers(source: RawSource, table: Table, masked: bool) -> RawSource:
    """A table of plain numbers with its rows (n, columns); times are real, in seconds.

    Raises:
        TightboundError: for the first cell that is not finite, with its column, and,
            unless `masked`, for one that is missing.
    """
    for name in table.columns:
        present(table, name, masked)
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


def _digits_notice(table: Table, settings: DataSettings) -> list[str]:
    """The message on whole numbers that float64 does not tell apart."""
    return [
        f"{table.where}: column {shortened(name)} has whole numbers of more digits than "
        "float64 holds, which are learned rounded (data.fields.NAME=skip leaves out a "
        "column of identifiers)"
        for name, values in {**table.columns, **table.nullable}.items()
        if name not in settings.fields and _merges(values)
    ]


def _merges(values: Values | ExtensionArray) -> bool:
    """True where some whole numbers are equal as float64 only."""
    if not isinstance(values, np.ndarray):
        values = values[~values.isna()].to_numpy(dtype=str(values.dtype).lower())
    if values.dtype.kind not in "iu":
        return False
    if not len(values) or max(abs(int(values.min())), int(values.max())) <= 2**53:
        return False
    return len(np.unique(values.astype(np.float64))) < len(np.unique(values))


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


def _is_mixed(
    table: Table, settings: DataSettings, domains: Collection[str] = ()
) -> bool:
    if settings.fields or not table.numeric:
        return True
    if settings.domain != "auto":
        return False
    masked = settings.allow_missing
    by_kind = not domains or "mixed" in domains
    return unlike(table, masked) or (by_kind and has_one_sided(table, masked))


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
        digest=_digest(x, split, fields),
    )
    encoded = encoded.with_notices(*_times_notice(table))
    if chosen:
        return encoded
    return encoded.with_notices(_kinds_notice(source, fields))


def _digest(x: Tensor, split: RawSplit, fields: tuple[Column, ...]) -> str:
    """sha256 of the codes, labels, conditions and columns of a table."""
    keys = [_for_digest(f) for f in fields]
    if split.c is not None:
        keys.append(sha256_of(for_digest(split.c)))
    return sha256_text(sha256_of(x, split.y), *keys)


def _for_digest(f: Column) -> str:
    """A column as the sha256 of its table takes it."""
    return f.model_dump_json(exclude={"constant", "digits", "levels"})


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
    stripped = _without_spaces(f)
    cells = values.tolist()
    out = np.array(
        [code.get(cell, code.get(str(cell), stripped.get(cell, -1))) for cell in cells]
    )
    unknown = is_present & (out < 0)
    if unknown.any():
        row = int(np.argmax(unknown))
        near = nearest(str(cells[row]), map(str, f.values))
        problem = (
            f"has {shortened(cells[row])}, which the training data did not have: {near}"
        )
        raise table.complain(f.name, row, problem)
    return out


def _without_spaces(f: Column) -> dict[object, int]:
    """The codes of texts by these without spaces around them, as files have them."""
    texts = [str(value).strip() for value in f.values]
    counts = Counter(texts)
    return {text: code for code, text in enumerate(texts) if counts[text] == 1}


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
    numbers = values.astype(np.float64)
    if f.kind not in _WANTED:
        return values
    bad = is_present & ~_fits(f.kind, numbers)
    if bad.any():
        row = int(np.argmax(bad))
        problem = f"is {values[row]:g}, not {_WANTED[f.kind]}: choose {_OTHER[f.kind]}"
        raise table.complain(f.name, row, f"{problem} for it")
    return values


_WANTED: dict[str, str] = {
    "count": "a count 0, 1, 2, ...",
    "positive": "a number above 0",
    "zero-inflated": "a number from 0 up",
}
_OTHER = {
    "count": "real",
    "positive": "zero-inflated or real",
    "zero-inflated": "real",
}


def _fits(kind: str, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which numbers a column of this kind can have."""
    if kind == "positive":
        return numbers > 0
    if kind == "zero-inflated":
        return numbers >= 0
    are_counts: NDArray[np.bool_] = (numbers >= 0) & (numbers == np.round(numbers))
    return are_counts


def check_codes(x: Tensor, spec: DataSpec, what: str) -> None:
    """Refuse numbers that are not codes of a column's values, or not counts."""
    for values, f in zip(x.double().unbind(1), spec.fields, strict=True):
        if not f.values and f.kind not in _WANTED:  # any number fits
            continue
        is_gap = values.isnan() & spec.missing
        if f.values:
            top = len(f.values) - 1
            wanted = f"a code from 0 to {top}"
            fits = (values == values.round()) & (values >= 0) & (values <= top)
        else:
            wanted = _WANTED[f.kind]
            fits = torch.from_numpy(_fits(f.kind, values.numpy()))
        bad = ~(fits | is_gap)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise TightboundError(
                f"{what}: {row_called(row)}, column {shortened(f.name)} holds "
                f"{values[row]:g}, not {wanted}: correct it"
            )
