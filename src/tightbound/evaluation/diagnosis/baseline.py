"""The best constant model: each dimension or column by itself, what a model with a code
must beat.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, Poisson

from tightbound.core.data_spec import DataSpec


def independent(fitted: Tensor, x: Tensor, spec: DataSpec) -> float:
    """Mean log p(x) of rows x (m, D) under independent dimensions whose laws are those of rows
    `fitted` (n, D).

    Smoothed frequencies of levels, truth values and categories, normals of reals, negative
    binomials of counts; a categorical column is one dimension, however many model units it has.
    NaN, a value not observed, counts nothing.
    """
    if not spec.fields:
        return float(
            _each(fitted, x, spec.domain, spec.levels or 2, spec.spread.flatten())
            .sum(1)
            .mean()
        )
    total, units = torch.zeros(len(x), dtype=torch.float64), spec.spread
    seen, rows = spec.to_raw(fitted), spec.to_raw(x)
    for i, (column, place) in enumerate(zip(spec.fields, spec.places, strict=True)):
        own = slice(i, i + 1)
        total += _each(
            seen[:, own],
            rows[:, own],
            column.kind,
            max(2, len(column.values)),
            units[place][:1],
        )[:, 0]
    return float(total.mean())


def _each(fitted: Tensor, x: Tensor, domain: str, levels: int, unit: Tensor) -> Tensor:
    """log p of each value of x (m, D) in float64, 0 where it is missing."""
    fitted, x = fitted.double(), x.double()
    if domain in ("binary", "levels", "categorical"):
        log_p = _frequencies(fitted, levels).gather(0, x.nan_to_num().long())
    else:
        mean = fitted.nanmean(0).nan_to_num()
        variance = (fitted - mean).square().nanmean(0).nan_to_num()
        if domain == "count":
            log_p = _counts(
                x.nan_to_num(), mean.clamp(min=1 / (len(fitted) + 1)), variance
            )
        else:
            log_p = Normal(
                mean, variance.sqrt() + 0.01 * unit, validate_args=False
            ).log_prob(x)
    return torch.where(x.isfinite(), log_p, 0.0)


def _frequencies(fitted: Tensor, levels: int) -> Tensor:
    """log of (count + 1/L) / (n + 1) of each level in each dimension, (L, D)."""
    seen, dims = fitted.isfinite(), fitted.shape[1]
    at = fitted.nan_to_num().long() * dims + torch.arange(dims)
    counts = (
        torch.bincount(at[seen], minlength=levels * dims).reshape(levels, dims).double()
    )
    return ((counts + 1 / levels) / (seen.sum(0) + 1)).log()


def _counts(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log NB of mean m and variance v, whose r is m^2 / (v - m); log Poisson where they scatter no
    more than that.
    """
    r = mean.square() / (variance - mean).clamp(min=1e-3 * mean)
    wide = NegativeBinomial(
        total_count=r, logits=(mean / r).log(), validate_args=False
    ).log_prob(x)
    return torch.where(
        variance > mean, wide, Poisson(mean, validate_args=False).log_prob(x)
    )
