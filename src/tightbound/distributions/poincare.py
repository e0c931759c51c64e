"""The Poincare ball of curvature -c, |z| < 1 / sqrt(c); densities are with respect to its Riemannian volume."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.distributions.flow import FromNoise
from tightbound.distributions.reparam import NoiseForm

EDGE = 1e-5  # share of the radius that is kept from the boundary, where float32 has no more points


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1, keepdim=True) + 1e-30).sqrt()


def from_tangent(u: Tensor, c: float) -> Tensor:
    """exp_0: u in R^d, |u| the hyperbolic distance from 0, to the point in that direction."""
    r = math.sqrt(c) * _norm(u)
    return torch.tanh(r / 2) / r * u


def to_tangent(z: Tensor, c: float) -> Tensor:
    """log_0, the inverse of `from_tangent`, float64 inside."""
    r = math.sqrt(c) * _norm(z.double())
    return (2 * torch.atanh(r.clamp(max=1 - 1e-12)) / r * z).to(z.dtype)


def add(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Moebius addition. Mathieu et al. 2019 (arXiv:1901.06033), eq. 2."""
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)


def volume(u: Tensor, c: float) -> Tensor:
    """log((sinh(r) / r)^(d-1)), r = sqrt(c) |u|: what exp maps of the tangent u (n, d) stretch a volume by, (n,)."""
    r = math.sqrt(c) * _norm(u).squeeze(-1)
    far = r.clamp(min=0.1)
    exact = far + torch.log(-torch.expm1(-2 * far)) - torch.log(2 * far)
    return (u.shape[-1] - 1) * torch.where(r < 0.1, r.square() / 6 - r**4 / 180 + r**6 / 2835, exact)


class WrappedNormal(FromNoise):
    """z = loc (+) exp_0(u), u ~ N(0, diag scale^2): log p(z) = log N(u) - (d - 1) log(sinh(r) / r), r = sqrt(c) |u|.

    loc: (n, d) in the ball; scale: (n, d), in units of hyperbolic distance.  Mathieu et al. 2019 (arXiv:1901.06033),
    eq. 8 and appendix B.3; Nagano et al. 2019 (arXiv:1902.02992).
    """

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float) -> None:
        self.loc, self.scale, self.curvature = loc, scale, curvature
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return NoiseForm(len(self.loc), tuple(self.loc.shape[1:]), self.loc.dtype, self.loc.device)

    @property
    def point(self) -> Tensor:
        return self.loc

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        u, c = self.scale.double() * noise, self.curvature
        z = add(self.loc.double(), from_tangent(u, c), c)
        z = z * ((1 - EDGE) / (math.sqrt(c) * _norm(z))).clamp(max=1)
        return z.to(self.loc), self._log_density(u).to(self.loc)

    def _log_density(self, u: Tensor) -> Tensor:
        scale = self.scale.double()
        normal = -0.5 * (u / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return normal.sum(-1) - volume(u, self.curvature)

    def log_prob(self, value: Tensor) -> Tensor:
        away = add(-self.loc.double(), value.double(), self.curvature)
        return self._log_density(to_tangent(away, self.curvature)).to(value.dtype)
