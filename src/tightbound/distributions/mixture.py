"""Mixtures that all rows share: of any components, and of diagonal normals, whose density is a
matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.distributions.flow import FromNoise
from tightbound.distributions.reparam import NoiseForm, from_noise, noise_form


class Blend(FromNoise):
    """p(z) = sum_m w_m p_m(z), n rows; `make(at)` gives the components at some numbers; log-weights
    (M,) or (n, M).

    Noise: n rows of one normal, which picks the component, so that z is a function of normal noise,
    and then the noise of that component.
    """

    def __init__(
        self,
        make: Callable[[Any], Distribution],
        log_weight: Tensor,
        n: int,
        temperature: float = 1.0,
    ) -> None:
        self.make, self.parts, self.temperature = make, make(slice(None)), temperature
        self.log_weight = log_weight.log_softmax(-1)
        super().__init__(torch.Size([n]), self.parts.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        one = noise_form(self.parts)
        return one._replace(rows=self.batch_shape[0], event=(1 + one.event[0],))

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        u = torch.special.ndtr(noise[:, :1].double())
        edges = self.log_weight.double().exp().cumsum(-1).expand(len(noise), -1)
        m = (
            torch.searchsorted(edges.contiguous(), u)
            .squeeze(1)
            .clamp(max=edges.shape[-1] - 1)
        )
        return from_noise(self.make(m), noise[:, 1:], self.temperature)[0], None

    def tempered(self, temperature: float) -> Blend:
        """The same components, each narrower."""
        return Blend(self.make, self.log_weight, self.batch_shape[0], temperature)

    def log_each(self, value: Tensor) -> Tensor:
        """log p_m(z) of each component, (..., M)."""
        return self.parts.log_prob(value.unsqueeze(-2))

    def log_prob(self, value: Tensor) -> Tensor:
        return (self.log_each(value) + self.log_weight).logsumexp(-1).to(value.dtype)

    def _average(self, each: Tensor) -> Tensor:
        return (self.log_weight.exp() @ each).expand(self.batch_shape[0], -1)

    @property
    def mean(self) -> Tensor:
        return self._average(self.parts.mean)

    @property
    def variance(self) -> Tensor:
        return (
            self._average(self.parts.variance + self.parts.mean.square())
            - self.mean.square()
        )


class Mixture(Blend):
    """p(z) = sum_m w_m N(z; loc_m, diag scale_m^2), n rows; loc, scale (M, d), log-weights (M,) or
    (n, M).

    The squares are multiplied out in float64: a matrix product, without an (n, M, d) array and
    without cancellation.
    """

    def __init__(self, loc: Tensor, scale: Tensor, log_weight: Tensor, n: int) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(
            lambda at: Independent(
                Normal(loc[at], scale[at], validate_args=False), 1, validate_args=False
            ),
            log_weight,
            n,
        )

    def log_each(self, value: Tensor) -> Tensor:
        """log N(z; m) of each component, (..., M), in float64."""
        z, loc, precision = value.double(), self.loc.double(), self.scale.double() ** -2
        square = (
            z.square() @ precision.T
            - 2 * z @ (loc * precision).T
            + (loc.square() * precision).sum(-1)
        )
        log_det = self.scale.double().log().sum(-1)
        return -0.5 * (square + value.shape[-1] * math.log(2 * math.pi)) - log_det
