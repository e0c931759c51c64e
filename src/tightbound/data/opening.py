"""open_source: from whatever the user names to a Source; the one place that knows which reader
serves what.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tightbound.data.formats.arrays import (
    label_column,
    load_csv,
    load_idx,
    load_npy,
    load_npz,
)
from tightbound.data.formats.builtin import BUILTIN
from tightbound.data.formats.chunked import load_h5, load_parquet, load_zarr
from tightbound.data.formats.torch_dataset import from_dataset
from tightbound.data.images.decode import EXTENSIONS
from tightbound.data.images.folder import file_entry, list_folder, list_zip, load_images
from tightbound.data.on_disk import map_on_disk, too_large
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    Part,
    Source,
    as_tensor,
    is_numbers,
    read_labels,
    read_numbers,
    sha256_of,
    sha256_text,
)
from tightbound.data.streams.huggingface import load_hf, open_hf
from tightbound.data.streams.loader import gather
from tightbound.data.streams.shards import Stream, open_wds
from tightbound.data.tables.table import frame_source
from tightbound.runtime.errors import TightboundError, nearest

_READERS: dict[str, Callable[[Path, DataSettings], Source]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".csv": load_csv,
    ".tsv": load_csv,
    ".idx": load_idx,
    ".h5": load_h5,
    ".hdf5": load_h5,
    ".zarr": load_zarr,
    ".parquet": load_parquet,
}
_FOLDERS = (".zarr", ".parquet")
_STREAMS: dict[str, Callable[[str, DataSettings, int], Stream]] = {
    "wds": open_wds,
    "hf": open_hf,
}


def open_stream(source: Any, settings: DataSettings, seed: int) -> Stream | None:
    """A source that streams by its name, `wds:PATTERN` or `hf:NAME` with data.streaming; None for
    any other.
    """
    kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind not in _STREAMS or (kind == "hf" and not settings.streaming):
        return None
    return _STREAMS[kind](name, settings, seed)


def open_source(source: Any, settings: DataSettings) -> Source:
    """Reads a built-in name, a path, an array, a tensor, an (x, y) tuple or a map-style Dataset."""
    if isinstance(source, str) and source in BUILTIN:
        return BUILTIN[source].read(settings)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), settings)
    return _in_memory(source, settings)


def _open_path(name: str, settings: DataSettings) -> Source:
    if name.startswith("hf:"):
        return load_hf(name.removeprefix("hf:"), settings)
    if not name.strip():
        raise TightboundError(
            f"{name!r} names no data: give a built-in set "
            f"({', '.join(BUILTIN)}), a file or a folder"
        )
    path = Path(name).expanduser()
    kind = path.suffix.lower()
    if not path.exists():
        if path.name == name and not kind:
            raise TightboundError(
                f"{name!r} is no built-in set, file or folder: {nearest(name, BUILTIN)}"
            )
        raise TightboundError(
            f"{name} does not exist: check the path (built-in sets: {', '.join(BUILTIN)})"
        )
    if path.is_dir() and kind not in _FOLDERS:
        return load_images(list_folder(path), name, settings)
    if kind in _READERS:
        return _READERS[kind](path, settings)
    if kind in EXTENSIONS:
        return load_images([file_entry(path, path.name)], name, settings)
    if kind == ".zip" or zipfile.is_zipfile(path):
        return load_images(list_zip(path), name, settings)
    if path.name.removesuffix(".gz").endswith("-ubyte") or path.name.endswith(
        ".idx.gz"
    ):
        return load_idx(path, settings)
    raise TightboundError(
        f"{name}: files of type {kind or 'no extension'} cannot be read; known "
        "are folders and .zip of images, "
        f"{', '.join(_READERS)} and single images"
    )


def _in_memory(source: Any, settings: DataSettings) -> Source:
    if isinstance(source, DataLoader):
        return gather(source)
    y = None
    if isinstance(source, tuple):
        if len(source) != 2:
            raise TightboundError(
                f"a tuple of {len(source)} is no data: pass x, or (x, y) with labels y"
            )
        source, y = source
    if isinstance(source, Image.Image):
        source = [source]
    if isinstance(source, list) and source and isinstance(source[0], Image.Image):
        return from_dataset(
            source if y is None else list(zip(source, y, strict=True)), settings
        )
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        notices: list[str] = []
        names = [str(name) for name in source.columns]
        label = (
            label_column("the DataFrame", names, True, settings, notices)
            if y is None
            else None
        )
        return frame_source(source, y, settings, label, notices)
    if isinstance(source, (Tensor, np.ndarray)) or hasattr(source, "__array__"):
        return from_arrays(source, y, settings)
    if isinstance(source, list):
        try:
            stacked: Any = (
                torch.stack(source)
                if source and isinstance(source[0], Tensor)
                else np.asarray(source)
            )
        except (ValueError, RuntimeError):
            raise TightboundError(
                "the list has entries of different shapes: stack examples of one shape"
            ) from None
        return from_arrays(stacked, y, settings)
    if (
        hasattr(source, "__getitem__")
        and hasattr(source, "__len__")
        and not isinstance(source, dict)
    ):
        return from_dataset(source, settings)
    raise TightboundError(
        f"a {type(source).__name__} cannot be read as data: pass a name, a "
        "path, an array, a tensor, (x, y), a Dataset "
        "or a DataLoader"
    )


def from_arrays(x: Any, y: Any = None, settings: DataSettings | None = None) -> Source:
    """A source over an array or tensor, uncopied, and its labels; a memory map too large to hold is
    read in place.
    """
    notices: list[str] = []
    what = "the tensor" if isinstance(x, Tensor) else "the array"
    if (
        isinstance(x, np.memmap)
        and x.filename
        and too_large(x.nbytes, settings or DataSettings(), what, notices)
    ):
        key = sha256_text("map", x.filename, x.offset, x.dtype.str, x.shape)
        return Source(
            "array", what, {"all": Part(map_on_disk(x, what))}, key, notices=notices
        )
    rows = as_tensor(x, what, notices)
    if rows.ndim == 0:
        raise TightboundError(
            f"{what} is a single number: pass (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    c = None
    if settings is not None and settings.condition is not None and is_numbers(y):
        y, c = None, read_numbers(y, len(rows), what)
    labels, names = read_labels(y, len(rows), what, notices)
    digest = sha256_of(rows, labels) if c is None else sha256_of(rows, c)
    return Source(
        "array",
        what,
        {"all": Part(rows, labels, c=c)},
        digest,
        label_names=names,
        notices=notices,
    )
