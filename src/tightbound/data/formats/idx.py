"""Read IDX, the file format of MNIST, plain or gzipped.

Two zero bytes, a type, a rank, big-endian sizes, then the numbers.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tightbound.data.formats.limits import check_declared
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError, cut, os_reason

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
BLOCK = 1 << 24  # bytes that are unpacked at a time
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, settings: DataSettings | None = None) -> np.ndarray:
    """The array in an IDX file.

    Its size is known from the header, so no more than that is unpacked.

    Raises:
        TightboundError: where the file is truncated, too long, of another kind, or larger
            than `data.memory`.
    """
    try:
        with path.open("rb") as raw:
            if raw.read(2) != _GZIP:
                raw.seek(0)
                return _read(path, raw, settings or DataSettings())
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as file:
                return _read(path, file, settings or DataSettings())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TightboundError(
            f"{cut(path)} is a truncated or damaged gzip file ({error}): fetch it again"
        ) from None
    except OSError as error:
        raise TightboundError(
            f"{cut(path)} cannot be read: {os_reason(error)}"
        ) from None


def _read(
    path: Path, file: BinaryIO | gzip.GzipFile, settings: DataSettings
) -> np.ndarray:
    """The array in an open, unpacked IDX file."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise TightboundError(
            f"{cut(path)} is not an IDX file: it does not begin with the IDX magic number"
        )
    dtype = np.dtype(_TYPES[magic[2]])
    rank = magic[3]
    sizes = file.read(4 * rank)
    shape = struct.unpack(f">{rank}I", sizes) if len(sizes) == 4 * rank else ()
    nbytes = math.prod(shape) * dtype.itemsize
    check_declared(f"{cut(path)} unpacks to", nbytes, settings)
    # One byte more than belongs, so that a file that is too long is noticed.
    data = bytearray()
    while shape and len(data) <= nbytes:
        block = file.read(min(BLOCK, nbytes + 1 - len(data)))
        if not block:
            break
        data += block
    if not shape or len(data) != nbytes:
        more = " or more" if len(data) > nbytes else ""
        raise TightboundError(
            f"{cut(path)} is truncated or damaged: {len(data)}{more} bytes of numbers where "
            f"{nbytes} belong; fetch it again"
        )
    numbers = np.frombuffer(data, dtype).reshape(shape)
    return numbers.astype(dtype.newbyteorder("="), copy=False)
