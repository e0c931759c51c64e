"""Baseline without latents: independent dimensions with fitted marginals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, Poisson

from tightbound.core.data_spec import DataSpec
from tightbound.distributions import LogNormal


def independent(fitted: Tensor, x: Tensor, spec: DataSpec) -> Tensor:
    """log p(x) of each example under independent dimensions with fitted marginals.

    The marginals are smoothed frequencies of levels, truth values and categories,
    normals of reals, negative binomials of counts, and log-normals of numbers above 0,
    with a frequency of zeros where there are some. A categorical column is one
    dimension, however many model units it has. Missing values (NaN) contribute 0.

    Args:
        fitted: rows that the marginals are fitted to, (n, D) in model units.
        x: rows that are evaluated, (m, D).
        spec: description of the data.

    Returns:
        Nats of each example, (m,), float64.
    """
    if not spec.is_mixed:
        unit = spec.spread.flatten()
        return _log_p(fitted, x, spec.domain, spec.levels or 2, unit).sum(1)
    total = torch.zeros(len(x), dtype=torch.float64)
    units = spec.spread
    fitted_columns = spec.to_raw(fitted)
    columns = spec.to_raw(x)
    for i, (column, place) in enumerate(zip(spec.fields, spec.places, strict=True)):
        total += _log_p(
            fitted_columns[:, i : i + 1],
            columns[:, i : i + 1],
            column.kind,
            max(2, len(column.values)),
            units[place][:1],
        )[:, 0]
    return total


def _log_p(fitted: Tensor, x: Tensor, domain: str, levels: int, unit: Tensor) -> Tensor:
    """log p of each value of x (m, D) in float64, 0 where it is missing."""
    fitted = fitted.double()
    x = x.double()
    if domain in ("positive", "zero-inflated"):
        return _log_p_with_zeros(fitted, x, LogNormal)
    if domain == "zero-inflated-real":
        return _log_p_with_zeros(fitted, x, Normal)
    if domain in ("binary", "levels", "categorical"):
        log_p = _log_frequencies(fitted, levels).gather(0, x.nan_to_num().long())
        return torch.where(x.isfinite(), log_p, 0.0)
    mean = fitted.nanmean(0).nan_to_num()
    variance = (fitted - mean).square().nanmean(0).nan_to_num()
    if domain == "count":
        mean = mean.clamp(min=1 / (len(fitted) + 1))
        log_p = _log_p_of_counts(x.nan_to_num(), mean, variance)
    else:
        normal = Normal(mean, variance.sqrt() + 0.01 * unit, validate_args=False)
        log_p = normal.log_prob(x)
    return torch.where(x.isfinite(), log_p, 0.0)


def _log_p_with_zeros(
    fitted: Tensor, x: Tensor, family: type[LogNormal] | type[Normal]
) -> Tensor:
    """log p under a log-normal or normal and, where some values are 0, their frequency."""
    observed = fitted.isfinite().sum(0)
    zeros = (fitted == 0).sum(0)
    others = torch.where(fitted == 0, torch.nan, fitted)
    if family is LogNormal:
        others = others.log()
    mean = others.nanmean(0).nan_to_num()
    spread = (others - mean).square().nanmean(0).nan_to_num().sqrt()
    spread = spread * 1.01 + 1e-6
    density = family(mean, spread, validate_args=False).log_prob(x)
    share = torch.where(zeros > 0, (zeros + 0.5) / (observed + 1), 0.0)
    log_p = torch.where(x == 0, share.log(), density + (1 - share).log())
    return torch.where(x.isfinite(), log_p, 0.0)


def _log_frequencies(fitted: Tensor, levels: int) -> Tensor:
    """log of (count + 1/L) / (n + 1) of each of L levels in each dimension, (L, D)."""
    observed = fitted.isfinite()
    dims = fitted.shape[1]
    bins = fitted.nan_to_num().long() * dims + torch.arange(dims)
    counts = torch.bincount(bins[observed], minlength=levels * dims)
    counts = counts.reshape(levels, dims).double()
    return ((counts + 1 / levels) / (observed.sum(0) + 1)).log()


def _log_p_of_counts(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log p of counts under a negative binomial of this mean and variance.

    Its r is m^2 / (v - m). Where the variance is at most the mean, a Poisson
    distribution.
    """
    r = mean.square() / (variance - mean).clamp(min=1e-3 * mean)
    logits = (mean / r).log()
    negative_binomial = NegativeBinomial(
        total_count=r, logits=logits, validate_args=False
    )
    poisson = Poisson(mean, validate_args=False)
    return torch.where(
        variance > mean, negative_binomial.log_prob(x), poisson.log_prob(x)
    )
