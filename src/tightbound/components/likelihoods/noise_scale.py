"""The scale of a likelihood: fixed, learned, predicted from z, or optimal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tightbound.distributions import soft_clip

ScaleKind = Literal["fixed", "learned", "shared", "predicted", "optimal"]


class Scale(nn.Module):
    """Scale sigma of a likelihood, in model units, broadcastable to (n, *shape).

    Args:
        kind: "fixed" at `value`; "learned", one for each dimension; "shared", one for all;
            "predicted" by the decoder, per example and dimension; "optimal", the root mean square
            error of the decoder as a running mean over batches (sigma-VAE, Rybkin et al. 2021,
            arXiv:2006.13202, eq. 6).
        unit: Spread of the data, *shape.
        value: Of a fixed scale, in model units.
        start: Initial scale, in multiples of `unit`.
        floor: Least scale, in multiples of `unit`.
    """

    def __init__(
        self,
        kind: str,
        unit: Tensor,
        *,
        value: float = 1.0,
        start: float = 1.0,
        floor: float = 0.01,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.value = value
        self.floor = floor
        if kind == "shared":
            unit = unit.square().mean().sqrt().expand_as(unit).clone()
        self.register_buffer("unit", unit)
        if kind == "learned":
            self.log_scale = nn.Parameter(torch.full(unit.shape, start).log())
        if kind == "shared":
            self.log_scale = nn.Parameter(torch.full((), start).log())
        if kind == "optimal":
            self.register_buffer("square", torch.tensor(start**2))
            self.register_buffer("steps", torch.tensor(0.0))
        self.start = start

    @property
    def params(self) -> int:
        """Number of values per dimension that the decoder gives for the scale."""
        return int(self.kind == "predicted")

    def forward(self, y: Tensor | None = None) -> Tensor:
        """sigma; y (n, *shape): the decoder's value of a predicted scale."""
        unit = self.get_buffer("unit")
        if self.kind == "fixed":
            return torch.full_like(unit, self.value)
        if self.kind == "optimal":
            ratio = (self.get_buffer("square").sqrt() - self.floor).clamp(min=0)
        elif self.kind == "predicted":
            assert y is not None
            ratio = self.start * soft_clip(y).exp()
        else:
            ratio = soft_clip(self.log_scale).exp()
        return unit * (ratio + self.floor)

    def sums(self, error: Tensor) -> dict[str, Tensor]:
        """Squared errors in units of the data, and their count, as sums over the batch."""
        if self.kind != "optimal":
            return {}
        square = (error.detach() / self.get_buffer("unit")).square().sum()
        return {
            "scale/square": square,
            "scale/count": torch.full_like(square, error.numel()),
        }

    def follow(self, sums: dict[str, Tensor]) -> None:
        """Update the running mean square error by an accepted step.

        A plain mean at first, then over about 100 steps.
        """
        if self.kind == "optimal":
            steps = self.get_buffer("steps").add_(1)
            square = self.get_buffer("square")
            mean = (sums["scale/square"] / sums["scale/count"]).to(square)
            square.lerp_(mean, (1 / steps).clamp(min=0.01))
