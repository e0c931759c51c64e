"""Pareto k, the shape of a generalised Pareto fitted to the largest weights, and the
standard error that follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PRIOR_SHAPE = 0.5
PRIOR_WEIGHT = 10  # of the prior on the shape, in values
LEAST = 5  # values of a tail
AT_ONCE = 200  # columns of a fit
HEAVY = 0.7  # Pareto k above which a mean of weights has no reliable error
CAUTION = (
    1.5  # standard errors of k by which a tail is taken to be heavier than its fit
)
WIDER = 1.95  # the same for the variance; of tails at HEAVY 89 % of intervals cover
EVEN = 0.01  # weights whose largest is within this share of their mean have no tail


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
    return torch.cat([_fit(part)[0] for part in excess.split(AT_ONCE, 1)])


@dataclass(frozen=True)
class WeightSums:
    """Sums over K log-weights of n columns.

    Args:
        k: number of weights K.
        log_sum: log of the sum of w, (n,).
        log_sum_square: log of the sum of w^2, (n,).
        top: the M + 1 largest log-weights, in any order, (M + 1, n).
    """

    k: int
    log_sum: Tensor
    log_sum_square: Tensor
    top: Tensor


def is_even(sums: WeightSums) -> Tensor:
    """True for columns whose largest weight is close to their mean, (n,).

    Their differences may be those of rounding, so that they have no tail.
    """
    scale = sums.top.max(0).values
    return (sums.log_sum - scale).exp() / sums.k * (1 + EVEN) > 1


def standard_error(sums: WeightSums) -> Tensor:
    """Standard error of the log of the mean weight, (n,).

    The delta method, sqrt(var w / K) / mean w, with the larger of two variances: that of
    the weights, and that of the weights with the M largest replaced by quantiles of the
    generalised Pareto distribution fitted to them, as in PSIS (Vehtari et al. 2024), but not
    cut off at the largest weight and with a shape `WIDER` standard errors above the fit,
    since a tail that was not seen yet makes the mean, its error and the fit too small.

    Returns:
        Not a number where there is no such error: Pareto k and `CAUTION` of its standard
        errors are above 0.7 (so they are where k itself is), or there are fewer than 25
        weights, of which no tail can be fitted. There the log of the mean weight is a
        lower bound in expectation and nothing more.
    """
    scale = sums.top.max(0).values
    mean = (sums.log_sum - scale).exp() / sums.k
    known = is_even(sums)
    square = (sums.log_sum_square - 2 * scale).exp() / sums.k
    variance = (square - mean.square()).clamp(min=0)
    if len(sums.top) > LEAST:
        order = sums.top.double().sort(0).values
        heaviest, smoothed = _with_smoothed_tail(order, mean, square, sums.k)
        variance = torch.maximum(variance, smoothed.nan_to_num(0.0))
        known |= heaviest <= HEAVY
    error = (variance / sums.k).sqrt() / mean
    return torch.where(known, error, torch.nan)


def _with_smoothed_tail(
    order: Tensor, mean: Tensor, square: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Upper limit of Pareto k, and the variance of weights with such a tail.

    The variance is in units of the largest weight.

    order: the M + 1 largest log-weights from small to large; mean, square: of all weights.
    """
    tail = (order - order[-1]).exp()
    threshold = tail[:1]
    tail = tail[1:]
    m = len(tail)
    fits = [_fit(part) for part in (tail - threshold).split(AT_ONCE, 1)]
    shape = torch.cat([fit[0] for fit in fits])
    scale = torch.cat([fit[1] for fit in fits])
    error = (1 + shape) / math.sqrt(m)
    heavier = shape + WIDER * error
    median = scale * torch.expm1(shape * math.log(2)) / shape
    scale = median * heavier / torch.expm1(heavier * math.log(2))
    beyond = (
        1 - (torch.arange(1, m + 1, dtype=order.dtype, device=order.device) - 0.5) / m
    )
    quantiles = scale * torch.expm1(-heavier * beyond.log()[:, None]) / heavier
    smoothed = threshold + quantiles
    first = mean + (smoothed - tail).sum(0) / k
    second = square + (smoothed.square() - tail.square()).sum(0) / k
    return shape + CAUTION * error, (second - first.square()).clamp(min=0)


def _fit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shape and scale of a generalised Pareto distribution for sorted excesses x (m, n).

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
    scale = -k / best
    k = (m * k + PRIOR_WEIGHT * PRIOR_SHAPE) / (m + PRIOR_WEIGHT)
    positive = x[-1] > 0
    return torch.where(positive, k, torch.nan), torch.where(positive, scale, torch.nan)
