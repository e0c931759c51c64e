"""Some rows of a raw split, by their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.data.on_disk import ExcludingIndex, OnDisk, random_rows
from tightbound.data.source import RawSplit


@dataclass(frozen=True)
class SplitRows:
    """Some rows of a raw split; an index of None stands for all of them in order."""

    split: RawSplit
    index: Tensor | ExcludingIndex | None

    def __len__(self) -> int:
        if self.index is None:
            return len(self.split.x)
        return len(self.index)

    def sample(self, k: int, seed: int) -> Tensor:
        """At most k row numbers of the raw split, for statistics.

        The first rows in order; of rows on the disk, a random sample.
        """
        k = min(k, len(self))
        x = self.split.x
        if isinstance(x, OnDisk):
            k = min(k, x.sample_size)
            at = random_rows(len(self), x.piece, k, seed).sort().values
        else:
            at = torch.arange(k)
        if self.index is None:
            return at
        return self.index[at]

    def take(self, values: Tensor) -> Tensor:
        """The entries of these rows in values (N, ...) of the whole raw split."""
        if self.index is None:
            return values
        return values[self.index[torch.arange(len(self))]]
