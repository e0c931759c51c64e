"""The built-in sets: digits, mnist, fashion-mnist, binarized-mnist and shapes, with their published
splits.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tightbound.data.formats.download import locate, obtain
from tightbound.data.formats.idx import read_idx
from tightbound.data.formats.sprites import load_shapes
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, sha256_of
from tightbound.runtime.errors import TightboundError

_DIGITS = tuple(str(i) for i in range(10))
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SIZES = (50_000, 10_000, 10_000)
_STATIC = "binarized_mnist/binarized_mnist.npz"
_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Builtin:
    """A built-in set: how it is read, what it is (for the listing), and the files it needs."""

    read: Callable[[DataSettings], Source]
    about: str
    n: tuple[int, int, int]
    shape: tuple[int, ...]
    domain: str
    files: tuple[str, ...] = ()
    downloads: bool = False


def _digits(settings: DataSettings) -> Source:
    """1,797 handwritten digits, 8 x 8 with 17 grey levels (0 to 16), from scikit-learn's
    own files.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = (
        torch.from_numpy(bunch.images.astype(np.uint8)),
        torch.from_numpy(bunch.target.astype(np.int64)),
    )
    return Source(
        "digits",
        "digits",
        {"all": Part(x, y)},
        sha256_of(x, y),
        "hw",
        "levels",
        17,
        _DIGITS,
    )


def _idx_set(name: str, folder: str, label_names: tuple[str, ...]) -> Source:
    """60,000 + 10,000 images, 28 x 28 bytes: the first 50,000 train, the last 10,000 of the first
    file validate.
    """
    new = any(locate(f"{folder}/{file}") is None for file in _IDX_FILES)
    files = [obtain(f"{folder}/{file}") for file in _IDX_FILES]
    notices = [f"{name} was downloaded to {files[0].parent}"] if new else []
    x, y, x_test, y_test = (torch.from_numpy(read_idx(path)) for path in files)
    for path, images, labels in ((files[0], x, y), (files[2], x_test, y_test)):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise TightboundError(
                f"{path} holds an array of shape {tuple(images.shape)}: it is not a file of {name}"
            )
    y, y_test, cut = y.long(), y_test.long(), len(x) - 10_000
    parts = {
        "train": Part(x[:cut], y[:cut]),
        "valid": Part(x[cut:], y[cut:]),
        "test": Part(x_test, y_test),
    }
    return Source(
        name,
        name,
        parts,
        sha256_of(x, y, x_test, y_test),
        "hw",
        "levels",
        256,
        label_names,
        notices=notices,
    )


def _binarized_mnist(settings: DataSettings) -> Source:
    """The static binarisation of Larochelle and Murray (2011), 50,000 + 10,000 + 10,000, packed
    bits.
    """
    path = locate(_STATIC)
    if path is None:
        from tightbound.data.formats.download import places

        where = " or as ".join(str(place) for place in places(_STATIC))
        raise TightboundError(
            "binarized-mnist is not downloaded: put binarized_mnist.npz "
            "(train, valid, test as packed bits) as "
            f"{where}"
            + (
                ""
                if len(places(_STATIC)) > 1
                else ", or in the folder that TIGHTBOUND_DATA names"
            )
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            bits = {
                name: np.unpackbits(file[name], axis=1)[:, :784]
                for name in ("train", "valid", "test")
            }
    except (
        KeyError,
        ValueError,
        EOFError,
        OSError,
        TypeError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise TightboundError(
            f"{path} is truncated or not the packed npz of binarized-mnist: {error}"
        ) from None
    parts = {
        name: Part(torch.from_numpy(rows.reshape(-1, 28, 28)))
        for name, rows in bits.items()
    }
    digest = sha256_of(*(part.x for part in parts.values()))
    return Source(
        "binarized-mnist", "binarized-mnist", parts, digest, "hw", "binary", 2
    )


BUILTIN: dict[str, Builtin] = {
    "digits": Builtin(
        _digits,
        "handwritten digits, inside scikit-learn",
        (1437, 180, 180),
        (1, 8, 8),
        "levels (17)",
    ),
    "mnist": Builtin(
        lambda settings: _idx_set("mnist", "mnist", _DIGITS),
        "handwritten digits",
        _SIZES,
        (1, 28, 28),
        "levels (256)",
        tuple(f"mnist/{file}" for file in _IDX_FILES),
        True,
    ),
    "fashion-mnist": Builtin(
        lambda settings: _idx_set("fashion-mnist", "fashion_mnist", _CLOTHES),
        "articles of clothing",
        _SIZES,
        (1, 28, 28),
        "levels (256)",
        tuple(f"fashion_mnist/{file}" for file in _IDX_FILES),
        True,
    ),
    "binarized-mnist": Builtin(
        _binarized_mnist,
        "MNIST, static binarisation",
        _SIZES,
        (1, 28, 28),
        "binary",
        (_STATIC,),
    ),
    "shapes": Builtin(
        load_shapes,
        "sprites from five known factors",
        (8_000, 1_000, 1_000),
        (1, 64, 64),
        "binary",
    ),
}


def found_at(name: str) -> tuple[bool, str]:
    """Whether the files of a built-in set are here, and where, or what happens instead."""
    entry = BUILTIN[name]
    if not entry.files:
        return True, "scikit-learn" if name == "digits" else "rendered when first used"
    paths: list[Path | None] = [locate(file) for file in entry.files]
    if all(paths):
        return True, str(paths[0].parent) if paths[0] else ""
    return (
        False,
        "downloaded when first used"
        if entry.downloads
        else "not found: put it in $TIGHTBOUND_DATA/binarized_mnist",
    )
