"""Read files stored in chunks, .h5, .zarr and .parquet, into memory or on access."""

from __future__ import annotations

import functools
import importlib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tightbound.data.formats.arrays import array_keys
from tightbound.data.formats.labels import find_label, with_unknown
from tightbound.data.formats.limits import (
    check_declared,
    check_no_outside_links,
    check_row,
)
from tightbound.data.formats.parquet_pages import check_pages
from tightbound.data.formats.parquet_types import (
    categories_of,
    nullable_types,
    pandas_metadata,
    without_decimal_cells,
    without_decimals,
)
from tightbound.data.formats.stored_chunks import (
    Stored,
    StoredArray,
    UnpacksToMore,
    hdf5_array,
    zarr_array,
)
from tightbound.data.images.items import FEW, Items
from tightbound.data.on_disk import PIECE, OnDisk, load_if_small
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    join_labels,
    read_labels,
    sha256_of,
    sha256_text,
)
from tightbound.data.tables.table import FILL, Table
from tightbound.runtime.errors import (
    TightboundError,
    cut,
    listed,
    machine_reason,
    nearest,
    shortened,
)
from tightbound.runtime.foreign_errors import first_line
from tightbound.runtime.reading import JSON, Tree, check_regular, parse_json, read_text

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LABELS = 20_000_000
_TEXTS = 1 << 26  # bytes of texts of any length that are read at a time
MOST_NAMES = 1_000_000


def need(module: str, what: str, extra: str) -> ModuleType:
    """Import a module of an optional extra.

    Raises:
        TightboundError: with the command that installs it, where it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise TightboundError(
            f"{what} needs {module}: pip install 'tightbound[{extra}]'"
        ) from None


def content_digest(path: Path, kind: str, splits: Mapping[str, RawSplit]) -> str:
    """sha256 of the content of some splits, or of size and time of files on the disk."""
    keys: list[object] = [kind]
    for name, split in splits.items():
        if isinstance(split.x, OnDisk):
            keys += [name, path.resolve(), *stamps(path), split.x.dtype, split.x.shape]
        else:
            keys += [name, sha256_of(split.x, split.y)]
    return sha256_text(*keys)


def stamps(path: Path) -> list[object]:
    """Size and time of a file; of a folder, the name and stamps of each file in it."""
    if not path.is_dir():
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
    keys: list[object] = []
    files = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
    for file in sorted(files):
        keys += [file.relative_to(path), *stamps(file)]
    return keys


# ---- .h5 and .zarr: arrays by name


def load_h5(path: Path, settings: DataSettings) -> RawSource:
    """Read an HDF5 file: datasets named as the arrays of an .npz, or `data.key`.

    The file stays open only where its rows stay on the disk.
    """
    h5py = need("h5py", str(path), "data")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            arrays = _datasets(h5py, path, file, settings)
        except TightboundError:
            raise
        except Exception as error:  # HDF5 raises many kinds for a damaged file
            raise _unreadable(path, "not an HDF5 file", error) from None
        source = _arrays(path, arrays, settings, hdf5_array)
        if any(isinstance(split.x, OnDisk) for split in source.splits.values()):
            stack.pop_all()
    return source


def _datasets(
    h5py: Any, path: Path, file: Any, settings: DataSettings
) -> dict[str, StoredArray]:
    """The datasets of an HDF5 file by name.

    Raises:
        TightboundError: where one takes its numbers from another file.
    """
    arrays: dict[str, StoredArray] = {}

    def collect(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = node

    file.visititems(collect)
    outside = {name: _other_file(array) for name, array in arrays.items()}
    links: dict[str, object] = {}
    if settings.key is not None:
        file.visititems_links(links.__setitem__)
    link = links.get(settings.key or "")
    if isinstance(link, h5py.ExternalLink):
        outside = {str(settings.key): link.filename}
    for name, other in outside.items():
        if other is not None:
            raise TightboundError(
                f"{path}: dataset {shortened(name)} is stored in another file, {cut(repr(other))}, "
                "which is not read: write one file that holds all numbers"
            )
    return arrays


def _other_file(dataset: Any) -> str | None:
    """The name of another file that an HDF5 dataset takes its numbers from, or None."""
    for name, _, _ in dataset.external or ():
        return str(name)
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        if source.file_name != ".":
            return str(source.file_name)
    return None


def _unreadable(path: Path, kind: str, error: Exception) -> TightboundError:
    """The error of a file that cannot be opened: the machine's reason, or its damage."""
    reason = machine_reason(error)
    if reason is not None:
        return TightboundError(f"cannot read {cut(path)} ({reason})")
    return TightboundError(
        f"{cut(path)} is truncated or {kind} ({first_line(error)}): save it again"
    )


def load_zarr(path: Path, settings: DataSettings) -> RawSource:
    """Read a Zarr array, or a group of arrays named as in an .npz, or `data.key`."""
    zarr = need("zarr", str(path), "data")
    check_no_outside_links(path)
    _check_codecs(path)
    try:
        node = zarr.open(str(path), mode="r")
        is_array = isinstance(node, zarr.Array)
        nodes = {"x": node} if is_array else dict(node.members(max_depth=None))
    except Exception as error:  # zarr raises many kinds for a damaged store
        raise _unreadable(path, "not a Zarr store", error) from None
    arrays = {name: array for name, array in nodes.items() if hasattr(array, "shape")}
    return _arrays(path, arrays, settings, partial(zarr_array, path))


# Codecs that unpack numbers and texts and nothing else; pickle runs code.
_CODECS = re.compile(
    "adler32|astype|base64|bitround|blosc|bool|bytes|bz2|cast_value|crc32|crc32c|delta|"
    "fixedscaleoffset|fletcher32|gzip|jenkins_lookup3|lz4|lzma|packbits|pcodec|quantize|"
    "scale_offset|sharding_indexed|shuffle|transpose|vlen-array|vlen-bytes|vlen-utf8|"
    "zfpy|zlib|zstd"
)
_METADATA = (".zarray", "zarr.json", ".zmetadata")


def _check_codecs(path: Path) -> None:
    """Refuse a Zarr store whose metadata name a codec that could run code."""
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        if file.name not in _METADATA:
            continue
        try:
            tree = parse_json(read_text(file))
        except (OSError, ValueError) as error:
            raise TightboundError(f"{cut(file)} is damaged ({cut(error)})") from None
        for name in _codec_names(tree):
            if not _CODECS.fullmatch(name.removeprefix("numcodecs.")):
                raise TightboundError(
                    f"{cut(file)} names the codec {cut(repr(name))}, which is not used: store "
                    "the array with blosc, zstd or gzip"
                )


def _codec_names(tree: JSON, inside: bool = False) -> Iterator[str]:
    """The codecs in the metadata of a Zarr store, of format 2 or 3."""
    if isinstance(tree, list):
        for entry in tree:
            yield from _codec_names(entry, inside)
    if not isinstance(tree, dict):
        return
    if inside:
        name = tree.get("id", tree.get("name"))
        yield str(name)
    for key, value in tree.items():
        if key != "attributes":
            yield from _codec_names(value, key in _CODEC_KEYS)


_CODEC_KEYS = ("codecs", "index_codecs", "compressor", "filters")


def _arrays(
    path: Path,
    arrays: Mapping[str, StoredArray],
    settings: DataSettings,
    checked: Callable[[StoredArray], Stored],
) -> RawSource:
    """The source over named arrays that are read in slices.

    Args:
        path: the file or folder.
        arrays: the arrays by name.
        settings: the data settings.
        checked: an array whose chunks are checked before they are read.
    """
    notices: list[str] = []
    splits: dict[str, RawSplit] = {}
    labels: dict[str, np.ndarray] = {}
    for name, (x, y) in array_keys(path, list(arrays), settings.key).items():
        rows = _rows(path, x, _checked(path, x, arrays[x], checked))
        splits[name] = RawSplit(load_if_small(rows, settings, f"{path} ({x})", notices))
        if y is None:
            continue
        count = arrays[y].shape[0]
        if settings.key is not None and count != len(rows):
            continue  # labels of another array
        if count > MOST_LABELS:
            notices.append(
                f"{path} ({y}): {count} labels are too many for memory; "
                "they are not used"
            )
        else:
            array = _checked(path, y, arrays[y], checked)
            labels[name] = _labels(path, y, array, settings)
    labelled, label_names = join_labels(splits, labels, str(path), notices)
    return RawSource(
        path.stem,
        str(path),
        labelled,
        content_digest(path, "arrays", labelled),
        label_names=label_names,
        notices=tuple(notices),
    )


def _checked(
    path: Path, key: str, array: StoredArray, checked: Callable[[StoredArray], Stored]
) -> Stored:
    """An array whose chunks are checked; refuses one whose chunks cannot be."""
    try:
        return checked(array)
    except ValueError as error:
        raise TightboundError(
            f"{cut(path)}: dataset {shortened(key)} cannot be read: {cut(error)}"
        ) from None


def _labels(
    path: Path, key: str, array: StoredArray, settings: DataSettings
) -> np.ndarray:
    """All labels of an array.

    Texts of any length are read few at a time, and equal ones are kept once, since a file
    may hold one of them for all rows.
    """
    what = f"{path} (dataset {key!r})"
    count = array.shape[0]
    check_declared(
        f"{what} unpacks to", math.prod(array.shape) * array.dtype.itemsize, settings
    )
    if array.dtype.kind not in "OT":
        return _slice(path, key, array, 0, count)
    size = sum(file.stat().st_size for file in _files(path))
    step = max(1, _TEXTS // max(1, size))
    labels = np.empty(math.prod(array.shape), object)
    unique: dict[str, str] = {}
    width = math.prod(array.shape[1:])
    for start in range(0, count, step):
        stop = min(start + step, count)
        texts = _slice(path, key, array, start, stop).ravel().tolist()
        labels[start * width : stop * width] = [unique.setdefault(t, t) for t in texts]
        check_declared(
            f"{what} unpacks to", sum(len(text) for text in unique), settings
        )
    return labels.reshape(array.shape)


def _as_texts(values: np.ndarray) -> np.ndarray:
    """Texts and bytes of any length as an array of Python texts."""
    texts = np.empty(values.size, object)
    texts[:] = [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in values.ravel().tolist()
    ]
    return texts.reshape(values.shape)


def _files(path: Path) -> list[Path]:
    """A file, or the files of a folder."""
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file()]
    return [path]


def _slice(
    path: Path, key: str, array: StoredArray, start: int, stop: int
) -> np.ndarray:
    try:
        rows = np.asarray(array[start:stop])
        if rows.dtype.kind in "OST":
            return _as_texts(rows)
        return rows
    except UnpacksToMore as error:
        raise TightboundError(
            f"{cut(path)}: dataset {shortened(key)} has a chunk that holds more than it "
            f"declares ({error}): write it again from its source"
        ) from None
    except Exception as error:  # a damaged chunk
        reason = machine_reason(error)
        if reason is not None:
            raise TightboundError(f"cannot read {cut(path)} ({reason})") from error
        raise TightboundError(
            f"{path}: rows {start} to {stop - 1} of dataset {shortened(key)} cannot be "
            f"read ({first_line(error)}): restore the file"
        ) from None


def _rows(path: Path, key: str, array: StoredArray) -> OnDisk:
    """The rows of an array, read in the chunks in which it is stored."""
    what = f"{path} (dataset {shortened(key)})"
    if not array.shape or not array.shape[0]:
        raise TightboundError(
            f"{what} of shape {tuple(array.shape)} is empty: nothing can be learned from it"
        )
    as_tensor(np.zeros(0, array.dtype), what, [])  # refuses texts and objects unread
    row_bytes = check_row(what, array.shape, array.dtype.itemsize)
    chunk = array.chunks[0] if array.chunks else 1
    stored = math.prod(array.chunks) * array.dtype.itemsize if array.chunks else 0
    _check_chunk(what, max(chunk * row_bytes, stored), "chunks of fewer rows")
    first = as_tensor(_slice(path, key, array, 0, 1), what, [])

    def read(start: int, stop: int) -> Tensor:
        return as_tensor(_slice(path, key, array, start, stop), what, [])

    return OnDisk((array.shape[0], *first.shape[1:]), first.dtype, read, chunk)


def _check_chunk(what: str, size: int, remedy: str) -> None:
    """Refuse chunks above 512 MB, of which too few would fit in memory to shuffle."""
    if size > 1 << 29:
        raise TightboundError(
            f"{what} is stored in chunks of {size / 1e9:.1f} GB, too large to "
            f"mix: write it in {remedy}"
        )


# ---- .parquet: columns


def load_parquet(path: Path, settings: DataSettings) -> RawSource:
    """Read a parquet file, or a folder of them in order.

    Examples are columns of numbers, or one column of lists or of images. A column named
    label or y, or the one that `data.label` names, holds labels.
    """
    groups = _open_parquet(path, settings)
    notices = groups.notices()
    index = _index_names(groups)
    names = [name for name in groups.names if name not in index]
    found = find_label(path, names, lambda i: _label_values(groups, names[i]), settings)
    notices += found.notices
    label = found.number
    columns = [name for i, name in enumerate(names) if i != label]
    if settings.key is not None and settings.key not in columns:
        raise TightboundError(
            f"{path} has no column {shortened(settings.key)} for data.key: "
            f"{nearest(settings.key, columns)}"
        )
    if settings.key is None and _has_texts(groups, columns):
        source = _text_source(groups, columns, settings)
        notices += source.notices
    else:
        chosen = [settings.key] if settings.key else columns
        source = _number_source(groups, chosen, settings, notices)
        source = replace(
            source,
            table=_number_table(groups, chosen, source),
            column_types=_column_types(groups, chosen, source),
        )
    source = replace(
        _with_index(source, groups, index),
        resolved={**source.resolved, **found.resolved},
    )
    labels = None
    if label is not None and groups.n <= MOST_LABELS:
        labels, unknown = with_unknown(names[label], groups.labels(names[label]))
        notices += unknown
    return _with_labels(source, path, labels, groups.n, notices)


def _with_labels(
    source: RawSource,
    path: Path,
    labels: np.ndarray | None,
    n: int,
    notices: list[str],
) -> RawSource:
    """The source over a parquet file with its n labels, its digest and all notices."""
    split = source.splits["all"]
    if split.x is None:
        y, label_names = read_labels(labels, n, str(path), notices)
        splits = {"all": replace(split, y=y)}
        digest = ""
    else:
        of_split = {} if labels is None else {"all": labels}
        splits, label_names = join_labels(source.splits, of_split, str(path), notices)
        digest = content_digest(path, "parquet", splits)
    return replace(
        source,
        splits=splits,
        digest=digest,
        label_names=label_names,
        notices=tuple(notices),
    )


def _index_names(groups: _Groups) -> list[str]:
    """The columns that hold the index of the DataFrame that was written."""
    index = pandas_metadata(groups.schema).get("index_columns")
    if not isinstance(index, list):
        return []
    named = [name for name in index if isinstance(name, str) and name in groups.names]
    return named if len(named) < len(groups.names) else []


def _with_index(source: RawSource, groups: _Groups, index: list[str]) -> RawSource:
    """The source with its rows named by the index of the DataFrame that was written."""
    split = source.splits["all"]
    in_memory = isinstance(split.x, Tensor) or split.x is None
    if len(index) != 1 or groups.n > MOST_NAMES or not in_memory:
        return source
    import pandas

    name = None if index[0].startswith("__index_level_") else index[0]
    labels = pandas.Index(groups.labels(index[0]), name=name)
    split = replace(split, names=[str(label) for label in labels])
    source = source.with_split("all", split)
    if source.table is None:
        return source
    return replace(source, table=replace(source.table, index=labels))


def _open_parquet(path: Path, settings: DataSettings) -> _Groups:
    """The row groups of a parquet file or of a folder of files with the same columns."""
    parquet = need("pyarrow.parquet", str(path), "data")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise TightboundError(f"{path} is a folder without parquet files: name another")
    for file in files:
        check_regular(file)
    try:
        tables = [parquet.ParquetFile(file) for file in files]
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise _unreadable(path, "not a parquet file", error) from None
    names = tables[0].schema_arrow.names
    for file, table in zip(files, tables, strict=True):
        if table.schema_arrow.names != names:
            raise TightboundError(
                f"{file} has other columns than {files[0]}: make them alike"
            )
    # texts that repeat are read as one text and its rows, as they may be stored
    readers = [
        parquet.ParquetFile(
            file, metadata=table.metadata, read_dictionary=_texts_of(table)
        )
        for file, table in zip(files, tables, strict=True)
    ]
    for table in tables:
        table.close()
    schema = tables[0].schema_arrow
    groups = _Groups(path, files, readers, schema, settings.allow_missing)
    if not groups.n:
        raise TightboundError(f"{path} has no rows: expected one for each example")
    return groups


def _texts_of(table: pa.Table) -> list[str]:
    """The columns of texts and bytes of a parquet file, also those inside of structs."""
    leaves = [table.schema.column(i) for i in range(len(table.schema))]
    return [
        leaf.path
        for leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type != "DECIMAL"
    ]


def _label_values(groups: _Groups, name: str) -> np.ndarray:
    """The values by which a column is known to hold labels, of few rows where many."""
    if groups.n <= MOST_LABELS:
        return groups.labels(name)
    return _as_labels([groups.column(0, name, gaps=True)])


def _text_source(
    groups: _Groups, columns: list[str], settings: DataSettings
) -> RawSource:
    """Columns of which some are texts, categories, truth values or times."""
    path = groups.path
    size = sum(groups.declared(i, columns) for i in range(len(groups.starts)))
    check_declared(f"{cut(path)} unpacks to", size, settings)
    zones = {name: groups.zone(name) for name in columns if groups.zone(name)}
    table = replace(_table_of(groups, columns), zones=zones)
    source = RawSource(path.stem, str(path), {"all": RawSplit(None)}, "", table=table)
    from tightbound.data.formats.text_columns import with_typed_texts

    return with_typed_texts(source, settings)


def _number_source(
    groups: _Groups, columns: list[str], settings: DataSettings, notices: list[str]
) -> RawSource:
    """Columns of numbers, or one of lists or images."""
    path = groups.path
    rows, resolved = _table(groups, columns, settings, notices)
    x = load_if_small(rows, settings, str(path), notices)
    source = RawSource(path.stem, str(path), {"all": RawSplit(x)}, "")
    return source.with_images(resolved)


def _number_table(
    groups: _Groups, columns: list[str], source: RawSource
) -> Table | None:
    """Columns of numbers in memory, in the types of the file."""
    x = source.splits["all"].x
    if not isinstance(x, Tensor) or not _are_numbers(groups, columns):
        return None
    return _table_of(groups, columns)


def _table_of(groups: _Groups, columns: list[str]) -> Table:
    """Columns in the types of the file; integers with gaps keep all digits."""
    nullable = {
        name: cells
        for name in columns
        if (cells := groups.whole_numbers(name)) is not None
    }
    types = {name: str(cells.dtype) for name, cells in nullable.items()}
    return Table(
        str(groups.path),
        {name: groups.whole(name) for name in columns},
        types=types | nullable_types(groups.schema),
        nullable=nullable,
        categories={
            name: categories
            for name in columns
            if (categories := groups.categories(name)) is not None
        },
        ordered=frozenset(name for name in columns if groups.is_ordered(name)),
    )


def _columns_with(path: str, names: Collection[str]) -> Iterator[str]:
    """The columns that a leaf of a schema may belong to: names may hold full stops."""
    parts = path.split(".")
    starts = (".".join(parts[:k]) for k in range(1, len(parts) + 1))
    return (start for start in starts if start in names)


def _objects(column: pa.Array) -> list[Any]:
    """The values of a column as Python objects; equal texts are one object."""
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        values = column.dictionary.to_pylist()
        places = column.indices.to_pylist()
        return [None if place is None else values[place] for place in places]
    if isinstance(column, pa.StructArray):
        names = [column.type.field(i).name for i in range(column.type.num_fields)]
        fields = [_objects(field) for field in column.flatten()]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
        is_there = column.is_valid().to_pylist()
        return [
            row if valid else None for row, valid in zip(rows, is_there, strict=True)
        ]
    objects: list[Any] = column.to_pylist()
    return objects


def _as_labels(columns: list[Any]) -> np.ndarray:
    """The blocks of a column of labels as an array, of objects where they are texts."""
    import pyarrow.types as kind

    type_ = columns[0].type
    is_plain = kind.is_integer(type_) or kind.is_floating(type_)
    if is_plain and not any(column.null_count for column in columns):
        return np.concatenate([column.to_numpy() for column in columns])
    values = [value for column in columns for value in _objects(column)]
    if not any(isinstance(value, str) for value in values):
        return np.asarray(values)
    labels = np.empty(len(values), object)
    labels[:] = values
    return labels


def _are_numbers(groups: _Groups, columns: list[str]) -> bool:
    """True for columns of single numbers, false for lists and images."""
    import pyarrow.types as kind

    types = [groups.type_of(name) for name in columns]
    return all(kind.is_integer(type_) or kind.is_floating(type_) for type_ in types)


def _column_types(
    groups: _Groups, columns: list[str], source: RawSource
) -> dict[str, str]:
    """The names and types of columns of numbers that stay on the disk."""
    x = source.splits["all"].x
    if not isinstance(x, OnDisk) or not _are_numbers(groups, columns):
        return {}
    types = {name: groups.type_of(name).to_pandas_dtype() for name in columns}
    return {name: str(np.dtype(type_)) for name, type_ in types.items()}


# Bytes of a value by its physical type in parquet; of a text its length and place.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


class _Groups:
    """The row groups of some parquet files, one after another."""

    def __init__(
        self,
        path: Path,
        files: list[Path],
        tables: list[Any],
        schema: pa.Schema,
        masked: bool,
    ) -> None:
        self.path = path
        self.schema, self.decimals = without_decimals(schema)
        self.names: list[str] = schema.names
        self.masked = masked
        self.at = [
            (table, i, file)
            for table, file in zip(tables, files, strict=True)
            for i in range(table.num_row_groups)
        ]
        self.checked: set[tuple[int, str]] = set()
        # of each file: the leaves of its schema that make each column
        self.places: dict[int, dict[str, list[int]]] = {}
        sizes = [table.metadata.row_group(i).num_rows for table, i, _ in self.at]
        self.starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
        self.n = sum(sizes)
        self.largest = max(sizes, default=0)

    def notices(self) -> list[str]:
        """The message that decimal numbers are read with the digits of float64."""
        if not self.decimals:
            return []
        named = listed(self.decimals)
        return [
            f"{cut(self.path)}: the decimal numbers of these columns are read as float64: {named}"
        ]

    def type_of(self, name: str) -> Any:
        """The Arrow type of a column."""
        return self.schema.field(name).type

    def zone(self, name: str) -> str:
        """The time zone of a column of times; "" for none."""
        import pyarrow.types as kind

        type_ = self.type_of(name)
        return str(type_.tz or "") if kind.is_timestamp(type_) else ""

    def declared(self, group: int, names: list[str]) -> int:
        """Bytes of some columns of a row group in memory, by its header.

        A value of a column of lists counts; a text counts as its place alone.
        """
        total = 0
        for chunk in (chunk for name in names for chunk in self._chunks(group, name)):
            width = _WIDTHS.get(chunk.physical_type, 8)
            total += max(chunk.num_values * width, chunk.total_uncompressed_size)
        return total

    def _chunks(self, group: int, name: str) -> list[Any]:
        """The metadata of what a column of a row group is stored in."""
        table, i, _ = self.at[group]
        places = self.places.setdefault(id(table), {})
        if not places:
            known = set(self.names)
            for at, leaf in enumerate(table.metadata.schema):
                for name in _columns_with(leaf.path, known):
                    places.setdefault(name, []).append(at)
        stored = table.metadata.row_group(i)
        return [stored.column(at) for at in places.get(name, [])]

    def _check_pages(self, group: int, name: str) -> None:
        """Refuse a column whose pages hold more than the footer declares."""
        if (group, name) in self.checked:
            return
        for chunk in self._chunks(group, name):
            check_pages(self.at[group][2], chunk)
        self.checked.add((group, name))

    def column(self, group: int, name: str, gaps: bool = False) -> pa.Array:
        """One column of one row group; missing values are refused unless allowed."""
        table, i, _ = self.at[group]
        try:
            self._check_pages(group, name)
            values = table.read_row_group(i, columns=[name]).column(0).combine_chunks()
        except Exception as error:  # a damaged group
            reason = machine_reason(error)
            if reason is not None:
                raise TightboundError(
                    f"cannot read {cut(self.path)} ({reason})"
                ) from error
            raise TightboundError(
                f"{self.path}: row group {group}, column {shortened(name)} cannot be "
                f"read ({first_line(error)}): restore the file"
            ) from None
        if values.null_count and not (gaps or self.masked):
            row = int(self.starts[group]) + values.is_null().to_pylist().index(True)
            raise TightboundError(
                f"{self.path}: row {row} (counting from 0), column {shortened(name)} is "
                f"empty: {FILL}"
            )
        return without_decimal_cells(values)

    def whole(self, name: str) -> np.ndarray:
        """One column of all row groups, texts and truth values as objects."""
        columns = [self.column(i, name) for i in range(len(self.starts))]
        return np.concatenate([_values(column) for column in columns])

    def whole_numbers(self, name: str) -> Any:
        """A column of integers with gaps as pandas' integers; None for another column."""
        import pyarrow.types as kind

        type_ = self.type_of(name)
        if not kind.is_integer(type_):
            return None
        columns = [self.column(i, name) for i in range(len(self.starts))]
        if not any(column.null_count for column in columns):
            return None
        import pandas

        values = [column.fill_null(0).to_numpy() for column in columns]
        gaps = [column.is_null().to_numpy(zero_copy_only=False) for column in columns]
        return pandas.arrays.IntegerArray(np.concatenate(values), np.concatenate(gaps))

    def categories(self, name: str) -> list[bool | int | float | str] | None:
        """The categories of a column written as such; None for another column."""
        import pyarrow.types as kind

        if not kind.is_dictionary(self.type_of(name)):
            return None
        return categories_of(self.column(i, name) for i in range(len(self.starts)))

    def is_ordered(self, name: str) -> bool:
        """True for a column of categories with an order."""
        import pyarrow.types as kind

        type_ = self.type_of(name)
        return bool(kind.is_dictionary(type_) and type_.ordered)

    def labels(self, name: str) -> np.ndarray:
        """A column of labels of all row groups, which may have gaps."""
        return _as_labels(
            [self.column(i, name, gaps=True) for i in range(len(self.starts))]
        )

    def reader(self, read_group: Callable[[int], Tensor]) -> Callable[..., Tensor]:
        """read(start, stop) over all groups, by a function that reads one; caches two."""
        cached = functools.lru_cache(2)(read_group)

        def group_of(row: int) -> int:
            return int(np.searchsorted(self.starts, row, side="right")) - 1

        def read(start: int, stop: int) -> Tensor:
            rows = []
            for group in range(group_of(start), group_of(stop - 1) + 1):
                offset = self.starts[group]
                rows.append(cached(group)[max(0, start - offset) : stop - offset])
            if len(rows) == 1:
                return rows[0]
            return torch.cat(rows)

        return read


def _values(column: pa.Array) -> np.ndarray:
    """The values of a column as an array; equal texts are one object."""
    import pyarrow as pa

    if not isinstance(column, pa.DictionaryArray):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    values = np.empty(len(column), object)
    values[:] = _objects(column)
    return values


def _has_texts(groups: _Groups, columns: list[str]) -> bool:
    """True where a column holds texts, categories, truth values, times or time spans."""
    import pyarrow.types as kind

    texts = (kind.is_string, kind.is_large_string, kind.is_dictionary, kind.is_boolean)
    tests = (*texts, kind.is_timestamp, kind.is_date, kind.is_duration)
    types = [groups.type_of(name) for name in columns]
    return any(test(type_) for type_ in types for test in tests)


def _table(
    groups: _Groups, columns: list[str], settings: DataSettings, notices: list[str]
) -> tuple[OnDisk, Tree]:
    """The rows of some columns, and the settings that images resolved."""
    for name in columns:
        if _is_picture(groups.type_of(name)):
            return _pictures(groups, name, settings, notices)
    path = groups.path
    is_list = _check_columns(groups, columns)

    def read_group(group: int) -> Tensor:
        arrays = [
            _numbers(groups.column(group, name), f"{path}: column {shortened(name)}")
            for name in columns
        ]
        return as_tensor(arrays[0] if is_list else np.stack(arrays, 1), str(path), [])

    size = max(groups.declared(i, columns) for i in range(len(groups.starts)))
    _check_chunk(str(path), size, "smaller row groups (row_group_size=)")
    first = read_group(0)
    shape = (groups.n, *first.shape[1:])
    reader = groups.reader(read_group)
    return OnDisk(shape, first.dtype, reader, groups.largest), {}


def _is_picture(type_: object) -> bool:
    """True for a column of image files: bytes, or bytes beside a path."""
    import pyarrow.types as kind

    return bool(
        kind.is_binary(type_) or kind.is_large_binary(type_) or kind.is_struct(type_)
    )


def _check_columns(groups: _Groups, columns: list[str]) -> bool:
    """True for a single column of lists; refuses columns that are not numbers."""
    import pyarrow.types as kind

    types = {name: groups.type_of(name) for name in columns}
    lists = [
        name
        for name, type_ in types.items()
        if hasattr(type_, "value_type") or hasattr(type_, "storage_type")
    ]
    if lists and len(columns) > 1:
        raise TightboundError(
            f"{groups.path}: column {lists[0]!r} holds lists beside other columns: "
            "name the one to learn from with data.key"
        )
    tests = (kind.is_integer, kind.is_floating, kind.is_boolean)
    for name, type_ in types.items():
        leaf = _leaf(type_) if lists else type_
        if not any(test(leaf) for test in tests):
            raise TightboundError(
                f"{groups.path}: column {shortened(name)} holds {type_}, not numbers: drop it, "
                "or name it with data.label, or the one to learn from with data.key"
            )
    return bool(lists)


def _leaf(type_: pa.DataType) -> pa.DataType:
    """The type of the values inside of lists and of types of an extension."""
    while True:
        inner = getattr(type_, "storage_type", getattr(type_, "value_type", None))
        if inner is None:
            return type_
        type_ = inner


def _numbers(column: pa.Array, what: str) -> np.ndarray:
    """The numbers of a column (n,), or of a column of equal lists (n, ...)."""
    shape = [len(column)]
    while True:
        column = getattr(column, "storage", column)
        if not hasattr(column.type, "value_type") or not hasattr(column, "flatten"):
            break
        if hasattr(column.type, "list_size"):
            sizes = [column.type.list_size]
        else:
            sizes = column.value_lengths().unique().to_pylist()
        if len(sizes) != 1:
            raise TightboundError(
                f"{what} holds lists of different lengths: make them equal"
            )
        shape.append(sizes[0])
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _pictures(
    groups: _Groups, name: str, settings: DataSettings, notices: list[str]
) -> tuple[OnDisk, Tree]:
    """The rows of a column of image files, decoded when they are read."""
    what = str(groups.path)
    stored = max(groups.declared(i, [name]) for i in range(len(groups.starts)))
    _check_chunk(what, stored, "smaller row groups (row_group_size=)")
    few = _objects(groups.column(0, name)[:FEW])
    items = Items(few, what, settings, notices, groups.n)

    def read_group(group: int) -> Tensor:
        xs = _objects(groups.column(group, name))
        start = int(groups.starts[group])
        rows, kept = items(xs, range(start, start + len(xs)))
        if len(kept) < len(xs):
            raise TightboundError(
                f"{what}: an image of row group {group} cannot be read: leave out --skip-bad"
            )
        return rows

    size = torch.Size(items.shape).numel()
    _check_chunk(what, groups.largest * size, "smaller row groups (row_group_size=)")
    block = max(1, min(groups.largest, max(1, PIECE // size)))
    shape = (groups.n, *items.shape)
    return OnDisk(shape, items.dtype, groups.reader(read_group), block), items.resolved
