"""Columns of a table as numbers and codes, by the fields of a model, and back to their own values
and types.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import Column, ColumnKind, DataSpec
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, sha256_of, sha256_text
from tightbound.data.tables.table import (
    Table,
    Values,
    column,
    present,
    row_called,
    unlike,
)
from tightbound.runtime.errors import TightboundError, nearest


def settle_fields(found: Source, settings: DataSettings) -> None:
    """Decides whether a source is a table of mixed columns, and where it is, gives it its fields,
    numbers and codes.

    It is one where a column is text, a category or a truth value, where `data.fields` says so, or
    where a column of 0 and 1 or of counts stands beside one of fractions.  Columns of one kind are
    read as they always were.
    """
    table = found.table
    if settings.fields and table is None:
        x = found.parts["all"].x if "all" in found.parts else None
        if not isinstance(x, Tensor) or x.dim() != 2:
            raise TightboundError(
                f"data.fields is for tables of columns, and {found.where} is none: drop it"
            )
        table = found.table = Table(
            found.where, {str(i): x[:, i].numpy() for i in range(x.shape[1])}
        )
    if table is None:
        return
    for name in settings.fields:
        if name not in table.columns:
            raise TightboundError(
                f"{found.where} has no column {name!r} for data.fields: "
                f"{nearest(name, table.columns)}"
            )
    asked, masked = settings.fields, settings.allow_missing
    if (
        not asked
        and table.numeric
        and (settings.domain != "auto" or not unlike(table, masked))
    ):
        return
    if settings.domain != "auto":
        raise TightboundError(
            f"{found.where} has columns of text or of several kinds: "
            "data.domain is not for it, drop it"
        )
    skipped = {name: "skip" for name, kind in asked.items() if kind == "skip"}
    fields = tuple(
        column(table, name, asked.get(name), masked)
        for name in table.columns
        if name not in skipped
    )
    if not fields:
        raise TightboundError(
            f"{found.where} has no column left: data.fields skips them all"
        )
    found.fields = fields
    found.resolved["fields"] = {f.name: f.kind for f in fields} | skipped
    part = found.parts["all"]
    part.x = torch.from_numpy(codes(table, fields, masked))
    found.digest = sha256_text(
        sha256_of(part.x, part.y), *(f.model_dump_json() for f in fields)
    )
    if not asked:
        groups: dict[str, list[str]] = {}
        for f in fields:
            groups.setdefault(f.kind, []).append(f.name)
        said = "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in groups.items()
        )
        found.notices.append(
            f"{found.where} is read as a table of {said} (--set "
            "data.fields.NAME=KIND to change one)"
        )


def named(table: Table | None, spec: DataSpec) -> tuple[Column, ...]:
    """The columns of a table that is read as plain numbers; none where they have no names."""
    numbers = [str(i) for i in range(spec.dims)]
    if (
        table is None
        or spec.shape != (len(table.columns),)
        or list(table.columns) == numbers
    ):
        return ()
    kinds: dict[str, ColumnKind] = {
        "binary": "binary",
        "levels": "count",
        "categorical": "count",
        "count": "count",
    }
    kind = kinds.get(spec.domain, "real")
    values = (0, 1) if kind == "binary" else ()
    return tuple(
        Column(name=name, kind=kind, values=values, type=str(x.dtype))
        for name, x in table.columns.items()
    )


def codes(
    table: Table, fields: tuple[Column, ...], masked: bool
) -> NDArray[np.float64]:
    """The columns as numbers, and as codes where they have values of their own, (n, columns); a bad
    cell is named.

    masked: a value may be missing, which is NaN here.
    """
    out = np.empty((len(table), len(fields)))
    for i, f in enumerate(fields):
        if f.name not in table.columns:
            raise TightboundError(
                f"{table.where} has no column {f.name!r}: {nearest(f.name, table.columns)}"
            )
        values, known = present(table, f.name, masked)
        out[~known, i] = np.nan
        if f.values:
            code = {value: number for number, value in enumerate(f.values)}
            found = np.array(
                [code.get(value, code.get(str(value), -1)) for value in values.tolist()]
            )
            if (strange := known & (found < 0)).any():
                number = int(np.argmax(strange))
                near = nearest(str(values.tolist()[number]), map(str, f.values))
                raise table.complain(
                    f.name,
                    number,
                    (
                        f"has {values.tolist()[number]!r}, which the training data "
                        f"did not have: {near}"
                    ),
                )
            out[known, i] = found[known]
            continue
        if values.dtype.kind not in "iufb" and known.any():
            number = int(np.argmax(known))
            raise table.complain(
                f.name,
                number,
                f"is {values[number]!r}, not a number, but the column is {f.kind}",
            )
        out[known, i] = values[known]
        made = out[:, i]
        if (
            f.kind == "count"
            and (bad := known & ((made < 0) | (made != np.round(made)))).any()
        ):
            number = int(np.argmax(bad))
            raise table.complain(
                f.name,
                number,
                f"is {values[number]:g}, not a count 0, 1, 2, ...: choose real for it",
            )
    return out


def coded(found: Source, spec: DataSpec, part: Part) -> Part:
    """New data by the fields of a trained model; raises where they do not fit it."""
    table, x = found.table, part.x
    if (
        table is None
        and isinstance(x, Tensor)
        and spec.fields
        and x.shape[1:] == (len(spec.fields),)
    ):
        table = Table(
            found.where, {f.name: x[:, i].numpy() for i, f in enumerate(spec.fields)}
        )
    if table is None:
        return part
    if not spec.fields:
        if part.x is None:
            raise TightboundError(
                f"{found.where} has columns that are no numbers, but the model "
                "was trained on numbers only"
            )
        return part
    x = torch.from_numpy(codes(table, spec.fields, spec.missing))
    found.digest = sha256_of(x, part.y)
    return Part(x, part.y, part.names)


def check_codes(x: Tensor, spec: DataSpec, what: str) -> None:
    """Refuses numbers that are no codes of a column's values, or no counts, naming the row."""
    for values, f in zip(x.double().unbind(1), spec.fields, strict=True):
        if f.kind == "real":
            continue
        top = len(f.values) - 1 if f.values else np.inf
        bad = (
            (values < 0)
            | (values > top)
            | ((values != values.round()) & ~(values.isnan() & spec.missing))
        )
        if bad.any():
            row = int(bad.nonzero()[0])
            wanted = f"a code from 0 to {top}" if f.values else "a count 0, 1, 2, ..."
            raise TightboundError(
                f"{what}: {row_called(row)}, column {f.name!r} holds "
                f"{values[row]:g}, not {wanted}: mend it"
            )


def back(raw: Tensor, fields: tuple[Column, ...]) -> dict[str, Values]:
    """Numbers and codes (n, columns) as columns of their own types: the nearest value, whole where
    they were whole.

    What is NaN is None in a column of values, and stays NaN in one of numbers.
    """
    out: dict[str, Values] = {}
    for column_, f in zip(raw.double().numpy().T, fields, strict=True):
        gone = np.isnan(column_)
        if f.values:
            at = np.clip(
                np.rint(np.where(gone, 0, column_)), 0, len(f.values) - 1
            ).astype(int)
            named_ = np.array(
                f.values,
                dtype=object if gone.any() or f.type in ("str", "category") else f.type,
            )[at]
            named_[gone] = None
            out[f.name] = named_
        else:
            kind = np.dtype(f.type)
            made = np.rint(column_) if kind.kind in "iu" else column_
            out[f.name] = made.astype(
                float if gone.any() and kind.kind in "iu" else kind
            )
    return out


def plain_frame(numbers: Tensor, fields: tuple[Column, ...]) -> Any:
    """Numbers about such columns (n, columns), as they are, under the columns' names."""
    return frame(numbers, tuple(Column(name=f.name, kind="real") for f in fields))


def frame(raw: Tensor, fields: tuple[Column, ...]) -> Any:
    """A pandas DataFrame of such columns, or, where pandas is not installed, a dict of arrays."""
    columns: Mapping[str, Any] = back(raw, fields)
    if importlib.util.find_spec("pandas") is None:
        return columns
    import pandas

    made = {
        f.name: pandas.Categorical(columns[f.name], list(f.values))
        if f.type == "category"
        else columns[f.name]
        for f in fields
    }
    return pandas.DataFrame(made)
