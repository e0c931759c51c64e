"""Batch: examples with what else is given of them, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """B examples in model units, with condition, label, row number and mask.

    Args:
        x: Examples (B, *shape), NaN where a value is missing.
        c: Condition of a conditional model (B, C).
        y: Labels (B,), -1 where unknown.
        index: Row numbers in the training data (B,).
        mask: 1 where x was observed; a model that takes missing values makes it from x.

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
        """Make a batch of a tensor; a batch is returned as it is.

        Args:
            x: Examples in model units (B, *shape), or a batch.

        Returns:
            The batch.
        """
        if isinstance(x, Batch):
            return x
        return cls(x)

    @classmethod
    def cat(cls, parts: Sequence[Batch]) -> Batch:
        """Concatenate batches.

        Args:
            parts: One or more batches with the same fields.

        Returns:
            One batch with their rows in order.
        """
        optional: dict[str, Tensor] = {}
        for field in fields(cls)[1:]:
            rows = [getattr(part, field.name) for part in parts]
            if rows[0] is not None:
                optional[field.name] = torch.cat(rows)
        return cls(torch.cat([part.x for part in parts]), **optional)

    def __len__(self) -> int:
        return len(self.x)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function of rows to each tensor of the batch.

        Args:
            change: A function of a tensor (B, ...).

        Returns:
            A batch of its results.
        """

        def changed(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else change(rows)

        return Batch(
            change(self.x),
            changed(self.c),
            changed(self.y),
            changed(self.index),
            changed(self.mask),
        )

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return self.map(lambda part: part[rows])

    def split(self, size: int) -> list[Batch]:
        """Split into smaller batches.

        Args:
            size: Rows of each; the last may have fewer.

        Returns:
            The batches in order.
        """
        return [self[start : start + size] for start in range(0, len(self), size)]

    def to(self, device: torch.device | str) -> Batch:
        """Move the batch to a device.

        Args:
            device: The device of the result.

        Returns:
            The batch there.
        """
        return self.map(lambda part: part.to(device))

    def expand(self, n: int) -> Batch:
        """Repeat a single example.

        Args:
            n: Number of rows of the result.

        Returns:
            A batch of n rows that share memory.
        """
        return self.map(lambda part: part.expand(n, *part.shape[1:]))

    @property
    def key(self) -> Tensor:
        """Bytes that identify each example, (B, m): those of x and, if present, c."""
        parts = [self.x]
        if self.c is not None:
            parts.append(self.c)
        rows = [part.detach().cpu().flatten(1).contiguous() for part in parts]
        return torch.cat([row.view(torch.uint8) for row in rows], 1)


def rows(x: Tensor, k: int) -> Tensor:
    """Rows of B examples, (B, ...), for K*B rows, K-major; a view where K or B is 1."""
    if k == 1:
        return x
    return x.expand(k, *x.shape).flatten(0, 1)
