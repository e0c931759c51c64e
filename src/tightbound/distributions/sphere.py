"""Distributions on the unit sphere in R^d, d >= 2, with respect to its area."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tightbound.distributions.base import (
    NoiseForm,
    ReparameterisedDistribution,
    register_kl,
)
from tightbound.distributions.bessel import log_iv, ratio_iv, with_grad

NODES = 256  # intervals of the quadrature over the angle
ROWS = 2048  # rows that are inverted together
DEEP = 45.0  # log-densities this far below the maximum are left out


def log_area(d: int) -> float:
    """log of the area of the unit sphere in R^d."""
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)


class SphereUniform(ReparameterisedDistribution):
    """Uniform distribution on the sphere, n rows in R^d; it has no temperature."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(like.shape[:1], like.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.like, 1 / self.like.shape[-1])

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        return F.normalize(noise, dim=-1), None

    def tempered(self, temperature: float) -> SphereUniform:
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.full_like(value[..., 0], -log_area(self.like.shape[-1]))


class Zonal(ReparameterisedDistribution):
    """Rotationally symmetric: p(z) = exp(kappa T(w) + log_norm(kappa)), w = loc'z.

    z = cos(a) loc + sin(a) v, v a uniform unit tangent. The angle a is the inverse of its
    distribution function, with density proportional to sin(a)^(d-2) exp(kappa T) and summed by
    Simpson's rule in float64; da/dkappa is implicit, by the same sums. A row of noise has d + 1
    normals, the first for the angle; z is a smooth function of all of them, loc and kappa.

    Args:
        loc: Unit vectors, (n, d).
        concentration: kappa > 0, (n,).
    """

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc = loc
        self.concentration = concentration
        self.d = loc.shape[-1]
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)

    def statistic(self, w: Tensor) -> Tensor:
        """T(w)."""
        raise NotImplementedError

    @property
    def log_norm(self) -> Tensor:
        """Log normalising constant, float64 (n,)."""
        raise NotImplementedError

    @property
    def expected(self) -> Tensor:
        """E[T], float64 (n,)."""
        raise NotImplementedError

    @property
    def cosine(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of w, float64 (n,)."""
        raise NotImplementedError

    @property
    def noise_form(self) -> NoiseForm:
        return NoiseForm(len(self.loc), (self.d + 1,), self.loc.dtype, self.loc.device)

    def tempered(self, temperature: float) -> Zonal:
        """Concentration divided by temperature^2, as the precision of a normal."""
        return type(self)(self.loc, self.concentration / max(temperature, 1e-3) ** 2)

    @property
    def point(self) -> Tensor:
        """The mean direction, which is on the sphere; the mean is not."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        return self.cosine[0].to(self.loc).unsqueeze(-1) * self.loc

    @property
    def variance(self) -> Tensor:
        mean, variance = self.cosine
        along = (mean.square() + variance).to(self.loc).unsqueeze(-1)
        square = self.loc.square()
        return (
            along * square
            + (1 - along) * (1 - square) / (self.d - 1)
            - self.mean.square()
        )

    def log_prob(self, value: Tensor) -> Tensor:
        w = (self.loc.double() * value.double()).sum(-1).clamp(-1, 1)
        return (self.concentration.double() * self.statistic(w) + self.log_norm).to(
            value.dtype
        )

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        kappa = self.concentration.double()
        u = torch.special.ndtr(noise[:, 0].double())
        with torch.no_grad():
            blocks = zip(u.split(ROWS), kappa.split(ROWS), strict=True)
            inverted = [self._invert(*block) for block in blocks]
            angle = torch.cat([block[0] for block in inverted])
            grad = torch.cat([block[1] for block in inverted])
        angle = with_grad(angle, grad, kappa)
        tangent = (
            noise[:, 1:] - (noise[:, 1:] * self.loc).sum(-1, keepdim=True) * self.loc
        )
        w = angle.cos().unsqueeze(-1)
        across = angle.sin().unsqueeze(-1)
        z = w.to(self.loc) * self.loc + across.to(self.loc) * F.normalize(
            tangent, dim=-1
        )
        return z, (kappa * self.statistic(w.squeeze(-1)) + self.log_norm).to(z)

    def _log_density(self, angle: Tensor, kappa: Tensor) -> Tensor:
        power = torch.tensor(self.d - 2.0, dtype=angle.dtype, device=angle.device)
        log_density: Tensor = torch.special.xlogy(
            power, angle.sin().clamp(min=0)
        ) + kappa[:, None] * self.statistic(angle.cos())
        return log_density

    def _invert(self, u: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        """The angle a at which the CDF is u, and da/dkappa; float64 (n,)."""
        coarse = torch.linspace(
            0, math.pi, 2 * NODES + 1, dtype=u.dtype, device=u.device
        ).expand(len(u), -1)
        log_f = self._log_density(coarse, kappa)
        inside = log_f > log_f.amax(1, keepdim=True) - DEEP
        first = inside.int().argmax(1) - 1
        last = 2 * NODES + 1 - inside.flip(1).int().argmax(1)
        low = coarse[0, first.clamp(0, 2 * NODES)].unsqueeze(1)
        high = coarse[0, last.clamp(0, 2 * NODES)].unsqueeze(1)
        at = low + (high - low) * torch.linspace(
            0, 1, 2 * NODES + 1, dtype=u.dtype, device=u.device
        )
        log_f = self._log_density(at, kappa)
        t = self.statistic(at.cos())
        f = (log_f - log_f.amax(1, keepdim=True)).exp()
        width = (high - low) / NODES
        total = _panels(f, width).sum(1, keepdim=True)
        f = f / total
        change = f * (t - _panels(f * t, width).sum(1, keepdim=True))
        below = F.pad(_panels(f, width).cumsum(1), (1, 0))
        i = torch.searchsorted(below, u[:, None], right=True).sub(1).clamp(0, NODES - 1)
        fa, fm, fb = (f.gather(1, 2 * i + j) for j in range(3))
        remainder = (u[:, None] - below.gather(1, i)) / width
        s = torch.full_like(u[:, None], 0.5)
        for _ in range(8):
            error = _cubic(fa, fm, fb, s) - remainder
            s = (s - error / _square(fa, fm, fb, s).clamp(min=1e-300)).clamp(0, 1)
        shift = F.pad(_panels(change, width).cumsum(1), (1, 0)).gather(1, i)
        ca, cm, cb = (change.gather(1, 2 * i + j) for j in range(3))
        shift = shift + width * _cubic(ca, cm, cb, s)
        grad = -shift / _square(fa, fm, fb, s).clamp(min=1e-300)
        return (low + (i + s) * width).squeeze(1), grad.squeeze(1)


def _panels(f: Tensor, width: Tensor) -> Tensor:
    """Simpson's rule on each interval, from values at its two ends and its middle."""
    return width / 6 * (f[:, :-1:2] + 4 * f[:, 1::2] + f[:, 2::2])


def _square(a: Tensor, m: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """The parabola through a, m, b at 0, 1/2, 1, at s."""
    return a + s * (4 * m - 3 * a - b + s * (2 * a - 4 * m + 2 * b))


def _cubic(a: Tensor, m: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """The integral of this parabola from 0 to s."""
    return s * (a + s * ((4 * m - 3 * a - b) / 2 + s * (2 * a - 4 * m + 2 * b) / 3))


class VonMisesFisher(Zonal):
    """von Mises-Fisher: p(z) = C_d(kappa) exp(kappa loc'z), kappa >= 0.

    Davidson et al. 2018 (arXiv:1804.00891), eq. 3.
    """

    def statistic(self, w: Tensor) -> Tensor:
        return w

    @property
    def log_norm(self) -> Tensor:
        return -self.d / 2 * math.log(2 * math.pi) - log_iv(
            self.d / 2 - 1, self.concentration
        )

    @property
    def expected(self) -> Tensor:
        return ratio_iv(self.d / 2 - 1, self.concentration)

    @property
    def cosine(self) -> tuple[Tensor, Tensor]:
        mean = self.expected
        kappa = self.concentration.double()
        return mean, 1 - mean.square() - (self.d - 1) * mean / kappa.clamp(min=1e-12)


class PowerSpherical(Zonal):
    """Power spherical: p(z) = N(kappa, d) (1 + loc'z)^kappa; (1 + w) / 2 is Beta.

    De Cao and Aziz 2020 (arXiv:2006.04437), eq. 2, 3.
    """

    def statistic(self, w: Tensor) -> Tensor:
        return torch.log1p(w.clamp(min=-1 + 1e-15))

    @property
    def _beta(self) -> tuple[Tensor, float]:
        b = (self.d - 1) / 2
        return self.concentration.double() + b, b

    @property
    def log_norm(self) -> Tensor:
        a, b = self._beta
        return (
            -(a + b) * math.log(2)
            - b * math.log(math.pi)
            - torch.lgamma(a)
            + torch.lgamma(a + b)
        )

    @property
    def expected(self) -> Tensor:
        a, b = self._beta
        return math.log(2) + torch.digamma(a) - torch.digamma(a + b)

    @property
    def cosine(self) -> tuple[Tensor, Tensor]:
        a, b = self._beta
        return (a - b) / (a + b), 4 * a * b / ((a + b).square() * (a + b + 1))


@register_kl(Zonal, SphereUniform)
def _kl_zonal_uniform(q: Zonal, p: SphereUniform) -> Tensor:
    """kappa E[T] + log_norm + log area."""
    return (q.concentration.double() * q.expected + q.log_norm + log_area(q.d)).to(
        q.loc.dtype
    )
