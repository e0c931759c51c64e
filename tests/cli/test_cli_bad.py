"""What bad input gets at the command line: one sentence that says what is wrong and where, status
2, nothing lost.
"""

from __future__ import annotations

import errno
import gzip
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.small import SMALL, small_run

from tightbound import cli
from tightbound.cli import main
from tightbound.runtime import atomic_files as files

Refused = Callable[..., str]
SETS = [
    "--set",
    *(f"{key}={value}" for key, value in SMALL.items()),
    "steps=10",
    "validate_every=5",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "good", "vae", steps=10)


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Runs a command that must be refused in an empty folder; returns its one sentence."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def command(*words: object, status: int = 2) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        last = err.splitlines()[-1]
        assert (
            out == ""
            and "Traceback" not in err
            and last.startswith("tightbound: error: ")
        )
        assert err.count("tightbound: error") == 1 and not list(
            work.rglob("config.toml")
        )
        return last

    return command


def pictures(folder: Path, n: int = 12) -> Path:
    """A folder of small random images."""
    folder.mkdir()
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trian digits", "did you mean 'train'"),
        ("exprot runs/x", "did you mean 'export'"),
        ("export none", "no run folder"),
        ("train digits --seeed 1", "did you mean '--seed'"),
        ("train digits --seed one", "--seed"),
        ("train digits --lang fr", "en"),
        ("train", "needs data"),
        ("train --resume", "--out RUN"),
        ("encode", "needs RUN"),
        ("train digits --budget -5s", "--budget=VALUE"),
        ("train digits --budget=-5s", "write one above 0"),
        ("encode a b", "--out"),
        ("evaluate a b.csv", "does not take 'b.csv'"),
        ("recipes x y", "does not take 'x', 'y'"),
        ("train digits --recipe vea", "did you mean 'vae'"),
        ("train digits --set lattent=3", "did you mean 'latent'"),
        ("train digits --set latent=many", "latent"),
        ("train digits --set likelihood=gausian", "did you mean 'gaussian'"),
        ("train digits --set latent", "key=value"),
        ("train digits --set likelihood=bernoulli", "data.binarize=dynamic"),
        ("train digits --budget soon", "15min"),
        ("train digits --device tpu", "cpu"),
        ("train digts", "digits"),
        ("train nothing/here", "nothing/here"),
        ("train digits --config none.toml", "none.toml"),
        ("train --out none --resume", "none"),
        ("evaluate none", "no run folder"),
        ("show vaee", "did you mean 'vae'"),
        ("compare", "run"),
    ],
)
def test_words_that_mean_nothing(refused: Refused, words: str, says: str) -> None:
    assert says in refused(*words.split())
    assert not any(path.is_file() for path in Path().rglob("*")), (
        "nothing is left behind"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize(
    "words", [["encode", "digits"], ["sample"], ["vary", "digits:0"]]
)
def test_a_device_that_is_not_there(
    refused: Refused, good: Path, words: list[str]
) -> None:
    command, *data = words
    assert "no CUDA device" in refused(
        command, good, *data, "--out", "f.npz", "--device", "cuda"
    )


def test_folders_and_images(
    refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("train", tmp_path / "empty")
    for name, content in (("notes.png", b"not an image"), ("cut.png", None)):
        folder = pictures(tmp_path / name.split(".")[0])
        (folder / name).write_bytes(content or (folder / "3.png").read_bytes()[:90])
        assert name in refused("train", folder)
        assert (
            main(
                [
                    "train",
                    str(folder),
                    "--skip-bad",
                    "--quiet",
                    *SETS,
                    "--out",
                    str(tmp_path / f"r{name}"),
                ]
            )
            == 0
        )
        capsys.readouterr()


def test_decompression_bomb(refused: Refused, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )

    folder = pictures(tmp_path / "pictures")
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    said = refused("train", folder)
    assert (
        "bomb.png cannot be read as an image: it unpacks to more than 89,478,485 pixels"
        in said
    )
    assert "decompression bomb" in said and "DOS" not in said


def test_sources_that_hold_no_examples(refused: Refused, tmp_path: Path) -> None:
    """Each is one sentence: what, where, what to do."""
    assert "names no data: give a built-in set" in refused("train", "")
    np.save(tmp_path / "one.npy", np.float64(3))
    assert "one.npy holds a single number" in refused("train", tmp_path / "one.npy")
    np.save(
        tmp_path / "objects.npy",
        np.array([{"a": 1}, None], dtype=object),
        allow_pickle=True,
    )
    assert (
        "objects.npy holds Python objects (a pickle), which is never loaded"
        in refused("train", tmp_path / "objects.npy")
    )
    locked = tmp_path / "locked.zip"
    with zipfile.ZipFile(locked, "w") as archive:
        for path in sorted(pictures(tmp_path / "p").iterdir()):
            archive.write(path, path.name)
    content = bytearray(locked.read_bytes())
    for mark, at in (
        (b"PK\x03\x04", 6),
        (b"PK\x01\x02", 8),
    ):  # the bit of each file's flags that says: encrypted
        place = content.find(mark)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(mark, place + 4)
    locked.write_bytes(content)
    said = refused("train", locked)
    assert (
        "locked.zip: 0.png is encrypted with a password: unpack it and name the folder"
        in said
    )


def test_a_column_of_lists_is_named(refused: Refused, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"age": [1.0, 2.0, 3.0], "tags": [["x"], ["y"], ["z"]]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert "t.parquet: column 'tags' holds lists beside other columns" in refused(
        "train", tmp_path / "t.parquet"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers(
    refused: Refused, tmp_path: Path, value: float
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[17, 1] = value
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    assert "row 17" in refused("train", tmp_path / "x.npy")
    assert "line 18" in refused("train", tmp_path / "x.csv")


def test_objects_and_truncated_files(refused: Refused, tmp_path: Path) -> None:
    np.save(
        tmp_path / "o.npy", np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True
    )
    assert "never loaded" in refused("train", tmp_path / "o.npy")
    np.savez(tmp_path / "x.npz", x=np.zeros((50, 4)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    assert "cut.npz" in refused("train", tmp_path / "cut.npz")
    idx = struct.pack(">BBBBIII", 0, 0, 8, 3, 50, 4, 4) + bytes(700)
    (tmp_path / "cut.idx").write_bytes(idx)
    (tmp_path / "cut.idx.gz").write_bytes(gzip.compress(idx)[:-12])
    for name in ("cut.idx", "cut.idx.gz"):
        assert name in refused("train", tmp_path / name)


def test_one_example_is_too_few_and_five_are_enough(
    refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 4)))
    assert "at least 3" in refused("train", tmp_path / "one.npy")
    np.save(tmp_path / "five.npy", np.random.default_rng(0).normal(size=(5, 4)))
    assert (
        main(
            [
                "train",
                str(tmp_path / "five.npy"),
                *SETS,
                "--quiet",
                "--out",
                str(tmp_path / "five"),
            ]
        )
        == 0
    )
    capsys.readouterr()


def test_run_folders_that_are_none(
    refused: Refused, good: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert "name a folder that tightbound train wrote" in refused("evaluate", other)
    assert f"did you mean {good}?" in refused("evaluate", good.parent)
    text = (good / "config.toml").read_text()
    for name, content in (
        ("half", text),
        ("newer", text.replace("format_version = 3", "format_version = 99")),
    ):
        folder = other / name
        folder.mkdir()
        (folder / "config.toml").write_text(content)
        assert {"half": "half-written", "newer": "newer"}[name] in refused_by(
            refused, folder
        )


def refused_by(refused: Refused, folder: Path) -> str:
    """The sentence of a command on a run folder, which must be the same for every command."""
    said = {
        refused(*words)
        for words in (
            ("evaluate", folder),
            ("sample", folder, "--out", "x.npz"),
            ("show", folder),
        )
    }
    assert len(said) == 1
    return said.pop()


def test_nothing_is_overwritten(refused: Refused, good: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in good.rglob("*") if path.is_file()}
    assert "--resume" in refused("train", "digits", "--out", good)
    assert "nowhere" in refused("train", "nowhere", "--out", good, "--overwrite")
    assert "recipe" in refused(
        "train", "digits", "--recipe", "ae", "--out", good, "--resume"
    )
    assert "latent" in refused("train", "--set", "latent=5", "--out", good, "--resume")
    assert "begun with digits, not shapes" in refused(
        "train", "shapes", "--out", good, "--resume"
    )
    np.save(tmp_path / "x.npy", np.zeros((9, 8, 8), np.uint8))
    assert "not those" in refused(
        "train", tmp_path / "x.npy", "--out", good, "--resume"
    )
    after = {path: path.read_bytes() for path in good.rglob("*") if path.is_file()}
    assert after == before
    (tmp_path / "kept.npz").write_bytes(b"mine")
    assert "--overwrite" in refused("sample", good, "--out", tmp_path / "kept.npz")
    assert "--overwrite" in refused("sample", good, "--out", good)
    assert (tmp_path / "kept.npz").read_bytes() == b"mine"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    assert "not a run" in refused(
        "train", "digits", "--out", tmp_path / "full", "--overwrite"
    )


def test_uses_that_do_not_fit(refused: Refused, good: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((3, 9, 9), np.uint8))
    np.save(tmp_path / "high.npy", np.full((3, 8, 8), 99, np.uint8))
    np.save(tmp_path / "z.npy", np.zeros((3, 7)))
    (tmp_path / "z.npz").write_bytes(b"PK\3\4 no")
    assert "(9, 9)" in refused("encode", good, tmp_path / "wide.npy", "--out", "z.npz")
    assert "99" in refused("score", good, tmp_path / "high.npy", "--out", "s.csv")
    assert "(n, 4)" in refused("decode", good, tmp_path / "z.npy", "--out", "x.npz")
    assert "z.npz" in refused("decode", good, tmp_path / "z.npz", "--out", "x.npz")
    (tmp_path / "z.pkl").write_bytes(pickle.dumps([1, 2]))
    said = refused("decode", good, tmp_path / "z.pkl", "--out", "x.npz")
    assert "never loaded" in said and "allow_pickle" not in said
    assert "no file" in refused("decode", good, tmp_path / "none.npy", "--out", "x.npz")
    (tmp_path / "z.csv").write_text("z_1,z_2\n1,2\n")
    said = refused("decode", good, tmp_path / "z.csv", "--out", "x.npz")
    assert "has no column 'z_3' of features" in said
    address = "https://example.org/x.csv"
    assert "download it" in refused("encode", good, address, "--out", "z.npz")
    assert "wds:PATTERN" in refused("train", "wds:", "--out", tmp_path / "new")
    assert "hf:NAME" in refused("train", "hf:", "--out", tmp_path / "new")
    assert "rows 0 to 179" in refused("vary", good, "digits:180", "--out", "v.png")
    assert "digits:ROW" in refused("vary", good, "digits", "--out", "v.png")
    assert "F.png" in refused("sample", good, "--out", "s.jpg")
    assert "F.csv" in refused("score", good, "digits", "--out", "s.png")
    assert "0 samples" in refused("sample", good, "-n", 0, "--out", "s.npz")
    assert "split" in refused("evaluate", good, "--split", "tset")
    assert "k = 0" in refused("evaluate", good, "-k", 0)


def test_pictures_of_vectors_are_refused(refused: Refused, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    run = small_run(tmp_path / "vectors", "vae", str(tmp_path / "x.npy"), steps=2)
    assert "F.npz" in refused("sample", run, "--out", "s.png")
    assert "F.npz" in refused("sample", run, "--out", "folder")


def test_no_room_on_the_disk(
    refused: Refused, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(files.Ops):
        def fsync(self, file: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_ops", Full())
    assert "no room on the disk" in refused("sample", good, "-n", 2, "--out", "s.npz")
    assert list(Path().iterdir()) == []
    assert "no room on the disk" in refused(
        "train", "digits", "--out", "r", *SETS, "--quiet"
    )


def test_a_bug_is_one_sentence_and_names_the_way_to_the_traceback(
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tightbound.cli import tables

    def broken(as_json: bool) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(tables, "recipes", broken)
    said = refused("recipes", status=1)
    assert "RuntimeError: two lines" in said and "TIGHTBOUND_DEBUG=1" in said
    monkeypatch.setenv("TIGHTBOUND_DEBUG", "1")
    assert main(["recipes"]) == 1 and "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(
        tables,
        "recipes",
        lambda as_json: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full", "f")),
    )
    monkeypatch.delenv("TIGHTBOUND_DEBUG")
    assert "no room on the disk for f" in refused("recipes")
    assert cli.USAGE == 2
