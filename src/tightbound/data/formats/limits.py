"""Bounds on what files declare, checked by their headers before memory is allocated."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from numpy.lib import format as npy

from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.memory import MEGABYTE

# An example above this size cannot be learned from, wherever it is stored.
MOST_BYTES_OF_ROW = 1 << 28
MOST_VALUES = 1 << 25
_IMPOSSIBLE = 10**9  # MB


def check_declared(
    what: str, nbytes: int, settings: DataSettings, remedy: str = ""
) -> None:
    """Refuse a source that declares more bytes than `data.memory`.

    Args:
        what: the source with its verb, as in "data.npz unpacks to".
        nbytes: bytes that it declares, unpacked.
        settings: the data settings.
        remedy: another way, such as how it is stored so that it is read in place.

    Raises:
        TightboundError: with the memory that it needs.
    """
    if nbytes <= settings.memory_bytes:
        return
    needed = -(-nbytes // MEGABYTE)
    if needed > _IMPOSSIBLE:
        raise TightboundError(
            f"{what} more bytes than any machine holds: it is damaged"
        )
    instead = f", or {remedy}" if remedy else ""
    raise TightboundError(
        f"{what} {needed:,} MB, more than data.memory ({settings.memory:,} MB): "
        f"set data.memory={needed} if this is so{instead}"
    )


def check_row(what: str, shape: Sequence[int], itemsize: int) -> int:
    """The bytes of one example of an array (n, ...), of at most 256 MB.

    Raises:
        TightboundError: for a larger one.
    """
    nbytes = math.prod(shape[1:]) * itemsize
    if nbytes > MOST_BYTES_OF_ROW:
        raise TightboundError(
            f"{what}: one example of shape {tuple(shape[1:])} has {nbytes / MEGABYTE:,.0f} MB, "
            "too large to learn from: cut it into smaller ones"
        )
    return nbytes


def check_value_count(what: str, shape: Sequence[int]) -> None:
    """Refuse examples of more than 33 million values, which no model here can hold.

    Args:
        what: the source in messages.
        shape: the shape of the array (n, ...).

    Raises:
        TightboundError: with their number.
    """
    values = math.prod(shape[1:])
    if values > MOST_VALUES:
        raise TightboundError(
            f"{what}: one example of shape {tuple(shape[1:])} has {values:,} values, too "
            "many to learn from: cut it into smaller ones"
        )


def check_npz(
    path: Path, archive: zipfile.ZipFile, keys: Iterable[str], settings: DataSettings
) -> None:
    """Refuse arrays of an .npz that unpack to more than `data.memory` together.

    Args:
        path: the file.
        archive: the same, opened as a zip file.
        keys: the names of the arrays that are read.
        settings: the data settings.

    Raises:
        TightboundError: with the memory that they need.
        ValueError: where an array's header declares more than the file holds.
    """
    members = set(archive.namelist())
    total = 0
    for key in keys:
        name = next((name for name in (f"{key}.npy", key) if name in members), None)
        if name is None:
            continue
        check_method(archive.getinfo(name))
        stored = archive.getinfo(name).file_size
        with archive.open(name) as file:
            if _declared(file) > stored:
                raise ValueError(f"array {key!r} is shorter than its header says")
        total += stored
    remedy = "save each array as an .npy"
    check_declared(f"{cut(path)} unpacks to", total, settings, remedy)


def check_method(info: zipfile.ZipInfo) -> None:
    """Refuse a member of a zip file that Python cannot unpack piece by piece.

    Raises:
        ValueError: for one that is packed by another method than DEFLATE.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is packed by another method than DEFLATE; pack it again")


def _declared(file: IO[bytes]) -> int:
    """The bytes of the array that an .npy declares in its header."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0
    if version != (1, 0):
        read_header = npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return math.prod(shape) * dtype.itemsize


def check_no_outside_links(folder: Path) -> None:
    """Refuse a folder of one data set in which a link leads out of it.

    Devices, pipes and sockets in it are refused as well.

    Raises:
        TightboundError: with the path of the first such file.
    """
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise TightboundError(
                f"{cut(path)} is a link to a file outside of {cut(folder)}, which is not "
                "followed: put the file itself there"
            )
        if not (path.is_file() or path.is_dir()):
            raise TightboundError(f"{cut(path)} is no file: remove it")
