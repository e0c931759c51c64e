"""Distributions of z = T(z0): a base pushed through invertible maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    constraints,
)
from torch.distributions.kl import register_kl

from tightbound.distributions.reparam import (
    NoiseForm,
    from_noise,
    noise_form,
    noise_like,
    point,
    to_noise,
)

Map = Callable[[Tensor], tuple[Tensor, Tensor]]


class FromNoise(Distribution):
    """A distribution over n rows that is known by its `from_noise`; samples are made from standard
    noise.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own attribute)
    support = constraints.real_vector
    has_rsample = True

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        size = torch.Size(sample_shape)
        drawn = [from_noise(self, noise_like(self))[0] for _ in range(size.numel())]
        return torch.stack(drawn).reshape(*size, *drawn[0].shape)


class Flow(FromNoise):
    """log q(z) = log base(z0) - log |det dT/dz0|, z = T(z0), over n rows (n, d).

    forward: T as z0 -> (z, log |det dT/dz0|), each n rows.  inverse: the same of T^-1; without it,
    a density is known only where z was made from noise, and `log_prob` raises.  Rezende and Mohamed
    2015 (arXiv:1505.05770), eq. 5.
    """

    def __init__(
        self, base: Distribution, forward: Map, inverse: Map | None = None
    ) -> None:
        self.base, self.forward, self.inverse = base, forward, inverse
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return noise_form(self.base)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        start, log_base = from_noise(self.base, noise)
        z, ladj = self.forward(start)
        return z, (self.base.log_prob(start) if log_base is None else log_base) - ladj

    def log_prob(self, value: Tensor) -> Tensor:
        if self.inverse is None:
            raise ValueError(
                "this flow has no inverse, so its density is known only at "
                "values that it made itself"
            )
        start, ladj = self.inverse(value)
        return self.base.log_prob(start) + ladj

    def to_noise(self, z: Tensor) -> Tensor:
        """The noise that makes a given z (n, d); raises NotImplementedError where the maps have no
        inverse.
        """
        if self.inverse is None:
            raise NotImplementedError(
                "a flow without an inverse cannot say which noise makes a given z"
            )
        return to_noise(self.base, self.inverse(z)[0])

    @property
    def point(self) -> Tensor:
        """The image of the base's centre; not the mean."""
        return self.forward(point(self.base))[0]


def zuko_maps(kind: str, latent: int, steps: int, width: int, context: int = 0) -> Any:
    """Lazy maps of R^d: called with a context (n, C) or None they give a transform, one pass
    forward.

    kind: "affine" or "spline", autoregressive (their inverse takes d passes), or "coupling" (one
    pass).  They start near the identity, and an affine map stretches by e^2 at most, without which
    six of them explode.
    """
    from zuko import flows
    from zuko.transforms import MonotonicAffineTransform

    cls = {"affine": flows.MAF, "spline": flows.NSF, "coupling": flows.RealNVP}[kind]
    options: dict[str, Any] = {"hidden_features": (width, width), "activation": nn.SiLU}
    if kind != "spline":
        options["univariate"] = partial(MonotonicAffineTransform, slope=math.exp(-2))
    maps = cls(latent, context, transforms=steps, **options).transform
    with torch.no_grad():
        for (
            m
        ) in maps.modules():  # of one feature the maps are numbers, phi, and no network
            for last in (
                m.hyper[-1].parameters()
                if hasattr(m, "hyper")
                else getattr(m, "phi", ())
            ):
                last.mul_(0.1)
    return maps


class FullNormal(MultivariateNormal):
    """N(loc, L L') with a lower-triangular L (n, d, d); its density at a value from noise needs no
    solve.
    """

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return z, -0.5 * (
            noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi)
        ) - log_det

    def to_noise(self, z: Tensor) -> Tensor:
        """L^-1 (z - loc), (n, d)."""
        away = (z - self.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(
            self.scale_tril, away, upper=False
        ).squeeze(-1)


@register_kl(FullNormal, Independent)
def _kl_full_diagonal(q: FullNormal, p: Independent) -> Tensor:
    """KL(N(m, L L'), N(a, diag s^2)) = 1/2 (|L / s|^2 + |(m - a) / s|^2 - d) + sum log s - log det
    L.
    """
    if not isinstance(p.base_dist, Normal):
        raise NotImplementedError
    scale = p.base_dist.scale
    spread = (q.scale_tril / scale.unsqueeze(-1)).square().sum((-2, -1))
    away = ((q.loc - p.base_dist.loc) / scale).square().sum(-1)
    log_det = scale.log().sum(-1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(
        -1
    )
    return 0.5 * (spread + away - scale.shape[-1]) + log_det
