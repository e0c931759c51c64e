"""The types of columns of a parquet file as pandas has them: decimals, categories, Int64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tightbound.runtime.reading import Tree, parse_json

if TYPE_CHECKING:
    import pyarrow as pa

_BITS = ("8", "16", "32", "64")
_NULLABLE = {
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in _BITS),
    "Float32",
    "Float64",
    "boolean",
}


def without_decimals(schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """A schema of Arrow whose decimal numbers are float64, and their columns."""
    import pyarrow as pa

    decimals = [field.name for field in schema if pa.types.is_decimal(field.type)]
    for name in decimals:
        at = schema.get_field_index(name)
        schema = schema.set(at, schema.field(at).with_type(pa.float64()))
    return schema, decimals


def without_decimal_cells(column: pa.Array) -> pa.Array:
    """A column of decimal numbers as float64; others unchanged."""
    import pyarrow as pa

    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def pandas_metadata(schema: pa.Schema) -> Tree:
    """What pandas wrote of the DataFrame, by its keys; empty where it did not."""
    metadata = schema.metadata or {}
    try:
        written = parse_json(metadata[b"pandas"])
    except (KeyError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def nullable_types(schema: pa.Schema) -> dict[str, str]:
    """The columns that the DataFrame had in types of pandas with gaps, as Int64."""
    columns = pandas_metadata(schema).get("columns")
    if not isinstance(columns, list):
        return {}
    written = {
        column.get("name"): column.get("numpy_type")
        for column in columns
        if isinstance(column, dict)
    }
    return {
        name: kind
        for name, kind in written.items()
        if isinstance(name, str) and kind in _NULLABLE and name in schema.names
    }


def categories_of(
    blocks: Iterable[pa.DictionaryArray],
) -> list[bool | int | float | str]:
    """The categories of a column of dictionaries, in the order of the file."""
    values = [value for block in blocks for value in block.dictionary.to_pylist()]
    return list(dict.fromkeys(values))
