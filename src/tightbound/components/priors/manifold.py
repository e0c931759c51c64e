"""p(z) on spheres and in hyperbolic space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.components.priors.encoded_data import Seen, clusters, start_at_clusters
from tightbound.core.trace import Context, Draw
from tightbound.distributions import (
    Blend,
    SphereUniform,
    VonMisesFisher,
    WrappedNormal,
    soft_clip,
)


class SphereUniformPrior(nn.Module):
    """Uniform on the unit sphere in R^d."""

    space = "sphere"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return SphereUniform(self.get_buffer("zero").expand(ctx.n, -1))


class WrappedNormalPrior(nn.Module):
    """A wrapped normal at the origin of hyperbolic space: N(0, scale^2) in normal coordinates, in
    which z is held.

    scale: in units of hyperbolic distance, |z|.  curvature: c > 0; in the Poincare ball, of radius
    1 / sqrt(c), z is tanh(r / 2) / r z, r = sqrt(c) |z|.
    """

    space = "hyperbolic"

    def __init__(self, latent: int, scale: float = 1.0, curvature: float = 1.0) -> None:
        super().__init__()
        self.scale, self.curvature = scale, curvature
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        zero = self.get_buffer("zero").expand(ctx.n, -1)
        return WrappedNormal(zero, torch.full_like(zero, self.scale), self.curvature)


class SphereMixturePrior(nn.Module):
    """sum_m w_m vMF(z; loc_m, kappa_m) on the unit sphere in R^d; the uniform distribution is its
    limit kappa = 0.

    components: how many, M.  Starts at k-means clusters, with kappa by Banerjee et al. 2005, eq.
    4.4 (jmlr.org/papers/v6/banerjee05a.html).
    """

    space = "sphere"
    learns = True

    def __init__(self, latent: int, components: int = 10) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(components, latent))
        self.log_concentration = nn.Parameter(
            torch.full((components,), math.log(latent))
        )
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, seen: Seen) -> None:
        """Starts at clusters of the draws."""
        mean, _, log_weight = clusters(seen.z, len(self.direction), seen.seed)
        r = mean.norm(dim=1).clamp(1e-3, 0.999)
        self.direction.copy_(mean)
        self.log_concentration.copy_(
            (r * (mean.shape[1] - r.square()) / (1 - r.square())).log()
        )
        self.log_weight.copy_(log_weight)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        loc, kappa = (
            F.normalize(self.direction, dim=-1),
            soft_clip(self.log_concentration, -4, 8).exp(),
        )
        return Blend(
            lambda at: VonMisesFisher(loc[at], kappa[at]), self.log_weight, ctx.n
        )


class PoincareMixturePrior(WrappedNormalPrior):
    """sum_m w_m WrappedNormal(z; mean_m, diag scale_m^2) in hyperbolic space.

    components: how many, M.  curvature: that of the model.  Starts at k-means clusters.
    """

    learns = True
    inherits = ("curvature",)

    def __init__(
        self, latent: int, components: int = 10, curvature: float = 1.0
    ) -> None:
        super().__init__(latent, curvature=curvature)
        self.mean = nn.Parameter(0.5 * torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, seen: Seen) -> None:
        """Starts at clusters of the draws."""
        start_at_clusters(self, seen.z, seen.seed)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        scale = soft_clip(self.log_scale).exp()
        return Blend(
            lambda at: WrappedNormal(self.mean[at], scale[at], self.curvature),
            self.log_weight,
            ctx.n,
        )
