"""Priors on spheres and in hyperbolic space."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.components.priors.encoded_data import clusters, start_at_clusters
from tightbound.core.component import EncodedData, Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.options import Count, Positive
from tightbound.distributions import (
    Blend,
    SphereUniform,
    VonMisesFisher,
    WrappedNormal,
    soft_clip,
)


class SphereUniformPrior(Prior):
    """Uniform prior on the unit sphere in R^d."""

    latent_space = "sphere"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return SphereUniform(self.get_buffer("zero").expand(ctx.n, -1))


class WrappedNormalPrior(Prior):
    """Wrapped normal at the origin of hyperbolic space of curvature -c.

    z is in normal coordinates, where p(z) is N(0, scale^2) of the distance. In the Poincare ball of
    radius 1 / sqrt(c), z is tanh(r / 2) / r z, r = sqrt(c) |z|. Mathieu et al. 2019
    (arXiv:1901.06033); Nagano et al. 2019 (arXiv:1902.02992).
    """

    latent_space = "hyperbolic"

    def __init__(
        self,
        latent: int,
        scale: Annotated[
            Positive, Field(description="scale in units of hyperbolic distance")
        ] = 1.0,
        curvature: Annotated[
            Positive, Field(description="curvature c of the space, positive")
        ] = 1.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.curvature = curvature
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        zero = self.get_buffer("zero").expand(ctx.n, -1)
        return WrappedNormal(zero, torch.full_like(zero, self.scale), self.curvature)


class SphereMixturePrior(Prior):
    """von Mises-Fisher mixture: p(z) = sum_m w_m vMF(z; loc_m, kappa_m).

    On the unit sphere in R^d; kappa = 0 gives the uniform distribution. Fitting starts at k-means
    clusters, with kappa by Banerjee et al. 2005, eq. 4.4 (jmlr.org/papers/v6/banerjee05a.html).
    """

    latent_space = "sphere"
    fits_by_gradient = True

    def __init__(
        self,
        latent: int,
        components: Annotated[Count, Field(description="number of components")] = 10,
    ) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(components, latent))
        self.log_concentration = nn.Parameter(
            torch.full((components,), math.log(latent))
        )
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, data: EncodedData) -> None:
        """Set the components to clusters of the draws."""
        mean, _, log_weight = clusters(data.z, len(self.direction), data.seed)
        r = mean.norm(dim=1).clamp(1e-3, 0.999)
        self.direction.copy_(mean)
        self.log_concentration.copy_(
            (r * (mean.shape[1] - r.square()) / (1 - r.square())).log()
        )
        self.log_weight.copy_(log_weight)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        loc = F.normalize(self.direction, dim=-1)
        kappa = soft_clip(self.log_concentration, -4, 8).exp()
        return Blend(
            lambda at: VonMisesFisher(loc[at], kappa[at]), self.log_weight, ctx.n
        )


class PoincareMixturePrior(WrappedNormalPrior):
    """Wrapped normal mixture: sum_m w_m WrappedNormal(z; mean_m, diag scale_m^2).

    In hyperbolic space. Fitting starts at k-means clusters.
    """

    fits_by_gradient = True
    inherited_options = ("curvature",)

    def __init__(
        self,
        latent: int,
        components: Annotated[Count, Field(description="number of components")] = 10,
        curvature: Annotated[
            Positive, Field(description="curvature of the model's space")
        ] = 1.0,
    ) -> None:
        super().__init__(latent, curvature=curvature)
        self.mean = nn.Parameter(0.5 * torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, data: EncodedData) -> None:
        """Set the components to clusters of the draws."""
        start_at_clusters(self, data.z, data.seed)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        scale = soft_clip(self.log_scale).exp()
        return Blend(
            lambda at: WrappedNormal(self.mean[at], scale[at], self.curvature),
            self.log_weight,
            ctx.n,
        )
