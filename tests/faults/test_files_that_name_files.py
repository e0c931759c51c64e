"""Data files that name other files, which are not read."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tightbound import data
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def png(value: int = 9) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An image outside of the data, which a hostile file names."""
    path = tmp_path / "secret.png"
    path.write_bytes(png(200))
    return path


def refused(source: str, match: str, **settings: object) -> None:
    with pytest.raises(TightboundError, match=match) as caught:
        data.load(source, DataSettings(**settings))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", ["bytes", "path"])
def test_images_of_parquet_are_read_from_their_bytes_alone(
    tmp_path: Path, secret: Path, first: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    inside = {"bytes": png(), "path": str(secret)}
    outside = {"bytes": None, "path": str(secret)}
    rows = [inside] * 30 + [outside]
    if first == "path":
        rows = [outside] * 30
    table = pa.table({"image": rows})
    parquet.write_table(table, tmp_path / "images.parquet")
    refused(str(tmp_path / "images.parquet"), "names the file .*not read")
    parquet.write_table(pa.table({"image": [inside] * 30}), tmp_path / "good.parquet")
    good = data.load(str(tmp_path / "good.parquet"))
    assert float(good.train.x[:].max()) == 9  # type: ignore[union-attr]


def test_images_of_a_hugging_face_set_are_its_own(tmp_path: Path, secret: Path) -> None:
    pytest.importorskip("datasets")
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    own = tmp_path / "set"
    own.mkdir()
    features = {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}

    def write(paths: list[str]) -> None:
        rows = [{"bytes": None, "path": path} for path in paths]
        mask = [{"bytes": None, "path": "/dev/zero"}] * len(rows)
        table = pa.table({"image": rows, "mask": mask})
        table = table.replace_schema_metadata(about)
        parquet.write_table(table, own / "train.parquet")

    write([str(secret)] * 20)
    refused(f"hf:{own}", "names the file .*not read")
    for i in range(20):
        (own / f"{i}.png").write_bytes(png(i))
    write([str(own / f"{i}.png") for i in range(20)])
    good = data.load(f"hf:{own}")
    assert float(good.train.x[:].max()) <= 19  # type: ignore[union-attr]
    (own / "link.png").symlink_to(secret)
    write([str(own / "link.png")] * 20)
    refused(f"hf:{own}", "names the file .*not read")


def test_hdf5_takes_numbers_from_itself_alone(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(X.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        stored = [(str(raw), 0, X.nbytes)]
        file.create_dataset("x", X.shape, X.dtype, external=stored)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", X.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["y"] = X
        file["x"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    for name in ("external", "virtual"):
        refused(str(tmp_path / f"{name}.h5"), "in another file.*not read")
    refused(str(tmp_path / "link.h5"), "in another file.*not read", key="x")
    own = h5py.VirtualLayout(X.shape, X.dtype)
    own[:] = h5py.VirtualSource(".", "part", X.shape)
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["part"] = X
        file.create_virtual_dataset("x", own)
    assert data.load(str(tmp_path / "own.h5")).spec.shape == (6,)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_reads_files_of_its_own_folder(
    tmp_path: Path, secret: Path, zarr_format: int
) -> None:
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "x.zarr"
    array = zarr.create_array(
        str(store), shape=X.shape, chunks=(40, 6), dtype="f4", zarr_format=zarr_format
    )
    array[:] = X
    assert data.load(str(store)).spec.shape == (6,)
    chunk = next(p for p in store.rglob("*") if p.is_file() and "zarr" not in p.name)
    chunk.unlink()
    chunk.symlink_to(secret)
    refused(str(store), "link to a file outside")
    chunk.unlink()
    os.mkfifo(chunk)
    refused(str(store), "is no file")


def test_zarr_unpacks_by_no_pickle(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "x.zarr"
    array = zarr.create_array(
        str(store), shape=(40, 6), chunks=(40, 6), dtype="f4", zarr_format=2
    )
    array[:] = X
    marker = tmp_path / "code-has-run"

    class Evil:
        def __reduce__(self) -> object:
            return Path.touch, (marker,)

    (store / "0.0").write_bytes(pickle.dumps(Evil()))
    meta = json.loads((store / ".zarray").read_text())
    meta |= {"compressor": None, "filters": [{"id": "pickle", "protocol": 4}]}
    (store / ".zarray").write_text(json.dumps(meta))
    refused(str(store), "codec 'pickle'")
    assert not marker.exists()


def shard(path: Path, *, link: str = "", zeros: int = 0, cut: bool = False) -> str:
    """A tar file of 30 images, with a link, a large member, or a damaged header."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for i in range(30):
            member = tarfile.TarInfo(f"{i:03}.png")
            member.size = len(png(i))
            file.addfile(member, io.BytesIO(png(i)))
        if link:
            member = tarfile.TarInfo("099.png")
            member.type = tarfile.SYMTYPE
            member.linkname = link
            file.addfile(member)
        if zeros:
            member = tarfile.TarInfo("099.png")
            member.size = zeros
            file.addfile(member, io.BytesIO(bytes(zeros)))
    if cut:  # a damaged header in the middle, which tarfile takes for the end
        content = bytearray(path.read_bytes())
        at = content.index(b"015.png")
        content[at + 148 : at + 156] = b"99999999"
        path.write_bytes(content)
    return f"wds:{path}"


def test_a_link_in_a_tar_file_is_refused(tmp_path: Path, secret: Path) -> None:
    pytest.importorskip("webdataset")
    assert len(data.load(shard(tmp_path / "good.tar")).valid)
    for name in ("a.tar", "b.tar.gz"):
        refused(shard(tmp_path / name, link=str(secret)), "099.png.*is a link")


def test_a_damaged_header_is_not_the_end_of_a_tar_file(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    refused(shard(tmp_path / "a.tar", cut=True), "does not end as a tar file")


def test_a_member_of_a_tar_file_is_bounded(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    source = shard(tmp_path / "a.tar.gz", zeros=3_000_000)
    refused(source, "more than data.memory", memory=2)
