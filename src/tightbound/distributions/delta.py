"""A point mass: the posterior of an autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from tightbound.distributions.base import ReparameterisedDistribution, SampleShape


class Delta(ReparameterisedDistribution):
    """Dirac delta: all mass at `value` (n, *event); without a density, so `log_prob` raises."""

    support = constraints.real

    def __init__(self, value: Tensor, event_dims: int = 1) -> None:
        self.value = value
        cut = value.dim() - event_dims
        super().__init__(value.shape[:cut], value.shape[cut:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.value

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.value)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        return self.value, None

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        return self.value.expand(torch.Size(sample_shape) + self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError(
            "a point mass has no density: an autoencoder has a distortion, not an ELBO"
        )
