"""Files that unpack to far more than they hold, and settings that need too much memory."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tightbound as tb
from tightbound import data
from tightbound.cli.outputs import codes
from tightbound.config import configure
from tightbound.data.settings import DataSettings
from tightbound.models.recipes import Recipe
from tightbound.runtime import memory
from tightbound.runtime.errors import TightboundError

MB = 1_000_000
X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


def refused(call: Callable[[], object], match: str, most: int = 100 * MB) -> None:
    """A call ends in one sentence, and takes at most so much memory on its way."""
    tracemalloc.start()
    try:
        with pytest.raises(TightboundError, match=match) as caught:
            call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < most


def load(path: Path, **settings: object) -> Callable[[], object]:
    return lambda: data.load(str(path), DataSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["idx", "idx.gz"])
def test_idx_is_bounded_by_its_header(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 100_000, 200, 200)
    body = bytes(1000)
    content = header + body
    path.write_bytes(gzip.compress(content) if kind == "idx.gz" else content)
    refused(load(path), "unpacks to 4,000 MB, more than data.memory")
    refused(load(path, memory=5000), "truncated or damaged: 1000 bytes")


def test_a_gzip_file_is_unpacked_no_further_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "x.idx.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 100))
        for _ in range(100):
            file.write(bytes(MB))
    refused(load(path), "101 or more bytes", most=20 * MB)


def test_an_impossible_size_is_said_in_short(tmp_path: Path) -> None:
    path = tmp_path / "x.idx"
    path.write_bytes(b"\0\0\x08\xff" + b"\xff" * 1020)
    refused(
        load(path), "x.idx unpacks to more bytes than any machine holds: it is damag"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_npz_by_other_methods_are_refused(
    tmp_path: Path, method: int
) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", _npy((20, 1_000_000)) + bytes(20_000_000))
    refused(load(path), "packed by another method than DEFLATE", most=5 * MB)


def test_further_headers_of_a_tar_file_are_bounded(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": "c" * (20 * MB)}
        file.addfile(member)
    refused(lambda: data.load(f"wds:{path}"), "a header has 20 MB", most=60 * MB)


def test_npz_is_bounded_by_its_table(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((1000, 3000), np.uint8), other=np.zeros(9))
    refused(load(path, memory=2), r"unpacks to 4 MB, more than data.memory \(2 MB\)")
    assert data.load(str(path), DataSettings(memory=4)).spec.shape == (3000,)


def test_an_array_of_npz_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (900000000, 9), }"
    header = text.encode().ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", npy)
    refused(load(path), "shorter than its header says")


def test_hdf5_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("wide", (100, 10**9), "f4", chunks=(1, 10**6))
        file.create_dataset("chunky", (10**9, 9), "f4", chunks=(10**8, 9))
        file["x"] = X
        file.create_dataset("y", (60, 10**9), "u1", chunks=(1, 10**6))
    refused(load(path, key="wide"), "one example of shape .* has 4,000 MB")
    refused(load(path, key="chunky"), "chunks of 3.6 GB")
    refused(load(path, key="x"), r"dataset 'y'\) unpacks to 60,000 MB")


def test_examples_of_too_many_values_are_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10, 60_000_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 10 * 60_000_000 * 4)  # a sparse file
    match = r"shape \(60000000,\) has 60,000,000 values, too many"
    refused(load(path), match, most=300 * MB)  # one example was read


def test_zarr_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    for name, shape, chunks, match in (
        ("wide", (100, 10**9), (1, 10**6), "has 4,000 MB"),
        ("chunky", (10**9, 9), (10**8, 9), "chunks of 3.6 GB"),
        ("beyond", (50, 9), (50, 10**9), "chunks of 200.0 GB"),
    ):
        path = tmp_path / f"{name}.zarr"
        zarr.create_array(str(path), shape=shape, chunks=chunks, dtype="f4")
        refused(load(path), match)


def test_parquet_that_unpacks_to_more_than_it_holds(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    n = 3 * MB
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), [1.5])
    table = pa.table({name: column.cast(pa.float64()) for name in "abc"})
    parquet.write_table(table, path, row_group_size=n)
    assert path.stat().st_size < MB / 10
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), ["a"])
    parquet.write_table(pa.table({"t": text.cast(pa.string())}), tmp_path / "t.parquet")
    refused(load(tmp_path / "t.parquet", memory=5), "more than data.memory")


@pytest.mark.parametrize(
    "pattern",
    [
        "{1..99999999}",
        "{1..9999}{1..9999}",
        "{0..1" + "0" * 5000 + "}",
        "{a,b}{000000..99999}",
    ],
    ids=range(4),
)
def test_a_pattern_names_a_bounded_number_of_files(
    tmp_path: Path, pattern: str
) -> None:
    pytest.importorskip("webdataset")
    source = f"wds:{tmp_path}/x-{pattern}.tar"
    refused(lambda: data.load(source), "more than 100,000 files")


def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.npy")
    os.mkfifo("pipe.csv")
    Path("zero.npy").symlink_to("/dev/zero")
    Path("zero.idx.gz").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.npz")
        for name in ("pipe.npy", "pipe.csv", "zero.npy", "zero.idx.gz", "socket.npz"):
            refused(load(Path(name)), f"{name} is a (named pipe|device|socket)")
    refused(load(Path("/dev/zero")), "is a device")
    refused(lambda: configure("digits", file="pipe.csv"), "named pipe")


@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_file_in_a_folder_of_images(tmp_path: Path, link: bool) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    for i, pixels in enumerate(grey):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    kind = "a device" if link else "a named pipe"
    if link:
        (folder / "9.png").symlink_to("/dev/zero")
    else:
        os.mkfifo(folder / "9.png")
    refused(load(folder), f"9.png cannot be read as an image: it is {kind}, not a file")
    left = data.load(str(folder), DataSettings(skip_bad=True, valid=1, test=1))
    assert any(f"9.png (it is {kind}" in notice for notice in left.notices)
    parts = (left.train, left.valid, left.test)
    assert sum(len(part) for part in parts) == 4
    refused(load(folder / "9.png"), f"9.png is {kind}")


def test_latents_are_read_from_files_of_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "z.npy")
    refused(lambda: codes(tmp_path / "z.npy", ()), "z.npy is a named pipe")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    refused(lambda: codes(tmp_path / "zero.npz", ()), "zero.npz is a device")
    path = tmp_path / "z.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.npy", _npy((3 * 10**9,)))
    refused(lambda: codes(path, ()), "array 'z' is shorter than its header says")
    np.savez(path, z=X)
    assert np.array_equal(codes(path, ()), X)


def _npy(shape: tuple[int, ...]) -> bytes:
    """The header of an array of bytes, without its content."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"latent": 3_000_000}, "latent = 3000000 .* needs 37.0 GB of memory at least"),
        ({"latent": 10**12}, "latent = 1000000000000 cannot be used"),
        ({"k": 10**9}, "k = 1000000000 cannot be used"),
        ({"k": 10**7, "batch": 48}, "a step with train.batch = 48 and k = 10000000"),
        ({"batch": 10**12}, "train.batch = 1000000000000 cannot be used"),
        ({"seed": 10**30}, "seed = 1000000000000000000000000000000 cannot be used"),
        ({"data.size": 10**9}, "data.size"),
    ],
)
def test_settings_that_need_too_much(
    tmp_path: Path,
    settings: dict[str, object],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_bytes", lambda: 8 * 10**9)

    def train() -> object:
        values = {"recipe.size": "s", "train.steps": 2, "validate_n": 4, **settings}
        return tb.train(X, out=tmp_path / "run", settings=values, display="none")

    refused(train, match)


def test_a_batch_above_the_data_is_the_data(tmp_path: Path) -> None:
    values = {"recipe.size": "s", "train.steps": 2, "batch": 10**9, "validate_n": 4}
    run = tb.train(
        X, out=tmp_path / "run", settings=values, display="none", report=False
    )
    assert run.config.train.batch == 48


def test_a_recipe_says_its_ranges() -> None:
    from pydantic import ValidationError

    for values in ({"latent": 0}, {"latent": (4, 10**9)}, {"k": 0}):
        with pytest.raises(ValidationError):
            Recipe(**values)
