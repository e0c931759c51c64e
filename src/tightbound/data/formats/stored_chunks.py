"""Read arrays of HDF5 and Zarr whose chunks unpack to no more than they declare.

The libraries unpack a DEFLATE stream to its end, whatever the size of the chunk. Each chunk
is therefore checked before it is read for the first time.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tightbound.data.formats.packed import (
    HEAD,
    UnpacksToMore,
    check_unpacked,
    is_declared,
)
from tightbound.runtime.reading import Options

_SLACK = 1 << 16  # bytes that checksums and headers may add
_MOST_TEXTS = 1 << 28  # bytes of a chunk of texts
_WIDENING = 8  # filters of Zarr may store a value in a type that is wider
_FEW_BYTES = 1 << 12  # no chunk of so few packed bytes is checked by bytes


class StoredArray(Protocol):
    """An array in a file, of h5py or zarr, that is read in slices of rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def chunks(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: slice, /) -> object: ...


@dataclass(frozen=True)
class Stored:
    """An array in a file, whose chunks are checked before they are read.

    Attributes:
        array: the array of h5py or zarr.
        unit: the shape of the blocks in which it is stored, or None.
        check: refuses the block at a place of the grid of blocks.
    """

    array: StoredArray
    unit: tuple[int, ...] | None
    check: Callable[[tuple[int, ...]], None]
    checked: set[tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return self.array.chunks

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, rows: slice, /) -> object:
        start, stop, _ = rows.indices(self.shape[0])
        for place in self._places(start, stop):
            if place not in self.checked:
                self.check(place)
                self.checked.add(place)
        return self.array[rows]

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        """The places in the grid of blocks that hold some rows."""
        if self.unit is None or stop <= start or 0 in self.unit:
            return iter(())
        first = range(start // self.unit[0], -(-stop // self.unit[0]))
        others = [
            range(-(-size // unit))
            for size, unit in zip(self.shape[1:], self.unit[1:], strict=True)
        ]
        return itertools.product(first, *others)


# ---- HDF5

_DEFLATE = 1
_FLETCHER32 = 3
# filters by their number in HDF5, and the packed form of their bytes
_PACKERS = {
    _DEFLATE: "zlib",
    4: "szip",
    32000: "lzf",
    32001: "blosc",
    32004: "size first",
    32008: "size first",
    32015: "zstd",
}
_COUNTED = {
    5: "nbit",
    6: "scaleoffset",
}  # their third parameter is the number of values
_PLAIN = {2, _FLETCHER32}


def hdf5_array(dataset: Any) -> Stored:
    """A dataset of h5py whose chunks are checked.

    Raises:
        ValueError: for filters whose unpacked size cannot be known beforehand.
    """
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    if dataset.chunks is None:
        return Stored(dataset, None, lambda place: None, set())
    count = math.prod(dataset.chunks)
    packers = [i for i, each in enumerate(filters) if each[0] in _PACKERS]
    _check_filters(filters, count)
    _refuse_two(len(packers))
    if not packers:
        return Stored(dataset, None, lambda place: None, set())
    size = max(dataset.id.get_type().get_size(), dataset.dtype.itemsize)
    most = count * size + _SLACK
    position = packers[0]
    codec = _PACKERS[filters[position][0]]
    outer = {each[0] for each in filters[position + 1 :]}

    def check(place: tuple[int, ...]) -> None:
        corner = tuple(
            at * unit for at, unit in zip(place, dataset.chunks, strict=True)
        )
        stored = dataset.id.get_chunk_info_by_coord(corner)
        if _is_bounded(stored, position, codec, most):
            return
        _, packed = dataset.id.read_direct_chunk(corner)
        end = len(packed) - 4 if _FLETCHER32 in outer else len(packed)
        check_unpacked(codec, packed[:end], most)

    return Stored(dataset, dataset.chunks, check, set())


class _StoredChunk(Protocol):
    """What h5py says of a chunk in a file."""

    filter_mask: int
    byte_offset: int | None
    size: int


def _is_bounded(chunk: _StoredChunk, position: int, codec: str, most: int) -> bool:
    """Whether a chunk cannot unpack to more than `most` bytes, whatever is in it."""
    is_packed = not chunk.filter_mask >> position & 1
    if chunk.byte_offset is None or not is_packed or chunk.size == 0:
        return True
    return chunk.size * 1032 <= most and codec in ("zlib", "lzf")


def _check_filters(
    filters: Sequence[tuple[int, int, Sequence[int], bytes]], count: int
) -> None:
    """Refuse filters whose unpacked size cannot be known, or is not that of a chunk."""
    for number, _, values, name in filters:
        if number in _COUNTED and tuple(values[2:3]) != (count,):
            raise ValueError(
                f"its filter {_COUNTED[number]} declares another number of values than "
                "its chunk has"
            )
        if number not in _PACKERS | _COUNTED.keys() | _PLAIN:
            raise ValueError(
                f"its filter {name.decode(errors='replace')!r} is not known; write it "
                "with gzip or lzf"
            )


def _refuse_two(packers: int) -> None:
    """Refuse chunks that are packed twice, whose size grows by both ratios."""
    if packers > 1:
        raise ValueError("its chunks are packed twice; write it with one compressor")


# ---- Zarr

_ZARR_PACKERS = {"zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "blosc"}
_SHARDING = "sharding_indexed"
_ABSENT = 2**64 - 1


def zarr_array(folder: Path, array: Any) -> Stored:
    """An array of a Zarr store in a folder, whose chunks are checked.

    Raises:
        ValueError: for chunks that are packed twice, or shards in a form that is not read.
    """
    about = array.metadata.to_dict()
    codecs = _codecs(about)
    place_of = array.metadata.encode_chunk_key
    most = math.prod(array.chunks) * array.dtype.itemsize * _WIDENING + _SLACK
    if array.dtype.kind in "OT":  # texts of any length
        most = max(most, _MOST_TEXTS)
    shards = [codec for codec in codecs if codec[0] == _SHARDING]
    parts: Callable[[bytes], Iterator[bytes]] = _whole
    if shards:
        unit = tuple(array.shards)
        chunks = math.prod(a // b for a, b in zip(unit, array.chunks, strict=True))
        codec = _packer_in_shards(codecs, shards[0][1])
        parts = _shard_reader(shards[0][1], chunks)
    else:
        unit = tuple(array.chunks)
        codec = _packer(codecs)
        if codec is None:
            return Stored(array, None, lambda place: None, set())
    root = folder / array.path

    def check(place: tuple[int, ...]) -> None:
        path = root / place_of(place)
        if codec is None or not path.is_file():
            return
        with path.open("rb") as file:
            content = file.read(HEAD)
            if shards or not is_declared(codec, content):
                content += file.read()
        for packed in parts(content):
            check_unpacked(codec, packed, most)

    return Stored(array, unit, check, set())


def _packer_in_shards(
    codecs: Sequence[tuple[str, Options]], shard: Options
) -> str | None:
    """The compressor of the chunks of a shard.

    Raises:
        ValueError: for shards that are packed themselves, or that hold shards.
    """
    if len(codecs) > 1:
        raise ValueError("its shards are packed; pack the chunks in them")
    inner = _named(shard.get("codecs"))
    if any(name == _SHARDING for name, _ in inner):
        raise ValueError("its shards hold shards; write shards of chunks")
    return _packer(inner)


def _codecs(about: Options) -> list[tuple[str, Options]]:
    """The codecs of an array in the order in which they pack, of format 2 or 3."""
    if "codecs" in about:
        return _named(about["codecs"])
    return _named([*(about.get("filters") or ()), about.get("compressor")])


def _named(codecs: object) -> list[tuple[str, Options]]:
    """The name and the parameters of each codec."""
    named: list[tuple[str, Options]] = []
    for codec in codecs if isinstance(codecs, Sequence) else ():
        if codec is None:
            continue
        entry = codec if isinstance(codec, Mapping) else codec.get_config()
        name = str(entry.get("name", entry.get("id"))).removeprefix("numcodecs.")
        named.append((name, entry.get("configuration") or entry))
    return named


def _packer(codecs: Sequence[tuple[str, Options]]) -> str | None:
    """The compressor among some codecs, which must be the last or before a checksum."""
    names = [name for name, _ in codecs]
    packers = [i for i, name in enumerate(names) if name in _ZARR_PACKERS]
    _refuse_two(len(packers))
    if not packers:
        return None
    if any(name != "crc32c" for name in names[packers[0] + 1 :]):
        raise ValueError("its compressor is not the last codec; write it so")
    return names[packers[0]]


def _whole(content: bytes) -> Iterator[bytes]:
    yield content


def _shard_reader(about: Options, chunks: int) -> Callable[[bytes], Iterator[bytes]]:
    """A function that gives the packed chunks of a shard by its index."""
    names = [name for name, _ in _named(about.get("index_codecs"))]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise ValueError(
            "the index of its shards is packed; write it with bytes, crc32c"
        )
    check = 4 * (len(names) - 1)
    length = 16 * chunks + check
    is_first = about.get("index_location") == "start"

    def read(content: bytes) -> Iterator[bytes]:
        if len(content) < length:
            return
        start = 0 if is_first else len(content) - length
        for place in range(start, start + 16 * chunks, 16):
            offset, size = struct.unpack_from("<QQ", content, place)
            if offset != _ABSENT:
                yield content[offset : offset + size]

    return read


__all__ = ["Stored", "StoredArray", "UnpacksToMore", "hdf5_array", "zarr_array"]
