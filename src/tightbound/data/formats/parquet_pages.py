"""Read the headers of the pages of a parquet file, which its footer may contradict.

Arrow unpacks as many values and bytes as the pages hold, whatever the footer declares. The
headers are structs of Thrift's compact protocol.

Reference: https://github.com/apache/parquet-format, PageHeader.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FIRST_BYTES = 1 << 10
MOST_BYTES = 1 << 24  # of a header, which may hold the least and the largest value
_DEEPEST = 16
_UNPACKED, _PACKED = 2, 3  # fields of a page header
_HEADERS = (5, 8)  # of data pages of versions 1 and 2; the first field counts values

Value = int | dict[int, "Value"] | None


class ColumnChunk(Protocol):
    """The metadata of one column of a row group, of pyarrow."""

    @property
    def has_dictionary_page(self) -> bool: ...
    @property
    def dictionary_page_offset(self) -> int: ...
    @property
    def data_page_offset(self) -> int: ...
    @property
    def total_compressed_size(self) -> int: ...
    @property
    def total_uncompressed_size(self) -> int: ...
    @property
    def num_values(self) -> int: ...


@dataclass
class _Reader:
    """Bytes of Thrift's compact protocol, and the place that is read next."""

    content: bytes
    at: int = 0

    def byte(self) -> int:
        value = self.content[self.at]
        self.at += 1
        return value

    def number(self) -> int:
        """An unsigned number of variable length."""
        total = 0
        for shift in range(0, 70, 7):
            part = self.byte()
            total |= (part & 127) << shift
            if part < 128:
                return total
        raise ValueError("a number of more than 64 bits")

    def signed(self) -> int:
        """A signed number in zigzag form."""
        number = self.number()
        return (number >> 1) ^ -(number & 1)

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.content):
            raise IndexError("the header is cut")

    def struct(self, depth: int = 0) -> dict[int, Value]:
        """The numbers and structs of a struct by the number of their field."""
        fields: dict[int, Value] = {}
        field = 0
        while True:
            head = self.byte()
            if head == 0:
                return fields
            step = head >> 4
            field = field + step if step else self.signed()
            fields[field] = self.value(head & 15, depth)

    def value(self, kind: int, depth: int) -> Value:
        """A value of a type of the compact protocol; None for one that is not needed."""
        if depth > _DEEPEST:
            raise ValueError("a header that is nested too deeply")
        if kind in (1, 2):
            return None
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.signed()
        if kind == 7:
            self.skip(8)
        elif kind == 8:
            self.skip(self.number())
        elif kind in (9, 10):
            self._list(depth)
        elif kind == 12:
            return self.struct(depth + 1)
        else:
            raise ValueError(f"type {kind} in a page header")
        return None

    def _list(self, depth: int) -> None:
        head = self.byte()
        count = head >> 4
        if count == 15:
            count = self.number()
        for _ in range(count):
            if head & 15 in (1, 2):
                self.skip(1)
            else:
                self.value(head & 15, depth + 1)


def check_pages(path: Path, chunk: ColumnChunk) -> None:
    """Refuse a column whose pages hold more than the footer of the file declares.

    Args:
        path: the file.
        chunk: the metadata of one column of a row group.

    Raises:
        ValueError: where pages unpack to more bytes, or hold more values.
    """
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    end = start + chunk.total_compressed_size
    values = 0
    size = 0
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        while start < min(end, length):
            file.seek(start)
            header, used = _header(file.read(FIRST_BYTES), file.read)
            unpacked = header.get(_UNPACKED)
            packed = header.get(_PACKED)
            if not isinstance(unpacked, int) or not isinstance(packed, int):
                raise ValueError("a page has no size")
            if packed < 0 or unpacked < 0:
                raise ValueError("a page has a size below 0")
            values += _count(header)
            size += unpacked
            start += used + packed
            if size > chunk.total_uncompressed_size or values > chunk.num_values:
                raise ValueError("its pages hold more than its footer declares")


def _header(content: bytes, more: object) -> tuple[dict[int, Value], int]:
    """A page header and its length, read on where it is longer than the first bytes."""
    assert callable(more)
    while True:
        reader = _Reader(content)
        try:
            return reader.struct(), reader.at
        except IndexError:
            added = more(len(content) * 3)
            if not added or len(content) > MOST_BYTES:
                raise ValueError("a page header is cut") from None
            content += added


def _count(header: dict[int, Value]) -> int:
    """The number of values of a data page; 0 for another page."""
    for field in _HEADERS:
        inner = header.get(field)
        if isinstance(inner, dict) and isinstance(count := inner.get(1), int):
            if count < 0:
                raise ValueError("a page has fewer than 0 values")
            return count
    return 0
