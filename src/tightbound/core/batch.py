"""Batch: some examples and all that is known of them, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """B examples x in model units (B, *shape), NaN where a value is missing, and what else is
    known, each B rows.

    c: the condition of a conditional model (B, C).  y: labels (B,), -1 where unknown.  index: row
    numbers in the training data.  mask: 1 where x was observed; a model that takes missing values
    makes it from x.

    Example:
        >>> import torch, tightbound as tb
        >>> batch = tb.Batch(torch.zeros(4, 3), y=torch.tensor([0, 1, -1, 0]))
        >>> len(batch[:2]), batch[:2].y.tolist()
        (2, [0, 1])
    """

    x: Tensor
    c: Tensor | None = None
    y: Tensor | None = None
    index: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor | Batch) -> Batch:
        """x as a batch, where it is only the examples."""
        return x if isinstance(x, Batch) else cls(x)

    @classmethod
    def cat(cls, parts: Sequence[Batch]) -> Batch:
        """Some batches as one, in order."""
        every = [[getattr(part, f.name) for part in parts] for f in fields(cls)]
        return cls(*(None if rows[0] is None else torch.cat(rows) for rows in every))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.x)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change of the rows of each part."""
        every = (self.x, self.c, self.y, self.index, self.mask)
        return Batch(*(None if part is None else change(part) for part in every))  # type: ignore[arg-type]

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return self.map(lambda part: part[rows])

    def split(self, size: int) -> list[Batch]:
        """So many rows at a time; the last may be fewer."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return self.map(lambda part: part.to(device))

    def expand(self, n: int) -> Batch:
        """One example, n times."""
        return self.map(lambda part: part.expand(n, *part.shape[1:]))

    @property
    def key(self) -> Tensor:
        """All that decides a model's figures of each example, as bytes (B, m): x and, where there
        is one, c.
        """
        parts = [self.x] if self.c is None else [self.x, self.c]
        return torch.cat(
            [
                part.detach().cpu().flatten(1).contiguous().view(torch.uint8)
                for part in parts
            ],
            1,
        )


def rows(x: Tensor, k: int) -> Tensor:
    """The rows of B examples, (B, ...), for K*B, K-major; a view where K or B is 1."""
    return x if k == 1 else x.expand(k, *x.shape).flatten(0, 1)
