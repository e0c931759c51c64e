"""Built-in sets: resolution order, downloads, published splits, binarisation, shapes."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import tightbound.data as td
from tightbound.data.formats import builtin, download
from tightbound.data.formats.idx import read_idx
from tightbound.data.formats.sprites import SIZES, templates
from tightbound.data.prepare.binarize import bernoulli
from tightbound.runtime.errors import TightboundError

DATA = os.environ.get("TIGHTBOUND_DATA")


def needs(name: str) -> pytest.MarkDecorator:
    there = DATA is not None and (Path(DATA) / name).exists()
    return pytest.mark.skipif(not there, reason=f"{name} is not in TIGHTBOUND_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
        + array.tobytes()
    )


def test_digits() -> None:
    data = td.load("digits")
    assert (
        data.spec.shape == (1, 8, 8)
        and data.spec.levels == 17
        and data.spec.layout == "hw"
    )
    assert [len(s) for s in data.splits.values()] == [1437, 180, 180]
    assert data.train.x.dtype == torch.uint8
    every = torch.cat([s.index for s in data.splits.values()])
    assert sorted(every.tolist()) == list(range(1797))
    x = data.train.batch(torch.arange(len(data.train)))
    assert x.dtype == torch.float32 and x.shape == (1437, 1, 8, 8)
    torch.testing.assert_close(data.spec.mean, x.mean(0))
    torch.testing.assert_close(data.spec.std, x.std(0, correction=0))
    assert data.train.labels(torch.tensor([0, 1])).shape == (2,)
    again = td.load("digits", data.settings, seed=5)
    assert again.digest == data.digest and torch.equal(
        again.train.index, data.train.index
    )


def test_splits_follow_the_seed() -> None:
    one, two = (
        td.load("digits", td.DataSettings(split_seed=None), seed=s) for s in (1, 2)
    )
    assert one.settings.split_seed == 1 and one.digest != two.digest
    assert torch.equal(
        one.test.index, td.load("digits", td.DataSettings(split_seed=1)).test.index
    )


def test_limit_takes_training_rows_only() -> None:
    whole, small = td.load("digits"), td.load("digits", td.DataSettings(limit=50))
    assert torch.equal(small.train.index, whole.train.index[:50]) and torch.equal(
        small.test.index, whole.test.index
    )


@needs("mnist")
def test_mnist_has_its_published_splits() -> None:
    data = td.load("mnist")
    assert [len(s) for s in data.splits.values()] == [50_000, 10_000, 10_000]
    raw = read_idx(Path(DATA or "", "mnist/train-images-idx3-ubyte.gz"))
    assert np.array_equal(data.valid.x.numpy(), raw[50_000:])
    assert (
        data.spec.levels == 256
        and data.label_names is not None
        and len(data.label_names) == 10
    )


@needs("mnist/dynamic_eval_seed777.npz")
@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_fixed_draw_is_that_of_the_papers(binarize: str) -> None:
    state = np.random.get_state()[1].copy()
    data = td.load("mnist", td.DataSettings(binarize=binarize))
    published = np.load(Path(DATA or "", "mnist/dynamic_eval_seed777.npz"))
    for name in ("valid", "test"):
        split = data.splits[name]
        assert np.array_equal(
            split.x.numpy().reshape(-1, 784), np.unpackbits(published[name], axis=1)
        )
        assert torch.equal(
            split.batch(torch.arange(3)).flatten(),
            split.raw(torch.arange(3)).float().flatten(),
        )
    assert data.spec.domain == "binary" and data.spec.levels == 2
    torch.testing.assert_close(
        data.spec.std, (data.spec.mean * (1 - data.spec.mean)).sqrt()
    )
    assert np.array_equal(state, np.random.get_state()[1])


@needs("binarized_mnist")
def test_static_set_as_shipped() -> None:
    data = td.load("binarized-mnist", td.DataSettings(binarize="dynamic"))
    assert data.spec.domain == "binary" and data.spec.shape == (1, 28, 28)
    bits = np.load(Path(DATA or "", "binarized_mnist/binarized_mnist.npz"))["test"]
    assert np.array_equal(
        data.test.x.numpy().reshape(-1, 784), np.unpackbits(bits, axis=1)[:, :784]
    )
    assert data.settings.binarize == "none" and "binary already" in data.notices[0]


@needs("fashion_mnist")
def test_fashion_mnist() -> None:
    data = td.load("fashion-mnist")
    assert (
        len(data.train) == 50_000
        and data.label_names is not None
        and data.label_names[9] == "Ankle boot"
    )


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_dynamic_draw_has_the_right_probability(levels: int) -> None:
    grey = (
        torch.arange(levels, dtype=torch.uint8)
        .repeat_interleave(20_000)
        .view(levels, -1)
    )
    drawn = bernoulli(grey, levels, torch.Generator().manual_seed(3))
    p = torch.arange(levels) / (levels - 1)
    error = (drawn.float().mean(1) - p).abs()
    assert bool((error <= 4.5 * (p * (1 - p) / 20_000).sqrt()).all())


def test_dynamic_training_view_and_fixed_view() -> None:
    data = td.load("digits", td.DataSettings(binarize="dynamic"))
    rows = torch.arange(64)
    first, again, other = (
        data.train.batch(rows, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(data.train.batch(rows), data.train.batch(rows))
    static = td.load("digits", td.DataSettings(binarize="static"))
    assert torch.equal(
        data.train.batch(rows),
        static.train.batch(rows, torch.Generator().manual_seed(9)),
    )
    picked = data.train.select(torch.tensor([5, 3]))
    assert torch.equal(
        picked.batch(torch.tensor([0, 1])), data.train.batch(torch.tensor([5, 3]))
    )


def test_binarize_refuses_reals() -> None:
    with pytest.raises(TightboundError, match="grey levels"):
        td.load(
            np.random.RandomState(0).randn(20, 4), td.DataSettings(binarize="dynamic")
        )
    with pytest.raises(TightboundError, match="integer grey levels"):
        td.load(
            np.random.RandomState(0).rand(20, 4, 4), td.DataSettings(binarize="static")
        )


def test_idx_round_trip_and_damage(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "a-images-idx3-ubyte"
    path.write_bytes(idx(array))
    assert np.array_equal(read_idx(path), array)
    wide = np.arange(6, dtype=">i4").reshape(3, 2)
    path.write_bytes(gzip.compress(idx(wide, 0x0C)))
    assert np.array_equal(read_idx(path), wide) and read_idx(path).dtype == np.int32
    for cut in (1, 5, 20, 39):
        path.write_bytes(idx(array)[:cut])
        with pytest.raises(TightboundError, match=r"truncated|not an IDX"):
            read_idx(path)
    path.write_bytes(gzip.compress(idx(array))[:-12])
    with pytest.raises(TightboundError, match=r"truncated or damaged gzip"):
        read_idx(path)


def test_a_path_to_an_idx_file(tmp_path: Path) -> None:
    path = tmp_path / "t-images-idx3-ubyte.gz"
    path.write_bytes(
        gzip.compress(
            idx(np.random.RandomState(0).randint(0, 256, (9, 5, 5)).astype(np.uint8))
        )
    )
    assert td.load(path).spec.shape == (1, 5, 5)


class Server(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012
    mode = "good"

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = b"x" + body[1:] if self.mode == "bad" else body
        self.wfile.write(body[: len(body) // 2] if self.mode == "cut" else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """A loopback server with a small set in the place of MNIST, its hashes in the table."""
    random = np.random.RandomState(0)
    files = {}
    for name in ("train", "t10k"):
        n = 10_020 if name == "train" else 8
        files[f"/mnist/{name}-images-idx3-ubyte.gz"] = random.randint(
            0, 256, (n, 3, 3)
        ).astype(np.uint8)
        files[f"/mnist/{name}-labels-idx1-ubyte.gz"] = random.randint(0, 10, n).astype(
            np.uint8
        )
    Server.files = {path: gzip.compress(idx(array), 1) for path, array in files.items()}
    Server.mode = "good"
    hashes = {
        path[1:]: hashlib.sha256(body).hexdigest()
        for path, body in Server.files.items()
    }
    monkeypatch.setattr(download, "SHA256", hashes)
    monkeypatch.delenv("TIGHTBOUND_DATA", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        monkeypatch.setenv(
            "TIGHTBOUND_MIRROR", f"http://127.0.0.1:{httpd.server_address[1]}/"
        )
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield Server
        httpd.shutdown()


def test_download_good_hash(
    server: type[Server], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = td.load("mnist")
    assert [len(s) for s in data.splits.values()] == [20, 10_000, 8]
    assert sorted(p.name for p in (cache / "mnist").iterdir()) == sorted(
        Path(p).name for p in server.files
    )
    monkeypatch.setenv("TIGHTBOUND_MIRROR", "http://127.0.0.1:9")
    assert td.load("mnist").digest == data.digest
    mnist = next(row for row in td.list_sources() if row["name"] == "mnist")
    assert mnist["found"] and mnist["where"] == str(cache / "mnist")


@pytest.mark.parametrize(("mode", "says"), [("bad", "sha256"), ("cut", "broke off")])
def test_download_that_fails_leaves_nothing(
    server: type[Server], cache: Path, mode: str, says: str
) -> None:
    server.mode = mode
    with pytest.raises(TightboundError, match=says):
        td.load("mnist")
    assert list((cache / "mnist").iterdir()) == []
    old = cache / "mnist" / "train-images-idx3-ubyte.gz"
    old.write_bytes(b"a damaged download")
    with pytest.raises(TightboundError, match=says):
        td.load("mnist")
    assert old.read_bytes() == b"a damaged download"
    server.mode = "good"
    assert len(td.load("mnist").train) == 20


def test_download_not_there_or_no_server(
    server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TightboundError, match="404"):
        download.fetch(
            os.environ["TIGHTBOUND_MIRROR"] + "none.gz",
            Path(os.environ["TIGHTBOUND_CACHE"]) / "none",
            "0",
        )
    monkeypatch.setenv("TIGHTBOUND_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(TightboundError, match="cannot be downloaded"):
        td.load("mnist")
    monkeypatch.setenv("TIGHTBOUND_MIRROR", "file:///etc")
    with pytest.raises(TightboundError, match="http"):
        td.load("mnist")


def test_user_folder_comes_first(
    server: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine" / "mnist"
    folder.mkdir(parents=True)
    for path, body in server.files.items():
        (folder / Path(path).stem).write_bytes(
            gzip.decompress(body)
        )  # not gzipped is fine
    monkeypatch.setenv("TIGHTBOUND_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("TIGHTBOUND_MIRROR", "http://127.0.0.1:9")
    assert len(td.load("mnist").train) == 20


def test_binarized_mnist_is_never_downloaded(server: type[Server], cache: Path) -> None:
    with pytest.raises(
        TightboundError, match=r"not downloaded: put binarized_mnist\.npz"
    ):
        td.load("binarized-mnist")
    path = cache / "binarized_mnist" / "binarized_mnist.npz"
    path.parent.mkdir(parents=True)
    bits = np.packbits(np.random.RandomState(0).randint(0, 2, (5, 784)), axis=1)
    np.savez(path, train=bits, valid=bits[:2], test=bits[:3])
    assert len(td.load("binarized-mnist").test) == 3
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TightboundError, match="truncated"):
        td.load("binarized-mnist")


def test_shapes() -> None:
    data = td.load("shapes", td.DataSettings(shapes_n=600))
    assert data.spec.domain == "binary" and data.spec.shape == (1, 64, 64)
    assert data.factor_names == tuple(SIZES) and data.factor_sizes == tuple(
        SIZES.values()
    )
    assert data.factors is not None and data.factors["train"].shape == (480, 5)
    again = td.load("shapes", td.DataSettings(shapes_n=600))
    assert again.digest == data.digest and torch.equal(again.test.x, data.test.x)
    assert (
        td.load("shapes", td.DataSettings(shapes_n=600, split_seed=1)).digest
        != data.digest
    )
    centre = data.train.raw(torch.arange(480)).double()
    column = (centre.sum(1) * torch.arange(64)).sum(1) / centre.sum((1, 2))
    square = data.factors["train"][:, 0] == 0
    torch.testing.assert_close(
        column[square],
        data.factors["train"][square, 3].double() + 16,
        atol=0.05,
        rtol=0,
    )


def test_shapes_are_whole_and_different() -> None:
    sprites = templates()
    edge = sprites[..., [0, -1], :].any() or sprites[..., :, [0, -1]].any()
    assert not edge, "a sprite touches the border of its window, so it would be cut"
    area = sprites.sum((3, 4))
    assert (np.diff(area.mean(2), axis=1) > 0).all() and area.min() > 30
    assert not np.array_equal(sprites[2, 5, 0], sprites[2, 5, 20])


def test_shapes_subset_by_factor_counts() -> None:
    settings = td.DataSettings(
        factors={"shape": 3, "scale": 2, "orientation": 1, "x": 4, "y": 4}
    )
    data = td.load("shapes", settings)
    assert sum(len(s) for s in data.splits.values()) == 96
    every = torch.cat(list((data.factors or {}).values()))
    assert (
        sorted(set(every[:, 1].tolist())) == [0, 5] and len(every.unique(dim=0)) == 96
    )
    with pytest.raises(TightboundError, match="scale has 6"):
        td.load("shapes", td.DataSettings(factors={"scale": 7}))
    with pytest.raises(TightboundError, match="only 96"):
        td.load("shapes", settings.model_copy(update={"shapes_n": 97}))


def test_list_sources() -> None:
    rows = td.list_sources()
    assert [row["name"] for row in rows] == [
        "digits",
        "mnist",
        "fashion-mnist",
        "binarized-mnist",
        "shapes",
    ]
    assert all(
        set(row) >= {"examples", "shape", "domain", "found", "where"} for row in rows
    )


def test_the_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from its file, and by its function where the file is elsewhere."""
    bunch = load_digits()
    images, labels = builtin._digits_arrays()
    read_again = builtin._digits_arrays.__wrapped__
    assert np.array_equal(images, bunch.images)
    assert np.array_equal(labels, bunch.target)
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    by_function, its_labels = read_again()
    assert np.array_equal(by_function, bunch.images)
    assert np.array_equal(its_labels, bunch.target)
