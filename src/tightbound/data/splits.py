"""Which rows train, validate and test: the published split where there is one, otherwise by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.data.part import Part, Source
from tightbound.data.settings import DataSettings
from tightbound.errors import TightboundError

NAMES = ("train", "valid", "test")


@dataclass
class Rows:
    """Some rows of a part; index None means all of them in order."""

    part: Part
    index: Tensor | None

    def __len__(self) -> int:
        return len(self.part.x) if self.index is None else len(self.index)

    def rows(self) -> Tensor:
        """Row numbers in the part."""
        return torch.arange(len(self.part.x)) if self.index is None else self.index


def _permutation(n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).permutation(n).astype(np.int64))


def partition(source: Source, settings: DataSettings, seed: int) -> dict[str, Rows]:
    """{train, valid, test}; what the source does not provide is taken from its training rows, at least one row each."""
    parts = dict(source.parts)
    base = parts.pop("all", None) or parts.pop("train")
    missing = [name for name in ("valid", "test") if name not in parts]
    n = len(base.x)
    if n < len(missing) + 1:
        raise TightboundError(
            f"{source.where} has {n} example{'s' * (n > 1)}: at least {len(missing) + 1} are needed, one each for "
            f"train, {' and '.join(missing)}; add examples, or pass valid= and test= data of your own"
        )
    out: dict[str, Rows] = {name: Rows(part, None) for name, part in parts.items()}
    order = _permutation(n, seed) if missing else None
    if order is not None:
        sizes = {name: max(1, round(n * getattr(settings, name))) for name in missing}
        while sum(sizes.values()) > n - 1:
            largest = max(sizes, key=lambda name: sizes[name])
            sizes[largest] -= 1
        for name in reversed(missing):
            out[name] = Rows(base, order[len(order) - sizes[name] :])
            order = order[: len(order) - sizes[name]]
    train = Rows(base, order)
    if settings.limit is not None and settings.limit < len(train):
        train = _limited(train, settings.limit, seed, source)
    return {"train": train, "valid": out["valid"], "test": out["test"]}


def _limited(train: Rows, limit: int, seed: int, source: Source) -> Rows:
    """The first `limit` training rows; where rows are sorted by label, a draw by seed, which is announced."""
    y = train.part.y
    if train.index is None and y is not None and len(y.unique()) > 1 and bool((y[1:] >= y[:-1]).all()):
        source.notices.append(
            f"training rows are sorted by label: data.limit={limit} takes a random sample by seed {seed}"
        )
        return Rows(train.part, _permutation(len(train), seed)[:limit])
    return Rows(train.part, train.rows()[:limit])
