"""Read IDX, the file format of MNIST, plain or gzipped.

Two zero bytes, a type, a rank, big-endian sizes, then the numbers.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from tightbound.runtime.errors import TightboundError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file.

    Raises:
        TightboundError: where the file is truncated, too long or of another kind.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TightboundError(
            f"{path} is a truncated or damaged gzip file ({error}): fetch it again"
        ) from None
    except OSError as error:
        raise TightboundError(
            f"{path} cannot be read: {error.strerror or error}"
        ) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise TightboundError(
            f"{path} is not an IDX file: it does not begin with the IDX magic number"
        )
    dtype = np.dtype(_TYPES[data[2]])
    rank = data[3]
    start = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", data[4:start]) if len(data) >= start else ()
    expected = start + math.prod(shape) * dtype.itemsize
    if not shape or len(data) != expected:
        raise TightboundError(
            f"{path} is truncated or damaged: {len(data)} bytes where "
            f"{expected} belong; fetch it again"
        )
    return (
        np.frombuffer(data, dtype, offset=start)
        .reshape(shape)
        .astype(dtype.newbyteorder("="))
    )
