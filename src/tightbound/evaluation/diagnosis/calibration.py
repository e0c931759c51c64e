"""Whether p(x|z) is as wide as it should be: how often a true value lies in the middle of what the
model expects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise, seed_for
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run, seeded

DRAWS, AT_ONCE, VALUES_AT_ONCE = 40, 8, 4_000_000
LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class Calibration:
    """The share of true values in the central 50 % and 90 % of the posterior predictive, over n
    examples.

    Well calibrated is 0.5 and 0.9; more: p(x|z) is too wide, less: too narrow.  histogram: shares
    of the randomised probability integral transform in ten equal bins, each 0.1 where calibrated.
    """

    n: int
    central50: Mean
    central90: Mean
    histogram: list[float]


@torch.no_grad()
def calibration(
    run: Run, x: Tensor | Batch, seed: int, draws: int = DRAWS
) -> Calibration | None:
    """x against `draws` draws of x' ~ p(x'|z) at one z ~ q(z|x), value by value; None where no
    dimension of x varies.

    u = (number of draws below x + U (number equal to x + 1)) / (draws + 1), U uniform, also for
    discrete data (Czado, Gneiting and Held 2009).  Where the model is right and q exact, x and the
    draws are alike given z, and u is uniform. Dimensions that never vary say nothing and are left
    out; errors are over examples.
    """
    batch = Batch.of(x)
    x = batch.x
    vary = (
        x.flatten(1).std(0) > 0
        if len(x) > 1
        else torch.zeros(run.spec.dims, dtype=torch.bool)
    )
    if not vary.any():
        return None
    rows = max(1, VALUES_AT_ONCE // (run.spec.dims * (run.spec.levels or 8) * AT_ONCE))
    parts = []
    for i, part in enumerate(batch.split(rows)):
        with seeded(seed_for(seed, "calibration", i)):
            parts.append(
                _ranks(run, part.to(run.device), seed, draws).flatten(1).cpu()[:, vary]
            )
    u = torch.cat(parts).double()
    inside = [((u - 0.5).abs() < level / 2).double().mean(1) for level in LEVELS]
    counts = torch.histc(u, 10, 0.0, 1.0)
    return Calibration(
        len(x),
        Mean.of(inside[0]),
        Mean.of(inside[1]),
        (counts / counts.sum()).tolist(),
    )


def _ranks(run: Run, batch: Batch, seed: int, draws: int) -> Tensor:
    x = batch.x
    px = run.predictor.trace(batch, Draw(noise=ContentNoise(seed, x, 0, 1))).px
    below, equal = torch.zeros_like(x), torch.ones_like(x)
    for start in range(0, draws, AT_ONCE):
        drawn = px.sample((min(AT_ONCE, draws - start),))
        below += (drawn < x).sum(0)
        equal += (drawn == x).sum(0)
    return (below + torch.rand(x.shape, dtype=x.dtype, device=x.device) * equal) / (
        draws + 1
    )
