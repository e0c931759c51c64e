"""Assign rows to train, valid and test: published splits, or random ones by seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tightbound.data.on_disk import ExcludingIndex, OnDisk, random_rows
from tightbound.data.prepare.duplicates import (
    all_hashes,
    drop_duplicates,
    split_groups,
)
from tightbound.data.prepare.rows import SplitRows
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit
from tightbound.runtime.errors import TightboundError

MOST_HELD_OUT = 50_000


@dataclass(frozen=True)
class Partition:
    """The rows of train, valid and test, and the source with the sizes resolved."""

    rows: dict[str, SplitRows]
    source: RawSource


def _permutation(n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).permutation(n).astype(np.int64))


def partition(source: RawSource, settings: DataSettings, seed: int) -> Partition:
    """Divide a source into train, valid and test.

    Splits that the source does not have are taken from its training rows.

    Raises:
        TightboundError: where there are too few rows for one in each split.
    """
    published = dict(source.splits)
    base = published.pop("all", None) or published.pop("train", None)
    if base is None:
        raise TightboundError(
            f"{source.where} has no training examples, only those of the "
            f"{' and '.join(published)} split: add a train split beside it"
        )
    missing = [name for name in ("valid", "test") if name not in published]
    _check_enough(source, len(base.x), missing)
    notices: list[str] = []
    rows = {
        name: SplitRows(_loaded(split, name, source.where, seed, notices), None)
        for name, split in published.items()
    }
    sizes, resolved = _sizes(base.x, missing, settings, source.where, notices)
    rows |= _hold_out(base, sizes, seed, settings, source.where)
    if settings.duplicates != "keep":
        rows, messages = drop_duplicates(rows, source.where, settings.limit)
        notices += messages
    train = rows["train"]
    if settings.limit is not None and settings.limit < len(train):
        train = _limited(train, settings.limit, seed, source.where, notices)
    changed = replace(source, resolved={**source.resolved, **resolved})
    return Partition(
        {"train": train, "valid": rows["valid"], "test": rows["test"]},
        changed.with_notices(*notices),
    )


def _check_enough(source: RawSource, n: int, missing: list[str]) -> None:
    """Refuse a source with fewer rows than splits."""
    if n < len(missing) + 1:
        plural = "" if n == 1 else "s"
        raise TightboundError(
            f"{source.where} has {n} example{plural}: at least {len(missing) + 1} are "
            f"needed, one each for train, {' and '.join(missing)}; add examples, or "
            "pass valid= and test= data of your own"
        )


def _sizes(
    x: Tensor | OnDisk,
    names: list[str],
    settings: DataSettings,
    where: str,
    notices: list[str],
) -> tuple[dict[str, int], dict[str, int]]:
    """The number of rows of each missing split, and the shares that were capped.

    A share gives at least one row, and at most 50,000 (of rows on the disk, a sample
    that fits in memory).
    """
    n = len(x)
    most = x.sample_size if isinstance(x, OnDisk) else MOST_HELD_OUT
    wanted = {name: getattr(settings, name) for name in names}
    sizes: dict[str, int] = {}
    capped: dict[str, int] = {}
    for name, share in wanted.items():
        if share >= 1:
            sizes[name] = int(share)
            continue
        sizes[name] = max(1, round(n * share))
        if sizes[name] > most:
            sizes[name] = most
            capped[name] = most
            notices.append(
                f"{where}: the {name} split has {most:,} of {n:,} rows "
                f"(data.{name} as a whole number for more)"
            )
    all_shares = all(share < 1 for share in wanted.values())
    while sum(sizes.values()) > n - 1 and all_shares:
        largest = max(sizes, key=lambda name: sizes[name])
        sizes[largest] -= 1
    if sum(sizes.values()) > n - 1:
        raise TightboundError(
            f"{where} has {n} rows, and "
            f"{' and '.join(f'data.{k}' for k in names)} leave none to train on"
        )
    return sizes, capped


def _hold_out(
    base: RawSplit,
    sizes: dict[str, int],
    seed: int,
    settings: DataSettings,
    where: str,
) -> dict[str, SplitRows]:
    """The training rows, and rows held out from them by a random draw.

    With `duplicates=together`, equal rows in memory are drawn together.
    """
    if not sizes:
        return {"train": SplitRows(base, None)}
    n = len(base.x)
    total = sum(sizes.values())
    if isinstance(base.x, OnDisk):
        drawn = random_rows(n, base.x.piece, total, seed)
        held_out = {
            name: SplitRows(_pick(base, rows), None)
            for name, rows in zip(sizes, drawn.split([*sizes.values()]), strict=True)
        }
        index = ExcludingIndex(n, drawn.sort().values, settings.limit)
        return {"train": SplitRows(base, index), **held_out}
    order = _permutation(n, seed)
    parts = order.split([n - total, *sizes.values()])
    if settings.duplicates == "together":
        hashes = all_hashes(SplitRows(base, None), base.x.dtype, where)
        parts = split_groups(order, hashes, [*sizes.values()], where)
    names = ("train", *sizes)
    return {
        name: SplitRows(base, numbers)
        for name, numbers in zip(names, parts, strict=True)
    }


def _loaded(
    split: RawSplit, name: str, where: str, seed: int, notices: list[str]
) -> RawSplit:
    """A published validation or test split in memory; a random sample of a large one."""
    if not isinstance(split.x, OnDisk):
        return split
    n = len(split.x)
    most = split.x.sample_size
    if n > most:
        notices.append(
            f"{where}: {most:,} of the {n:,} rows of its {name} split stand for all of them"
        )
    rows = random_rows(n, split.x.piece, min(most, n), seed)
    return _pick(split, rows.sort().values)


def _pick(split: RawSplit, rows: Tensor) -> RawSplit:
    """Some rows of a raw split, in memory."""

    def picked(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return values[rows]

    return RawSplit(
        split.x[rows],
        picked(split.y),
        None if split.names is None else [split.names[i] for i in rows.tolist()],
        picked(split.factors),
        picked(split.c),
    )


def _limited(
    train: SplitRows, limit: int, seed: int, where: str, notices: list[str]
) -> SplitRows:
    """The first `limit` training rows, or a random sample of rows sorted by label."""
    y = train.split.y
    if isinstance(train.split.x, OnDisk):
        nothing = torch.empty(0, dtype=torch.long)
        return SplitRows(train.split, ExcludingIndex(len(train), nothing, limit))
    if train.index is None and y is not None and _is_sorted(y):
        notices.append(
            f"training rows are sorted by label: data.limit={limit} takes a "
            f"random sample by seed {seed}"
        )
        return SplitRows(train.split, _permutation(len(train), seed)[:limit])
    return SplitRows(train.split, train.sample(limit, seed))


def _is_sorted(y: Tensor) -> bool:
    """True for labels of several classes in ascending order."""
    return len(y.unique()) > 1 and bool((y[1:] >= y[:-1]).all())
