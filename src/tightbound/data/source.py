"""Part and Source: what every reader hands on, before layout, domain and splits are settled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.core.data_spec import Column
from tightbound.runtime.errors import TightboundError


@dataclass
class Part:
    """Rows that belong together: all of a source, or one of its published splits; x is a Tensor, or
    `OnDisk`.

    c: numbers (n, C) that a conditional model is told, where they are not the labels y.
    """

    x: Any
    y: Tensor | None = None
    names: Sequence[str] | None = None
    factors: Tensor | None = None
    c: Tensor | None = None


@dataclass
class Source:
    """A source as it was found: parts under "all", or under "train" with or without "valid" and
    "test".

    layout, domain, levels: what the reader knows better than the automatic rule, else None.
    resolved: settings that the reader settled (size, channels).  digest: sha256 of the content,
    before splitting. table: its named columns, where it has some; fields: what they are, where they
    are of several kinds.  x of a part is None until columns that are no numbers have become codes.
    """

    name: str
    where: str
    parts: dict[str, Part]
    digest: str
    layout: str | None = None
    domain: str | None = None
    levels: int | None = None
    label_names: tuple[str, ...] | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    condition_names: tuple[str, ...] = ()
    resolved: dict[str, object] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    table: Any = None
    fields: tuple[Column, ...] = ()


def sha256_of(*arrays: Tensor | None) -> str:
    """sha256 over dtype, shape and bytes of arrays in memory."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        for start in range(
            0, len(array), step := max(1, (1 << 24) // max(1, array[:1].nbytes))
        ):
            digest.update(array[start : start + step].contiguous().numpy().tobytes())
    return digest.hexdigest()


def sha256_text(*parts: object) -> str:
    """sha256 over the text of some keys."""
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()


def as_tensor(array: object, what: str, notices: list[str]) -> Tensor:
    """A tensor over the array's own memory; a copy, announced, only where torch has no such
    type.
    """
    if isinstance(array, Tensor):
        x = array.detach().cpu()
        return x.float() if x.dtype == torch.bfloat16 else x
    a = np.asanyarray(array)
    if a.dtype.hasobject or a.dtype.kind in "OSUVMm":
        raise TightboundError(
            f"{what} holds {a.dtype} values: only numbers can be read, so "
            "convert it to a numeric array"
        )
    if a.dtype.kind == "c":
        raise TightboundError(
            f"{what} holds complex numbers: stack real and imaginary parts as real columns"
        )
    wanted = a.dtype.newbyteorder("=")
    if wanted.kind == "f" and wanted.itemsize > 8:
        wanted = np.dtype(np.float64)
    elif wanted.kind == "u" and wanted.itemsize > 1:
        wanted = np.dtype(np.int32 if wanted.itemsize == 2 else np.int64)
    if wanted != a.dtype or any(step < 0 for step in a.strides):
        if isinstance(a, np.memmap):
            notices.append(f"{what}: {a.dtype} is copied to memory as {wanted}")
        a = np.ascontiguousarray(a, dtype=wanted)
    if not a.flags.writeable:
        a = a.copy()
    return torch.from_numpy(a)


def as_latents(z: Any) -> Tensor:
    """Latents as a float tensor; TightboundError for what is no number, with the row of one that is
    not finite.
    """
    try:
        z = torch.as_tensor(z, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TightboundError(
            f"a {type(z).__name__} cannot be read as features: give numbers (n, latent)"
        ) from None
    if z.dim() == 2 and not (finite := torch.isfinite(z).all(1)).all():
        raise TightboundError(
            f"z is not finite in row {int((~finite).nonzero()[0])} (counting "
            "from 0): drop such rows"
        )
    return z


def is_gap(value: Any) -> bool:
    """True for what stands for a missing value: None, NaN, pandas' NA, an empty text."""
    return (
        value is None
        or value is np.nan
        or (value != value) is True
        or str(value) in ("", "<NA>", "nan")
    )


def read_labels(
    values: object, n: int, what: str, notices: list[str]
) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Class ids (n,) and their names, from integers, whole floats, booleans or strings; -1 stays
    "unknown".
    """
    if values is None:
        return None, None
    texts = isinstance(values, list | tuple) and any(
        isinstance(v, str) for v in values
    )  # and NaN, no text "nan"
    a = (
        values.detach().cpu().numpy()
        if isinstance(values, Tensor)
        else np.asarray(values, object if texts else None)
    )
    a = np.atleast_1d(a)
    a = a.reshape(-1) if a.ndim == 2 and a.shape[1] == 1 else a
    if a.dtype == object and a.ndim == 1 and any(gone := [is_gap(v) for v in a]):
        unknown: str | int = (
            ""
            if any(
                isinstance(v, str) and not gap for v, gap in zip(a, gone, strict=True)
            )
            else -1
        )
        filled = [unknown if gap else v for v, gap in zip(a, gone, strict=True)]
        a = np.array(filled, dtype=object if unknown == "" else None)
    if len(a) == n and (
        a.ndim > 1
        or (a.dtype == object and not all(isinstance(v, (str, int)) for v in a))
    ):
        notices.append(f"{what}: its labels are not classes and are left aside")
        return None, None
    if a.shape != (n,):
        raise TightboundError(
            f"{what} has {n} examples but labels of shape {a.shape}: one label an example is needed"
        )
    if a.dtype.kind in "USO":
        text = np.array([str(v) for v in a]) if a.dtype.kind == "O" else a
        names, ids = np.unique(text, return_inverse=True)
        empty = int(names[0].strip() == "")  # a label that is not known
        return torch.from_numpy(ids.reshape(-1).astype(np.int64) - empty), tuple(
            str(v) for v in names[empty:]
        )
    if a.dtype.kind == "f":
        a = np.where(np.isnan(a), -1, a)
    if a.dtype.kind == "f" and not (np.isfinite(a).all() and (a == np.round(a)).all()):
        notices.append(f"{what}: its labels are not classes and are left aside")
        return None, None
    ids = a.astype(np.int64)
    if ids.min() >= -1 and ids.max() < 10_000:
        return torch.from_numpy(ids), tuple(str(i) for i in range(int(ids.max()) + 1))
    names, ids = np.unique(ids, return_inverse=True)
    return torch.from_numpy(ids.reshape(-1).astype(np.int64)), tuple(
        str(v) for v in names
    )


def is_numbers(values: object) -> bool:
    """True for several numbers an example, or one that is not whole: no labels, but fit for a
    condition.
    """
    if values is None:
        return False
    a = (
        values.detach().cpu().numpy()
        if isinstance(values, Tensor)
        else np.asarray(values)
    )
    return a.dtype.kind in "iuf" and bool(
        (a.ndim == 2 and a.shape[1] > 1) or (a.dtype.kind == "f" and (a % 1).any())
    )


def read_numbers(values: object, n: int, what: str) -> Tensor:
    """Conditions (n, C) as float32; TightboundError where they are not finite numbers, one row an
    example.
    """
    c = as_tensor(values, f"the condition of {what}", []).float()
    c = c[:, None] if c.dim() == 1 else c
    if c.dim() != 2 or len(c) != n:
        raise TightboundError(
            f"{what} has {n} examples but conditions of shape "
            f"{tuple(c.shape)}: one row each is needed"
        )
    if not (finite := torch.isfinite(c).all(1)).all():
        raise TightboundError(
            f"the condition of {what} is not finite in row "
            f"{int((~finite).nonzero()[0])} (counting from 0): drop such "
            "rows"
        )
    return c


def join_labels(
    parts: dict[str, Part], labels: dict[str, np.ndarray], what: str, notices: list[str]
) -> tuple[str, ...] | None:
    """Gives the parts their labels with ids that mean the same in each, and returns the names."""
    have = [name for name in parts if name in labels]
    if not have:
        return None
    for name in have:
        if len(labels[name]) != len(parts[name].x):
            raise TightboundError(
                f"{what} ({name}) has {len(parts[name].x)} examples and {len(labels[name])} labels"
            )
    sizes = [len(parts[name].x) for name in have]
    ids, names = read_labels(
        np.concatenate([labels[name] for name in have]), sum(sizes), what, notices
    )
    for name, own in zip(
        have, ids.split(sizes) if ids is not None else [], strict=False
    ):
        parts[name].y = own
    return names
