"""Small shards of images, as webdataset writes them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(value: int, side: int = 6) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(file, "png")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shard(path: Path, examples: list[dict[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for i, example in enumerate(examples):
            for kind, content in example.items():
                info = tarfile.TarInfo(f"{path.stem}-{i:03d}.{kind}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def pictures(folder: Path, shards: int, each: int) -> str:
    """Grey images whose value is their number, labelled by its remainder."""
    pytest.importorskip("webdataset")
    for s in range(shards):
        values = range(s * each, (s + 1) * each)
        shard(
            folder / f"s-{s:02d}.tar",
            [{"png": png(v), "cls": str(v % 3).encode()} for v in values],
        )
    return f"wds:{folder}/s-{{00..{shards - 1:02d}}}.tar"
