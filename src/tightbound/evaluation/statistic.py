"""Mean over examples with its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean over examples and its standard error, std / sqrt(n).

    Args:
        mean: the mean, in the unit of the values (nats unless said otherwise).
        se: its standard error; not a number for a single example.

    Example:
        >>> import torch, tightbound as tb
        >>> print(tb.Mean.of(torch.tensor([1.0, 2.0, 3.0, 4.0])))
        2.50 ± 0.65
    """

    mean: float
    se: float

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """The mean of values and its standard error.

        Args:
            values: One value for each example, (n,).

        Returns:
            The mean; its standard error is not a number where n is 1.
        """
        n = len(values)
        se = float(values.std() / math.sqrt(n)) if n > 1 else math.nan
        return cls(float(values.mean()), se)

    @classmethod
    def difference(cls, a: Mean, b: Mean) -> Mean:
        """The difference of two means over different examples.

        Args:
            a: A mean.
            b: The mean that is subtracted.

        Returns:
            a - b, with the root of the sum of both squared standard errors.
        """
        return cls(a.mean - b.mean, math.hypot(a.se, b.se))

    def to_json(self) -> dict[str, float | None]:
        """Mean and standard error as JSON.

        Returns:
            "mean" and "se"; null for a standard error that is not a number.
        """
        return {"mean": self.mean, "se": self.se if math.isfinite(self.se) else None}

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.se:.2f}"


def means_to_json(means: Mapping[str, Mean]) -> dict[str, dict[str, float | None]]:
    """Means by name, as JSON."""
    return {name: mean.to_json() for name, mean in means.items()}
