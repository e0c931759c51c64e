"""The file: a header and blocks, each with a checksum; nothing in it is ever run."""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.reading import parse_json

MAGIC = b"\x89TBZ"
VERSION = 2
CODED = 0
STORED = 1
PACKAGES = ("tightbound", "torch", "constriction", "numpy", "scipy")
MOST_LETTERS = 4096  # of the path of a run folder
BLOCK = 16384  # most examples of a block
MOST_BYTES = 1 << 26  # of raw values of a block of more than one example


def _printable(text: str) -> str:
    """A text that has a form in UTF-8 and that a terminal shows as it is."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ValueError("it has characters that no name has")
    return text


def _encodable(text: str) -> str:
    """A text that has a form in UTF-8, as every name of a column."""
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_printable)]
ColumnName = Annotated[str, AfterValidator(_encodable)]


class Header(BaseModel):
    """What a reader must know before the blocks; one letter for each entry in the file.

    Attributes:
        version: Version of the format.
        model: Fingerprint of weights, recipe and spec.
        n: Number of examples.
        dtype: Type of the raw values.
        rows: Examples of a batch.
        versions: Versions of the packages that wrote it, in the order of `PACKAGES`.
        run: The run folder, seen from the folder of the file; "" where there was none.
        prior: The name of a fitted prior; "" for the run's own.
        steps: Stated precisions that are not those of training, by column.
        grids: Bins of bottom-up latents, in hexadecimal digits.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True
    )

    version: int = Field(alias="v")
    model: str = Field(alias="m", pattern="^[0-9a-f]{16}$")
    n: int = Field(alias="n", ge=1, le=1 << 53)
    dtype: str = Field(alias="d", pattern="^[a-z0-9]{1,16}$")
    rows: int = Field(alias="b", ge=1, le=1 << 20)
    versions: str = Field(alias="t", pattern=r"^[A-Za-z0-9.+ _-]{1,200}$")
    run: Text = Field("", alias="r", max_length=MOST_LETTERS)
    prior: Text = Field("", alias="p", max_length=255)
    steps: dict[ColumnName, float] = Field({}, alias="s")
    grids: str = Field("", alias="g", pattern="^[0-9a-f]*$")


def can_name(run: str) -> bool:
    """Whether a header can hold the path of a run folder."""
    try:
        return bool(_printable(run)) and len(run) <= MOST_LETTERS
    except ValueError:
        return False


@dataclass(frozen=True)
class Block:
    """Some examples: coded by the model, or stored as they are.

    Attributes:
        kind: CODED or STORED.
        n: Number of examples.
        payload: The bytes.
    """

    kind: int
    n: int
    payload: bytes


class Damaged(Exception):
    """The bytes are not those that were written; its text is what is wrong."""


def varint(number: int) -> bytes:
    """A number of 7 bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(128 | (number & 127))
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Reads numbers and bytes in order; raises `Damaged` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self._data) - self.at:
            raise Damaged("it ends too early")
        part = self._data[self.at : self.at + count]
        self.at += count
        return part

    def varint(self) -> int:
        """The next number."""
        number = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise Damaged("a number is too large")

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data) - self.at)


def _part(head: bytes, payload: bytes) -> bytes:
    """Bytes with their length and a checksum."""
    framed = head + varint(len(payload)) + payload
    return framed + zlib.crc32(framed).to_bytes(4, "little")


def _take_part(reader: Reader, data: bytes, numbers: int) -> tuple[list[int], bytes]:
    """Numbers and payload of the next part, after its checksum was compared."""
    start = reader.at
    head = [reader.varint() for _ in range(numbers)]
    payload = reader.take(reader.varint())
    framed = data[start : reader.at]
    if reader.take(4) != zlib.crc32(framed).to_bytes(4, "little"):
        raise Damaged("a checksum does not match")
    return head, payload


def pack(header: Header, blocks: Sequence[Block]) -> bytes:
    """The bytes of a file."""
    entries = header.model_dump(by_alias=True, exclude_defaults=True)
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False)
    parts = [MAGIC, _part(b"", text.encode())]
    for block in blocks:
        parts.append(_part(varint(block.kind) + varint(block.n), block.payload))
    return b"".join(parts)


def unpack(data: bytes, name: str) -> tuple[Header, list[Block]]:
    """Header and blocks of a file.

    Args:
        data: The bytes.
        name: The file in messages.

    Raises:
        TightboundError: It is no such file, of another version, or damaged.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise TightboundError(
            f"{cut(name)} was not written by tightbound compress: name an F.tb"
        )
    reader = Reader(data)
    reader.take(len(MAGIC))
    try:
        _, text = _take_part(reader, data, 0)
        header = _header(text)
        blocks: list[Block] = []
        count = 0
        while count < header.n:
            (kind, n), payload = _take_part(reader, data, 2)
            if kind not in (CODED, STORED) or not 0 < n <= BLOCK:
                raise Damaged("a block is of no known kind or size")
            blocks.append(Block(kind, n, payload))
            count += n
        if count != header.n or reader.rest():
            raise Damaged("it has more in it than its header says")
    except Damaged as damage:
        raise TightboundError(
            f"{cut(name)} is damaged ({damage}): restore it from a copy"
        ) from damage
    return header, blocks


def _header(text: bytes) -> Header:
    try:
        entries = parse_json(text)
    except (ValueError, RecursionError):
        raise Damaged("its header is no JSON") from None
    if not isinstance(entries, dict):
        raise Damaged("its header is no table")
    if entries.get("v") != VERSION:
        raise TightboundError(
            f"the file is of format version {cut(entries.get('v'))}, and this tightbound reads "
            f"{VERSION}: use the version of tightbound that wrote it"
        )
    try:
        return Header.model_validate(entries)
    except ValidationError:
        raise Damaged("its header has other entries") from None
