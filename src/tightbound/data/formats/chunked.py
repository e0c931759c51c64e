"""Files that are read in chunks, .h5, .zarr and .parquet: in memory where they fit, else as they
are needed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.data.formats.arrays import array_keys, label_column
from tightbound.data.images.items import FEW, Items
from tightbound.data.on_disk import PIECE, OnDisk, held
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    Part,
    Source,
    as_tensor,
    join_labels,
    read_labels,
    sha256_of,
    sha256_text,
)
from tightbound.data.tables.table import FILL, Table
from tightbound.runtime.errors import TightboundError, nearest

MOST_LABELS = 20_000_000


def need(module: str, what: str, extra: str) -> Any:
    """A module of an extra, or one sentence that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise TightboundError(
            f"{what} needs {module}: pip install 'tightbound[{extra}]'"
        ) from None


def finish(
    path: Path, kind: str, parts: dict[str, Part], label_names: Any, notices: list[str]
) -> Source:
    """The source over some parts: its digest is of their content, of a file's size and time where
    it is not read.
    """
    keys: list[object] = [kind]
    for name, part in parts.items():
        if isinstance(part.x, OnDisk):
            keys += [name, path.resolve(), *stamps(path), part.x.dtype, part.x.shape]
        else:
            keys += [name, sha256_of(part.x, part.y)]
    return Source(
        path.stem,
        str(path),
        parts,
        sha256_text(*keys),
        label_names=label_names,
        notices=notices,
    )


def stamps(path: Path) -> list[object]:
    """Size and time of a file; of a folder, those of each file in it, with its name."""
    if path.is_dir():
        inner = sorted(
            p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
        )
        return [key for p in inner for key in (p.relative_to(path), *stamps(p))]
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


# ---- .h5 and .zarr: arrays by name


def load_h5(path: Path, settings: DataSettings) -> Source:
    """An HDF5 file: datasets named as the arrays of an .npz, or `data.key`."""
    h5py = need("h5py", str(path), "data")
    try:
        file = h5py.File(path, "r")
        arrays: dict[str, Any] = {}
        file.visititems(
            lambda name, node: (
                arrays.update({name: node}) if isinstance(node, h5py.Dataset) else None
            )
        )
    except Exception as error:  # HDF5 raises many kinds for a damaged file
        raise TightboundError(
            f"{path} is truncated or not an HDF5 file ({_line(error)}): save it again"
        ) from None
    return _arrays(path, arrays, settings)


def load_zarr(path: Path, settings: DataSettings) -> Source:
    """A Zarr array, or a group of arrays named as those of an .npz, or `data.key`."""
    zarr = need("zarr", str(path), "data")
    try:
        node = zarr.open(str(path), mode="r")
        arrays = (
            {"x": node}
            if isinstance(node, zarr.Array)
            else dict(node.members(max_depth=None))
        )
    except Exception as error:  # zarr raises many kinds for a damaged store
        raise TightboundError(
            f"{path} is damaged or not a Zarr store ({_line(error)}): save it again"
        ) from None
    return _arrays(
        path,
        {name: array for name, array in arrays.items() if hasattr(array, "shape")},
        settings,
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _arrays(path: Path, arrays: Mapping[str, Any], settings: DataSettings) -> Source:
    """The source over named arrays that are read in slices."""
    notices: list[str] = []
    wanted = array_keys(path, list(arrays), settings.key)
    parts, labels = {}, {}
    for name, (x, y) in wanted.items():
        parts[name] = Part(
            held(_rows(path, x, arrays[x]), settings, f"{path} ({x})", notices)
        )
        if (
            settings.key is not None
            and y is not None
            and arrays[y].shape[0] != arrays[x].shape[0]
        ):
            y = None  # labels of another array
        if y is not None and arrays[y].shape[0] > MOST_LABELS:
            notices.append(
                f"{path} ({y}): {arrays[y].shape[0]} labels are more than are "
                "kept in memory; they are left aside"
            )
        elif y is not None:
            labels[name] = _slice(path, y, arrays[y], 0, arrays[y].shape[0])
    label_names = join_labels(parts, labels, str(path), notices)
    return finish(path, "arrays", parts, label_names, notices)


def _slice(path: Path, key: str, array: Any, start: int, stop: int) -> np.ndarray:
    try:
        rows = np.asarray(array[start:stop])
        return rows.astype(str) if rows.dtype.kind == "O" else rows
    except Exception as error:  # a damaged chunk
        raise TightboundError(
            f"{path}: rows {start} to {stop - 1} of dataset {key!r} cannot be "
            f"read ({_line(error)}): restore the file"
        ) from None


def _rows(path: Path, key: str, array: Any) -> OnDisk:
    """The rows of an array, read in the chunks that it is stored in."""
    what = f"{path} (dataset {key!r})"
    if not array.shape or not array.shape[0]:
        raise TightboundError(
            f"{what} of shape {tuple(array.shape)} is empty: nothing can be learned from it"
        )
    first = as_tensor(_slice(path, key, array, 0, 1), what, [])
    chunk = array.chunks[0] if array.chunks else 1
    _bounded(what, chunk * first.nbytes, "chunks of fewer rows")

    def read(start: int, stop: int) -> Tensor:
        return as_tensor(_slice(path, key, array, start, stop), what, [])

    return OnDisk((array.shape[0], *first.shape[1:]), first.dtype, read, chunk)


def _bounded(what: str, size: int, fix: str) -> None:
    if size > 1 << 29:
        raise TightboundError(
            f"{what} is stored in chunks of {size / 1e9:.1f} GB, too large to "
            f"mix: write it in {fix}"
        )


# ---- .parquet: columns


def load_parquet(path: Path, settings: DataSettings) -> Source:
    """A parquet file, or a folder of them in order: columns of numbers, or one column of lists or
    of images.

    A column named label or y, or `data.label`, holds labels.
    """
    parquet = need("pyarrow.parquet", str(path), "data")
    notices: list[str] = []
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise TightboundError(f"{path} is a folder without parquet files: name another")
    try:
        tables = [parquet.ParquetFile(file) for file in files]
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise TightboundError(
            f"{path} is truncated or not a parquet file ({_line(error)}): save it again"
        ) from None
    names = tables[0].schema_arrow.names
    if other := next(
        (
            f
            for f, t in zip(files, tables, strict=True)
            if t.schema_arrow.names != names
        ),
        None,
    ):
        raise TightboundError(
            f"{other} has other columns than {files[0]}: make them alike"
        )
    groups = _Groups(path, tables, names, settings.allow_missing)
    if not groups.n:
        raise TightboundError(f"{path} has no rows: expected one for each example")
    label = label_column(path, names, True, settings, notices)
    columns = [name for i, name in enumerate(names) if i != label]
    if settings.key is not None and settings.key not in columns:
        raise TightboundError(
            f"{path} has no column {settings.key!r} for data.key: {nearest(settings.key, columns)}"
        )
    table, x, resolved = None, None, dict[str, Any]()
    if settings.key is None and _texts(groups, columns):
        table = Table(str(path), {name: groups.whole(name) for name in columns})
    else:
        rows, resolved = _table(
            path, groups, [settings.key] if settings.key else columns, settings, notices
        )
        x = held(rows, settings, str(path), notices)
        if isinstance(x, Tensor) and x.dim() == 2 and x.shape[1] == len(columns) > 1:
            table = Table(
                str(path), {name: x[:, i].numpy() for i, name in enumerate(columns)}
            )
    parts = {"all": Part(x)}
    labels = {}
    if label is not None and groups.n <= MOST_LABELS:
        blocks = [
            groups.column(i, names[label], gaps=True) for i in range(len(groups.starts))
        ]
        labels["all"] = np.concatenate(
            [np.asarray(block.to_pylist()) for block in blocks]
        )
    if table is not None and x is None:
        y, label_names = read_labels(labels.get("all"), groups.n, str(path), notices)
        parts["all"].y = y
        return Source(
            path.stem,
            str(path),
            parts,
            "",
            label_names=label_names,
            notices=notices,
            table=table,
        )
    source = finish(
        path, "parquet", parts, join_labels(parts, labels, str(path), notices), notices
    )
    source.table = table
    if resolved:
        source.layout, source.levels, source.resolved = "chw", 256, dict(resolved)
    return source


class _Groups:
    """The row groups of some parquet files, one after another."""

    def __init__(
        self, path: Path, tables: list[Any], names: list[str], masked: bool
    ) -> None:
        self.path, self.names, self.masked = path, names, masked
        self.at = [(table, i) for table in tables for i in range(table.num_row_groups)]
        sizes = [table.metadata.row_group(i).num_rows for table, i in self.at]
        self.starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
        self.n, self.largest = sum(sizes), max(sizes, default=0)

    def column(self, group: int, name: str, gaps: bool = False) -> Any:
        """One column of one row group; a missing value is named, unless there may be some."""
        table, i = self.at[group]
        try:
            found = table.read_row_group(i, columns=[name]).column(0).combine_chunks()
        except Exception as error:  # a damaged group
            raise TightboundError(
                f"{self.path}: row group {group}, column {name!r} cannot be "
                f"read ({_line(error)}): restore the file"
            ) from None
        if found.null_count and not (gaps or self.masked):
            row = int(self.starts[group]) + found.is_null().to_pylist().index(True)
            raise TightboundError(
                f"{self.path}: row {row} (counting from 0), column {name!r} is empty: {FILL}"
            )
        return found

    def whole(self, name: str) -> np.ndarray:
        """One column of all row groups, texts and truth values as objects."""
        columns = [self.column(i, name) for i in range(len(self.starts))]
        decoded = [getattr(c, "dictionary_decode", lambda c=c: c)() for c in columns]
        return np.concatenate([c.to_numpy(zero_copy_only=False) for c in decoded])

    def reader(self, one: Callable[[int], Tensor]) -> Callable[[int, int], Tensor]:
        """read(start, stop) over the groups, from one(group) -> all its rows; the latest two are
        kept.
        """
        whole = functools.lru_cache(2)(one)

        def read(start: int, stop: int) -> Tensor:
            first, last = (
                int(np.searchsorted(self.starts, row, side="right")) - 1
                for row in (start, stop - 1)
            )
            parts = [
                whole(g)[max(0, start - self.starts[g]) : stop - self.starts[g]]
                for g in range(first, last + 1)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return read


def _texts(groups: _Groups, columns: list[str]) -> list[str]:
    """The columns of texts, categories or truth values."""
    import pyarrow.types as kind

    schema = groups.at[0][0].schema_arrow
    tests = (kind.is_string, kind.is_large_string, kind.is_dictionary, kind.is_boolean)
    return [
        name for name in columns if any(test(schema.field(name).type) for test in tests)
    ]


def _table(
    path: Path,
    groups: _Groups,
    columns: list[str],
    settings: DataSettings,
    notices: list[str],
) -> tuple[OnDisk, dict[str, Any]]:
    """The rows of some columns, and the settings that images resolved."""
    import pyarrow.types as kind

    types = {name: groups.at[0][0].schema_arrow.field(name).type for name in columns}
    pictures = [
        n
        for n, t in types.items()
        if kind.is_binary(t) or kind.is_large_binary(t) or kind.is_struct(t)
    ]
    if pictures:
        return _pictures(groups, pictures[0], settings, notices, str(path))
    lists = [
        n
        for n, t in types.items()
        if hasattr(t, "value_type") or hasattr(t, "storage_type")
    ]
    if lists and len(columns) > 1:
        raise TightboundError(
            f"{path}: column {lists[0]!r} holds lists beside other columns: "
            "name the one to learn from with data.key"
        )
    for name, t in types.items():
        if not (
            lists or kind.is_integer(t) or kind.is_floating(t) or kind.is_boolean(t)
        ):
            raise TightboundError(
                f"{path}: column {name!r} holds {t}, not numbers: drop it, or "
                "name it with data.label, or the one to "
                "learn from with data.key"
            )

    def one(group: int) -> Tensor:
        arrays = [
            _numbers(groups.column(group, name), f"{path}: column {name!r}")
            for name in columns
        ]
        rows = arrays[0] if lists else np.stack(arrays, 1)
        return as_tensor(rows, str(path), [])

    first = one(0)
    _bounded(
        str(path),
        groups.largest * max(1, first[:1].nbytes),
        "smaller row groups (row_group_size=)",
    )
    return OnDisk(
        (groups.n, *first.shape[1:]), first.dtype, groups.reader(one), groups.largest
    ), {}


def _numbers(column: Any, what: str) -> np.ndarray:
    """The numbers of a column (n,), or of a column of equal lists (n, ...)."""
    shape = [len(column)]
    while True:
        column = getattr(column, "storage", column)
        if not hasattr(column.type, "value_type") or not hasattr(column, "flatten"):
            break
        sizes = (
            getattr(column.type, "list_size", None)
            or column.value_lengths().unique().to_pylist()
        )
        if not isinstance(sizes, int) and len(sizes) != 1:
            raise TightboundError(
                f"{what} holds lists of different lengths: make them equal"
            )
        shape.append(sizes if isinstance(sizes, int) else sizes[0])
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _pictures(
    groups: _Groups, name: str, settings: DataSettings, notices: list[str], what: str
) -> tuple[OnDisk, dict[str, Any]]:
    """The rows of a column of image files, decoded as they are read."""
    items = Items(groups.column(0, name)[:FEW].to_pylist(), what, settings, notices)

    def one(group: int) -> Tensor:
        xs = groups.column(group, name).to_pylist()
        rows, kept = items(
            xs, range(int(groups.starts[group]), int(groups.starts[group]) + len(xs))
        )
        if len(kept) < len(xs):
            raise TightboundError(
                f"{what}: an image of row group {group} cannot be read: leave out --skip-bad"
            )
        return rows

    size = torch.Size(items.shape).numel()
    _bounded(what, groups.largest * size, "smaller row groups (row_group_size=)")
    block = max(1, min(groups.largest, max(1, PIECE // size)))
    return OnDisk(
        (groups.n, *items.shape), items.dtype, groups.reader(one), block
    ), items.resolved
