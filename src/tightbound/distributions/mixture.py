"""A mixture of diagonal normals that all rows share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.distributions.flow import FromNoise
from tightbound.distributions.reparam import NoiseForm


class Mixture(FromNoise):
    """p(z) = sum_m w_m N(z; loc_m, diag scale_m^2), n rows; loc, scale (M, d), log-weights (M,) or (n, M).

    The squares are multiplied out in float64: a matrix product, without an (n, M, d) array and without cancellation.
    Noise: n rows of d + 1 normals; the first picks the component, so that z is a function of normal noise.
    """

    def __init__(self, loc: Tensor, scale: Tensor, log_weight: Tensor, n: int) -> None:
        self.loc, self.scale = loc, scale
        self.log_weight = log_weight.log_softmax(-1)
        super().__init__(torch.Size([n]), loc.shape[-1:], validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return NoiseForm(self.batch_shape[0], (self.loc.shape[1] + 1,), self.loc.dtype, self.loc.device)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        u = torch.special.ndtr(noise[:, :1].double())
        edges = self.log_weight.double().exp().cumsum(-1).expand(len(noise), -1)
        m = torch.searchsorted(edges.contiguous(), u).squeeze(1).clamp(max=len(self.loc) - 1)
        return self.loc[m] + self.scale[m] * noise[:, 1:], None

    def tempered(self, temperature: float) -> Mixture:
        """The same components, each narrower."""
        return Mixture(self.loc, self.scale * temperature, self.log_weight, self.batch_shape[0])

    def log_each(self, value: Tensor) -> Tensor:
        """log N(z; m) of each component, (..., M), in float64."""
        z, loc, precision = value.double(), self.loc.double(), self.scale.double() ** -2
        square = z.square() @ precision.T - 2 * z @ (loc * precision).T + (loc.square() * precision).sum(-1)
        log_det = self.scale.double().log().sum(-1)
        return -0.5 * (square + value.shape[-1] * math.log(2 * math.pi)) - log_det

    def log_prob(self, value: Tensor) -> Tensor:
        return (self.log_each(value) + self.log_weight).logsumexp(-1).to(value.dtype)

    def _average(self, each: Tensor) -> Tensor:
        return (self.log_weight.exp() @ each).expand(self.batch_shape[0], -1)

    @property
    def mean(self) -> Tensor:
        return self._average(self.loc)

    @property
    def variance(self) -> Tensor:
        return self._average(self.scale.square() + self.loc.square()) - self.mean.square()
