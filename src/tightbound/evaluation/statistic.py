"""Mean: a mean over examples with its standard error, as every reported number is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean over examples and its standard error, std / sqrt(n)."""

    mean: float
    se: float

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """Of one value per example; the error of a single example is not a number."""
        n = len(values)
        return cls(
            float(values.mean()),
            float(values.std() / math.sqrt(n)) if n > 1 else math.nan,
        )

    @classmethod
    def difference(cls, a: Mean, b: Mean) -> Mean:
        """a - b of figures over different examples."""
        return cls(a.mean - b.mean, math.hypot(a.se, b.se))

    def to_json(self) -> dict[str, float | None]:
        """Mean and error; an error that is not a number is null."""
        return {"mean": self.mean, "se": self.se if math.isfinite(self.se) else None}

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.se:.2f}"


def plain(figures: Mapping[str, Mean]) -> dict[str, dict[str, float | None]]:
    """Figures by name, as JSON."""
    return {name: figure.to_json() for name, figure in figures.items()}
