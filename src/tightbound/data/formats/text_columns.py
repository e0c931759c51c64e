"""Read the columns of text of a DataFrame as numbers or dates, where they are these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tightbound.data.formats.cells import (
    Decimal,
    Place,
    Texts,
    TypedColumn,
    chosen_sign,
    dates_of,
    decimal_sign,
    notices_of,
    plain_numbers,
    refuse_marked,
    resolved_by,
    separated_numbers,
    with_gaps,
)
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, is_gap
from tightbound.data.tables.table import Table, Values


def with_typed_texts(
    source: RawSource, settings: DataSettings, *, is_frame: bool = False
) -> RawSource:
    """A table whose texts with decimal commas are numbers and whose dates are times.

    Texts of plain numbers stay texts, as their type says. Texts such as NA are missing
    in a file, as in a text file; in a DataFrame, which has missing values of its own,
    they are texts.

    Args:
        source: the source, which may have no table.
        settings: the data settings.
        is_frame: whether the source is a DataFrame and no file.

    Raises:
        TightboundError: for a column that may be read in two ways, and for a missing
            cell where none may be.
    """
    table = source.table
    if table is None:
        return source
    texts = {
        name: column
        for name in table.columns
        if (column := _texts(table, name, settings)) is not None
    }
    signs = {decimal_sign(column) for column in texts.values()} - {""}
    sign = chosen_sign(settings.decimal, signs)
    changed: dict[str, TypedColumn] = {}
    for name, column in texts.items():
        read = _typed(column, sign)
        if read is None and not is_frame:
            read = TypedColumn(with_gaps(table.columns[name], column))
        if read is not None:
            changed[name] = read
    return _with_columns(source, table, changed) if changed else source


def _with_columns(
    source: RawSource, table: Table, changed: Mapping[str, TypedColumn]
) -> RawSource:
    """The source with other values of some columns of its table."""
    typed_values = {name: column.values for name, column in changed.items()}
    zones = {name: column.zone for name, column in changed.items() if column.zone}
    notices = notices_of(table.where, changed)
    typed = replace(
        table, columns={**table.columns, **typed_values}, zones={**table.zones, **zones}
    )
    resolved = {**source.resolved, **resolved_by(changed.values())}
    return replace(source.with_notices(*notices), table=typed, resolved=resolved)


def _typed(texts: Texts, sign: Decimal) -> TypedColumn | None:
    """Texts as numbers or times; None for texts that stay what they are."""
    if texts.place.kind == "categorical" or plain_numbers(texts.unique).any():
        return None
    read = separated_numbers(texts, sign) or dates_of(texts)
    if read is None:
        refuse_marked(texts)
    return read


def _texts(table: Table, name: str, settings: DataSettings) -> Texts | None:
    """The texts of a column; None for one of another kind."""
    values: Values = table.columns[name]
    if values.dtype.kind not in "OU" or name in table.categories:
        return None
    if settings.fields.get(name) == "skip":
        return None
    gaps = np.array([is_gap(value) for value in values], dtype=bool)
    if gaps.all() or not all(isinstance(value, str) for value in values[~gaps]):
        return None
    cells = values.astype(object)
    cells[gaps] = ""
    return Texts.of(cells, Place.of(table.where, name, table.row, settings))
