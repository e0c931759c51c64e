"""The bytes that an Arrow file unpacks to, by the headers of its batches.

Arrow unpacks each buffer to the size that its first eight bytes declare. The headers are
tables of FlatBuffers.

Reference: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"ARROW1"
_DICTIONARY, _BATCH = 2, 3  # kinds of messages
_HEADER_TYPE, _HEADER = 1, 2  # fields of a message
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3  # fields of a batch
_DATA = 1  # field of a dictionary: its batch
_TAIL = 10  # bytes after the footer: its length and the magic bytes
_WIDTH = 8  # bytes of a value in memory, or of its place


def unpacked_size(path: Path) -> int:
    """The bytes that the batches of a .feather file take in memory.

    Raises:
        ImportError: without pyarrow.
        OSError: for a file that cannot be read.
        ValueError: for a damaged header.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return path.stat().st_size  # of version 1, which is not packed
    total = 0
    batches = 0
    with pa.memory_map(str(path)) as mapped:
        mapped.seek(8)
        for message in pa.ipc.MessageReader.open_stream(mapped):
            if message.type == "record batch":
                batches += 1
            try:
                body = memoryview(message.body or b"")
                total += _size_of(memoryview(message.metadata), body)
            except (struct.error, IndexError):
                raise ValueError("the header of a batch is cut") from None
        end = mapped.tell()
        mapped.seek(mapped.size() - _TAIL)
        footer = int.from_bytes(mapped.read(4), "little")
        # the footer names the batches again, and could name more
        is_all = end + footer + _TAIL >= mapped.size()
        if not is_all or pa.ipc.open_file(mapped).num_record_batches != batches:
            raise ValueError("its footer names other batches than it holds")
    return total


def _size_of(header: memoryview, body: memoryview) -> int:
    """The unpacked bytes of one message."""
    message = _at(header, 0, "<I")
    place = _field(header, message, _HEADER)
    kind_at = _field(header, message, _HEADER_TYPE)
    if place is None or kind_at is None:
        return 0
    kind = header[kind_at]
    batch = place + _at(header, place, "<I")
    if kind == _DICTIONARY:
        inner = _field(header, batch, _DATA)
        if inner is None:
            return 0
        batch = inner + _at(header, inner, "<I")
    elif kind != _BATCH:
        return 0
    values = sum(length for length, _ in _pairs(header, batch, _NODES))
    return values * _WIDTH + _buffers(header, batch, body)


def _buffers(header: memoryview, batch: int, body: memoryview) -> int:
    """The unpacked bytes of the buffers of a batch."""
    is_packed = _field(header, batch, _COMPRESSION) is not None
    total = 0
    for offset, length in _pairs(header, batch, _BUFFERS):
        size = length
        if is_packed and length >= 8:
            size = max(length, _at(body, offset, "<q"))
        total += size
    return total


def _at(content: memoryview, place: int, form: str) -> int:
    """A number at a place."""
    if place < 0:
        raise IndexError("a place below 0")
    return int(struct.unpack_from(form, content, place)[0])


def _field(header: memoryview, table: int, number: int) -> int | None:
    """The place of a field of a table; None where the table lacks it."""
    fields = table - _at(header, table, "<i")
    size = _at(header, fields, "<H")
    entry = 4 + 2 * number
    if entry + 2 > size:
        return None
    offset = _at(header, fields + entry, "<H")
    return table + offset if offset else None


def _pairs(header: memoryview, table: int, number: int) -> list[tuple[int, int]]:
    """A vector of structs of two 64-bit numbers in a field of a table."""
    place = _field(header, table, number)
    if place is None:
        return []
    start = place + _at(header, place, "<I")
    count = _at(header, start, "<I")
    if start + 4 + 16 * count > len(header):
        raise IndexError("a vector is cut")
    pairs = [
        struct.unpack_from("<qq", header, start + 4 + 16 * i) for i in range(count)
    ]
    if any(number < 0 for pair in pairs for number in pair):
        raise ValueError("a size below 0")
    return [(int(first), int(second)) for first, second in pairs]
