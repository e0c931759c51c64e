"""q(z|x) on spheres and in hyperbolic space."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.core.component import Posterior
from tightbound.core.trace import Context
from tightbound.distributions import (
    PowerSpherical,
    VonMisesFisher,
    WrappedNormal,
    soft_clip,
)
from tightbound.runtime.errors import TightboundError

# hyperbolic distance of a mean from the origin: a bound far from all draws of a usual prior
FARTHEST = 8.0


class SpherePosterior(Posterior):
    """A mean direction and a concentration, linear in h; the concentration is bounded and starts
    near d.
    """

    latent_space = "sphere"
    family: type[VonMisesFisher] | type[PowerSpherical]

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise TightboundError(
                "a sphere needs latent = 2 or more: a unit vector of one number is only a sign"
            )
        self.direction = nn.Linear(features, latent)
        self.log_concentration = nn.Linear(features, 1)
        self.start = math.log(latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        kappa = soft_clip(
            self.log_concentration(h).squeeze(-1) + self.start, -3, 8
        ).exp()
        return self.family(F.normalize(self.direction(h), dim=-1), kappa)


class VonMisesFisherPosterior(SpherePosterior):
    """von Mises-Fisher. Davidson et al. 2018 (arXiv:1804.00891)."""

    family = VonMisesFisher


class PowerSphericalPosterior(SpherePosterior):
    """Power spherical. De Cao and Aziz 2020 (arXiv:2006.04437)."""

    family = PowerSpherical


class WrappedNormalPosterior(Posterior):
    """A wrapped normal in hyperbolic space, of the prior's curvature.

    Mathieu et al. 2019 (arXiv:1901.06033).
    """

    latent_space = "hyperbolic"

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.tangent = NormalPosterior(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q = self.tangent(h, ctx, None)
        curvature: float = getattr(p, "parts", p).curvature  # type: ignore[union-attr]
        r = q.mean.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return WrappedNormal(
            q.mean * FARTHEST * (r / FARTHEST).tanh() / r, q.stddev, curvature
        )
