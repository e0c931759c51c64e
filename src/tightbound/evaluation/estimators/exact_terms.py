"""Bayes' rule and the three terms of log p(x) where they can be computed: for one or two latent
features.

log p(x) = E_q[log p(x|z)] - KL(q, p(z)) + KL(q, p(z|x)), each term by a sum of its own, so that the
identity is tested and not assumed.
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
    """The terms of one example, in nats.

    log_px: by adaptive quadrature over a box around the prior.  fit, E_q[log p(x|z)], and rate,
    KL(q, p(z)): by sums over a grid around q.  third, KL(q, p(z|x)): by a sum over a grid on which
    the true posterior is normalised.
    """

    log_px: float
    fit: float
    rate: float
    third: float

    @property
    def elbo(self) -> float:
        """The first two terms."""
        return self.fit - self.rate

    @property
    def residual(self) -> float:
        """The sum of the three terms less log p(x): what the four sums disagree by."""
        return self.elbo + self.third - self.log_px


def three_terms(
    model: VAE, x: Tensor | Batch, *, space: Space | None = None
) -> ThreeTerms:
    """All three terms of one example x (1, *shape) and log p(x), each computed independently, in
    float64.

    Raises TightboundError for a model with more than two latent features, or without a density.
    """
    space = space or Space(model)
    exact = log_px(model, x, "quadrature", tolerance=1e-6)
    points = POINTS[min(space.d, 2)]
    x = space.examples(x)
    mean, sd = space.posterior(x)
    z, log_cell = _grid(mean[0] - REACH * sd[0], mean[0] + REACH * sd[0], points)
    log_prior, log_q = space.log_prior(z, x.c), space.log_q(x, z)
    log_likelihood = space.log_joint(x.expand(len(z)), z) - log_prior
    weight = (log_q + log_cell).exp()
    grid = posterior_grid(
        model,
        x,
        points=points,
        box=posterior_box(model, x, width=6.0, space=space),
        space=space,
    )
    return ThreeTerms(
        log_px=float(exact.values[0]),
        fit=float((weight * log_likelihood).sum()),
        rate=float((weight * (log_q - log_prior)).sum()),
        third=third_of(grid),
    )


def third_of(grid: Grid) -> float:
    """KL(q, p(z|x)) as a sum over a grid that holds both."""
    inside = (grid.log_q + math.log(grid.cell)).exp()
    return float((inside * (grid.log_q - grid.log_posterior)).sum())


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
    """log p(x) of one example x (1, *shape) from K draws of the prior and from K of q, {"p", "q"}:
    (repeats, sizes).

    The same K for both: log (1/K) sum p(x|z_k) with z from p(z), and log (1/K) sum w_k with z from
    q(z|x).
    """
    most, x = max(sizes), Batch.of(x).to(run.device)
    found: dict[str, Tensor] = {}
    for source in ("p", "q"):
        rows = []
        for i in range(repeats):
            trace = run.model(
                x,
                Draw(
                    most,
                    source=source,
                    noise=StepNoise(seed, "by k", source, i),
                    enumerate=True,
                ),
            )
            log_w = trace.log_sum_over_classes(
                trace.log_px if source == "p" else trace.log_w
            )[:, 0].double()
            rows.append(
                torch.stack([log_w[:k].logsumexp(0) - math.log(k) for k in sizes])
            )
        found[source] = torch.stack(rows).cpu()
    return found
