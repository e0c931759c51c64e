"""Equal rows in several splits: count them, or keep them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tightbound.data.on_disk import ExcludingIndex, OnDisk
from tightbound.data.prepare.infer import chunks
from tightbound.data.prepare.rows import SplitRows
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady

Hashes = np.ndarray  # uint64 (n,)

_WORD = 8  # bytes
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MOST_ROWS = 1_000_000
_MOST_BYTES = 1 << 30
_REPEATED = 2  # rows repeat by nature where so many have the same values on average


@dataclass(frozen=True)
class Overlap:
    """Numbers of rows that are equal to a row of another split.

    Attributes:
        test_in_train: test rows that are equal to a training row.
        valid_in_train: validation rows that are equal to a training row.
        test_in_valid: test rows that are equal to a validation row.
        test: number of test rows.
        valid: number of validation rows.
        checked: number of training rows that were compared.
        train: number of training rows, or None for a stream.
        distinct: number of different rows among those compared.
    """

    test_in_train: int
    valid_in_train: int
    test_in_valid: int
    test: int
    valid: int
    checked: int
    train: int | None
    distinct: int

    @property
    def is_complete(self) -> bool:
        """Whether all training rows were compared."""
        return self.checked == self.train

    @property
    def by_nature(self) -> bool:
        """Whether training rows repeat, as those of a table with few values do."""
        return self.distinct * _REPEATED <= self.checked

    def messages(self, where: str, is_published: bool) -> list[str]:
        """The notice about equal rows, where there are some.

        Args:
            where: the name of the data in messages.
            is_published: whether the source has a test or validation split of its own.
        """
        pairs = [
            (self.test_in_train, self.test, "test", "training"),
            (self.valid_in_train, self.valid, "validation", "training"),
            (self.test_in_valid, self.test, "test", "validation"),
        ]
        counts = [
            f"{count:,} of {total:,} {split} rows are equal to a {other} row"
            for count, total, split, other in pairs
            if count
        ]
        if not counts:
            return []
        message = f"{where}: {', '.join(counts)}"
        if self.train is None:
            message += f" (of {self.checked:,} that the stream begins with)"
        elif not self.is_complete:
            message += f" ({self.checked:,} of {self.train:,} training rows compared)"
        if self.by_nature:
            message += (
                f"; rows repeat in these data, with {self.distinct:,} different ones among "
                f"{self.checked:,} training rows, so equal rows are no sign of a leak"
            )
        elif is_published and self.train is not None:
            message += " (--set data.duplicates=drop leaves them out of training)"
        elif self.train is not None:
            message += " (--set data.duplicates=together keeps equal rows in one split)"
        return [message]


def row_hashes(blocks: Iterator[Tensor], dtype: torch.dtype) -> Hashes:
    """A hash of 64 bits of each row, equal for rows with equal values.

    The sum over the words of a row of SplitMix64 (Steele et al. 2014) of the word and its
    position, so that two of a million different rows collide with probability 3e-8.

    Args:
        blocks: raw rows (n, ...).
        dtype: the type that all rows are converted to.
    """
    hashes = [np.zeros(0, np.uint64)]
    for block in blocks:
        rows = block.to(dtype)
        if dtype.is_floating_point:
            # one representation each of zero and of a missing value
            rows = torch.where(rows.isnan(), torch.nan, rows + 0.0)
        array = np.ascontiguousarray(rows.flatten(1).numpy()).view(np.uint8)
        words = -(-array.shape[1] // _WORD)
        padded = np.zeros((len(array), words * _WORD), np.uint8)
        padded[:, : array.shape[1]] = array
        keys = np.arange(1, words + 1, dtype=np.uint64) * _GAMMA
        hashes.append(_mixed(padded.view(np.uint64) + keys).sum(1, dtype=np.uint64))
    return np.concatenate(hashes)


def _mixed(words: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64, a bijection of 64-bit words, in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    return words


def common_dtype(rows: Sequence[SplitRows]) -> torch.dtype:
    """The type in which rows of some splits are compared."""
    dtypes = {part.split.x.dtype for part in rows}
    if len(dtypes) == 1:
        dtype: torch.dtype = dtypes.pop()
        return dtype
    return torch.float64


def overlap_of(rows: Mapping[str, SplitRows], seed: int) -> Overlap:
    """Count the rows that are equal to a row of another split.

    All rows are compared, but of training rows on the disk a sample, and at most a
    million or a gigabyte of others.

    Args:
        rows: the rows of train, valid and test.
        seed: the seed of the sample of rows on the disk.
    """
    dtype = common_dtype([*rows.values()])
    numbers = {name: _numbers_to_compare(part, seed) for name, part in rows.items()}
    hashes = {
        name: row_hashes(_blocks(part, numbers[name]), dtype)
        for name, part in rows.items()
    }

    ranked = {name: np.sort(hashes[name]) for name in ("train", "valid")}
    train = ranked["train"]

    def count(name: str, other: str) -> int:
        """Rows of a split that are in another one, unless both are the same rows."""
        is_same = rows[name].split is rows[other].split
        if is_same and rows[name].index is rows[other].index:
            return 0
        return int(_is_in(hashes[name], ranked[other]).sum())

    return Overlap(
        test_in_train=count("test", "train"),
        valid_in_train=count("valid", "train"),
        test_in_valid=count("test", "valid"),
        test=len(hashes["test"]),
        valid=len(hashes["valid"]),
        checked=len(hashes["train"]),
        train=len(rows["train"]),
        distinct=int((train[1:] != train[:-1]).sum()) + min(1, len(train)),
    )


def _is_in(hashes: Hashes, ranked: Hashes) -> np.ndarray:
    """Which of some hashes are among others, which are sorted."""
    if not len(ranked):
        return np.zeros(len(hashes), bool)
    at = np.searchsorted(ranked, hashes).clip(max=len(ranked) - 1)
    return np.asarray(ranked[at] == hashes)


def _numbers_to_compare(part: SplitRows, seed: int) -> Tensor:
    """Row numbers of a raw split: all of a split, or evenly spaced ones of many."""
    if isinstance(part.split.x, OnDisk):
        return part.sample(len(part), seed)
    row_bytes = max(1, part.split.x[:1].nbytes)
    most = min(_MOST_ROWS, max(1, _MOST_BYTES // row_bytes))
    at = torch.arange(len(part))
    if len(at) > most:
        at = torch.linspace(0, len(part) - 1, most, dtype=torch.float64).long()
    if part.index is None:
        return at
    return part.index[at]


def _blocks(part: SplitRows, numbers: Tensor) -> Iterator[Tensor]:
    """These rows of a raw split, a few MB at a time."""
    return (rows for _, rows in chunks(part.split.x, numbers))


def all_hashes(part: SplitRows, dtype: torch.dtype, what: str) -> Hashes:
    """The hash of every row of a raw split, in its order, whatever its index."""
    x = part.split.x
    if not isinstance(x, OnDisk):
        return row_hashes((rows for _, rows in chunks(x)), dtype)
    progress = Steady(f"comparing {what}", len(x))

    def blocks() -> Iterator[Tensor]:
        for start in range(0, len(x), x.piece):
            yield x.read(start, start + x.piece)
            progress.add(min(x.piece, len(x) - start))

    return row_hashes(blocks(), dtype)


def drop_duplicates(
    rows: Mapping[str, SplitRows], where: str, limit: int | None
) -> tuple[dict[str, SplitRows], list[str]]:
    """Leave out training rows that are in valid or test, and valid rows in test.

    Args:
        rows: the rows of train, valid and test.
        where: the name of the data in messages.
        limit: the largest number of training rows on the disk.

    Returns:
        The rows that remain, and the messages about those left out.

    Raises:
        TightboundError: where no training or validation row remains.
    """
    dtype = common_dtype([*rows.values()])
    hashes = {name: all_hashes(part, dtype, where) for name, part in rows.items()}
    test = _selected(hashes["test"], rows["test"])
    valid = _selected(hashes["valid"], rows["valid"])
    held_out = np.sort(np.concatenate([test, valid]))
    remaining = {
        **rows,
        "valid": _without(rows["valid"], _is_in(hashes["valid"], np.sort(test)), None),
        "train": _without(rows["train"], _is_in(hashes["train"], held_out), limit),
    }
    messages = []
    for name, others in (("train", "validation or test"), ("valid", "test")):
        dropped = len(rows[name]) - len(remaining[name])
        if not len(remaining[name]):
            raise TightboundError(
                f"{where}: all rows of the {name} split are equal to {others} rows, so "
                "data.duplicates leaves none: use data.duplicates=keep"
            )
        if dropped:
            messages.append(
                f"{where}: {dropped:,} rows of the {name} split are equal to {others} "
                "rows and are left out (data.duplicates)"
            )
    return remaining, messages


def _selected(hashes: Hashes, part: SplitRows) -> Hashes:
    """The hashes of the rows of a split."""
    if part.index is None:
        return hashes
    selected: Hashes = hashes[part.index[torch.arange(len(part))].numpy()]
    return selected


def _without(part: SplitRows, is_dropped: np.ndarray, limit: int | None) -> SplitRows:
    """The rows of a split without some rows of its raw split."""
    if not is_dropped.any():
        return part
    dropped = torch.from_numpy(is_dropped)
    if isinstance(part.index, ExcludingIndex) or isinstance(part.split.x, OnDisk):
        if isinstance(part.index, ExcludingIndex):
            dropped[part.index.excluded] = True
        excluded = dropped.nonzero().flatten()
        return replace(part, index=ExcludingIndex(len(dropped), excluded, limit))
    numbers = torch.arange(len(dropped)) if part.index is None else part.index
    return replace(part, index=numbers[~dropped[numbers]])


def split_groups(
    order: Tensor, hashes: Hashes, sizes: Sequence[int], where: str
) -> list[Tensor]:
    """Divide rows at random so that equal rows are in one part.

    The last parts have at least `sizes` rows, and the first one the others. Without
    equal rows they are `order` cut from its end.

    Args:
        order: row numbers in random order.
        hashes: the hash of each row.
        sizes: the number of rows of each part but the first.
        where: the name of the data in messages.

    Returns:
        The row numbers of each part.

    Raises:
        TightboundError: where there are fewer different rows than parts.
    """
    rows = order.numpy()
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    counts = np.bincount(group)
    is_first = np.zeros(len(rows), bool)
    is_first[first] = True
    groups = group[rows[is_first[rows]]]  # in random order
    if len(groups) <= len(sizes):
        raise TightboundError(
            f"{where} has {len(groups)} different rows, too few for {len(sizes) + 1} "
            "splits without equal rows: use data.duplicates=keep"
        )
    part_of = np.zeros(len(counts), np.int64)
    stop = len(groups)
    for part in range(len(sizes), 0, -1):
        taken = counts[groups[:stop][::-1]].cumsum()
        number = 1 + int(np.searchsorted(taken, sizes[part - 1]))
        start = max(part, stop - number)
        part_of[groups[start:stop]] = part
        stop = start
    parts = part_of[group[rows]]
    return [torch.from_numpy(rows[parts == i]) for i in range(len(sizes) + 1)]
