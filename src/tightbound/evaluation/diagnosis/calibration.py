"""Calibration of p(x|z): coverage of intervals of the posterior predictive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise, seed_for
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run, seeded

DRAWS = 40
AT_ONCE = 8  # draws of a pass
VALUES_AT_ONCE = 4_000_000
LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class Calibration:
    """Coverage of central intervals of the posterior predictive, over n examples.

    Args:
        n: number of examples.
        central50: share of the true values in the central 50 %. Above 0.5 p(x|z) is too
            wide, below too narrow.
        central90: share in the central 90 %.
        histogram: shares of the randomised probability integral transform in ten equal
            bins, each 0.1 where calibrated.
    """

    n: int
    central50: Mean
    central90: Mean
    histogram: list[float]


@torch.no_grad()
def calibration(
    run: Run, x: Tensor | Batch, seed: int, draws: int = DRAWS
) -> Calibration | None:
    """Calibration of p(x|z), from draws x' ~ p(x'|z) at one z ~ q(z|x).

    u = (number of draws below x + U (number equal to x + 1)) / (draws + 1), U uniform,
    also for discrete data (Czado, Gneiting and Held 2009). Where the model is right and
    q exact, u is uniform. Dimensions that never vary are left out; standard errors are
    over examples.

    Args:
        run: the run.
        x: examples (n, *shape) in model units.
        seed: seed of all draws.
        draws: draws for each example.

    Returns:
        None where no dimension of x varies.
    """
    batch = Batch.of(x)
    x = batch.x
    if len(x) < 2:
        return None
    varies = x.flatten(1).std(0) > 0
    if not varies.any():
        return None
    rows = max(1, VALUES_AT_ONCE // (run.spec.dims * (run.spec.levels or 8) * AT_ONCE))
    parts = []
    for i, part in enumerate(batch.split(rows)):
        with seeded(seed_for(seed, "calibration", i)):
            ranks = _ranks(run, part.to(run.predictor.device), seed, draws)
        parts.append(ranks.flatten(1).cpu()[:, varies])
    u = torch.cat(parts).double()
    inside = [((u - 0.5).abs() < level / 2).double().mean(1) for level in LEVELS]
    counts = torch.histc(u, 10, 0.0, 1.0)
    return Calibration(
        n=len(x),
        central50=Mean.of(inside[0]),
        central90=Mean.of(inside[1]),
        histogram=(counts / counts.sum()).tolist(),
    )


def _ranks(run: Run, batch: Batch, seed: int, draws: int) -> Tensor:
    """u of each value, of the shape of x."""
    x = batch.x
    px = run.predictor.trace(batch, Draw(noise=ContentNoise(seed, x, 0, 1))).px
    below = torch.zeros_like(x)
    equal = torch.ones_like(x)
    for start in range(0, draws, AT_ONCE):
        drawn = px.sample((min(AT_ONCE, draws - start),))
        below += (drawn < x).sum(0)
        equal += (drawn == x).sum(0)
    uniform = torch.rand(x.shape, dtype=x.dtype, device=x.device)
    return (below + uniform * equal) / (draws + 1)
