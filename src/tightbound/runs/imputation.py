"""Imputation of missing values by importance sampling: means, spreads and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise, seed_for, seeded, tiles
from tightbound.models.vae import VAE

if TYPE_CHECKING:
    from pandas import DataFrame

VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Imputed:
    """Examples whose missing values are filled in, as `Run.impute` returns them.

    Attributes:
        x: (n, ...), observed values as they were given, missing ones as their posterior mean
            (the most probable value where values have no order).
        sd: (n, ...), the standard deviation of each missing value given the observed ones; 0 of
            observed values, seconds of times.
        draws: (M, n, ...), multiple imputations, each a joint draw of all missing values.
        ess: (n,), effective sample size of the k importance samples.

    x and sd are DataFrames, and draws is a list of them, where the data are a table.
    """

    x: Tensor | DataFrame
    sd: Tensor | DataFrame
    draws: Tensor | Sequence[DataFrame]
    ess: Tensor


@dataclass(frozen=True)
class Imputation:
    """`Imputed` in model units."""

    x: Tensor
    sd: Tensor
    draws: Tensor
    ess: Tensor


def spreads(imputed: Imputation, spec: DataSpec) -> Tensor:
    """The standard deviation of each column of a table (n, columns), in raw units.

    Of a categorical column, one minus the probability of the most probable value.
    """
    if not spec.is_mixed:
        return spec.spread_to_raw(imputed.sd)
    columns = []
    for place, field in zip(spec.places, spec.fields, strict=True):
        if field.kind == "categorical":
            columns.append(1 - imputed.x[:, place].amax(1))
        else:
            columns.append(imputed.sd[:, place.start])
    return torch.stack(columns, 1)


@torch.no_grad()
def impute(model: VAE, rows: Batch, k: int, seed: int, draws: int = 0) -> Imputation:
    """Impute the missing values of examples in model units.

    With z_k ~ q(z | x_obs) and w_k proportional to p(x_obs, z_k) / q(z_k | x_obs),
    E[x_mis | x_obs] is estimated by sum_k w_k E[x_mis | z_k]; a draw is from p(x_mis | z_k) with
    k drawn by its weight.

    Args:
        model: A model that takes missing values.
        rows: n examples with NaN where a value is missing.
        k: Importance samples.
        seed: Of all draws.
        draws: Number of multiple imputations.

    Reference:
        Mattei and Frellsen 2019 (arXiv:1812.02633), section 3.2, eq. 11.
    """
    at_once = max(1, VALUES_AT_ONCE // (k * model.spec.dims))
    parts = [_impute_part(model, part, k, seed, draws) for part in rows.split(at_once)]
    return Imputation(
        torch.cat([part.x for part in parts]).cpu(),
        torch.cat([part.sd for part in parts]).cpu(),
        torch.cat([part.draws for part in parts], 1).cpu(),
        torch.cat([part.ess for part in parts]).cpu(),
    )


def _impute_part(model: VAE, rows: Batch, k: int, seed: int, draws: int) -> Imputation:
    rows = rows.to(model.get_buffer("centre").device)
    missing = rows.x.isnan()
    log_w: list[Tensor] = []
    means: list[Tensor] = []
    squares: list[Tensor] = []
    latents = dict[str, list[Tensor]]()
    for i, count in enumerate(tiles(k)):
        noise = ContentNoise(seed, rows.x, i, count)
        trace = model(rows, Draw(count, noise=noise))
        log_w.append(trace.log_w.double())
        mean, square = _moments(trace.px)
        mean = mean.reshape(count, *rows.x.shape[:1], *mean.shape[1:])
        means.append(mean)
        squares.append(square.reshape(mean.shape))
        for name, site in trace.latents.items():
            z = site.z.unflatten(0, (count, -1))
            latents.setdefault(name, []).append(z)
    weight = torch.cat(log_w).softmax(0)
    mean = _weighted(weight, torch.cat(means))
    square = _weighted(weight, torch.cat(squares))
    mean, sd = _summary(mean, square, rows.x.dim())
    z = {name: torch.cat(parts) for name, parts in latents.items()}
    drawn = rows.x.new_empty(draws, *rows.x.shape)
    for i in range(draws):
        drawn[i] = _draw(model, rows, weight, z, seed_for(seed, "imputation", i))
    return Imputation(
        torch.where(missing, mean.to(rows.x), rows.x),
        torch.where(missing, sd.to(rows.x), 0),
        drawn,
        1 / weight.square().sum(0),
    )


def _moments(px: Distribution) -> tuple[Tensor, Tensor]:
    """E[x] and E[x^2] of each value, (n, *event).

    Of unordered values their probabilities, twice, (n, *event, L).
    """
    base = px.base_dist if isinstance(px, Independent) else px
    if isinstance(base, Categorical):
        return base.probs, base.probs
    return px.mean, px.variance + px.mean.square()


def _weighted(weight: Tensor, terms: Tensor) -> Tensor:
    """sum_k w_k term_k, (B, ...), of terms (K, B, ...) and weights (K, B)."""
    ones = [1] * (terms.dim() - 2)
    return (weight.reshape(*weight.shape, *ones) * terms).sum(0)


def _summary(mean: Tensor, square: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation.

    Of unordered values the most probable one, and the probability of any other.
    """
    if mean.dim() > dims:
        return mean.argmax(-1), 1 - mean.amax(-1)
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def _draw(
    model: VAE, rows: Batch, weight: Tensor, z: dict[str, Tensor], seed: int
) -> Tensor:
    """A joint draw of the missing values of each row."""
    with seeded(seed):
        chosen = torch.multinomial(weight.T, 1)[:, 0]
        at = torch.arange(len(rows), device=chosen.device)
        given = {name: value[chosen, at] for name, value in z.items()}
        px = model.generate(len(rows), Draw(source="p", given=given), rows.c).px
        return torch.where(rows.x.isnan(), px.sample().to(rows.x), rows.x)
