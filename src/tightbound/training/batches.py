"""Which examples a step sees: with random access a function of (seed, step); of a loader, its next batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tightbound.data import LoaderSplit, Split
from tightbound.distributions.noise import generator
from tightbound.errors import TightboundError
from tightbound.trace import Batch


class Batches:
    """Batches of a split in a fresh random order each epoch; the last, smaller one of an epoch is left out."""

    def __init__(self, split: Split, batch: int, seed: int, device: torch.device) -> None:
        self.split = split if device.type == "cpu" else split.to(device)
        self.batch, self.seed, self.device = batch, seed, device
        self.order: tuple[int, Tensor] = (-1, torch.empty(0))

    def rows(self, step: int) -> Tensor:
        """The training rows of a step: each epoch is one permutation, a function of (seed, epoch)."""
        n = len(self.split)
        epoch, at = divmod(step, max(1, n // self.batch))
        if self.order[0] != epoch:
            self.order = (epoch, torch.randperm(n, generator=generator(self.seed, "order", epoch)))
        return self.order[1][at * self.batch : (at + 1) * self.batch]

    def __call__(self, step: int) -> Batch:
        """The examples of a step in domain units, on the device, as training sees them (binarised, augmented)."""
        rows = self.rows(step)
        x = self.split.batch(rows, generator(self.seed, "data", step))
        return Batch(x.to(self.device), index=rows.to(self.device))


class StreamBatches:
    """Batches of a user's DataLoader or IterableDataset, in its own order; a resumed run begins its epoch again."""

    def __init__(self, stream: LoaderSplit, batch: int, seed: int, device: torch.device) -> None:
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
        raise TightboundError(f"{self.stream!r} gave no examples in a whole epoch: it must yield some each time")


def batches(split: Split | LoaderSplit, batch: int, seed: int, device: torch.device) -> Batches | StreamBatches:
    """The batches of a split, by what kind of split it is."""
    if isinstance(split, Split):
        return Batches(split, batch, seed, device)
    return StreamBatches(split, batch, seed, device)


def examples(split: Split | LoaderSplit, n: int) -> tuple[Tensor, Tensor | None]:
    """Up to n training examples as they are evaluated, and their rows: spread over a split, the first of a stream."""
    if isinstance(split, Split):
        rows = split.spread(n)
        return split.batch(rows), rows
    found: list[Tensor] = []
    for _, x in split.batches(n):
        found.append(x)
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n], None


def count(split: Split | LoaderSplit) -> int | None:
    """How many examples one epoch has; None for a stream that does not know."""
    try:
        return len(split)
    except TypeError:
        return None
