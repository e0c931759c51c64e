"""Which rows train, validate and test: the published split where there is one, otherwise by
seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.data.on_disk import OnDisk, Without, scattered
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source
from tightbound.runtime.errors import TightboundError

NAMES = ("train", "valid", "test")
MOST_HELD_OUT = 50_000


@dataclass
class Rows:
    """Some rows of a part; index None means all of them in order."""

    part: Part
    index: Tensor | Without | None

    def __len__(self) -> int:
        return len(self.part.x) if self.index is None else len(self.index)

    def some(self, k: int, seed: int) -> Tensor:
        """At most k row numbers in the part to take statistics on: the first in order, or scattered
        over a disk.
        """
        k = min(k, len(self))
        if isinstance(self.part.x, OnDisk):
            at = (
                scattered(len(self), self.part.x.piece, min(k, self.part.x.few), seed)
                .sort()
                .values
            )
            return at if self.index is None else self.index[at]
        return torch.arange(k) if self.index is None else self.index[torch.arange(k)]


def _permutation(n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).permutation(n).astype(np.int64))


def sizes_of(
    x: Tensor | OnDisk, names: list[str], settings: DataSettings, source: Source
) -> list[int]:
    """How many rows each of these splits gets: a share of them, though not too many, or as many as
    are asked for.
    """
    n, most, sizes = len(x), x.few if isinstance(x, OnDisk) else MOST_HELD_OUT, []
    what = source.where
    for name in names:
        wanted = getattr(settings, name)
        size = max(1, round(n * wanted)) if wanted < 1 else int(wanted)
        if wanted < 1 and size > most:
            source.resolved[name] = most
            source.notices.append(
                f"{what}: the {name} split has {most:,} of {n:,} rows "
                f"(data.{name} as a whole number for more)"
            )
        sizes.append(min(size, most) if wanted < 1 else size)
    while sum(sizes) > n - 1 and all(getattr(settings, name) < 1 for name in names):
        sizes[sizes.index(max(sizes))] -= 1
    if sum(sizes) > n - 1:
        raise TightboundError(
            f"{what} has {n} rows, and "
            f"{' and '.join(f'data.{k}' for k in names)} leave none to train on"
        )
    return sizes


def partition(source: Source, settings: DataSettings, seed: int) -> dict[str, Rows]:
    """{train, valid, test}; what the source does not provide is taken from its training rows, at
    least one row each.
    """
    parts = dict(source.parts)
    base = parts.pop("all", None) or parts.pop("train")
    missing = [name for name in ("valid", "test") if name not in parts]
    n = len(base.x)
    if n < len(missing) + 1:
        raise TightboundError(
            f"{source.where} has {n} example{'s' * (n > 1)}: at least "
            f"{len(missing) + 1} are needed, one each for "
            f"train, {' and '.join(missing)}; add examples, or pass valid= and "
            "test= data of your own"
        )
    out: dict[str, Rows] = {
        name: Rows(_near(part, name, source, seed), None)
        for name, part in parts.items()
    }
    order: Tensor | Without | None = None
    if missing:
        sizes = sizes_of(base.x, missing, settings, source)
        if isinstance(base.x, OnDisk):
            taken = scattered(n, base.x.piece, sum(sizes), seed)
            for name, rows in zip(missing, taken.split(sizes), strict=True):
                out[name] = Rows(_pick(base, rows), None)
            order = Without(n, taken.sort().values, settings.limit)
        else:
            order = _permutation(n, seed)
            order, *held_out = order.split([n - sum(sizes), *sizes])
            out |= {
                name: Rows(base, rows)
                for name, rows in zip(missing, held_out, strict=True)
            }
    train = Rows(base, order)
    if settings.limit is not None and settings.limit < len(train):
        train = _limited(train, settings.limit, seed, source)
    return {"train": train, "valid": out["valid"], "test": out["test"]}


def _near(part: Part, name: str, source: Source, seed: int) -> Part:
    """A published validation or test split in memory; scattered rows of one that is large."""
    if not isinstance(part.x, OnDisk):
        return part
    n, most = len(part.x), part.x.few
    if n > most:
        source.notices.append(
            f"{source.where}: {most:,} of the {n:,} rows of its {name} split stand for all of them"
        )
    return _pick(part, scattered(n, part.x.piece, min(most, n), seed).sort().values)


def _pick(part: Part, rows: Tensor) -> Part:
    """Some rows of a part, in memory."""
    names = None if part.names is None else [part.names[i] for i in rows.tolist()]
    y, factors, c = (
        None if t is None else t[rows] for t in (part.y, part.factors, part.c)
    )
    return Part(part.x[rows], y, names, factors, c)


def _limited(train: Rows, limit: int, seed: int, source: Source) -> Rows:
    """The first `limit` training rows; where rows are sorted by label, a draw by seed, which is
    announced.
    """
    y = train.part.y
    if isinstance(train.part.x, OnDisk):
        return Rows(
            train.part, Without(len(train), torch.empty(0, dtype=torch.long), limit)
        )
    if (
        train.index is None
        and y is not None
        and len(y.unique()) > 1
        and bool((y[1:] >= y[:-1]).all())
    ):
        source.notices.append(
            f"training rows are sorted by label: data.limit={limit} takes a "
            f"random sample by seed {seed}"
        )
        return Rows(train.part, _permutation(len(train), seed)[:limit])
    return Rows(train.part, train.some(limit, seed))
