"""How many bytes packed data unpack to, found without unpacking them into memory."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

PIECE = 1 << 20
HEAD = 18  # bytes in which a codec declares a size, if it does
DEFLATE_RATIO = 1032  # the most that DEFLATE unpacks a byte to
_LZF_RATIO = 88
_LZF_AT_ONCE = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SIZES = {0: 0, 1: 2, 2: 4, 3: 8}


class UnpacksToMore(ValueError):
    """Packed data unpack to more bytes than allowed."""


class _Unpacker(Protocol):
    """A decompressor of the standard library that unpacks at most so many bytes."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def check_unpacked(codec: str, packed: bytes, most: int) -> None:
    """Refuse packed data that unpack to more bytes than allowed.

    At most a megabyte of unpacked bytes is in memory at a time. Damaged data pass, which
    the library that unpacks them refuses.

    Args:
        codec: one of `CODECS`.
        packed: the packed bytes.
        most: the largest number of unpacked bytes.

    Raises:
        UnpacksToMore: for data that unpack to more.
    """
    if CODECS[codec](packed, most) > most:
        raise UnpacksToMore(f"it unpacks to more than {most:,} bytes")


def is_declared(codec: str, head: bytes) -> bool:
    """Whether the first `HEAD` bytes of packed data hold their unpacked size."""
    if codec == "zstd":
        return head[:4] == _ZSTD and len(head) == HEAD and _zstd_width(head[4]) > 0
    return codec in ("lz4", "blosc", "szip", "size first")


def _deflate(packed: bytes, most: int) -> int:
    if len(packed) * DEFLATE_RATIO <= most:
        return 0
    return _unpacked(_Deflate, packed, most)


class _Deflate:
    """`zlib.decompressobj` for zlib and gzip, whose rest is kept as by bz2 and lzma."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _unpacked(unpacker: Callable[[], _Unpacker], packed: bytes, most: int) -> int:
    """The number of unpacked bytes of all streams, or one above `most`."""
    total = 0
    try:
        while packed and total <= most:
            stream = unpacker()
            size, fed = _unpacked_stream(stream, packed, most - total)
            total += size
            if not stream.eof:
                break
            packed = stream.unused_data + packed[fed:]
    except (zlib.error, OSError, EOFError, lzma.LZMAError):
        pass  # damaged, or bytes after the end
    return total


def _unpacked_stream(stream: _Unpacker, packed: bytes, most: int) -> tuple[int, int]:
    """The bytes that one stream unpacks to, at least one above `most`, and those read."""
    total = 0
    fed = 0
    is_hungry = True
    while total <= most and not stream.eof:
        piece = packed[fed : fed + PIECE] if is_hungry else b""
        fed += len(piece)
        unpacked = stream.decompress(piece, PIECE)
        total += len(unpacked)
        if is_hungry and not piece and not unpacked:
            break
        is_hungry = len(unpacked) < PIECE
    return total, fed


def _bz2(packed: bytes, most: int) -> int:
    return _unpacked(bz2.BZ2Decompressor, packed, most)


def _lzma(packed: bytes, most: int) -> int:
    return _unpacked(lzma.LZMADecompressor, packed, most)


def _zstd(packed: bytes, most: int) -> int:
    """The size in the header of a frame; a frame without one is unpacked by pyarrow."""
    if packed[:4] != _ZSTD or len(packed) < 14:
        return 0
    descriptor = packed[4]
    width = _zstd_width(descriptor)
    start = 5 + (0 if descriptor & 32 else 1) + (0, 1, 2, 4)[descriptor & 3]
    if width:
        size = int.from_bytes(packed[start : start + width], "little")
        return size + (256 if width == 2 else 0)
    return _zstd_stream(packed, most)


def _zstd_width(descriptor: int) -> int:
    """The bytes of the size in the header of a zstd frame, 0 for none."""
    width = _ZSTD_SIZES[descriptor >> 6]
    if width == 0 and descriptor & 32:
        return 1
    return width


def _zstd_stream(packed: bytes, most: int) -> int:
    """The number of bytes of a zstd stream; one above `most` where it is unknown."""
    try:
        import pyarrow as pa
    except ImportError:
        return most + 1
    total = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            while total <= most and (piece := stream.read(PIECE)):
                total += len(piece)
    except (OSError, ValueError):
        pass
    return total


def _lzf(packed: bytes, most: int) -> int:
    """The number of bytes by the control bytes of LZF."""
    if len(packed) * _LZF_RATIO <= most:
        return 0
    total = 0
    at = 0
    end = len(packed)
    while at < end and total <= most:
        control = packed[at]
        at += 1
        if control < 32:
            total += control + 1
            at += control + 1
            continue
        length = control >> 5
        if length == 7 and at < end:
            length += packed[at]
            at += 1
        at += 1
        total += length + 2
    return total


def _declared(form: str, start: int) -> Callable[[bytes, int], int]:
    """A reader of a size that stands in the first bytes."""
    width = struct.calcsize(form)

    def read(packed: bytes, most: int) -> int:
        if len(packed) < start + width:
            return 0
        return int(struct.unpack_from(form, packed, start)[0])

    return read


CODECS: dict[str, Callable[[bytes, int], int]] = {
    "zlib": _deflate,
    "gzip": _deflate,
    "bz2": _bz2,
    "lzma": _lzma,
    "zstd": _zstd,
    "lzf": _lzf,
    "lz4": _declared("<I", 0),
    "blosc": _declared("<I", 4),
    "szip": _declared("<I", 0),
    "size first": _declared(">Q", 0),
}
