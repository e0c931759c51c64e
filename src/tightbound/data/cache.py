"""Files of our own: where the cache is, writes that are whole or absent, and decoded rows as a
memory map.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tightbound.runtime.atomic_files import Advice, make_folder, open_atomic
from tightbound.runtime.errors import TightboundError

_HEADER = 128


def cache_dir() -> Path:
    """`$TIGHTBOUND_CACHE`, or the platform's cache folder for this package."""
    if found := os.environ.get("TIGHTBOUND_CACHE"):
        return Path(found).expanduser()
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser()
            / "tightbound"
        )
    if sys.platform == "darwin":
        return Path("~/Library/Caches/tightbound").expanduser()
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tightbound"
    )


ADVICE = Advice(
    "free some space, or set TIGHTBOUND_CACHE to a folder on another disk",
    "set TIGHTBOUND_CACHE to a folder that can be written",
)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """An atomic write of a file of the cache, whose folder is created where it is missing."""
    make_folder(path.parent, ADVICE)
    with open_atomic(path, ADVICE) as file:
        yield file


def _files(key: str) -> tuple[Path, Path]:
    rows, notes = (
        cache_dir() / "rows" / f"{key[:40]}{suffix}" for suffix in (".npy", ".json")
    )
    return rows, notes


def known_also_as(key: str, other: str) -> None:
    """Lets the rows of a key be found under another one, too, by links; where none can be made,
    nothing changes.
    """
    for there, here in zip(_files(key), _files(other), strict=True):
        with suppress(OSError):
            os.link(there, here)


def cached_rows(
    key: str, make: Callable[[dict[str, Any]], Iterator[np.ndarray]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """uint8 rows (n, ...) as a memory map, and the notes made with them: from the cache, or made
    now and kept.

    make(notes) yields blocks of rows of one shape and may fill `notes` (JSON). A cache of wrong
    size, header or checksum is made again.
    """
    rows_file, notes_file = _files(key)
    found = _read(rows_file, notes_file)
    if found is None:
        notes: dict[str, Any] = {}
        _write(rows_file, notes_file, make(notes), notes)
        found = _read(rows_file, notes_file)
    if found is None:
        raise TightboundError(
            f"{rows_file} was damaged while it was being written: check the disk and try again"
        )
    return found


def _write(
    rows_file: Path,
    notes_file: Path,
    blocks: Iterator[np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Rows first, their notes (with the checksum that makes them valid) last."""
    count, check, shape = 0, 0, ()
    with whole_file(rows_file) as file:
        file.write(b"\0" * _HEADER)
        for block in blocks:
            data = np.ascontiguousarray(block, dtype=np.uint8)
            file.write(data.data)
            count, check, shape = (
                count + len(data),
                zlib.crc32(data.data, check),
                data.shape[1:],
            )
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        )
        assert file.tell() == _HEADER
    with whole_file(notes_file) as file:
        file.write(
            json.dumps(
                {"shape": [count, *shape], "crc32": check, "notes": notes}
            ).encode()
        )


def _read(
    rows_file: Path, notes_file: Path
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The cached rows, or None where there are none or they are not what was written."""
    try:
        about = json.loads(notes_file.read_text())
        rows = np.load(rows_file, mmap_mode="c", allow_pickle=False)
        if list(rows.shape) != about["shape"] or rows.dtype != np.uint8:
            return None
        check = 0
        for start in range(0, len(rows), 4096):
            check = zlib.crc32(
                np.ascontiguousarray(rows[start : start + 4096]).data, check
            )
        return (rows, about["notes"]) if check == about["crc32"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
