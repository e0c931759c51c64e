"""Read the members of a tar file one by one, plain or gzipped, in bounded memory."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Self

from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.memory import MEGABYTE

GZIP = b"\x1f\x8b"
BLOCK = 10240  # bytes that tarfile reads at a time
END = 1024  # zeros at the end of a tar file
HEADERS = 16 * MEGABYTE  # of a member: long names and further headers
_FURTHER = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_META = re.compile(r"__[^/]*__($|/)")


class _BoundedReader(io.BufferedIOBase):
    """An unpacked stream, of which one member may read so many bytes and no more."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, most: int) -> None:
        self.file = file
        self.most = most
        self.since_member = 0
        self.position = 0
        self.tail = b""

    def read(self, size: int | None = -1, /) -> bytes:
        block = self.file.read(-1 if size is None else size)
        self.since_member += len(block)
        self.position += len(block)
        self.tail = (self.tail + block)[-2 * BLOCK :]
        if self.since_member > self.most:
            raise ValueError(
                f"a member unpacks to more than {self.most // MEGABYTE} MB"
            )
        return block

    def after(self, position: int) -> bytes:
        """All bytes from a position on that is not far back."""
        parts = (
            [self.tail[position - self.position :]] if position < self.position else []
        )
        while block := self.read(BLOCK):
            parts.append(block)
        return b"".join(parts)


class _Member(tarfile.TarInfo):
    """A member of a tar file whose further headers, as long names, are bounded."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member in a header of 512 bytes."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _FURTHER and member.size > HEADERS:
            raise ValueError(f"a header has {member.size // MEGABYTE:,} MB")
        return member


def tar_members(
    file: BinaryIO, name: str, settings: DataSettings
) -> Iterator[dict[str, object]]:
    """Name and content of each regular file in a tar file.

    Args:
        file: the open file.
        name: its name in messages.
        settings: the data settings; a member has at most `data.memory`.

    Yields:
        {"fname": ..., "data": ..., "__url__": name}.

    Raises:
        TightboundError: for a link or a device, which could name another file.
        EOFError: for a file that is cut short or damaged between two members.
    """
    most = settings.memory_bytes
    is_packed = file.read(2) == GZIP
    file.seek(0)
    stream = _BoundedReader(
        gzip.GzipFile(fileobj=file) if is_packed else file, most + HEADERS
    )
    with tarfile.open(
        fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Member
    ) as archive:
        for member in archive:
            content = _content(archive, member, name, most)
            if content is not None:
                yield {"fname": member.name, "data": content, "__url__": name}
            vars(archive)["members"].clear()  # it keeps all of them otherwise
            stream.since_member = 0
        # tarfile takes a damaged header for the end
        rest = stream.after(archive.offset)
    if len(rest) < END or rest.strip(b"\0"):
        raise EOFError("it does not end as a tar file does")


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, most: int
) -> bytes | None:
    """The content of a member; None for a folder and for notes of the writer."""
    if member.isdir() or _META.match(member.name):
        return None
    if not member.isreg():
        raise TightboundError(
            f"{cut(name)}: {cut(repr(member.name))} is a link or a device, which is not "
            "followed: store the file itself"
        )
    if member.size > most:
        raise TightboundError(
            f"{cut(name)}: {cut(repr(member.name))} has {member.size / MEGABYTE:,.0f} MB, more "
            f"than data.memory ({most // MEGABYTE:,} MB): set data.memory higher if this is so"
        )
    content = archive.extractfile(member)
    assert content is not None
    return content.read()
