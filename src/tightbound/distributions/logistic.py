"""The discretised logistic: a mass function over the integers 0..L-1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from tightbound.distributions.base import ExtendedDistribution, SampleShape

FAR = 1e9  # outer edge of the two end levels, in multiples of L


class DiscretizedLogistic(ExtendedDistribution):
    """Discretised logistic over the integers 0..L-1, whose two ends take the tails.

        P(x) = sigmoid((x + 1/2 - loc) / s) - sigmoid((x - 1/2 - loc) / s)

    Args:
        loc: Mean before rounding, in units of one level, (n, *event).
        inverse: 1 / s, of the same shape or one that broadcasts to it.
        levels: L.

    Kingma et al. 2016 (arXiv:1606.04934), appendix.
    """

    support = constraints.nonnegative_integer

    def __init__(self, loc: Tensor, inverse: Tensor, levels: int) -> None:
        self.loc = loc
        self.inverse = inverse
        self.levels = levels
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)),
        # exact also far in a tail. The outer edge of an end is so far out that its terms vanish,
        # which costs less than a selection afterwards.
        first = value <= 0
        last = value >= self.levels - 1
        far = FAR * self.levels
        upper = (torch.where(last, far, value + 0.5) - self.loc) * self.inverse
        lower = (self.loc - torch.where(first, -far, value - 0.5)) * self.inverse
        width = torch.log(-torch.expm1(-self.inverse))
        return (
            F.logsigmoid(upper)
            + F.logsigmoid(lower)
            + (~(first | last)).to(width) * width
        )

    def _cdf_edges(self) -> Tensor:
        edges = (
            torch.arange(self.levels - 1, dtype=self.loc.dtype, device=self.loc.device)
            + 0.5
        )
        return torch.sigmoid(
            (edges - self.loc.unsqueeze(-1)) * self.inverse.unsqueeze(-1)
        )

    @property
    def mean(self) -> Tensor:
        """E[x] = sum over the inner edges of 1 - CDF(edge)."""
        return (1 - self._cdf_edges()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """E[x^2] - E[x]^2, with E[x^2] = sum_j (2j + 1) (1 - CDF(j + 1/2))."""
        tail = 1 - self._cdf_edges()
        odd = (
            2 * torch.arange(self.levels - 1, dtype=tail.dtype, device=tail.device) + 1
        )
        return ((tail * odd).sum(-1) - tail.sum(-1) ** 2).clamp(min=0)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.loc.shape
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(
            1e-6, 1 - 1e-6
        )
        x = self.loc + (torch.log(u) - torch.log1p(-u)) / self.inverse
        return x.round().clamp(0, self.levels - 1)
