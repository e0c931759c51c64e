"""Missing values from those that were observed: E[x_mis | x_obs] by importance sampling, its
spread, and draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from tightbound.core.data_spec import DataSpec
from tightbound.core.trace import Batch, Draw
from tightbound.distributions.random import ContentNoise, seed_for, seeded, tiles
from tightbound.models.vae import VAE

VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Imputed:
    """Examples whose missing values are filled in, all (n, ...) in the units of x.

    x: observed values as they are, missing ones as their posterior mean (of unordered values, the
    most likely).  sd: the standard deviation of each value given what was observed, 0 where it was.
    draws: (M, n, ...), multiple imputations, each a draw of all missing values together.  ess (n,):
    effective samples, of k. `Run.impute` gives tables, and a list of them as draws, where the data
    are a table of mixed columns.
    """

    x: Any
    sd: Any
    draws: Any
    ess: Tensor


def spreads(found: Imputed, spec: DataSpec) -> Tensor:
    """The standard deviation of each column of a table (n, columns); of a category, the chance of
    any other value.
    """
    pairs = zip(spec.places, spec.fields, strict=True)
    each = [
        1 - found.x[:, at].amax(1) if f.kind == "categorical" else found.sd[:, at.start]
        for at, f in pairs
    ]
    return torch.stack(each, 1)


@torch.no_grad()
def impute(model: VAE, rows: Batch, k: int, seed: int, draws: int = 0) -> Imputed:
    """Imputations of examples in domain units, by K samples z_k of q(z | x_obs).

    E[x_mis | x_obs] is about sum_k w_k E[x_mis | z_k], w_k proportional to p(x_obs, z_k) / q(z_k |
    x_obs); a draw is of p(x_mis | z_k) with k drawn by its weight.  Mattei and Frellsen 2019
    (arXiv:1812.02633), section 3.2, eq. 11.
    """
    parts = [
        _part(model, part, k, seed, draws)
        for part in rows.split(max(1, VALUES_AT_ONCE // (k * model.spec.dims)))
    ]
    return Imputed(
        *(
            torch.cat([getattr(p, name) for p in parts], int(name == "draws")).cpu()
            for name in _NAMES
        )
    )


_NAMES = ("x", "sd", "draws", "ess")


def _part(model: VAE, rows: Batch, k: int, seed: int, draws: int) -> Imputed:
    rows = rows.to(model.get_buffer("centre").device)
    missing, log_w = rows.x.isnan(), list[Tensor]()
    first, second, codes = [], [], dict[str, list[Tensor]]()
    for i, some in enumerate(tiles(k)):
        trace = model(rows, Draw(some, noise=ContentNoise(seed, rows.x, i, some)))
        log_w.append(trace.log_w.double())
        mean, square = _moments(trace.px)
        first.append(mean.reshape(some, *rows.x.shape[:1], *mean.shape[1:]))
        second.append(square.reshape(first[-1].shape))
        for name, site in trace.latents.items():
            codes.setdefault(name, []).append(site.z.unflatten(0, (some, -1)))
    weight = torch.cat(log_w).softmax(0)
    mean, square = (_weighted(weight, torch.cat(terms)) for terms in (first, second))
    mean, sd = _summary(mean, square, rows.x.dim())
    z = {name: torch.cat(some) for name, some in codes.items()}
    made = [
        _draw(model, rows, weight, z, seed_for(seed, "imputation", i), missing)
        for i in range(draws)
    ]
    drawn = torch.stack(made) if made else rows.x.new_empty(0, *rows.x.shape)
    filled = torch.where(missing, mean.to(rows.x), rows.x)
    return Imputed(
        filled,
        torch.where(missing, sd.to(rows.x), 0),
        drawn,
        1 / weight.square().sum(0),
    )


def _moments(px: Distribution) -> tuple[Tensor, Tensor]:
    """E[x] and E[x^2] of each value, (n, *event); of unordered values their chances twice, (n,
    *event, L).
    """
    base = px.base_dist if isinstance(px, Independent) else px
    if isinstance(base, Categorical):
        return base.probs, base.probs
    return px.mean, px.variance + px.mean.square()


def _weighted(weight: Tensor, terms: Tensor) -> Tensor:
    """sum_k w_k term_k, (B, ...), of terms (K, B, ...) and weights (K, B)."""
    return (weight.reshape(*weight.shape, *[1] * (terms.dim() - 2)) * terms).sum(0)


def _summary(mean: Tensor, square: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation; of unordered values the most likely, and the chance of any
    other.
    """
    if mean.dim() > dims:
        return mean.argmax(-1), 1 - mean.amax(-1)
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def _draw(
    model: VAE,
    rows: Batch,
    weight: Tensor,
    z: dict[str, Tensor],
    seed: int,
    missing: Tensor,
) -> Tensor:
    with seeded(seed):
        chosen = torch.multinomial(weight.T, 1)[:, 0]
        at = torch.arange(len(rows), device=chosen.device)
        given = {name: value[chosen, at] for name, value in z.items()}
        px = model.generate(len(rows), Draw(source="p", given=given), rows.c).px
        return torch.where(missing, px.sample().to(rows.x), rows.x)
