"""Normalising flows: distributions of z = T(z0), z0 from a base distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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

from tightbound.distributions.base import (
    NoiseForm,
    ReparameterisedDistribution,
    register_kl,
)
from tightbound.distributions.reparam import from_noise, noise_form, point, to_noise

Map = Callable[[Tensor], tuple[Tensor, Tensor]]


class Flow(ReparameterisedDistribution):
    """Normalising flow: log q(z) = log base(z0) - log |det dT/dz0|, z = T(z0), (n, d).

    Args:
        base: Distribution of z0.
        forward: T, as z0 -> (z, log |det dT/dz0|), n rows each.
        inverse: T^-1 likewise. Without it `log_prob` raises, and the density is known only of
            values that `from_noise` made.

    Rezende and Mohamed 2015 (arXiv:1505.05770), eq. 5.
    """

    def __init__(
        self, base: Distribution, forward: Map, inverse: Map | None = None
    ) -> None:
        self.base = base
        self.forward = forward
        self.inverse = inverse
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return noise_form(self.base)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        start, log_base = from_noise(self.base, noise)
        z, ladj = self.forward(start)
        if log_base is None:
            log_base = self.base.log_prob(start)
        return z, log_base - ladj

    def log_prob(self, value: Tensor) -> Tensor:
        if self.inverse is None:
            raise ValueError(
                "this flow has no inverse, so its density is known only at "
                "values that it made itself"
            )
        start, ladj = self.inverse(value)
        return self.base.log_prob(start) + ladj

    def to_noise(self, z: Tensor) -> Tensor:
        """The noise that gives z (n, d); NotImplementedError where T has no inverse."""
        if self.inverse is None:
            raise NotImplementedError(
                "a flow without an inverse has no noise for a given z"
            )
        return to_noise(self.base, self.inverse(z)[0])

    @property
    def point(self) -> Tensor:
        """T of the central value of the base; not the mean."""
        return self.forward(point(self.base))[0]


def zuko_maps(kind: str, latent: int, steps: int, width: int, context: int = 0) -> Any:
    """Lazy invertible maps of R^d by zuko: called with a context (n, C) or None.

    They start near the identity, and an affine map scales by e^2 at most: without this bound
    six affine maps diverge in training.

    Args:
        kind: "affine" or "spline" (autoregressive, the inverse takes d passes), or "coupling"
            (one pass).
        latent: Number of features d.
        steps: Number of maps.
        width: Hidden units of their networks.
        context: Number of features C of the context.
    """
    from zuko import flows
    from zuko.transforms import MonotonicAffineTransform

    from tightbound.distributions.coupling import split_by_slices

    cls = {"affine": flows.MAF, "spline": flows.NSF, "coupling": flows.RealNVP}[kind]
    options: dict[str, Any] = {"hidden_features": (width, width), "activation": nn.SiLU}
    if kind != "spline":
        options["univariate"] = partial(MonotonicAffineTransform, slope=math.exp(-2))
    maps = cls(latent, context, transforms=steps, **options).transform
    split_by_slices(maps)
    with torch.no_grad():
        for module in maps.modules():
            for parameter in _last_parameters(module):
                parameter.mul_(0.1)
    return maps


def _last_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the last layer of a zuko map; of one feature the map has no network."""
    network: nn.Sequential | None = getattr(module, "hyper", None)
    if network is not None:
        return network[-1].parameters()
    return iter(getattr(module, "phi", ()))


class FullNormal(MultivariateNormal, ReparameterisedDistribution):
    """N(loc, L L') with a lower-triangular L (n, d, d).

    The density of a value from noise needs no linear solve.
    """

    support = constraints.real_vector

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normalisation = noise.shape[-1] * math.log(2 * math.pi)
        return z, -0.5 * (noise.square().sum(-1) + normalisation) - log_det

    def to_noise(self, z: Tensor) -> Tensor:
        """L^-1 (z - loc), (n, d)."""
        away = (z - self.loc).unsqueeze(-1)
        noise: Tensor = torch.linalg.solve_triangular(
            self.scale_tril, away, upper=False
        ).squeeze(-1)
        return noise


@register_kl(FullNormal, Independent)
def _kl_full_diagonal(q: FullNormal, p: Independent[Distribution]) -> Tensor:
    """KL(N(m, L L'), N(a, diag s^2)).

    1/2 (|L / s|^2 + |(m - a) / s|^2 - d) + sum log s - log det L.
    """
    if not isinstance(p.base_dist, Normal):
        raise NotImplementedError
    scale = p.base_dist.scale
    spread = (q.scale_tril / scale.unsqueeze(-1)).square().sum((-2, -1))
    away = ((q.loc - p.base_dist.loc) / scale).square().sum(-1)
    log_det_q = q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_det = scale.log().sum(-1) - log_det_q
    return 0.5 * (spread + away - scale.shape[-1]) + log_det
