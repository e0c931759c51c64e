"""The three terms of log p(x) for one or two latents, each by a sum of its own.

log p(x) = E_q[log p(x|z)] - KL(q, p(z)) + KL(q, p(z|x)). The terms are computed
independently of one another, so that the identity is a test of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import StepNoise
from tightbound.evaluation.estimators.methods import log_px
from tightbound.evaluation.estimators.quadrature import (
    Grid,
    Space,
    posterior_box,
    posterior_grid,
)
from tightbound.models.vae import VAE
from tightbound.runs.run import Run

POINTS = {1: 4000, 2: 120}  # of a sum along each axis
REACH = 8.0  # standard deviations of q that its own sum reaches


@dataclass(frozen=True)
class ThreeTerms:
    """The terms of log p(x) of one example, in nats.

    Args:
        log_px: log p(x), by adaptive quadrature over a box around the prior.
        fit: E_q[log p(x|z)], by a sum over a grid around q.
        rate: KL(q, p(z)), by a sum over the same grid.
        inference_gap: KL(q, p(z|x)), by a sum over a grid on which the true posterior
            is normalised.
    """

    log_px: float
    fit: float
    rate: float
    inference_gap: float

    @property
    def elbo(self) -> float:
        """fit - rate."""
        return self.fit - self.rate

    @property
    def residual(self) -> float:
        """The sum of the three terms less log p(x): the error of the four sums."""
        return self.elbo + self.inference_gap - self.log_px


def three_terms(
    model: VAE, x: Tensor | Batch, *, space: Space | None = None
) -> ThreeTerms:
    """The three terms of one example and log p(x), each computed independently.

    Args:
        model: the model; it is evaluated in float64.
        x: one example (1, *shape) in model units.
        space: `Space(model)`, which saves a copy of the model.

    Raises:
        TightboundError: if the model has more than two latent dimensions, or no density.
    """
    space = space or Space(model)
    exact = log_px(model, x, "quadrature", tolerance=1e-6)
    points = POINTS[min(space.d, 2)]
    x = space.examples(x)
    mean, sd = space.posterior(x)
    z, log_cell = _grid(mean[0] - REACH * sd[0], mean[0] + REACH * sd[0], points)
    log_prior = space.log_prior(z, x.c)
    log_q = space.log_q(x, z)
    log_likelihood = space.log_joint(x.expand(len(z)), z) - log_prior
    weight = (log_q + log_cell).exp()
    box = posterior_box(model, x, width=6.0, space=space)
    grid = posterior_grid(model, x, points=points, box=box, space=space)
    return ThreeTerms(
        log_px=float(exact.values[0]),
        fit=float((weight * log_likelihood).sum()),
        rate=float((weight * (log_q - log_prior)).sum()),
        inference_gap=gap_on_grid(grid),
    )


def gap_on_grid(grid: Grid) -> float:
    """KL(q, p(z|x)) as a sum over a grid."""
    weight = (grid.log_q + math.log(grid.cell)).exp()
    return float((weight * (grid.log_q - grid.log_posterior)).sum())


def _grid(low: Tensor, high: Tensor, points: int) -> tuple[Tensor, float]:
    """A grid over a box, (points^d, d), and the log of a cell's volume."""
    axes = [
        torch.linspace(float(a), float(b), points, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    ]
    z = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    return z, sum(math.log(float(a[1] - a[0])) for a in axes)


@torch.no_grad()
def by_k(
    run: Run, x: Tensor | Batch, sizes: list[int], repeats: int, seed: int
) -> dict[str, Tensor]:
    """log p(x) of one example from K draws of the prior, and from K draws of q.

    log (1/K) sum p(x|z_k) with z from p(z), and log (1/K) sum w_k with z from q(z|x).

    Args:
        run: the run.
        x: one example (1, *shape) in model units.
        sizes: numbers of draws K.
        repeats: independent repetitions.
        seed: seed of all draws.

    Returns:
        "p" and "q", each (repeats, len(sizes)), nats.
    """
    x = Batch.of(x).to(run.predictor.device)
    results: dict[str, Tensor] = {}
    for source in ("p", "q"):
        rows = []
        for i in range(repeats):
            noise = StepNoise(seed, "by k", source, i)
            draw = Draw(max(sizes), source=source, noise=noise, enumerate=True)
            trace = run.model(x, draw)
            log_w = trace.log_px if source == "p" else trace.log_w
            log_w = trace.log_sum_over_classes(log_w)[:, 0].double()
            bounds = [log_w[:k].logsumexp(0) - math.log(k) for k in sizes]
            rows.append(torch.stack(bounds))
        results[source] = torch.stack(rows).cpu()
    return results
