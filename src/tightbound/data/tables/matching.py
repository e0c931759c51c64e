"""New data for a table: its columns matched by name with those of training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tightbound.core.data_spec import Column
from tightbound.data.on_disk import OnDisk
from tightbound.data.source import RawSource, RawSplit, sha256_of
from tightbound.data.tables.encoding import codes
from tightbound.data.tables.table import Table, are_numbers, present
from tightbound.runtime.errors import TightboundError, nearest, shortened

_MOST_NAMED = 5


@dataclass(frozen=True)
class Matched:
    """A split of new data whose columns are those of training, in their order.

    Attributes:
        split: the rows.
        digest: sha256 of the rows.
        table: the columns as they were given, in the order of training; None for rows
            that are not of a table in memory.
        notices: messages for the user.
    """

    split: RawSplit
    digest: str
    table: Table | None = None
    notices: tuple[str, ...] = ()


def matched(
    source: RawSource,
    split: RawSplit,
    fields: Sequence[Column],
    *,
    is_mixed: bool,
    masked: bool,
    skipped: Collection[str] = (),
) -> Matched:
    """Match the columns of new data by name.

    Columns in another order are put in order, and others than those of training are left
    out with a notice. Rows without names, as of an array or of a file without a header, are
    taken by place.

    Args:
        source: the new data.
        split: their rows.
        fields: the columns of training; empty where it had no names.
        is_mixed: whether these are of several kinds.
        masked: whether values may be missing.
        skipped: columns that training left out, which need no notice.

    Raises:
        TightboundError: where a column of training is missing, or a cell does not fit it.
    """
    if not fields:
        _check_all_numbers(source, split)
        return Matched(split, source.digest)
    table = source.table
    if table is None and is_mixed and isinstance(split.x, Tensor):
        table = _by_place(source.where, split.x, fields)
    if table is None and not source.column_types:
        return Matched(split, source.digest)
    wanted = [f.name for f in fields]
    if table is None:
        names = _named(list(source.column_types), wanted)
        notices = _checked(source.where, names, wanted, skipped)
        x = split.x.map(_column_order(names, wanted))
        return Matched(replace(split, x=x), source.digest, notices=notices)
    table = _with_names(table, wanted)
    names = list(table.columns)
    notices = _checked(source.where, names, wanted, skipped)
    ordered = replace(table, columns={name: table.columns[name] for name in wanted})
    _check_times(ordered, fields, has_types=source.table is not None)
    x = _numbers(split.x, ordered, names, fields, is_mixed, masked)
    digest = source.digest
    if x is not split.x and isinstance(x, Tensor):
        digest = sha256_of(x, split.y)
    return Matched(replace(split, x=x), digest, ordered, notices)


def _check_times(table: Table, fields: Sequence[Column], has_types: bool) -> None:
    """Refuse times where training had numbers, and numbers where it had times.

    An array by place has no types: its times are seconds.
    """
    if not has_types:
        return
    kinds = {"M": "times", "m": "time spans"}
    for f in fields:
        cells = table.columns[f.name]
        given = kinds.get(cells.dtype.kind, "numbers")
        learned = kinds.get(np.dtype(f.type).kind, "") if f.is_time else "numbers"
        are_times = "numbers" not in (given, learned)
        if given == learned or (not are_times and cells.dtype.kind not in "iufMm"):
            continue
        if cells.dtype.kind == "f" and np.isnan(cells).all():
            continue
        raise TightboundError(
            f"{table.where}: column {shortened(f.name)} holds {given}, and {learned} in "
            "training: convert it"
        )


def _checked(
    where: str, names: list[str], wanted: list[str], skipped: Collection[str]
) -> tuple[str, ...]:
    """The notice about further columns; refuses names that lack one of training."""
    _check_names(where, wanted, names)
    expected = {*wanted, *skipped}
    return _extra_notice(where, [name for name in names if name not in expected])


def _check_all_numbers(source: RawSource, split: RawSplit) -> None:
    """Refuse texts where the model was trained on an array of numbers."""
    if split.x is None:
        raise TightboundError(
            f"{source.where} has columns that are not numbers, but the model "
            "was trained on numbers only"
        )


def _named(names: list[str], wanted: list[str]) -> list[str]:
    """The names of columns; those of training where the columns are taken by place.

    They are where the new columns are counted from 0, or where those of training are and
    no new one is called by a number.
    """
    if len(names) != len(wanted) or set(names) == set(wanted):
        return names
    has_numbers = any(name.lstrip("-").isdigit() for name in names)
    if are_numbers(names) or (are_numbers(wanted) and not has_numbers):
        return wanted
    return names


def _with_names(table: Table, wanted: list[str]) -> Table:
    """A table with the names of `_named`."""
    names = _named(list(table.columns), wanted)
    if names == list(table.columns):
        return table
    columns = dict(zip(names, table.columns.values(), strict=True))
    renamed = dict(zip(table.columns, names, strict=True))
    nullable = {renamed[name]: cells for name, cells in table.nullable.items()}
    return replace(table, columns=columns, nullable=nullable)


def _by_place(where: str, x: Tensor, fields: Sequence[Column]) -> Table | None:
    """An array as a table with the columns of training; None for another width."""
    if x.shape[1:] != (len(fields),):
        return None
    return Table(where, {f.name: x[:, i].numpy() for i, f in enumerate(fields)})


def _check_names(where: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    """Refuse data that lack columns of training."""
    present_names = set(names)
    missing = [name for name in wanted if name not in present_names]
    if not missing:
        return
    first = missing[0]
    more = ""
    if len(missing) > 1:
        others = ", ".join(repr(name) for name in missing[1:_MOST_NAMED])
        count = len(missing) - _MOST_NAMED
        more = f", nor {others}" + (f" and {count} more" if count > 0 else "")
    raise TightboundError(
        f"{where} has no column {shortened(first)}{more}, which the model was trained on: "
        f"{nearest(first, names)}"
    )


def _extra_notice(where: str, extra: Sequence[str]) -> tuple[str, ...]:
    """The message that columns are not used."""
    if not extra:
        return ()
    named = ", ".join(repr(name) for name in extra[:_MOST_NAMED])
    more = f" and {len(extra) - _MOST_NAMED} more" if len(extra) > _MOST_NAMED else ""
    plural = "column" if len(extra) == 1 else "columns"
    verb = "is" if len(extra) == 1 else "are"
    return (
        f"{where}: {plural} {named}{more} {verb} not used, the model was trained without",
    )


class _column_order:
    """Rows (n, columns) with their columns in another order."""

    def __init__(self, names: Sequence[str], wanted: Sequence[str]) -> None:
        at = {name: i for i, name in enumerate(names)}
        self.order = torch.tensor([at[name] for name in wanted])

    def __call__(self, rows: Tensor) -> Tensor:
        return rows[:, self.order]


def _numbers(
    x: Tensor | OnDisk | None,
    table: Table,
    names: Sequence[str],
    fields: Sequence[Column],
    is_mixed: bool,
    masked: bool,
) -> Tensor | OnDisk:
    """Rows (n, columns) of a table whose columns are in the order of training."""
    if is_mixed:
        return torch.from_numpy(codes(table, tuple(fields), masked))
    if x is not None:
        if list(names) == list(table.columns):
            return x
        order = _column_order(names, list(table.columns))
        return x.map(order) if isinstance(x, OnDisk) else order(x)
    columns = []
    for f in fields:
        values, is_present = present(table, f.name, masked)
        if values.dtype.kind not in "iufb":
            row = int(np.argmax(is_present))
            problem = f"is {shortened(values[row])}, not a number as in training"
            raise table.complain(f.name, row, problem)
        numbers = values.astype(np.float64)
        numbers[~is_present] = np.nan
        columns.append(numbers)
    return torch.from_numpy(np.stack(columns, 1))
