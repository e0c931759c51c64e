"""Log-normal distributions, and distributions with exact zeros."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.distributions import LogNormal as TorchLogNormal
from torch.nn import functional as F

from tightbound.distributions.base import ExtendedDistribution, SampleShape


class LogNormal(TorchLogNormal):
    """Log-normal distribution whose density is 0 at numbers that are not above 0.

    torch's has no gradient there, so that a missing value, read as 0, would spoil a step.

    Example:
        >>> import torch
        >>> from tightbound.distributions import LogNormal
        >>> LogNormal(torch.zeros(2), torch.ones(2)).log_prob(torch.tensor([0.0, 1.0]))
        tensor([   -inf, -0.9189])
    """

    def log_prob(self, value: Tensor) -> Tensor:
        is_above = value > 0
        log_prob: Callable[[Tensor], Tensor] = super().log_prob
        log_p = log_prob(torch.where(is_above, value, torch.ones_like(value)))
        return torch.where(is_above, log_p, -torch.inf)


class ZeroInflated(ExtendedDistribution):
    """Zero with probability pi, else a value of a continuous distribution.

        p(0) = pi, and p(x) = (1 - pi) f(x) for other x

    p is a density with respect to the sum of the counting measure at 0 and Lebesgue measure.

    Args:
        logits: log-odds of zero, (n, d).
        others: f, the distribution of the other values, with batch shape (n, d).

    Example:
        >>> import torch
        >>> from tightbound.distributions import LogNormal, ZeroInflated
        >>> zeros = ZeroInflated(torch.tensor([2.2]), LogNormal(torch.zeros(1), torch.ones(1)))
        >>> round(float(zeros.log_prob(torch.zeros(1)).exp()), 2)
        0.9
    """

    def __init__(self, logits: Tensor, others: Distribution) -> None:
        self.logits = logits
        self.others = others
        super().__init__(logits.shape, torch.Size(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        is_zero = value == 0
        other = torch.where(is_zero, torch.ones_like(value), value)
        density = F.logsigmoid(-self.logits) + self.others.log_prob(other)
        return torch.where(is_zero, F.logsigmoid(self.logits), density)

    def log_prob_each(self, value: Tensor) -> Tensor:
        return self.log_prob(value)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            drawn = self.others.sample(torch.Size(sample_shape))
            is_zero = torch.rand_like(drawn) < self.logits.sigmoid()
            return torch.where(is_zero, torch.zeros_like(drawn), drawn)

    @property
    def mean(self) -> Tensor:
        mean: Tensor = self.others.mean
        return (-self.logits).sigmoid() * mean

    @property
    def variance(self) -> Tensor:
        share = (-self.logits).sigmoid()
        mean = self.others.mean
        return share * (self.others.variance + (1 - share) * mean.square())

    @property
    def point(self) -> Tensor:
        """Zero where that is more likely than not, else the mean of the other values."""
        mean: Tensor = self.others.mean
        return torch.where(self.logits > 0, torch.zeros_like(mean), mean)


class ZeroInflatedNormal(ZeroInflated):
    """Zero with probability pi, else a value of a normal distribution.

    Args:
        logits: log-odds of zero, (n, d).
        loc: mean of the other values, (n, d).
        scale: their standard deviation.
    """

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(logits, Normal(loc, scale, validate_args=False))
