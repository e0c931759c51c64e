"""Raw data as readers return them, before layout, domain and splits are settled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from tightbound.core.data_spec import Column, are_far
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class RawSplit:
    """Raw examples of one split, with their labels, names, factors and conditions.

    Attributes:
        x: examples (n, ...), a Tensor or an `OnDisk`; None for a table with columns
            of text until they are encoded.
        y: class ids (n,), -1 where a label is unknown.
        names: the name of each example, as its file name.
        factors: indices of the ground-truth factors (n, F).
        c: conditions, where a model is not conditioned on y: numbers (n, C), or the ids
            (n,) of the classes of a column.
    """

    x: Any
    y: Tensor | None = None
    names: Sequence[str] | None = None
    factors: Tensor | None = None
    c: Tensor | None = None


@dataclass(frozen=True)
class RawSource:
    """A data set as its reader returns it; each later stage returns a changed copy.

    Attributes:
        name: short name of the data set.
        where: its name in messages.
        splits: under "all", or under "train" with or without "valid" and "test".
        digest: sha256 of the content, before it is split.
        layout: the layout, where the file format fixes it.
        domain: the domain, where the file format fixes it.
        levels: the number of levels, where the file format fixes it.
        label_names: the names of the classes.
        factor_names: the names of the ground-truth factors.
        factor_sizes: the number of values of each factor.
        condition_names: the names of the conditioning numbers, or of the classes of a
            conditioning column.
        resolved: settings that the reader resolved, as size and channels of images.
        notices: messages for the user, one line each.
        table: the named columns of a table.
        fields: the kind of each column, for a table with columns of several kinds.
        column_types: the numpy type of each column of numbers that stay on the disk.
    """

    name: str
    where: str
    splits: Mapping[str, RawSplit]
    digest: str
    layout: str | None = None
    domain: str | None = None
    levels: int | None = None
    label_names: tuple[str, ...] | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    condition_names: tuple[str, ...] = ()
    resolved: Mapping[str, object] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    table: Any = None
    fields: tuple[Column, ...] = ()
    column_types: Mapping[str, str] = field(default_factory=dict)

    def with_split(self, name: str, split: RawSplit) -> RawSource:
        """A copy with this split added or replaced."""
        return replace(self, splits={**self.splits, name: split})

    def with_images(self, resolved: Mapping[str, object]) -> RawSource:
        """A copy for levels of images (n, C, H, W); unchanged without resolved settings.

        Args:
            resolved: the size, channels, bits and white level that the images have.
        """
        if not resolved:
            return self
        levels = 256
        if resolved.get("bits") == 16:
            levels = 1 + int(str(resolved["white_level"]))
        return replace(self, layout="chw", levels=levels, resolved=dict(resolved))

    def with_notices(self, *notices: str) -> RawSource:
        """A copy with these notices added."""
        return replace(self, notices=(*self.notices, *notices))


def sha256_of(*arrays: Tensor | None) -> str:
    """sha256 over dtype, shape and bytes of arrays in memory."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        step = max(1, (1 << 24) // max(1, array[:1].nbytes))
        for start in range(0, len(array), step):
            digest.update(array[start : start + step].contiguous().numpy().tobytes())
    return digest.hexdigest()


def sha256_text(*keys: object) -> str:
    """sha256 over the text of some keys, one a line."""
    return hashlib.sha256("\n".join(str(key) for key in keys).encode()).hexdigest()


def as_tensor(array: object, what: str, notices: list[str]) -> Tensor:
    """A tensor that shares the array's memory where torch has its dtype, else a copy.

    A copy of a memory map is reported in `notices`. Masked values become NaN.

    Raises:
        TightboundError: for an array of complex numbers or of objects, and for a sparse
            matrix.
    """
    if is_sparse(array):
        raise TightboundError(
            f"{what} is sparse, which is read only as a whole: pass the matrix itself, or "
            "make it dense"
        )
    if isinstance(array, np.ma.MaskedArray):
        array = unmasked(array)
    if isinstance(array, Tensor):
        return _plain_tensor(array, what)
    a = np.asanyarray(array)
    _check_type(a.dtype, what)
    dtype = _torch_dtype(a.dtype)
    if dtype != a.dtype or any(step < 0 for step in a.strides):
        if isinstance(a, np.memmap):
            notices.append(f"{what}: {a.dtype} is copied to memory as {dtype}")
        a = np.ascontiguousarray(a, dtype=dtype)
    if not a.flags.writeable:
        a = a.copy()
    return torch.from_numpy(a)


_COMPLEX = "{} holds complex numbers: stack real and imaginary parts as real columns"
# dtypes of tensors that torch hardly computes with, and those that hold their values
_WIDER = {
    torch.bfloat16: torch.float32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def _plain_tensor(x: Tensor, what: str) -> Tensor:
    """A tensor on the CPU without gradients, in a dtype that torch computes with.

    Raises:
        TightboundError: for complex numbers, rows of different shapes, and a tensor
            without values.
    """
    if x.is_nested:
        raise TightboundError(
            f"{what} has entries of different shapes: stack examples of one shape"
        )
    if x.is_complex():
        raise TightboundError(_COMPLEX.format(what))
    if x.is_meta:
        raise TightboundError(
            f"{what} has no values, as a tensor on the device meta: pass one with values"
        )
    x = x.detach().cpu()
    if x.is_quantized:
        return x.dequantize()
    if x.dtype == torch.uint64 and len(x) and bool((x.view(torch.int64) < 0).any()):
        raise TightboundError(
            f"{what} holds whole numbers from 2**63 up: pass them as float64"
        )
    return x.to(_WIDER.get(x.dtype, x.dtype))


def _check_type(dtype: np.dtype, what: str) -> None:
    """Refuse complex numbers, and types of values that are no numbers."""
    if dtype.hasobject or dtype.kind in "OSTUVMm":
        raise TightboundError(
            f"{what} holds {dtype} values: only numbers can be read, so "
            "convert it to a numeric array"
        )
    if dtype.kind == "c":
        raise TightboundError(_COMPLEX.format(what))


class SparseMatrix(Protocol):
    """A sparse matrix or array of scipy."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def toarray(self) -> np.ndarray:
        """The dense array."""
        ...


def is_sparse(x: object) -> TypeGuard[SparseMatrix | Tensor]:
    """True for a sparse matrix or array of scipy, and a sparse tensor of torch."""
    if isinstance(x, Tensor):
        return x.layout != torch.strided
    return type(x).__module__.startswith("scipy.sparse")


def unmasked(array: np.ma.MaskedArray) -> np.ndarray:
    """A masked array of numbers as a plain one, NaN where it is masked.

    Other values stay as they are: integers become float64 only where one is masked.
    """
    if not np.ma.is_masked(array):
        return np.asarray(array.data)
    if array.dtype.kind == "f":
        return array.filled(np.nan)
    if array.dtype.kind in "iub":
        return np.where(np.ma.getmaskarray(array), np.nan, array.data)
    objects = np.asarray(array.data).astype(object)
    objects[np.ma.getmaskarray(array)] = None
    return objects


def _torch_dtype(dtype: np.dtype) -> np.dtype:
    """The numpy dtype nearest to this one that torch also has."""
    native = dtype.newbyteorder("=")
    if native.kind == "f" and native.itemsize > 8:
        return np.dtype(np.float64)
    if native.kind == "u" and native.itemsize > 1:
        return np.dtype(np.int32 if native.itemsize == 2 else np.int64)
    return native


def as_latents(z: object) -> Tensor:
    """Latents (n, latent) as a float tensor.

    Raises:
        TightboundError: where z is not numeric, or a row is not finite.
    """
    if isinstance(z, np.ma.MaskedArray):
        z = unmasked(z)
    if isinstance(z, np.ndarray) and not z.flags.writeable:
        z = z.copy()  # torch warns of memory that it must not write to
    try:
        rows = torch.as_tensor(z, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TightboundError(
            f"a {type(z).__name__} cannot be read as features: give numbers (n, latent)"
        ) from None
    if rows.dim() == 2 and not (finite := torch.isfinite(rows).all(1)).all():
        raise TightboundError(
            f"z is not finite in row {int((~finite).nonzero()[0])} (counting "
            "from 0): drop such rows"
        )
    return rows


MOST_LABEL = 10_000  # characters

# texts in files, in small letters, that stand for a missing value
_GAP_TEXTS = ("", "na", "n/a", "nan", "null", "none", "?", "#n/a", "<na>", "nat")


_LONGEST_GAP = max(len(text) for text in _GAP_TEXTS)


def is_gap_text(text: str) -> bool:
    """True for a text of a file that stands for a missing value, as NA or ?."""
    word = text.strip()
    return len(word) <= _LONGEST_GAP and word.lower() in _GAP_TEXTS


def is_gap(value: object) -> bool:
    """True for a missing value: None, NaN, pandas' NA or an empty text."""
    return (
        value is None
        or value is np.nan
        or (value != value) is True
        or str(value) in ("", "<NA>", "nan")
    )


def _as_array(values: object, dtype: type | None = None) -> np.ndarray:
    """Labels or conditions as a numpy array, missing where they are masked."""
    if is_sparse(values):
        raise TightboundError(
            "labels or conditions are sparse: pass them as a dense array"
        )
    if isinstance(values, np.ma.MaskedArray):
        return unmasked(values)
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values, dtype)


def read_labels(
    values: object, n: int, what: str, notices: list[str]
) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Class ids (n,) and class names, from integers, whole floats, booleans or texts.

    Missing labels get the id -1. Labels that are not classes (bounding boxes, real
    numbers) are dropped with a notice.

    Raises:
        TightboundError: where there is not one label for each of the n examples.
    """
    if values is None:
        return None, None
    a = _filled(_label_array(values))
    if len(a) == n and not _may_be_classes(a):
        notices.append(f"{what}: its labels are not classes and are not used")
        return None, None
    if a.dtype.kind == "M":
        a = a.astype(str)
    if a.shape != (n,):
        raise TightboundError(
            f"{what} has {n} examples but labels of shape {a.shape}: one label an example is needed"
        )
    if a.dtype.kind in "USO":
        _refuse_long(a, what)
        return _ids_of_texts(a)
    if a.dtype.kind == "f":
        a = np.where(np.isnan(a), -1, a)
        is_whole = np.isfinite(a) & (a == np.round(a)) & (np.abs(a) < 2**53)
        if not is_whole.all():
            notices.append(f"{what}: its labels are not classes and are not used")
            return None, None
    if a.dtype.kind != "b":
        notices += _unknown_notice(a, what)
    return _ids_of_integers(a.astype(np.int64))


def _unknown_notice(a: np.ndarray, what: str) -> list[str]:
    """The message on labels of -1, where they may be a class: all others are 1."""
    if set(np.unique(a).tolist()) != {-1, 1}:
        return []
    return [
        f"{what}: {int((a == -1).sum())} of {len(a)} labels are -1, which is read as "
        "unknown: number the classes from 0 if it is one"
    ]


def _label_array(values: object) -> np.ndarray:
    """Labels as an array (n,) or (n, ...); texts stay objects, so that None is kept."""
    has_text = isinstance(values, list | tuple) and any(
        isinstance(value, str) for value in values
    )
    a = np.atleast_1d(_as_array(values, object if has_text else None))
    if a.ndim == 2 and a.shape[1] == 1:
        return a.reshape(-1)
    return a


def _filled(a: np.ndarray) -> np.ndarray:
    """Missing values of an array of objects as "" among texts, else as -1."""
    if a.dtype != object or a.ndim != 1:
        return a
    missing = [is_gap(value) for value in a]
    if not any(missing):
        return a
    filled = a.copy()
    if any(isinstance(value, str) for value in a[~np.array(missing)]):
        filled[missing] = ""
        return filled
    filled[missing] = -1
    return np.array(filled.tolist())


def _may_be_classes(a: np.ndarray) -> bool:
    if a.dtype == object:
        return a.ndim == 1 and all(isinstance(value, str | int | bytes) for value in a)
    return a.ndim == 1 and a.dtype.kind in "biufUSM"


def _refuse_long(a: np.ndarray, what: str) -> None:
    """Refuse texts that are too long to be the names of classes."""
    longest = max((len(_text(value)) for value in a.tolist()), default=0)
    if longest > MOST_LABEL:
        raise TightboundError(
            f"{what} has a label of {longest:,} characters, which is no name of a class: "
            "name another column or array with data.label, or set data.label=none"
        )


def _ids_of_texts(a: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
    """Ids in alphabetical order; -1 for an empty text."""
    texts = [_text(value) for value in a.tolist()]
    names = sorted(set(texts))
    empty = int(names[0].strip() == "")
    ids = {name: i - empty for i, name in enumerate(names)}
    y = torch.tensor([ids[text] for text in texts], dtype=torch.int64)
    return y, tuple(names[empty:])


def _text(value: object) -> str:
    """A label as a text; bytes are text in UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _ids_of_integers(a: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
    """Integers from -1 up to 9,999 as they are; others numbered in their order."""
    if a.min() >= -1 and a.max() < 10_000:
        return torch.from_numpy(a), tuple(str(i) for i in range(int(a.max()) + 1))
    names, ids = np.unique(a, return_inverse=True)
    y = torch.from_numpy(ids.reshape(-1).astype(np.int64))
    return y, tuple(str(name) for name in names)


def is_numbers(values: object) -> bool:
    """True for conditions: several numbers per example, or reals that are not whole."""
    if values is None:
        return False
    a = _as_array(values)
    if a.dtype.kind not in "iuf":
        return False
    several = a.ndim == 2 and a.shape[1] > 1
    return several or bool(a.dtype.kind == "f" and (np.nan_to_num(a) % 1).any())


def read_numbers(values: object, n: int, what: str) -> Tensor:
    """Conditions (n, C) as float64.

    Raises:
        TightboundError: where they are not one row of finite numbers per example.
    """
    c = as_tensor(values, f"the condition of {what}", []).double()
    c = c[:, None] if c.dim() == 1 else c
    if c.dim() != 2 or len(c) != n:
        raise TightboundError(
            f"{what} has {n} examples but conditions of shape "
            f"{tuple(c.shape)}: one row each is needed"
        )
    if not (finite := torch.isfinite(c.float()).all(1)).all():
        raise TightboundError(
            f"the condition of {what} is not finite in row "
            f"{int((~finite).nonzero()[0])} (counting from 0): drop such rows"
        )
    return c


def for_digest(c: Tensor) -> Tensor:
    """Conditions as their sha256 takes them: float32 where that keeps their digits."""
    if not c.is_floating_point():
        return c
    std, mean = torch.std_mean(c, 0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    if are_far(mean.tolist(), std.tolist()):
        return c
    return c.float()


def join_labels(
    splits: Mapping[str, RawSplit],
    labels: Mapping[str, np.ndarray],
    what: str,
    notices: list[str],
) -> tuple[dict[str, RawSplit], tuple[str, ...] | None]:
    """The splits with class ids that mean the same in each, and the class names."""
    labelled = [name for name in splits if name in labels]
    if not labelled:
        return dict(splits), None
    sizes = [len(splits[name].x) for name in labelled]
    for name, size in zip(labelled, sizes, strict=True):
        if len(labels[name]) != size:
            raise TightboundError(
                f"{what} ({name}) has {size} examples and {len(labels[name])} labels"
            )
    values = np.concatenate([labels[name] for name in labelled])
    ids, names = read_labels(values, sum(sizes), what, notices)
    if ids is None:
        return dict(splits), names
    changed = {
        name: replace(splits[name], y=y)
        for name, y in zip(labelled, ids.split(sizes), strict=True)
    }
    return {**splits, **changed}, names
