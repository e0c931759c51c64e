"""Which examples a step sees: with random access a function of (seed, step); of a loader, its next batch."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.data import Split
from tightbound.distributions.noise import generator


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

    def __call__(self, step: int) -> Tensor:
        """The examples of a step in domain units, on the device, as training sees them (binarised, augmented)."""
        return self.split.batch(self.rows(step), generator(self.seed, "data", step)).to(self.device)
