"""Chunks, pages and batches that unpack to more than they declare."""

from __future__ import annotations

import bz2
import gc
import gzip
import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.packed_files import (
    ZARR_BYTES,
    declare_less,
    twice_packed_dataset,
    zarr2_store,
    zarr3_store,
)

from tightbound import data
from tightbound.data import DataSettings
from tightbound.data.formats.packed import UnpacksToMore, check_unpacked
from tightbound.data.on_disk import OnDisk
from tightbound.data.opening import open_source
from tightbound.runtime.errors import TightboundError

MB = 1_000_000
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
ZEROS = bytes(2 * MB)
NOISE = np.random.default_rng(0).bytes(2 * MB + 17)


def zstd_stream(content: bytes) -> bytes:
    """A zstd frame without its size in the header."""
    pa = pytest.importorskip("pyarrow")
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as file:
        file.write(content)
    return out.getvalue().to_pybytes()


def numcodec(name: str) -> Callable[[bytes], bytes]:
    """A compressor of numcodecs."""

    def pack(content: bytes) -> bytes:
        numcodecs = pytest.importorskip("numcodecs")
        return bytes(numcodecs.get_codec({"id": name}).encode(content))

    return pack


def lzf(content: bytes) -> bytes:
    """The bytes of a chunk that HDF5 has packed by LZF."""
    h5py = pytest.importorskip("h5py")
    with h5py.File("lzf", "w", driver="core", backing_store=False) as file:
        values = np.frombuffer(content, np.uint8)
        stored = file.create_dataset(
            "x", data=values, chunks=values.shape, compression="lzf"
        )
        mask, packed = stored.id.read_direct_chunk((0,))
    assert not mask
    return packed


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zlib": ("zlib", zlib.compress),
    "gzip": ("gzip", gzip.compress),
    "bz2": ("bz2", bz2.compress),
    "lzma": ("lzma", lzma.compress),
    "zstd": ("zstd", numcodec("zstd")),
    "zstd without a size": ("zstd", zstd_stream),
    "lz4": ("lz4", numcodec("lz4")),
    "blosc": ("blosc", numcodec("blosc")),
    "lzf": ("lzf", lzf),
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("content", [ZEROS, NOISE[:MB] + ZEROS], ids=["zeros", "mixed"])
def test_the_unpacked_size_is_bounded_to_the_byte(name: str, content: bytes) -> None:
    codec, pack = PACKERS[name]
    packed = pack(content)
    check_unpacked(codec, packed, len(content))
    with pytest.raises(UnpacksToMore, match="unpacks to more than"):
        check_unpacked(codec, packed, len(content) - 1)


@pytest.mark.parametrize("name", ["zlib", "gzip", "bz2", "lzma"])
def test_all_streams_are_counted(name: str) -> None:
    codec, pack = PACKERS[name]
    packed = pack(NOISE) + pack(ZEROS)
    check_unpacked(codec, packed, len(NOISE) + len(ZEROS))
    with pytest.raises(UnpacksToMore):
        check_unpacked(codec, packed, len(NOISE) + len(ZEROS) - 1)
    for damaged in (packed[:1000], packed[:-9], b"", b"nothing", packed + b"more"):
        check_unpacked(codec, damaged, len(NOISE) + len(ZEROS))


def refused(source: Path, match: str, **settings: Any) -> None:
    with pytest.raises(TightboundError, match=match) as error:
        data.load(str(source), DataSettings(**settings))
    assert "\n" not in str(error.value)


# ---- HDF5


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf", "shuffle": True},
        {"fletcher32": True},
        {},
    ],
    ids=["gzip", "all", "lzf", "checksum", "plain"],
)
@pytest.mark.parametrize("memory", [1024, 1])
def test_packed_hdf5_is_read_and_closed(
    tmp_path: Path, options: dict[str, Any], memory: int
) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    values = np.random.default_rng(0).normal(size=(900, 300)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(70, 90), **options)
    source = open_source(str(path), DataSettings(memory=memory))
    assert isinstance(source.splits["all"].x, OnDisk) == (memory == 1)
    assert np.array_equal(source.splits["all"].x[:].numpy(), values)
    if memory == 1:
        del source
        gc.collect()
    with h5py.File(path, "a") as file:  # refused while it is open for reading
        file["x"][0, 0] = 7.0


def test_integers_by_scale_and_offset_are_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    values = np.arange(6000).reshape(1500, 4)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(100, 4), scaleoffset=0)
    source = open_source(str(path), DataSettings())
    assert np.array_equal(source.splits["all"].x[:].numpy(), values)


def test_a_chunk_of_hdf5_unpacks_to_its_own_size(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name in ("good", "bad"):
            stored = file.create_dataset(
                name, (60, 4), "f4", chunks=(60, 4), compression="gzip"
            )
            content = ZEROS if name == "bad" else X.tobytes()
            stored.id.write_direct_chunk((0, 0), zlib.compress(content))
    good = open_source(str(path), DataSettings(key="good"))
    assert np.array_equal(good.splits["all"].x.numpy(), X)
    refused(path, "'bad' has a chunk that holds more than it declares", key="bad")


def test_chunks_of_hdf5_that_are_packed_twice_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        twice_packed_dataset(file)
    refused(path, "dataset 'x' cannot be read: its chunks are packed twice")


def test_labels_of_hdf5_that_are_one_long_text_are_bounded(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((150, 4))
        texts = file.create_dataset("y", (150,), h5py.string_dtype(), chunks=(150,))
        texts[0] = "z" * (4 * MB)
        file.flush()
        _, stored = texts.id.read_direct_chunk((0,))
        texts.id.write_direct_chunk((0,), stored[:16] * 150)
    tracemalloc.start()
    refused(path, "a label of 4,000,000 characters, which is no name", memory=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250 * MB  # of 600 MB
    refused(path, r"dataset 'y'\) unpacks to .* more than data.memory", memory=3)


@pytest.mark.parametrize("kind", ["O", "S"])
def test_labels_of_hdf5_are_texts(tmp_path: Path, kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    names = ["Köln", "Zürich", "Köln"] * 20
    with h5py.File(path, "w") as file:
        file["x"] = X
        texts = [name.encode() for name in names] if kind == "S" else names
        file["y"] = np.array(texts) if kind == "S" else texts
    source = open_source(str(path), DataSettings())
    assert source.label_names == ("Köln", "Zürich")
    assert source.splits["all"].y.tolist() == [0, 1, 0] * 20


# ---- Zarr


@pytest.mark.parametrize("name", ["zlib", "bz2", "lzma", "lz4", "zstd", "blosc"])
@pytest.mark.parametrize("is_bomb", [False, True])
def test_a_chunk_of_zarr_2_unpacks_to_its_own_size(
    tmp_path: Path, name: str, is_bomb: bool
) -> None:
    pytest.importorskip("zarr")
    numcodecs = pytest.importorskip("numcodecs")
    codec = numcodecs.get_codec({"id": name})
    content = ZEROS if is_bomb else X.tobytes()
    store = zarr2_store(tmp_path, codec.get_config(), bytes(codec.encode(content)))
    if is_bomb:
        refused(store, "'x' has a chunk that holds more than it declares")
    else:
        rows = open_source(str(store), DataSettings()).splits["all"].x
        assert np.array_equal(rows.numpy(), X)


@pytest.mark.parametrize("is_bomb", [False, True])
@pytest.mark.parametrize("location", ["", "start", "end"])
def test_a_chunk_of_zarr_3_unpacks_to_its_own_size(
    tmp_path: Path, location: str, is_bomb: bool
) -> None:
    pytest.importorskip("zarr")
    packed = gzip.compress(ZEROS if is_bomb else X.tobytes())
    codecs = [ZARR_BYTES, {"name": "gzip", "configuration": {"level": 1}}]
    if location:
        at = 16 if location == "start" else 0
        index = struct.pack("<QQ", at, len(packed))
        packed = index + packed if location == "start" else packed + index
        sharding = {
            "chunk_shape": [60, 4],
            "codecs": codecs,
            "index_codecs": [ZARR_BYTES],
            "index_location": location,
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    store = zarr3_store(tmp_path, codecs, packed)
    if is_bomb:
        refused(store, "'x' has a chunk that holds more than it declares")
    else:
        rows = open_source(str(store), DataSettings()).splits["all"].x
        assert np.array_equal(rows.numpy(), X)


def test_arrays_of_zarr_with_shards_are_read(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng(0).normal(size=(900, 30)).astype(np.float32)
    for name, shards in (("plain", None), ("sharded", (200, 20))):
        path = tmp_path / f"{name}.zarr"
        array = zarr.create_array(
            str(path), shape=values.shape, chunks=(50, 10), shards=shards, dtype="f4"
        )
        array[:] = values
        rows = open_source(str(path), DataSettings()).splits["all"].x
        assert np.array_equal(rows[:].numpy(), values)


def test_long_labels_of_zarr_are_read(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "x.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_array("x", data=X)
    names = ["a" * 5000, "b" * 5000, "ü" * 5000] * 20
    labels = group.create_array("y", shape=(60,), dtype=str)
    labels[:] = np.array(names, object)
    source = open_source(str(path), DataSettings())
    assert source.label_names == tuple(names[:3])
    assert source.splits["all"].y.tolist() == [0, 1, 2] * 20


# ---- parquet and feather


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(("what", "column"), [("size", "a"), ("rows", "a.b")])
def test_pages_of_parquet_hold_what_the_footer_declares(
    tmp_path: Path, version: str, what: str, column: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    rows = 123_457
    table = pa.table({column: np.zeros(rows), "b": np.ones(rows)})
    parquet.write_table(
        table,
        path,
        use_dictionary=False,
        row_group_size=rows,
        compression="gzip",
        write_statistics=False,
        data_page_version=version,
    )
    assert len(open_source(str(path), DataSettings()).splits["all"].x) == rows
    group = parquet.ParquetFile(path).metadata.row_group(0)
    sizes = {group.column(i).total_uncompressed_size for i in range(2)}
    declare_less(path, sizes if what == "size" else {rows})
    refused(path, "its pages hold more than its footer declares")


def test_a_text_of_parquet_that_repeats_is_in_memory_once(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    texts = ["z" * MB, "y"]
    places = pa.array(np.arange(3000) % 2, pa.int32())
    column = pa.DictionaryArray.from_arrays(places, texts)
    table = {"t": column, "a": np.arange(3000) * 0.5}
    parquet.write_table(pa.table(table), path, store_schema=False)
    source = open_source(str(path), DataSettings())
    values = source.table.columns["t"]
    assert values.tolist() == texts * 1500
    assert len({id(value) for value in values}) == 2
    refused(path, "a label of 1,000,000 characters, which is no name", label="t")
    assert pa.default_memory_pool().max_memory() < 500 * MB


def test_whole_numbers_of_parquet_with_gaps_keep_all_digits(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "x.parquet"
    large = 2**62 + 1
    numbers = pd.array([large, None, 3] * 20, dtype="Int64")
    pd.DataFrame({"a": numbers, "b": np.arange(60) * 0.5}).to_parquet(path)
    table = open_source(str(path), DataSettings(allow_missing=True)).table
    assert table.nullable["a"].equals(numbers)
    assert dict(table.types) == {"a": "Int64"}
    assert table.columns["a"][2] == 3.0 and np.isnan(table.columns["a"][1])
    refused(path, "row 1 .*column 'a' is empty")


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_words_for_missing_among_labels_are_unknown_in_each_file(
    kind: str, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / f"t.{kind}"
    labels = ["cat", "NA", "dog", "?"] * 15
    frame = pd.DataFrame({"label": labels, "a": np.arange(60) * 0.5})
    options = {"index": False} if kind == "csv" else {}
    getattr(frame, f"to_{kind}")(path, **options)
    source = open_source(str(path), DataSettings())
    assert source.label_names == ("cat", "dog")
    assert source.splits["all"].y.tolist() == [0, -1, 1, -1] * 15
    said = [line for line in source.notices if "unknown label" in line]
    assert said == [
        "column 'label': ?, NA among the labels stands for an unknown label"
    ]


@pytest.mark.parametrize("compression", ["zstd", "lz4", "uncompressed"])
def test_a_feather_file_is_bounded_by_its_headers(
    tmp_path: Path, compression: str
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "x.feather"
    frame = pd.DataFrame({"a": np.zeros(200_000), "t": ["word"] * 200_000})
    frame.to_feather(path, compression=compression)
    values = open_source(str(path), DataSettings()).table.columns
    assert values["a"].sum() == 0 and set(values["t"]) == {"word"}
    refused(path, r"unpacks to \d+ MB, more than data.memory \(4 MB\)", memory=4)
