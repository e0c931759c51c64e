"""Mixtures with the same components in all rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.distributions.base import NoiseForm, ReparameterisedDistribution
from tightbound.distributions.reparam import from_noise, noise_form

Numbers = Tensor | slice


class Blend(ReparameterisedDistribution):
    """Mixture p(z) = sum_m w_m p_m(z), n rows.

    A row of noise is one normal, which selects the component, and then the noise of that component:
    z is a function of normal noise.

    Args:
        make: Function of component numbers to a distribution over them.
        log_weight: log w, up to a constant, (M,) or (n, M).
        n: Number of rows.
        temperature: That of each component.
    """

    def __init__(
        self,
        make: Callable[[Numbers], Distribution],
        log_weight: Tensor,
        n: int,
        temperature: float = 1.0,
    ) -> None:
        self.make = make
        self.parts = make(slice(None))
        self.temperature = temperature
        self.log_weight = log_weight.log_softmax(-1)
        super().__init__(torch.Size([n]), self.parts.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        form = noise_form(self.parts)
        return form._replace(rows=self.batch_shape[0], event=(1 + form.event[0],))

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        u = torch.special.ndtr(noise[:, :1].double())
        edges = self.log_weight.double().exp().cumsum(-1).expand(len(noise), -1)
        m = torch.searchsorted(edges.contiguous(), u).squeeze(1)
        m = m.clamp(max=edges.shape[-1] - 1)
        return from_noise(self.make(m), noise[:, 1:], self.temperature)[0], None

    def tempered(self, temperature: float) -> Blend:
        """The same mixture with narrower components."""
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
    """Mixture of diagonal normals: sum_m w_m N(z; loc_m, diag scale_m^2), n rows.

    The squares are multiplied out in float64: one matrix product, without an (n, M, d) array and
    without cancellation.

    Args:
        loc, scale: (M, d).
        log_weight: log w, up to a constant, (M,) or (n, M).
        n: Number of rows.
    """

    def __init__(self, loc: Tensor, scale: Tensor, log_weight: Tensor, n: int) -> None:
        self.loc = loc
        self.scale = scale

        def make(numbers: Numbers) -> Distribution:
            normal = Normal(loc[numbers], scale[numbers], validate_args=False)
            return Independent(normal, 1, validate_args=False)

        super().__init__(make, log_weight, n)

    def log_each(self, value: Tensor) -> Tensor:
        """log N(z; m) of each component, (..., M), in float64."""
        z = value.double()
        loc = self.loc.double()
        precision = self.scale.double() ** -2
        square = (
            z.square() @ precision.T
            - 2 * z @ (loc * precision).T
            + (loc.square() * precision).sum(-1)
        )
        log_det = self.scale.double().log().sum(-1)
        return -0.5 * (square + value.shape[-1] * math.log(2 * math.pi)) - log_det
