"""log p(x) by importance sampling from q: K honoured exactly, memory bounded, noise independent of batching."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightbound.distributions.noise import TILE, ContentNoise, tiles
from tightbound.run import Run
from tightbound.trace import Batch, Draw

VALUES_AT_ONCE = 4_000_000


def rows_at_once(run: Run) -> int:
    """How many examples one pass of a tile may hold."""
    width = run.spec.dims * (run.spec.levels or 1 if run.spec.domain == "categorical" else 1)
    return max(1, VALUES_AT_ONCE // (width * TILE))


@torch.no_grad()
def score(run: Run, x: Tensor, k: int, seed: int, tick: Callable[[int], None] | None = None) -> dict[str, Tensor]:
    """Per-example terms of x (n, *shape) in domain units, float64 (n,), in nats:

    distortion = -E_q[log p(x|z)], rate = KL(q(z|x), p(z)) and elbo = -distortion - rate, over the same K draws;
    log_px = log (1/K) sum_k w_k, w = p(x, z_k) / q(z_k|x) (Burda et al. 2016), a lower bound in expectation;
    ess = (sum w)^2 / sum w^2, effective samples of K; log_px_se by the delta method, sqrt((K / ess - 1) / K).
    A model without a bound (a point mass) has only `distortion`.
    """
    found: dict[str, list[Tensor]] = {}
    for part in x.split(rows_at_once(run)):
        for name, value in _part(run, part.to(run.device), k, seed).items():
            found.setdefault(name, []).append(value.cpu())
        if tick:
            tick(len(part))
    return {name: torch.cat(values) for name, values in found.items()}


def _part(run: Run, x: Tensor, k: int, seed: int) -> dict[str, Tensor]:
    if not run.has_bound:
        return {"distortion": run.trace(x, Draw(source="point")).distortion.double()}
    log_px = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    rate = torch.zeros_like(log_px)
    first = torch.full_like(log_px, -torch.inf)
    second = torch.full_like(log_px, -torch.inf)
    for i, m in enumerate(tiles(k)):
        trace = run.model(Batch(x), Draw(m, noise=ContentNoise(seed, x, i, m)))
        log_w = trace.log_w.double()
        log_px += trace.log_px.double().sum(0)
        rate += trace.rate.double() * m
        first = torch.logaddexp(first, log_w.logsumexp(0))
        second = torch.logaddexp(second, (2 * log_w).logsumexp(0))
    ess = (2 * first - second).exp().clamp(1.0, float(k))
    distortion, rate = -log_px / k, rate / k
    return {
        "distortion": distortion,
        "rate": rate,
        "elbo": -distortion - rate,
        "log_px": first - torch.tensor(float(k), dtype=torch.float64).log(),
        "ess": ess,
        "log_px_se": ((k / ess - 1) / k).clamp(min=0).sqrt(),
    }


@torch.no_grad()
def rate_per_feature(run: Run, x: Tensor, seed: int) -> list[float] | None:
    """KL(q(z_j|x), p(z_j)) of each latent feature, averaged over x; None where a distribution does not factorise."""
    total: Tensor | None = None
    for part in x.split(1000):
        inputs = part.to(run.device)
        trace = run.trace(inputs, Draw(noise=ContentNoise(seed, inputs, 0, 1)))
        each = []
        for name in run.sites:
            kl = trace.latents[name].kl_each
            if kl is None:
                return None
            each.append(kl.double().sum(0).cpu())
        sums = torch.cat(each)
        total = sums if total is None else total + sums
    return None if total is None else (total / len(x)).tolist()
