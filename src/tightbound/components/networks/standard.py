"""The scale of the input of a network."""

from __future__ import annotations

import math

from torch import Tensor, nn

from tightbound.core.data_spec import DataSpec
from tightbound.runtime.errors import TightboundError


class Standard(nn.Module):
    """(x - centre) / spread, x in model units (n, *shape)."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.register_buffer("centre", spec.centre)
        self.register_buffer("spread", spec.spread)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.get_buffer("centre")) / self.get_buffer("spread")


class InRange(nn.Module):
    """An encoder of x in [-1, 1], given x standardised: the range of the domain is scaled to it.

    Args:
        body: The encoder.
        spec: Of the data; its domain has bounds.
    """

    def __init__(self, body: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        low, high = spec.bounds
        if not math.isfinite(high - low) or spec.missing:
            why = "missing values" if spec.missing else "no bounds"
            raise TightboundError(
                f"the network reads values scaled from their range to [-1, 1], and data of domain "
                f"{spec.domain!r} here have {why}: set network conv or mlp"
            )
        self.body = body
        half = (high - low) / 2
        self.register_buffer("scale", spec.spread / half)
        self.register_buffer("shift", (spec.centre - low) / half - 1)

    @property
    def features(self) -> int:
        """Width of the features of a place."""
        width = self.body.features
        assert isinstance(width, int)
        return width

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(
            x * self.get_buffer("scale") + self.get_buffer("shift")
        )
        return features
