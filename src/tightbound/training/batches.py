"""The batches of training steps.

With random access they are functions of (seed, step), else positions in a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import LoaderSplit, ShardSplit, Split
from tightbound.data.on_disk import OnDisk
from tightbound.data.streams.interleave import Blocks, InterleavedReader, Pieces
from tightbound.distributions.random import generator
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import WHOLE, Share

Training = Split | LoaderSplit | ShardSplit
State = dict[str, Any]


class Batches:
    """Batches of a split in a new random order each epoch.

    The last, smaller batch of an epoch is left out.

    Args:
        batch: examples per step, over all processes.
        share: (rank, processes), the part of each batch that this process has. Random
            numbers are drawn for the whole batch.
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
        self.batch = batch
        self.seed = seed
        self.device = device
        self.share = share
        self.epoch = -1
        self.order = torch.empty(0)  # the rows of the epoch, permuted

    def rows(self, step: int) -> Tensor:
        """The rows of a step, over all processes.

        Each epoch is one permutation, a function of (seed, epoch).
        """
        n = len(self.split)
        epoch, at = divmod(step, max(1, n // self.batch))
        if self.epoch != epoch:
            self.epoch = epoch
            shuffle = generator(self.seed, "order", epoch)
            self.order = torch.randperm(n, generator=shuffle)
        return self.order[at * self.batch : (at + 1) * self.batch]

    def __call__(self, step: int) -> Batch:
        """The examples of a step in model units, binarised and augmented, on the device."""
        rank, world_size = self.share
        rows = self.rows(step).chunk(world_size)[rank]
        noise = None
        if self.split.transform is not None:
            noise = generator(self.seed, "data", step)
        batch = self.split.examples(rows, noise, self.share)
        return replace(batch.to(self.device), index=rows.to(self.device))

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> str:
        return ""


class InterleavedBatches:
    """Batches of a split on a disk or in shards, in bounded memory.

    They can be resumed within an epoch.
    """

    def __init__(
        self,
        split: Split | ShardSplit,
        batch: int,
        seed: int,
        device: torch.device,
        share: Share,
        shuffle_buffer: Literal["auto"] | int,
    ) -> None:
        self.split = split
        self.seed = seed
        self.device = device
        self.share = share
        pieces: Pieces = Blocks(split) if isinstance(split, Split) else split.shards
        self.reader = InterleavedReader(
            pieces,
            batch,
            seed,
            rank=share[0],
            world=share[1],
            shuffle_buffer=shuffle_buffer,
        )

    def __call__(self, step: int) -> Batch:
        """The examples of a step in model units, binarised and augmented, on the device."""
        raw = self.reader()
        spec = self.split.spec
        if self.split.transform is not None:
            raw = self.split.transform(
                raw, spec.layout, generator(self.seed, "data", step), self.share
            )
        return Batch(spec.to_model(raw).to(self.device))

    def state_dict(self) -> State:
        """The positions of this process's readers; the state is that of all processes."""
        return self.reader.state_dict()

    def load_state_dict(self, state: State) -> str:
        return self.reader.load_state_dict(state)


class LoaderBatches:
    """Batches of a user's DataLoader or IterableDataset, in its order.

    A resumed run begins the epoch again.
    """

    def __init__(
        self, stream: LoaderSplit, batch: int, seed: int, device: torch.device
    ) -> None:
        self.stream = stream
        self.batch = batch
        self.seed = seed
        self.device = device
        self.epoch = 0
        self._current: Iterator[tuple[Tensor, Tensor | None]] = iter(())

    def __call__(self, step: int) -> Batch:
        """The next batch, of whatever size, in model units, on the device."""
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
    """Up to n training examples without augmentation, and their rows.

    They are spread over a split; of a stream they are the first, without rows.
    """
    if isinstance(split, Split):
        rows = split.spread(n)
        return split.batch(rows), rows
    parts: list[Tensor] = []
    for _, x in split.batches(n):
        parts.append(x)
        if sum(map(len, parts)) >= n:
            break
    return torch.cat(parts)[:n], None


def batches(
    split: Training,
    batch: int,
    seed: int,
    device: torch.device,
    share: Share = WHOLE,
    shuffle_buffer: Literal["auto"] | int = "auto",
) -> Batches | InterleavedBatches | LoaderBatches:
    """The batches of a split, by the kind of the split.

    Raises:
        TightboundError: where they cannot be split over the processes.
    """
    world_size = share[1]
    if batch % world_size:
        multiple = -(-batch // world_size) * world_size
        raise TightboundError(
            f"train.batch = {batch} cannot be split evenly over {world_size} processes: "
            f"set it to a multiple, such as {multiple}"
        )
    if isinstance(split, LoaderSplit):
        if world_size > 1:
            raise TightboundError(
                "a DataLoader or IterableDataset cannot be shared out over processes: "
                "give its map-style Dataset, an array, or shards as wds:PATTERN"
            )
        return LoaderBatches(split, batch, seed, device)
    if isinstance(split, ShardSplit) or isinstance(split.x, OnDisk):
        return InterleavedBatches(split, batch, seed, device, share, shuffle_buffer)
    return Batches(split, batch, seed, device, share)


def count(split: Training) -> int | None:
    """The number of examples in an epoch; None for a stream of unknown length."""
    try:
        return len(split)
    except TypeError:
        return None
