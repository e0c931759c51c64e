"""Pareto k: the shape of a generalised Pareto fitted to the largest weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PRIOR_SHAPE = 0.5
PRIOR_WEIGHT = 10  # of the prior on the shape, in values
LEAST = 5  # values of a tail
AT_ONCE = 200  # columns of a fit


def tail_length(k: int) -> int:
    """M = min(K / 5, 3 sqrt K), the number of weights in the tail.

    Vehtari et al. 2024, section 3.2.3.
    """
    return int(min(k / 5, 3 * math.sqrt(k)))


def tail_shape(top: Tensor) -> Tensor:
    """Pareto k of each column of log-weights.

    The tail is the excess of the M largest weights over the next one. For k below 0.5
    the variance of the estimate is finite; above 0.7 the mean is not reliable. Vehtari,
    Simpson, Gelman, Yao and Gabry 2024 (JMLR 25; arXiv:1507.02646), with the fit of
    Zhang and Stephens 2009.

    Args:
        top: the M + 1 largest log-weights of each column, (M + 1, n), in any order.

    Returns:
        k, (n,); not a number where M < 5 or all weights are equal.
    """
    if len(top) <= LEAST:
        return torch.full((top.shape[1],), math.nan, dtype=torch.float64)
    order = top.double().sort(0).values
    weights = (order - order[-1]).exp()
    excess = weights[1:] - weights[:1]
    return torch.cat([_fit(part) for part in excess.split(AT_ONCE, 1)])


def _fit(x: Tensor) -> Tensor:
    """The shape of a generalised Pareto distribution for sorted excesses x (m, n).

    Zhang and Stephens 2009, eq. 3.3 to 3.5. A weakly informative prior pulls it to 0.5
    with the weight of 10 values (Vehtari et al. 2024, appendix G).
    """
    m = len(x)
    grid = 30 + int(math.sqrt(m))
    j = torch.arange(1, grid + 1, dtype=torch.float64, device=x.device)[:, None]
    quartile = x[int(m / 4 + 0.5) - 1].clamp(min=torch.finfo(torch.float64).tiny)
    theta = 1 / x[-1] + (1 - (grid / (j - 0.5)).sqrt()) / (3 * quartile)  # (grid, n)
    shape = torch.log1p(-theta[:, None] * x).mean(1)
    profile = m * ((-theta / shape).log() - shape - 1)
    best = (profile.nan_to_num(nan=-torch.inf).softmax(0) * theta).nansum(0)
    k = torch.log1p(-best * x).mean(0)
    k = (m * k + PRIOR_WEIGHT * PRIOR_SHAPE) / (m + PRIOR_WEIGHT)
    return torch.where(x[-1] > 0, k, torch.nan)
