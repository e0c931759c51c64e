"""The cache of decoded images: keyed by content, repaired where it is damaged."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tightbound.data as td
from tightbound.data import cache as cache_module
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import listening
from tightbound.runtime.reading import expanded

RNG = np.random.RandomState(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture() -> Image.Image:
    return Image.fromarray(RNG.randint(0, 256, (12, 10, 3)).astype(np.uint8))


def fill(root: Path, names: list[str]) -> Path:
    root.mkdir(parents=True)
    for name in names:
        picture().save(root / name)
    return root


def test_cache_is_by_content_and_repairs_itself(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(6)])
    first = td.load(root)
    # the rows of the settings as given, and a link for the resolved ones
    links = [*(cache / "rows").glob("*.npy")]
    rows = links[0]
    assert len(links) == 2 and links[0].samefile(links[1])
    stamp = rows.stat().st_mtime_ns
    shutil.copytree(root, tmp_path / "copy")
    assert (
        td.load(tmp_path / "copy").digest == first.digest
        and rows.stat().st_mtime_ns == stamp
    )
    good, expected = rows.read_bytes(), first.train.raw(torch.arange(4)).clone()
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for damage in (good[:-10], good[:100], b"", bytes(flipped)):
        for link in links:
            link.unlink()
            link.write_bytes(damage)
        assert torch.equal(td.load(root).train.raw(torch.arange(4)), expected)
        assert any(link.read_bytes() == good for link in links)
    for notes in (cache / "rows").glob("*.json"):
        notes.write_text("{")
    assert torch.equal(td.load(root).train.raw(torch.arange(4)), expected)
    about = (root / "0.png").stat()
    replaced = picture()
    replaced.save(root / "0.png")
    os.utime(root / "0.png", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert td.load(root).digest != first.digest
    assert not list((cache / "rows").glob(".*.tmp"))


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "no room on the disk"), (errno.EROFS, "TIGHTBOUND_CACHE")],
)
def test_no_room(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(6)])

    def full(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.os, "fsync", full)
        with pytest.raises(TightboundError, match=says):
            td.load(root)
    assert list((cache / "rows").iterdir()) == []
    assert len(td.load(root).train) == 4


def test_a_home_that_cannot_be_written_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are decoded into a folder of this process, and read again from there."""
    root = fill(tmp_path / "images", [f"{i}.png" for i in range(12)])
    (tmp_path / "file").touch()
    monkeypatch.delenv("TIGHTBOUND_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    lines: list[str] = []
    with listening(lines.append):
        data = td.load(root)
        again = td.load(root)
    assert torch.equal(data.train.x[:], again.train.x[:])  # type: ignore[union-attr]
    private = cache_module.writable_cache()
    assert private != cache_module.cache_dir() and private.is_dir()
    assert len(list((private / "rows").glob("*.npy"))) >= 1
    said = [line for line in lines if "cannot be written (Not a directory)" in line]
    assert len(said) == 1 and str(private) in said[0]


def test_a_cache_that_is_named_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "images", ["0.png"])
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(TightboundError, match="set TIGHTBOUND_CACHE to a folder"):
        td.load(root)


def test_an_unknown_home_is_no_error(tmp_path: Path) -> None:
    assert expanded("~nobody-of-this-name/x.npy") == Path("~nobody-of-this-name/x.npy")
    with pytest.raises(TightboundError, match="does not exist: check the path"):
        td.load("~nobody-of-this-name/x.npy")
