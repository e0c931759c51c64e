"""p(z) on spheres and in hyperbolic space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.distributions import SphereUniform, WrappedNormal, to_tangent
from tightbound.trace import Context, Draw


class SphereUniformPrior(nn.Module):
    """Uniform on the unit sphere in R^d."""

    space = "sphere"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return SphereUniform(self.get_buffer("zero").expand(ctx.n, -1))


class WrappedNormalPrior(nn.Module):
    """A wrapped normal at the origin of the Poincare ball; the decoder reads z in normal coordinates, log_0(z).

    scale: in units of hyperbolic distance.  curvature: c > 0, of a ball of radius 1 / sqrt(c).
    """

    space = "ball"

    def __init__(self, latent: int, scale: float = 1.0, curvature: float = 1.0) -> None:
        super().__init__()
        self.scale, self.curvature = scale, curvature
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        zero = self.get_buffer("zero").expand(ctx.n, -1)
        return WrappedNormal(zero, torch.full_like(zero, self.scale), self.curvature)

    def chart(self, z: Tensor) -> Tensor:
        """What the decoder reads of z."""
        return to_tangent(z, self.curvature)
