"""Wrapped normals in hyperbolic space of curvature -c, in normal coordinates.

|z| is the distance from the origin. The point of the Poincare ball is tanh(r / 2) / r z, r
= sqrt(c) |z|. Far out, floats cannot represent the difference of such points, but they can
in normal coordinates, so that no z has to be kept away from the edge of the ball. Densities
are with respect to dz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.distributions.base import NoiseForm, ReparameterisedDistribution

LEAST = 1e-300


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1, keepdim=True) + LEAST).sqrt()


def add(a: Tensor, b: Tensor, c: float) -> Tensor:
    """Moebius addition log_0(exp_0(a) (+) exp_0(b)) in normal coordinates, float64.

    By the laws of the hyperbolic triangle with sides |a|, |b|; all terms are scaled by
    exp(-sqrt(c) (|a| + |b|)), so that none overflows. Mathieu et al. 2019 (arXiv:1901.06033),
    eq. 2.
    """
    # the shift gives the origin a direction
    a = a.double() + 1e-30
    b = b.double() + 1e-30
    (x, one), (y, two) = ((v / _norm(v), math.sqrt(c) * _norm(v)) for v in (a, b))
    # cos^2 and sin^2 of half the angle between the sides
    near, far = ((x + sign * y).square().sum(-1, keepdim=True) / 4 for sign in (1, -1))
    both = one + two
    s = (
        torch.expm1(-both).square() * near
        + ((-two).exp() - (-one).exp()).square() * far
    ) / 4 + LEAST
    r = both + 2 * (s.sqrt() + (s + (-both).exp()).sqrt()).log()
    along = ((-2 * two).exp() - (-2 * one).exp()) * far - torch.expm1(-2 * both) * near
    way = along * x - (-one).exp() * torch.expm1(-2 * two) * (y - (near - far) * x)
    return r / math.sqrt(c) * way / _norm(way)


def volume(u: Tensor, c: float) -> Tensor:
    """Log volume factor of the exponential map: log((sinh(r) / r)^(d-1)), (n,).

    r = sqrt(c) |u|, u (n, d).
    """
    r = math.sqrt(c) * _norm(u).squeeze(-1)
    far = r.clamp(min=0.1)
    exact = far + torch.log(-torch.expm1(-2 * far)) - torch.log(2 * far)
    return (u.shape[-1] - 1) * torch.where(
        r < 0.1, r.square() / 6 - r**4 / 180 + r**6 / 2835, exact
    )


class WrappedNormal(ReparameterisedDistribution):
    """Wrapped normal in hyperbolic space: z = loc (+) u, u ~ N(0, diag scale^2).

        log q(z) = log N(u) + (d - 1) (log(sinh(s) / s) - log(sinh(r) / r))

    with r = sqrt(c) |u|, s = sqrt(c) |z|.

    Args:
        loc: (n, d).
        scale: (n, d), in units of hyperbolic distance.
        curvature: c > 0.

    Mathieu et al. 2019 (arXiv:1901.06033), eq. 8 and appendix B.3; Nagano et al. 2019
    (arXiv:1902.02992).
    """

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float) -> None:
        self.loc = loc
        self.scale = scale
        self.curvature = curvature
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return NoiseForm(
            len(self.loc), tuple(self.loc.shape[1:]), self.loc.dtype, self.loc.device
        )

    @property
    def point(self) -> Tensor:
        return self.loc

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        u = self.scale.double() * noise
        z = add(self.loc, u, self.curvature)
        return z.to(self.loc), self._log_density(u, z).to(self.loc)

    def _log_density(self, u: Tensor, z: Tensor) -> Tensor:
        scale = self.scale.double()
        normal = -0.5 * (u / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return normal.sum(-1) + volume(z, self.curvature) - volume(u, self.curvature)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_density(
            add(-self.loc, value, self.curvature), value.double()
        ).to(value.dtype)
