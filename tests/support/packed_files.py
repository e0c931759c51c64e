"""Files of HDF5, Zarr and parquet whose chunks and pages hold what a test says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

#: The codec of Zarr 3 that turns numbers into bytes.
ZARR_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def zarr3_store(
    folder: Path,
    codecs: Sequence[Mapping[str, object]],
    chunk: bytes,
    *,
    shape: Sequence[int] = (60, 4),
    chunks: Sequence[int] = (60, 4),
) -> Path:
    """A Zarr store of format 3 whose single chunk is given as bytes."""
    store = folder / "x.zarr"
    (store / "c" / "0").mkdir(parents=True)
    grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
    keys = {"name": "default", "configuration": {"separator": "/"}}
    about = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": grid,
        "chunk_key_encoding": keys,
        "fill_value": 0.0,
        "attributes": {},
        "codecs": list(codecs),
    }
    (store / "zarr.json").write_text(json.dumps(about))
    (store / "c" / "0" / "0").write_bytes(chunk)
    return store


def zarr2_store(folder: Path, compressor: Mapping[str, object], chunk: bytes) -> Path:
    """A Zarr store of format 2 of a single chunk (60, 4), given as bytes."""
    store = folder / "x.zarr"
    store.mkdir()
    about = {
        "zarr_format": 2,
        "shape": [60, 4],
        "chunks": [60, 4],
        "dtype": "<f4",
        "fill_value": 0.0,
        "order": "C",
        "filters": None,
        "compressor": compressor,
    }
    (store / ".zarray").write_text(json.dumps(about))
    (store / "0.0").write_bytes(chunk)
    return store


def twice_packed_dataset(file: object, name: bytes = b"x") -> object:
    """An HDF5 dataset (60, 4) of one chunk that passes DEFLATE twice; its low-level id."""
    import h5py

    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((60, 4))
    plist.set_deflate(1)
    plist.set_deflate(1)
    space = h5py.h5s.create_simple((60, 4))
    kind = h5py.h5t.IEEE_F32LE
    return h5py.h5d.create(file.id, name, kind, space, plist)  # type: ignore[attr-defined]


def thrift_number(number: int, width: int = 0) -> bytes:
    """A number of Thrift's compact protocol in at least so many bytes."""
    zigzag = number << 1
    out = bytearray()
    while zigzag > 127 or len(out) + 1 < width:
        out.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*out, zigzag])


def declare_less(path: Path, numbers: Iterable[int], declared: int = 60) -> None:
    """Put another number for some numbers in the footer of a parquet file."""
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length :]
    for number in numbers:
        written = thrift_number(number)
        assert written in footer, number
        footer = footer.replace(written, thrift_number(declared, len(written)))
    path.write_bytes(content[: -8 - length] + footer)
