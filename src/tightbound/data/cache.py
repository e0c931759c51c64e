"""The cache of this package: its folder, and decoded rows as a memory map."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tightbound.runtime.atomic_files import NO_ROOM, Advice, make_folder, open_atomic
from tightbound.runtime.errors import TightboundError, cut, os_reason
from tightbound.runtime.progress import notice
from tightbound.runtime.reading import expanded

Notes = dict[str, Any]  # JSON values that are stored with cached rows

_HEADER = 128
_DTYPES = (np.uint8, np.int32)


def cache_dir() -> Path:
    """`$TIGHTBOUND_CACHE`, or the platform's cache folder for this package."""
    if folder := os.environ.get("TIGHTBOUND_CACHE"):
        return expanded(folder)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        root = "~/Library/Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(root) / "tightbound"


def writable_cache() -> Path:
    """`cache_dir()`, or where it cannot be written, a folder for this process alone.

    A folder that the user names is never replaced: its error says what to do.
    """
    folder = cache_dir()
    if os.environ.get("TIGHTBOUND_CACHE"):
        return folder
    return writable_or_private(folder)


@functools.cache
def writable_or_private(folder: Path) -> Path:
    """A folder of a cache, or one for this process alone where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if error.errno in NO_ROOM:
            return folder
        reason = os_reason(error)
    private = Path(tempfile.mkdtemp(prefix="tightbound-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    notice(
        f"the cache {cut(folder)} cannot be written ({reason}): {private} is used and "
        "removed at the end (set TIGHTBOUND_CACHE to a folder that can be written)"
    )
    return private


def cache_dirs() -> list[Path]:
    """The folders that files of the cache are read from."""
    return [*dict.fromkeys((cache_dir(), writable_cache()))]


ADVICE = Advice(
    "free some space, or set TIGHTBOUND_CACHE to a folder on another disk",
    "set TIGHTBOUND_CACHE to a folder that can be written",
)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """An atomic write of a file of the cache, whose folder is created if missing."""
    make_folder(path.parent, ADVICE)
    with open_atomic(path, ADVICE) as file:
        yield file


def _files(key: str, root: Path) -> tuple[Path, Path]:
    """The files of rows and of notes of a key."""
    folder = root / "rows"
    return folder / f"{key[:40]}.npy", folder / f"{key[:40]}.json"


def link_rows(key: str, other: str) -> None:
    """Make the rows of a key available under another key too, by hard links.

    Nothing changes where the file system has no links.
    """
    root = writable_cache()
    for existing, link in zip(_files(key, root), _files(other, root), strict=True):
        with suppress(OSError):
            os.link(existing, link)


def cached_rows(
    key: str, make: Callable[[Notes], Iterator[np.ndarray]]
) -> tuple[np.ndarray, Notes]:
    """Rows from the cache, which are computed and stored where they are not in it.

    Rows with a wrong size, header or checksum are computed again.

    Args:
        key: identifies the rows.
        make: `make(notes)` yields blocks of rows of one shape, and may put JSON values
            into `notes`.

    Returns:
        uint8 or int32 rows (n, ...) as a memory map, and the notes stored with them.
    """
    cached = _read(*_files(key, cache_dir()))
    if cached is None:
        rows_file, notes_file = _files(key, writable_cache())
        notes: Notes = {}
        _write(rows_file, notes_file, make(notes), notes)
        cached = _read(rows_file, notes_file)
    if cached is None:
        raise TightboundError(
            f"{rows_file} was damaged while it was being written: check the disk and try again"
        )
    return cached


def _write(
    rows_file: Path,
    notes_file: Path,
    blocks: Iterator[np.ndarray],
    notes: Notes,
) -> None:
    """Write the rows, then their notes with the checksum that makes them valid."""
    count = 0
    check = 0
    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.uint8)
    with whole_file(rows_file) as file:
        file.write(b"\0" * _HEADER)
        for block in blocks:
            dtype = block.dtype
            data = np.ascontiguousarray(block)
            file.write(data.data)
            count += len(data)
            check = zlib.crc32(data.data, check)
            shape = data.shape[1:]
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": dtype.str, "fortran_order": False, "shape": (count, *shape)},
        )
        assert file.tell() == _HEADER
    about = {"shape": [count, *shape], "crc32": check, "notes": notes}
    with whole_file(notes_file) as file:
        file.write(json.dumps(about).encode())


def _read(rows_file: Path, notes_file: Path) -> tuple[np.ndarray, Notes] | None:
    """The cached rows and notes, or None where they are missing or damaged."""
    try:
        about = json.loads(notes_file.read_text())
        rows = np.load(rows_file, mmap_mode="c", allow_pickle=False)
        if list(rows.shape) != about["shape"] or rows.dtype not in _DTYPES:
            return None
        check = 0
        for start in range(0, len(rows), 4096):
            block = np.ascontiguousarray(rows[start : start + 4096])
            check = zlib.crc32(block.data, check)
        if check == about["crc32"]:
            return (rows, about["notes"])
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
