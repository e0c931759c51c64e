"""Which examples a step sees: with random access a function of (seed, step); else where a stream
stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tightbound.core.trace import Batch
from tightbound.data import LoaderSplit, ShardSplit, Split
from tightbound.data.on_disk import OnDisk
from tightbound.data.streams.interleave import Blocks, InterleavedReader, Pieces
from tightbound.distributions.random import generator
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import WHOLE, Share

Training = Split | LoaderSplit | ShardSplit
State = dict[str, Any]


class Batches:
    """Batches of a split in a fresh random order each epoch; the last, smaller one of an epoch is
    left out.

    share: which part of each batch this process has, (rank, processes); random numbers are those of
    the whole batch.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        seed: int,
        device: torch.device,
        share: Share = WHOLE,
    ) -> None:
        self.split = split if device.type == "cpu" else split.to(device)
        self.batch, self.seed, self.device, self.share = batch, seed, device, share
        self.order: tuple[int, Tensor] = (-1, torch.empty(0))

    def rows(self, step: int) -> Tensor:
        """The training rows of a step, of all processes: each epoch is one permutation, a function
        of (seed, epoch).
        """
        n = len(self.split)
        epoch, at = divmod(step, max(1, n // self.batch))
        if self.order[0] != epoch:
            self.order = (
                epoch,
                torch.randperm(n, generator=generator(self.seed, "order", epoch)),
            )
        return self.order[1][at * self.batch : (at + 1) * self.batch]

    def __call__(self, step: int) -> Batch:
        """The examples of a step in domain units, on the device, as training sees them (binarised,
        augmented).
        """
        part, of = self.share
        rows = self.rows(step).chunk(of)[part]
        chance = (
            None if self.split.transform is None else generator(self.seed, "data", step)
        )
        batch = self.split.examples(rows, chance, self.share)
        return replace(batch.to(self.device), index=rows.to(self.device))

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> str:
        return ""


class LaneBatches:
    """Batches of a split on a disk or in shards, by lanes: in bounded memory, resumed within an
    epoch.
    """

    def __init__(
        self,
        split: Split | ShardSplit,
        batch: int,
        seed: int,
        device: torch.device,
        share: Share,
        mix: Any,
    ) -> None:
        self.split, self.seed, self.device, self.share = split, seed, device, share
        pieces: Pieces = Blocks(split) if isinstance(split, Split) else split.shards
        self.lanes = InterleavedReader(
            pieces, batch, seed, rank=share[0], world=share[1], shuffle_buffer=mix
        )

    def __call__(self, step: int) -> Batch:
        """The examples of a step in domain units, on the device, as training sees them (binarised,
        augmented).
        """
        raw, spec = self.lanes(), self.split.spec
        if self.split.transform is not None:
            raw = self.split.transform(
                raw, spec.layout, generator(self.seed, "data", step), self.share
            )
        return Batch(spec.to_domain(raw).to(self.device))

    def state_dict(self) -> State:
        """Where the lanes of this process stand; the states of all processes together are one
        state.
        """
        return self.lanes.state_dict()

    def load_state_dict(self, state: State) -> str:
        return self.lanes.load_state_dict(state)


class LoaderBatches:
    """Batches of a user's DataLoader or IterableDataset, in its own order; a resumed run begins its
    epoch again.
    """

    def __init__(
        self, stream: LoaderSplit, batch: int, seed: int, device: torch.device
    ) -> None:
        self.stream, self.batch, self.seed, self.device = stream, batch, seed, device
        self.epoch = 0
        self._current: Iterator[tuple[Tensor, Tensor | None]] = iter(())

    def __call__(self, step: int) -> Batch:
        """The next batch, whatever its size, in domain units, on the device."""
        for _ in range(2):
            for x, _labels in self._current:
                return Batch(x.to(self.device))
            noise = generator(self.seed, "stream", self.epoch)
            self._current = next(self.stream.epochs(self.batch, noise, self.epoch))
            self.epoch += 1
        raise TightboundError(
            f"{self.stream!r} gave no examples in a whole epoch: it must yield some each time"
        )

    def state_dict(self) -> State:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: State) -> str:
        self.epoch = max(0, state["epoch"] - 1)
        return ""


def examples(split: Training, n: int) -> tuple[Tensor, Tensor | None]:
    """Up to n training examples as they are evaluated, and their rows: spread over a split, the
    first of a stream.
    """
    if isinstance(split, Split):
        rows = split.spread(n)
        return split.batch(rows), rows
    found: list[Tensor] = []
    for _, x in split.batches(n):
        found.append(x)
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n], None


def batches(
    split: Training,
    batch: int,
    seed: int,
    device: torch.device,
    share: Share = WHOLE,
    mix: Any = "auto",
) -> Batches | LaneBatches | LoaderBatches:
    """The batches of a split, by what kind of split it is.

    Raises TightboundError where they cannot be shared out over the processes.
    """
    if batch % share[1]:
        raise TightboundError(
            f"train.batch = {batch} cannot be split evenly over {share[1]} "
            "processes: set it to a multiple, such as "
            f"{-(-batch // share[1]) * share[1]}"
        )
    if isinstance(split, LoaderSplit):
        if share[1] > 1:
            raise TightboundError(
                "a DataLoader or IterableDataset cannot be shared out over "
                "processes: give its map-style Dataset, an "
                "array, or shards as wds:PATTERN"
            )
        return LoaderBatches(split, batch, seed, device)
    if isinstance(split, ShardSplit) or isinstance(split.x, OnDisk):
        return LaneBatches(split, batch, seed, device, share, mix)
    return Batches(split, batch, seed, device, share)


def count(split: Training) -> int | None:
    """How many examples one epoch has; None for a stream that does not know."""
    try:
        return len(split)
    except TypeError:
        return None
