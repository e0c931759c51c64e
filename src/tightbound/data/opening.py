"""Open a data source given by the user with the reader for its type."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tightbound.data.formats.arrays import load_idx, load_npy, load_npz
from tightbound.data.formats.builtin import BUILTIN
from tightbound.data.formats.chunked import load_h5, load_parquet, load_zarr
from tightbound.data.formats.frame_file import load_feather
from tightbound.data.formats.labels import find_label
from tightbound.data.formats.sparse import densify
from tightbound.data.formats.torch_dataset import from_dataset
from tightbound.data.images.decode import EXTENSIONS
from tightbound.data.images.folder import file_entry, list_folder, list_zip, load_images
from tightbound.data.on_disk import map_on_disk, too_large
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    for_digest,
    is_numbers,
    is_sparse,
    read_labels,
    read_numbers,
    sha256_of,
    sha256_text,
    unmasked,
)
from tightbound.data.streams.huggingface import load_hf, open_hf
from tightbound.data.streams.loader import gather
from tightbound.data.streams.shards import Stream, open_wds
from tightbound.data.tables.frames import columns_frame, frame_source
from tightbound.runtime.errors import TightboundError, cut, nearest
from tightbound.runtime.reading import check_regular, check_text, exists, expanded

if TYPE_CHECKING:
    from pandas import DataFrame

# The patterns of dates and numbers in texts take a while to compile.


def _load_text(path: Path, settings: DataSettings) -> RawSource:
    from tightbound.data.formats.delimited import load_delimited

    return load_delimited(path, settings)


def _with_typed_texts(source: RawSource, settings: DataSettings) -> RawSource:
    from tightbound.data.formats.text_columns import with_typed_texts

    return with_typed_texts(source, settings, is_frame=True)


_READERS: dict[str, Callable[[Path, DataSettings], RawSource]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".csv": _load_text,
    ".tsv": _load_text,
    ".idx": load_idx,
    ".h5": load_h5,
    ".hdf5": load_h5,
    ".zarr": load_zarr,
    ".parquet": load_parquet,
    ".feather": load_feather,
}
_TENSOR = "load it in Python and pass the tensor, or save it as .npy"
_SHEET = "save the sheet as .csv"
_OBJECTS = (
    "load it in Python and pass the array or DataFrame, or save it as .npy or .csv"
)
# files of other programs, some of which are packed as .zip, and what to do about them
_ELSEWHERE = {
    ".h5ad": "it is a file of AnnData, so pass its matrix adata.X in Python, sparse or dense, "
    "or save it as .npy",
    ".xlsx": _SHEET,
    ".xls": _SHEET,
    ".ods": _SHEET,
    ".pt": _TENSOR,
    ".pth": _TENSOR,
    ".ckpt": _TENSOR,
    ".pkl": _OBJECTS,
    ".pickle": _OBJECTS,
    ".joblib": _OBJECTS,
    ".mat": _OBJECTS,
    ".json": _OBJECTS,
    ".jsonl": _OBJECTS,
    ".txt": "rename it to .csv or .tsv if its cells are separated by commas or tabs",
}
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)
_PACKED = (".csv.gz", ".tsv.gz")
_FOLDERS = (".zarr", ".parquet")
_STREAMS: dict[str, Callable[[str, DataSettings, int], Stream]] = {
    "wds": open_wds,
    "hf": open_hf,
}


def open_stream(source: object, settings: DataSettings, seed: int) -> Stream | None:
    """Open `wds:PATTERN`, or `hf:NAME` with data.streaming; else return None."""
    if not isinstance(source, str):
        return None
    kind, _, name = source.partition(":")
    if kind == "wds" and not name.strip():
        raise TightboundError(
            "wds: names no files: write wds:PATTERN, as wds:x-{0..9}.tar"
        )
    if kind not in _STREAMS or (kind == "hf" and not settings.streaming):
        return None
    check_text(name)
    return _STREAMS[kind](name, settings, seed)


def open_source(source: object, settings: DataSettings) -> RawSource:
    """Read a data source.

    Args:
        source: a built-in name, a path, an array, a tensor, an (x, y) tuple, a
            DataFrame, a map-style Dataset or a DataLoader.
        settings: the data settings.

    Raises:
        TightboundError: for a source that cannot be read.
    """
    if isinstance(source, str) and source in BUILTIN:
        return BUILTIN[source].read(settings)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), settings)
    return _in_memory(source, settings)


def _open_path(name: str, settings: DataSettings) -> RawSource:
    """Read a file, a folder or `hf:NAME`."""
    check_text(name)
    if name.startswith("hf:"):
        return _open_hf(name, settings)
    path = _existing_path(name)
    kind = path.suffix.lower()
    if path.name.lower().endswith(_PACKED):
        return _load_text(path, settings)
    if path.is_dir() and kind not in _FOLDERS:
        return load_images(list_folder(path), name, settings)
    if kind in _READERS:
        return _READERS[kind](path, settings)
    if kind in EXTENSIONS:
        return load_images([file_entry(path, path.name)], name, settings)
    if kind in _ELSEWHERE:
        raise TightboundError(f"{name}: {kind} files are not read: {_ELSEWHERE[kind]}")
    if kind == ".zip" or zipfile.is_zipfile(path):
        return load_images(list_zip(path), name, settings)
    if _is_idx(path):
        return load_idx(path, settings)
    raise TightboundError(
        f"{name}: files of type {kind or 'no extension'} cannot be read; known are "
        f"folders and .zip of images, {', '.join(_READERS)} and single images"
    )


def _open_hf(name: str, settings: DataSettings) -> RawSource:
    """Read `hf:NAME`."""
    if name.strip() == "hf:":
        raise TightboundError("hf: names no data set: write hf:NAME")
    return load_hf(name.removeprefix("hf:"), settings)


def _existing_path(name: str) -> Path:
    """The path that a name stands for; refuses one that does not exist."""
    if not name.strip():
        raise TightboundError(
            f"{name!r} names no data: give a built-in set "
            f"({', '.join(BUILTIN)}), a file or a folder"
        )
    if _ADDRESS.match(name):
        raise TightboundError(
            f"{cut(name)} is an address, and data are read from files: download it, and name "
            "the file"
        )
    path = expanded(name)
    if exists(path):
        check_regular(path)
        return path
    if path.name == name and not path.suffix:
        raise TightboundError(
            f"{cut(repr(name))} is no built-in set, file or folder: {nearest(name, BUILTIN)}"
        )
    raise TightboundError(
        f"{cut(name)} does not exist: check the path (built-in sets: {', '.join(BUILTIN)})"
    )


def _is_idx(path: Path) -> bool:
    """True for the names of IDX files without the extension .idx."""
    name = path.name
    return name.removesuffix(".gz").endswith("-ubyte") or name.endswith(".idx.gz")


def _in_memory(source: object, settings: DataSettings) -> RawSource:
    """A source of any type but a name or path, perhaps with labels, as (x, y)."""
    if isinstance(source, DataLoader):
        return gather(source)
    x, y = _examples_and_labels(source)
    x = _framed(x)
    if is_sparse(x):
        x = densify(x, settings, "the matrix")
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        return _from_frame(x, y, settings)
    if isinstance(x, (Tensor, np.ndarray)) or hasattr(x, "__array__"):
        return from_arrays(x, y, settings)
    if isinstance(x, list):
        return _from_list(x, y, settings)
    is_map = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    if is_map:
        return from_dataset(x, settings)
    raise TightboundError(
        f"a {type(x).__name__} cannot be read as data: pass a name, a path, an array, a "
        "tensor, (x, y), a Dataset or a DataLoader"
    )


def _framed(x: object) -> object:
    """A dict of columns or a Series, which is one column, as a DataFrame; others unchanged."""
    if isinstance(x, dict):
        return columns_frame(x)
    if hasattr(x, "to_frame") and not hasattr(x, "columns"):
        return x.to_frame()
    return x


def _examples_and_labels(source: object) -> tuple[object, object]:
    """x and y of (x, y), or any other source and None; an image as a list of one."""
    x = source
    y: object = None
    if isinstance(source, tuple):
        if len(source) != 2:
            raise TightboundError(
                f"a tuple of {len(source)} is no data: pass x, or (x, y) with labels y"
            )
        x, y = source
    if isinstance(x, Image.Image):
        return [x], y
    return x, y


def _from_frame(frame: DataFrame, y: object, settings: DataSettings) -> RawSource:
    """A source over a DataFrame; labels may be one of its columns."""
    if settings.condition is not None and is_numbers(y):
        return _with_numbers(_from_frame_alone(frame, None, settings), y)
    if y is not None:
        return _from_frame_alone(frame, y, settings)
    names = [str(name) for name in frame.columns]
    found = find_label(
        "the DataFrame", names, lambda i: frame.iloc[:, i].to_numpy(), settings
    )
    source = frame_source(frame, None, settings, found.number, list(found.notices))
    source = _with_typed_texts(source, settings)
    return replace(source, resolved={**source.resolved, **found.resolved})


def _from_frame_alone(frame: DataFrame, y: object, settings: DataSettings) -> RawSource:
    """A source over a DataFrame, of which no column holds labels."""
    source = frame_source(frame, y, settings, None, [])
    return _with_typed_texts(source, settings)


def _with_numbers(source: RawSource, y: object) -> RawSource:
    """The source with conditions that are numbers, one or several for each row."""
    split = source.splits["all"]
    n = len(source.table) if source.table is not None else 0
    c = read_numbers(y, n, source.where)
    digest = sha256_text(source.digest, sha256_of(for_digest(c)))
    return replace(source.with_split("all", replace(split, c=c)), digest=digest)


def _from_list(items: list[Any], y: Any, settings: DataSettings) -> RawSource:
    """A source over a list of images, tensors or arrays."""
    first = items[0] if items else None
    if isinstance(first, Image.Image):
        return from_dataset(items if y is None else _pairs(items, y), settings)
    _refuse_sparse_items(items)
    stack = np.ma.stack if _has_masks(items) else np.asarray
    try:
        stacked = torch.stack(items) if isinstance(first, Tensor) else stack(items)
    except (ValueError, RuntimeError, TypeError):
        raise TightboundError(
            "the list has entries of different shapes: stack examples of one shape"
        ) from None
    return from_arrays(stacked, y, settings)


def _pairs(items: list[Image.Image], y: object) -> list[tuple[Image.Image, object]]:
    """Images with their labels; refuses another number of labels."""
    labels = list(y) if isinstance(y, Iterable) else []
    if len(labels) != len(items):
        raise TightboundError(
            f"the list has {len(items)} images but not as many labels: one label an image is "
            "needed"
        )
    return list(zip(items, labels, strict=True))


def _refuse_sparse_items(items: list[object]) -> None:
    """Refuse a list of sparse matrices."""
    if any(is_sparse(item) for item in items):
        raise TightboundError(
            "a list of sparse matrices is not read: stack them as one, as by "
            "scipy.sparse.vstack"
        )


def _has_masks(items: list[object]) -> bool:
    """True for a list with a masked array."""
    return any(isinstance(item, np.ma.MaskedArray) for item in items)


def from_arrays(
    x: Any, y: object = None, settings: DataSettings | None = None
) -> RawSource:
    """A source over an array or tensor, which is not copied, and its labels.

    Args:
        x: examples (n, ...); a memory map above `data.memory` is read on access.
        y: labels (n,), or conditions (n, C) for a conditional model, or None.
        settings: the data settings.
    """
    settings = settings or DataSettings()
    notices: list[str] = []
    what = "the tensor" if isinstance(x, Tensor) else "the array"
    is_file = isinstance(x, np.memmap) and x.filename
    if is_file and too_large(x.nbytes, settings, what, notices):
        key = sha256_text("map", x.filename, x.offset, x.dtype.str, x.shape)
        split = RawSplit(map_on_disk(x, what))
        return RawSource("array", what, {"all": split}, key, notices=tuple(notices))
    levels = None
    if isinstance(x, np.ma.MaskedArray):
        levels = 256 if x.dtype == np.uint8 else None
        check_mask(x, settings, what)
    rows = as_tensor(x, what, notices)
    if rows.ndim == 0:
        raise TightboundError(
            f"{what} is a single number: pass (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    c = None
    if settings.condition is not None and is_numbers(y):
        c = read_numbers(y, len(rows), what)
        y = None
    labels, names = read_labels(y, len(rows), what, notices)
    return RawSource(
        "array",
        what,
        {"all": RawSplit(rows, labels, c=c)},
        sha256_of(rows, labels) if c is None else sha256_of(rows, for_digest(c)),
        levels=levels,
        label_names=names,
        notices=tuple(notices),
    )


def plain_array(x: object, settings: DataSettings) -> object:
    """A sparse matrix as a dense one, a masked array with NaN, a tensor as an array.

    Others are unchanged. Masked rows in a list are one masked array.

    Raises:
        TightboundError: for a matrix that is too large to be made dense, and for masked
            values where no value may be missing.
    """
    if is_sparse(x):
        return densify(x, settings, "the matrix")
    if isinstance(x, Tensor):
        return as_tensor(x, "the tensor", []).numpy()
    if isinstance(x, list):
        _refuse_sparse_items(x)
    if isinstance(x, list) and _has_masks(x):
        x = np.ma.stack(x)
    if isinstance(x, np.ma.MaskedArray):
        check_mask(x, settings, "the array")
        return unmasked(x)
    return x


def check_mask(x: np.ma.MaskedArray, settings: DataSettings, what: str) -> None:
    """Refuse masked values, which are missing, unless values may be missing."""
    mask = np.ma.getmaskarray(x)
    if settings.allow_missing or not mask.any():
        return
    row = int(np.argwhere(mask)[0][0]) if mask.ndim else 0
    raise TightboundError(
        f"{what}: row {row} (counting from 0) has a masked value, which is missing: drop "
        "such rows, fill them in, or train recipe missing-data, which takes missing values"
    )
