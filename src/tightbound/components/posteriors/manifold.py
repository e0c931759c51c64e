"""Posteriors on spheres and in hyperbolic space."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.core.component import Posterior
from tightbound.core.draw import Context
from tightbound.distributions import (
    Blend,
    PowerSpherical,
    VonMisesFisher,
    WrappedNormal,
    soft_clip,
)
from tightbound.runtime.errors import TightboundError

# bound on the hyperbolic distance of a mean from the origin, far beyond draws of a usual prior
FARTHEST = 8.0


class SpherePosterior(Posterior):
    """Base class of posteriors on the sphere: mean direction and concentration.

    Both are linear in h; the concentration is bounded and starts near d.
    """

    latent_space = "sphere"
    family: type[VonMisesFisher] | type[PowerSpherical]

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise TightboundError(
                "a sphere needs latent = 2 or more: with one number a unit vector is only a sign"
            )
        self.direction = nn.Linear(features, latent)
        self.log_concentration = nn.Linear(features, 1)
        self.start = math.log(latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        log_kappa = self.log_concentration(h).squeeze(-1) + self.start
        kappa = soft_clip(log_kappa, -3, 8).exp()
        return self.family(F.normalize(self.direction(h), dim=-1), kappa)


class VonMisesFisherPosterior(SpherePosterior):
    """von Mises-Fisher posterior. Davidson et al. 2018 (arXiv:1804.00891)."""

    family = VonMisesFisher


class PowerSphericalPosterior(SpherePosterior):
    """Power spherical posterior. De Cao and Aziz 2020 (arXiv:2006.04437)."""

    family = PowerSpherical


class WrappedNormalPosterior(Posterior):
    """Wrapped normal posterior in hyperbolic space, with the curvature of the prior.

    Mathieu et al. 2019 (arXiv:1901.06033).
    """

    latent_space = "hyperbolic"

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.tangent = NormalPosterior(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q = self.tangent(h, ctx, None)
        r = q.mean.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        loc = q.mean * FARTHEST * (r / FARTHEST).tanh() / r
        return WrappedNormal(loc, q.stddev, _curvature(p))


def _curvature(p: Distribution | None) -> float:
    """The curvature of the space of a prior."""
    if isinstance(p, Blend):
        p = p.parts
    if not isinstance(p, WrappedNormal):
        raise TightboundError(
            "posterior 'wrapped-normal' needs a prior whose distribution is a WrappedNormal or a "
            "Blend of them: set prior wrapped-normal"
        )
    return p.curvature
