"""The discretised logistic: a mass function over the integers 0..L-1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F


class DiscretizedLogistic(Distribution):
    """P(x) = sigmoid((x + 1/2 - loc) / s) - sigmoid((x - 1/2 - loc) / s), the two ends taking the tails; x in 0..L-1.

    loc and log_scale: (n, *event), in units of one level.  Kingma et al. 2016 (arXiv:1606.04934), appendix.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own attribute)
    support = constraints.nonnegative_integer

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int) -> None:
        self.loc, self.log_scale, self.levels = loc, log_scale.expand_as(loc), levels
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        inverse = torch.exp(-self.log_scale)
        upper = (value + 0.5 - self.loc) * inverse
        lower = (value - 0.5 - self.loc) * inverse
        # log(sigmoid(u) - sigmoid(l)) = -softplus(-u) - softplus(l) + log(1 - exp(l - u)), exact also far in a tail
        inside = -F.softplus(-upper) - F.softplus(lower) + torch.log(-torch.expm1(-inverse))
        inside = torch.where(value <= 0, -F.softplus(-upper), inside)
        return torch.where(value >= self.levels - 1, -F.softplus(lower), inside)

    def _cdf_edges(self) -> Tensor:
        edges = torch.arange(self.levels - 1, dtype=self.loc.dtype, device=self.loc.device) + 0.5
        return torch.sigmoid((edges - self.loc.unsqueeze(-1)) * torch.exp(-self.log_scale).unsqueeze(-1))

    @property
    def mean(self) -> Tensor:
        """E[x] = sum over the inner edges of 1 - CDF(edge)."""
        return (1 - self._cdf_edges()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """E[x^2] - E[x]^2, with E[x^2] = sum_j (2j + 1) (1 - CDF(j + 1/2))."""
        tail = 1 - self._cdf_edges()
        odd = 2 * torch.arange(self.levels - 1, dtype=tail.dtype, device=tail.device) + 1
        return ((tail * odd).sum(-1) - tail.sum(-1) ** 2).clamp(min=0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.loc.shape
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(1e-6, 1 - 1e-6)
        x = self.loc + self.log_scale.exp() * (torch.log(u) - torch.log1p(-u))
        return x.round().clamp(0, self.levels - 1)
