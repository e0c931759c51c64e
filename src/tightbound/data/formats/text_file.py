"""Open and check delimited text files: encoding, delimiter, cells of each row."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tightbound.data.formats.limits import check_declared
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.memory import MEGABYTE

DELIMITERS = "\t;|,"
MOST_CHARACTERS = 1 << 20  # of one cell
_LONGEST_LINE = 1 << 24  # bytes
_BLOCK = 1 << 22
_SAMPLE = 1 << 16
_SAMPLE_ROWS = 20
_BOM = codecs.BOM_UTF8
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Rows:
    """The rows of a delimited text file, without its empty lines.

    Attributes:
        width: number of cells of every row.
        lines: the line in which each row begins, counted from 1; a range, which takes
            no memory, where no line is empty.
        empty: the lines without cells, of a file of a single column.
    """

    width: int
    lines: NDArray[np.int64] | range
    empty: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class TextFile:
    """A text file, perhaps packed by gzip, as bytes in UTF-8.

    Attributes:
        path: the file.
        encoding: its encoding.
        most: the largest number of bytes that a packed file may have unpacked.
    """

    path: Path
    encoding: str
    most: int

    @classmethod
    def of(cls, path: Path, settings: DataSettings) -> TextFile:
        """The file at a path, with the encoding and memory of the settings.

        Raises:
            TightboundError: for a file that is larger than the memory.
        """
        size = path.stat().st_size
        remedy = "save it as .parquet, which is read in place"
        check_declared(f"{cut(path)} has", size, settings, remedy)
        return cls(path, settings.encoding, settings.memory_bytes)

    def open(self) -> BinaryIO | gzip.GzipFile:
        """The unpacked bytes in UTF-8, without a byte order mark."""
        packed = self.path.open("rb")
        file: BinaryIO | gzip.GzipFile = packed
        if self.path.suffix.lower() == ".gz":
            file = _Unpacked(packed, self.path, self.most)
        if codecs.lookup(self.encoding).name == "utf-8":
            if file.read(len(_BOM)) != _BOM:
                file.seek(0)
            return file
        with file:
            content = file.read()
        try:
            text = content.decode(self.encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise self._not_text(line, content[error.start]) from None
        return io.BytesIO(text.removeprefix("\ufeff").encode())

    def _not_text(self, line: int, byte: int) -> TightboundError:
        """The error for a byte that is no text in the encoding of the file."""
        return TightboundError(
            f"{self.path}: line {line} holds the byte 0x{byte:02x}, which is not text in "
            f"{self.encoding.upper()}: save the file in UTF-8, or name its encoding, as "
            "data.encoding=latin-1"
        )

    def blocks(self) -> Iterator[bytes]:
        """Blocks of whole lines, checked to be text.

        Raises:
            TightboundError: for a byte that is no text, with its line, and for a line
                that is longer than any table has.
        """
        offset = 0
        with self.open() as file:
            while block := file.read(_BLOCK):
                block += file.readline(_LONGEST_LINE)
                self._check_text(block, offset)
                offset += len(block)
                if not block.endswith(b"\n") and len(block) > _LONGEST_LINE:
                    raise self._too_long(self._line_at(offset))
                yield block

    def _too_long(self, line: int) -> TightboundError:
        """The error for a line that is longer than any table has."""
        return TightboundError(
            f"{self.path}: line {line} is longer than {_LONGEST_LINE >> 20} MB: the file "
            "is no table of text"
        )

    def _line_at(self, offset: int) -> int:
        """The line, counted from 1, of a byte of the unpacked file."""
        line = 1
        with self.open() as file:
            while offset > 0 and (block := file.read(min(offset, _BLOCK))):
                offset -= len(block)
                line += block.count(b"\n")
        return line

    def _check_text(self, block: bytes, offset: int) -> None:
        """Refuse bytes that are no UTF-8, and NUL."""
        if offset == 0 and block.startswith(_UTF16):
            raise TightboundError(
                f"{self.path} is text in UTF-16, not UTF-8: save it in UTF-8, or set "
                "data.encoding=utf-16"
            )
        start = block.find(b"\0")
        if start < 0 and not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError as error:
                start = error.start
        if start >= 0:
            raise self._not_text(self._line_at(offset + start), block[start])

    def sample(self) -> tuple[str, bool]:
        """The first lines as text, and whether they are the whole file."""
        with self.open() as file:
            head = file.read(_SAMPLE)
            if head.startswith(_UTF16):
                self._check_text(head, 0)
            while head.count(b"\n") < 3 and len(head) < _LONGEST_LINE:
                more = file.read(_SAMPLE * 16)
                if not more:
                    break
                head += more
            is_whole = not file.read(1)
        if len(head) >= _LONGEST_LINE and b"\n" not in head:
            raise self._too_long(1)
        if not is_whole:
            head = head[: head.rfind(b"\n") + 1] or head
        return head.decode(errors="replace"), is_whole


class _Unpacked(gzip.GzipFile):
    """A file packed by gzip that refuses to unpack to more bytes than allowed."""

    def __init__(self, file: BinaryIO, path: Path, most: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed = file
        self._path = path
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        """Read unpacked bytes."""
        return self._checked(super().read(_most(size, self._most + 1)))

    def readline(self, size: int | None = -1) -> bytes:
        """Read one unpacked line."""
        return self._checked(super().readline(_most(size, self._most + 1)))

    def _checked(self, content: bytes) -> bytes:
        if self.tell() > self._most:
            raise TightboundError(
                f"{self._path} unpacks to more than {self._most // MEGABYTE} MB: raise "
                "data.memory (MB), or unpack it first"
            )
        return content

    def close(self) -> None:
        """Close the packed file also."""
        super().close()
        self._packed.close()


def _most(size: int | None, most: int) -> int:
    """A number of bytes to read, where -1 and None stand for all."""
    if size is None or size < 0:
        return most
    return size


def find_delimiter(text: str, is_whole: bool) -> str:
    """The character between cells, by the first lines of a file.

    It is the first of tab, semicolon, bar and comma that divides each of the first rows
    into the same number of cells; without one, the most frequent in line 1.
    """
    for mark in DELIMITERS:
        counts = {len(row) for row in first_rows(text, mark, is_whole)}
        if len(counts) == 1 and counts != {1}:
            return mark
    line = text.split("\n", 1)[0]
    counted = line if any(mark in line for mark in DELIMITERS) else text
    return max(",;\t|", key=counted.count)


def first_rows(text: str, delimiter: str, is_whole: bool) -> list[list[str]]:
    """The first rows of a text that are not empty, with their cells stripped."""
    rows = []
    lines = io.StringIO(text, newline="")
    with _cell_limit():
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row) or len(row) > 1:
                    rows.append([cell.strip() for cell in row])
                if len(rows) == _SAMPLE_ROWS:
                    return rows
        except csv.Error:
            return rows  # the check of all rows names the line
    if is_whole or len(rows) < 2:
        return rows
    return rows[:-1]


@contextmanager
def _cell_limit() -> Iterator[None]:
    """The csv module with our limit of the length of a cell."""
    before = csv.field_size_limit(MOST_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def check_rows(
    file: TextFile, delimiter: str, first: list[str], *, has_gaps: bool = False
) -> Rows:
    """Check that all rows have as many cells as the first one, and find their lines.

    Args:
        file: the file.
        delimiter: the character between cells.
        first: the cells of the first row.
        has_gaps: whether cells may be missing. An empty line between the rows of a
            single column then may be one, and is refused.

    Raises:
        TightboundError: for the first row with another number of cells than the first
            one, with its line, and for a quote without its end.
    """
    lines: list[NDArray[np.int64]] = []
    width = len(first)
    number = 1
    is_plain = width > 1
    for block in file.blocks():
        if not is_plain:
            continue  # the block is checked to be text
        counts = _plain_counts(block, delimiter, width)
        if counts is None:
            is_plain = False
            continue
        rows = np.flatnonzero(counts)
        is_plain = bool((counts[rows] == width).all())
        if not lines and len(rows) < len(counts):  # the first empty line
            lines.append(np.arange(1, number))
        if lines:
            lines.append(rows + number)
        number += len(counts)
    if is_plain and number > 1:
        return Rows(width, np.concatenate(lines) if lines else range(1, number))
    checked = _checked_by_csv(file, delimiter, is_single=width == 1)
    if width == 1 and has_gaps:
        _refuse_empty_line(file.path, checked)
    return checked


def _refuse_empty_line(path: Path, rows: Rows) -> None:
    """Refuse an empty line between the rows of a single column."""
    lines = np.asarray(rows.lines)
    is_inside = (rows.empty > lines[:1]) & (rows.empty < lines[-1:])
    if is_inside.any():
        line = rows.empty[int(np.argmax(is_inside))]
        raise TightboundError(
            f"{cut(path)}: line {line} is empty: write NA there if a value is missing, "
            "else remove the line"
        )


def _plain_counts(block: bytes, delimiter: str, width: int) -> NDArray[np.int64] | None:
    """The number of cells in each line, 0 for an empty one; None with quotes.

    None also for lines that end by a carriage return alone, or may hold a long cell.
    """
    if b'"' in block:
        return None
    has_returns = b"\r" in block
    if has_returns and block.count(b"\r") != block.count(b"\r\n"):
        return None
    if not block.endswith(b"\n"):
        block += b"\n"
    content = np.frombuffer(block, np.uint8)
    is_end = content == ord("\n")
    ends = np.flatnonzero(is_end)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts
    if has_returns:
        lengths -= content[ends - 1] == ord("\r")
    if lengths.max() > MOST_CHARACTERS:
        return None
    is_mark = content == ord(delimiter)
    marks = np.flatnonzero(is_mark | is_end)
    if len(marks) == width * len(ends) and is_end[marks[width - 1 :: width]].all():
        return np.full(len(ends), width)
    counts = np.add.reduceat(is_mark, starts, dtype=np.int64) + 1
    return np.where(lengths > 0, counts, 0)


def has_leading_zeros(file: TextFile, delimiter: str) -> bool:
    """True where a cell may begin with 0 and another digit, as in 007."""
    begins = np.array([ord(mark) for mark in ('\n\r" ' + delimiter)], np.uint8)
    for block in file.blocks():
        content = np.frombuffer(b"\n" + block + b"\n", np.uint8)
        zeros = np.flatnonzero(content == ord("0"))
        after = content[zeros + 1]
        zeros = zeros[(after >= ord("0")) & (after <= ord("9"))]
        if np.isin(content[zeros - 1], begins).any():
            return True
    return False


def _checked_by_csv(file: TextFile, delimiter: str, *, is_single: bool) -> Rows:
    """The rows as the csv module reads them.

    In a file of a single column, spaces are kept, so that a line of spaces is not taken
    for a cell without characters in quotes.
    """
    lines: list[int] = []
    empty: list[int] = []
    width = 0
    first = ""
    start = 1
    text = io.TextIOWrapper(file.open(), encoding="utf-8", newline="")
    with text, _cell_limit():
        reader = csv.reader(
            text, delimiter=delimiter, skipinitialspace=not is_single, strict=True
        )
        try:
            for row in reader:
                if _is_blank(row, is_single):
                    empty.append(start)
                else:
                    first = first or row[0]
                    width = width or len(row)
                    if len(row) != width:
                        remedy = _remedy(first, row[0], delimiter)
                        raise _torn(file.path, start, row, width, remedy)
                    lines.append(start)
                start = reader.line_num + 1
        except csv.Error as error:
            raise _bad_quotes(file.path, start, str(error)) from None
    return Rows(width, np.array(lines, np.int64), np.array(empty, np.int64))


def _is_blank(row: list[str], is_single: bool) -> bool:
    """True for a line without characters, or of spaces."""
    if len(row) != 1:
        return not row
    if is_single:
        return row[0] != "" and not row[0].strip(" \t")
    return not row[0].strip(" \t")


def _remedy(first: str, cell: str, delimiter: str) -> str:
    """What to do about a row of another width, by the first cells of the file and of it."""
    if cell.startswith("#"):
        return "remove lines of comments"
    if first.startswith(("#", "sep=")):
        return "remove the first row, which names no columns"
    return f"correct it, or quote the texts that hold {delimiter!r}"


def _torn(
    path: Path, line: int, row: list[str], width: int, remedy: str
) -> TightboundError:
    """The error for a row with too many or too few cells."""
    return TightboundError(
        f"{path}: line {line} has {len(row)} cells where {width} are expected, "
        f"as in the first row: {remedy}"
    )


def _bad_quotes(path: Path, line: int, error: str) -> TightboundError:
    """The error for a cell that is too long or that has a quote without its end."""
    if "field limit" in error:
        return TightboundError(
            f"{path}: line {line} has a cell of more than {MOST_CHARACTERS:,} characters: "
            "a quote may lack its end, or the file is no table"
        )
    return TightboundError(
        f"{path}: the quotes of line {line} do not match: close each cell that begins "
        'with a quote by a quote, and write "" for a quote inside'
    )
