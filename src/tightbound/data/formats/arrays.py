"""Read files of numbers: .npy, .npz and IDX."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from tightbound.data.formats.idx import read_idx
from tightbound.data.formats.limits import check_npz
from tightbound.data.formats.sparse import is_sparse_file, read_sparse
from tightbound.data.on_disk import OnDisk, map_on_disk, too_large
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    for_digest,
    join_labels,
    read_numbers,
    sha256_of,
    sha256_text,
)
from tightbound.runtime.errors import (
    TightboundError,
    cut,
    listed,
    machine_reason,
    nearest,
    shortened,
)
from tightbound.runtime.foreign_errors import first_line, is_refused_pickle

_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)
_ALL = ("x", "X", "data", "images", "arr_0")
_LABELS = ("y", "Y", "labels", "label", "targets", "target")
_ALIASES = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}
_X_FORMS = ("{}", "x_{}", "X_{}", "{}_x", "{}_images", "{}_data")
_Y_FORMS = ("y_{}", "{}_y", "{}_labels", "labels_{}")


def _bad_array(path: Path, error: Exception) -> TightboundError:
    reason = machine_reason(error)
    if reason is not None:
        return TightboundError(f"cannot read {cut(path)} ({reason})")
    if is_refused_pickle(error):
        return TightboundError(
            f"{path} holds Python objects (a pickle), which is never loaded: "
            "save plain numeric arrays"
        )
    return TightboundError(
        f"{path} is truncated or not a numpy file ({first_line(error)}): save it again"
    )


def load_npy(path: Path, settings: DataSettings) -> RawSource:
    """Memory-map an .npy file, or read it on access where it exceeds `data.memory`.

    The digest is of path, size, modification time and header.
    """
    notices: list[str] = []
    x: Tensor | OnDisk
    try:
        # numpy refuses a size beyond int64 itself, after a warning
        with np.errstate(over="ignore"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if too_large(array.nbytes, settings, str(path), notices):
            x = map_on_disk(array, str(path))
        else:
            mapped = np.load(path, mmap_mode="c", allow_pickle=False)
            x = as_tensor(mapped, str(path), notices)
    except TightboundError:
        raise
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    stat = path.stat()
    key = sha256_text(
        "npy",
        path.resolve(),
        stat.st_size,
        stat.st_mtime_ns,
        array.dtype.str,
        array.shape,
    )
    return RawSource(
        path.stem, str(path), {"all": RawSplit(x)}, key, notices=tuple(notices)
    )


def _first_of(names: Sequence[str], keys: Sequence[str]) -> str | None:
    """The first of some names that is among the keys."""
    return next((name for name in names if name in keys), None)


def load_npz(path: Path, settings: DataSettings) -> RawSource:
    """Read an .npz file: x and y, or train, valid and test.

    Examples may be called x, X, data or images, labels y or labels; splits train,
    x_train, train_images and the like.
    """
    try:
        # numpy leaves the file of a damaged archive open, so it is opened here
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            keys = list(file.files)
            if is_sparse_file(keys) and settings.key is None:
                check_npz(path, file.zip, keys, settings)
                return _sparse_source(path, read_sparse(file, path, settings))
            wanted = array_keys(path, keys, settings.key)
            used = [key for pair in wanted.values() for key in pair if key is not None]
            check_npz(path, file.zip, used, settings)
            arrays = {key: file[key] for key in dict.fromkeys(used)}
            condition = _condition_of(path, file, keys, settings)
    except TightboundError:
        raise
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    return _array_source(path, wanted, arrays, condition)


def _array_source(
    path: Path,
    wanted: Mapping[str, tuple[str, str | None]],
    arrays: Mapping[str, np.ndarray],
    condition: np.ndarray | None,
) -> RawSource:
    """The source over arrays of a file.

    Args:
        path: the file.
        wanted: the keys of examples and labels of each split.
        arrays: the arrays by their keys.
        condition: the conditions of the only split, if there are any.
    """
    notices: list[str] = []
    labels = {name: arrays[y] for name, (_, y) in wanted.items() if y is not None}
    splits = {
        name: RawSplit(as_tensor(arrays[x], f"{path} ({x})", notices))
        for name, (x, _) in wanted.items()
    }
    if condition is not None and "all" in splits:
        c = read_numbers(condition, len(splits["all"].x), str(path))
        splits["all"] = replace(splits["all"], c=c)
    labelled, label_names = join_labels(splits, labels, str(path), notices)
    return RawSource(
        path.stem,
        str(path),
        labelled,
        _digest_of(labelled),
        label_names=label_names,
        notices=tuple(notices),
    )


def _sparse_source(path: Path, matrix: np.ndarray) -> RawSource:
    """The source over a file of scipy's `save_npz`, made dense."""
    x = as_tensor(matrix, str(path), [])
    return RawSource(
        path.stem,
        str(path),
        {"all": RawSplit(x)},
        sha256_of(x),
        notices=(f"{path} is a sparse matrix, which is made dense",),
    )


def _digest_of(splits: dict[str, RawSplit]) -> str:
    """sha256 over the examples, labels and conditions of splits in memory."""
    arrays: list[Tensor | None] = []
    for split in splits.values():
        arrays += [split.x, split.y]
        if split.c is not None:
            arrays.append(for_digest(split.c))
    return sha256_of(*arrays)


def _condition_of(
    path: Path, file: Mapping[str, np.ndarray], keys: list[str], settings: DataSettings
) -> np.ndarray | None:
    """The array that `data.condition` names."""
    name = settings.condition
    if name is None or name == "labels":
        return None
    if name not in keys:
        raise TightboundError(
            f"{path} has no array {shortened(name)} for data.condition: {nearest(str(name), keys)}"
        )
    return file[str(name)]


def array_keys(
    path: Path, keys: list[str], chosen: str | None = None
) -> dict[str, tuple[str, str | None]]:
    """The keys of examples and labels in a file of named arrays.

    Args:
        path: the file.
        keys: the names of its arrays.
        chosen: the key of the examples that the user named.

    Returns:
        {split: (key of x, key of y or None)}.
    """
    labels = _first_of(_LABELS, keys)
    if chosen is not None:
        if chosen not in keys:
            raise TightboundError(
                f"{path} has no array {shortened(chosen)} for data.key: {nearest(chosen, keys)}"
            )
        return {"all": (chosen, labels)}
    splits: dict[str, tuple[str, str | None]] = {}
    for split, aliases in _ALIASES.items():
        x = _first_of(_named_by(_X_FORMS, aliases), keys)
        if x is not None:
            splits[split] = (x, _first_of(_named_by(_Y_FORMS, aliases), keys))
    if "train" in splits:
        return splits
    x = _first_of(_ALL, keys) or (keys[0] if len(keys) == 1 else None)
    if x is None:
        raise TightboundError(
            f"{path} has arrays {listed(sorted(keys)) or 'none'}: name the examples "
            "'x' (and labels 'y'), or 'train', 'valid' and 'test', or name one with "
            "data.key"
        )
    return {"all": (x, labels)}


def _named_by(forms: Sequence[str], aliases: Sequence[str]) -> list[str]:
    """The names that a split's array may have, first choice first."""
    return [form.format(alias) for alias in aliases for form in forms]


def load_idx(path: Path, settings: DataSettings) -> RawSource:
    """Read an IDX file, plain or gzipped."""
    notices: list[str] = []
    x = as_tensor(read_idx(path, settings), str(path), notices)
    return RawSource(
        path.name.split(".")[0],
        str(path),
        {"all": RawSplit(x)},
        sha256_of(x),
        notices=tuple(notices),
    )
