"""Bernoulli pixels with a fast log-mass, and the continuous Bernoulli."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, constraints
from torch.nn import functional as F

from tightbound.distributions.base import ExtendedDistribution, SampleShape

NEAR = 0.2  # below, series replace differences that cancel in float32
# factors from 1/2 to 1 in a product, which is then at least 2^-64, far above underflow in float32
FACTORS = 64


class BernoulliPixels(Independent[Bernoulli]):
    """Independent Bernoulli variables with logits y (n, *event).

    log p = sum_d x y - max(y, 0) + log sigmoid(|y|). Where no gradient is needed, the last sum is
    one logarithm for each product of up to 64 factors, and the first a matrix product if all rows
    share one x: equal up to rounding, in a fraction of the time.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(
            Bernoulli(logits=logits, validate_args=False),
            logits.dim() - 1,
            validate_args=False,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        y = self.base_dist.logits
        if value.shape != y.shape or y.dtype != value.dtype:
            log_prob: Callable[[Tensor], Tensor] = super().log_prob
            return log_prob(value)
        if torch.is_grad_enabled() and y.requires_grad:
            # the sum is negated, not each term: the same number, in two passes less
            each = F.binary_cross_entropy_with_logits(y, value, reduction="none")
            return -each.flatten(1).sum(-1)
        y = y.flatten(1)
        x = value.flatten(1)
        size = y.abs()
        # sum of x y - max(y, 0)
        linear = _centred_product(x, y, value.stride(0) == 0) - size.sum(-1) / 2
        factors = size.sigmoid_()
        while factors.shape[1] % 2 == 0 and y.shape[1] // factors.shape[1] < FACTORS:
            half = factors.shape[1] // 2
            factors = factors[:, :half] * factors[:, half:]
        log_p: Tensor = linear + factors.log_().sum(-1)
        return log_p


def _centred_product(x: Tensor, y: Tensor, same_rows: bool) -> Tensor:
    """sum_d (x_d - 1/2) y_d, (n,); same_rows: x holds one example n times."""
    if same_rows:
        return y @ (x[0] - 0.5)
    return (x - 0.5).mul_(y).sum(-1)


class ContinuousBernoulli(ExtendedDistribution):
    """Continuous Bernoulli: p(x) = l exp(l x) / (exp(l) - 1) on [0, 1], l the logit.

    Accurate also at |l| > 16 and near 0, where torch's is not. Loaiza-Ganem and Cunningham 2019
    (arXiv:1907.06845), eq. 8 and 9.
    """

    support = constraints.unit_interval

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def _split(self) -> tuple[Tensor, Tensor]:
        """Whether the logit is near 0, and the logit with 1 in those places."""
        near = self.logits.abs() < NEAR
        return near, torch.where(near, torch.ones_like(self.logits), self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        near, far = self._split()
        size = far.abs()
        # log((exp(l) - 1) / l)
        norm = F.relu(far) + torch.log(-torch.expm1(-size)) - size.log()
        square = self.logits.square()
        return self.logits * value - torch.where(
            near, self.logits / 2 + square / 24 - square.square() / 2880, norm
        )

    @property
    def mean(self) -> Tensor:
        near, far = self._split()
        return torch.where(
            near,
            0.5 + self.logits / 12 - self.logits**3 / 720,
            -1 / torch.expm1(-far) - 1 / far,
        )

    @property
    def variance(self) -> Tensor:
        near, far = self._split()
        exact = far**-2 - (2 * torch.sinh((far / 2).clamp(-40, 40))) ** -2
        return torch.where(
            near, 1 / 12 - self.logits**2 / 240 + self.logits**4 / 6048, exact
        )

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """By the inverse of the distribution function, from the end with more mass."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.logits.shape
            u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            size = self.logits.abs().clamp(min=1e-6)
            # of a density that decreases from 0
            x = -torch.log1p(u * torch.expm1(-size)) / size
            return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)
