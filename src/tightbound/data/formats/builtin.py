"""The built-in data sets and their published splits."""

from __future__ import annotations

import importlib.util
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tightbound.data.formats.download import locate, obtain, places
from tightbound.data.formats.idx import read_idx
from tightbound.data.formats.sprites import load_shapes
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, sha256_of
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
    """A built-in data set.

    Attributes:
        read: reads it.
        about: its description in the listing.
        n: examples in train, valid and test.
        shape: shape of one example.
        domain: domain of its values, as the listing shows it.
        files: the files it needs, below the data folder.
        downloads: whether missing files are downloaded.
    """

    read: Callable[[DataSettings], RawSource]
    about: str
    n: tuple[int, int, int]
    shape: tuple[int, ...]
    domain: str
    files: tuple[str, ...] = ()
    downloads: bool = False


@cache
def _digits_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) and labels of the digits in scikit-learn, not to be changed.

    Its file is read where it is known to be: importing `sklearn.datasets` with scipy and pandas
    takes longer than all else before the first step of a training.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


def _digits(settings: DataSettings) -> RawSource:
    """1,797 handwritten digits of scikit-learn, 8 x 8 with 17 grey levels (0 to 16)."""
    images, labels = _digits_arrays()
    x = torch.from_numpy(images.astype(np.uint8))
    y = torch.from_numpy(labels.astype(np.int64))
    return RawSource(
        "digits",
        "digits",
        {"all": RawSplit(x, y)},
        sha256_of(x, y),
        layout="hw",
        domain="levels",
        levels=17,
        label_names=_DIGITS,
    )


def _idx_set(name: str, folder: str, label_names: tuple[str, ...]) -> RawSource:
    """60,000 + 10,000 images of 28 x 28 bytes.

    The last 10,000 of the first file are the validation split.
    """
    downloads = any(locate(f"{folder}/{file}") is None for file in _IDX_FILES)
    files = [obtain(f"{folder}/{file}") for file in _IDX_FILES]
    notices = (f"{name} was downloaded to {files[0].parent}",) if downloads else ()
    x, y, x_test, y_test = (torch.from_numpy(read_idx(path)) for path in files)
    for path, images, labels in ((files[0], x, y), (files[2], x_test, y_test)):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise TightboundError(
                f"{path} holds an array of shape {tuple(images.shape)}: it is not a file of {name}"
            )
    y = y.long()
    y_test = y_test.long()
    cut = len(x) - 10_000
    splits = {
        "train": RawSplit(x[:cut], y[:cut]),
        "valid": RawSplit(x[cut:], y[cut:]),
        "test": RawSplit(x_test, y_test),
    }
    return RawSource(
        name,
        name,
        splits,
        sha256_of(x, y, x_test, y_test),
        layout="hw",
        domain="levels",
        levels=256,
        label_names=label_names,
        notices=notices,
    )


def _binarized_mnist(settings: DataSettings) -> RawSource:
    """The static binarisation of Larochelle and Murray (2011), read from packed bits."""
    path = locate(_STATIC)
    if path is None:
        paths = [str(place) for place in places(_STATIC)]
        hint = ", or in the folder that TIGHTBOUND_DATA names"
        raise TightboundError(
            "binarized-mnist is not downloaded: put binarized_mnist.npz (train, valid, "
            f"test as packed bits) as {' or as '.join(paths)}"
            f"{hint if len(paths) == 1 else ''}"
        )
    try:
        # numpy leaves the file of a damaged archive open, so it is opened here
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
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
    splits = {
        name: RawSplit(torch.from_numpy(rows.reshape(-1, 28, 28)))
        for name, rows in bits.items()
    }
    return RawSource(
        "binarized-mnist",
        "binarized-mnist",
        splits,
        sha256_of(*(split.x for split in splits.values())),
        layout="hw",
        domain="binary",
        levels=2,
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
    """Whether the files of a built-in set are present, and where, or how to get them."""
    entry = BUILTIN[name]
    if not entry.files:
        return True, "scikit-learn" if name == "digits" else "rendered when first used"
    paths = [locate(file) for file in entry.files]
    if paths[0] is not None and all(paths):
        return True, str(paths[0].parent)
    if entry.downloads:
        return False, "downloaded when first used"
    return False, "not found: put it in $TIGHTBOUND_DATA/binarized_mnist"
