"""What the report asks of a trained model: codes, images of given codes, one input's terms.

All in domain units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from tightbound.core.trace import Batch, Draw
from tightbound.distributions import moments, point
from tightbound.distributions.random import ContentNoise
from tightbound.runs.run import Run, seeded

Array = NDArray[Any]


@dataclass(frozen=True)
class Codes:
    """What the encoder says of n examples: mean and sd of each feature, (n, L); kl (n, L) in nats,
    where defined.
    """

    mean: Array
    sd: Array
    kl: Array | None

    @property
    def stochastic(self) -> bool:
        """False where every example is a point."""
        return bool((self.sd > 0).any())

    @property
    def activity(self) -> Array:
        """How much each feature tells of x, (L,): its mean KL in nats, or the variance of a point's
        coordinate.
        """
        told: Array = self.mean.var(0) if self.kl is None else self.kl.mean(0)
        return told


def _encoded_at_once(run: Run) -> int:
    """Rows to a pass: what the decoder gives for each is 2 million numbers in all."""
    return int(
        np.clip(
            2_000_000 // (run.spec.dims * run.model.likelihood.params),
            1,
            1024,
        )
    )


def _decoded_at_once(run: Run) -> int:
    """Rows to decode together: the mean over levels needs all of them for each dimension, 16
    million numbers in all.
    """
    return max(1, 16_000_000 // (run.spec.dims * (run.spec.levels or 1)))


def codes(run: Run, x: Tensor | Batch) -> Codes:
    """q(z|x) of each row of x (n, *shape); several sites side by side, z1 first."""
    with torch.no_grad():
        found = [_codes(run, part) for part in Batch.of(x).split(_encoded_at_once(run))]
    mean, sd = (np.concatenate([f[i] for f in found]) for i in (0, 1))
    kl = [f[2] for f in found if f[2] is not None]
    return Codes(mean, sd, np.concatenate(kl) if kl else None)


def moments_of(run: Run, x: Tensor | Batch) -> tuple[Array, Array]:
    """Mean and sd of each feature given each row of x (n, *shape), (n, L)."""
    with torch.no_grad():
        found = [
            _moments(run, part) for part in Batch.of(x).split(_encoded_at_once(run))
        ]
    mean, sd = (np.concatenate([f[i] for f in found]) for i in (0, 1))
    return mean, sd


def _moments(run: Run, x: Batch) -> tuple[Array, Array]:
    latents = run.latents(x)
    q = [d for name in run.sites if (d := latents[name].q) is not None]
    mean = torch.cat([point(d) for d in q], -1)
    with seeded(run.config.seed):
        sd = torch.cat([moments(d)[1].sqrt() for d in q], -1)
    return mean.cpu().numpy(), sd.cpu().numpy()


def _codes(run: Run, x: Batch) -> tuple[Array, Array, Array | None]:
    mean, sd = _moments(run, x)
    drawn = (
        run.trace(x, Draw(noise=ContentNoise(run.config.seed, x.x, 0, 1))).latents
        if run.has_bound
        else {}
    )
    known = [
        t
        for name in run.sites
        if name in drawn and (t := drawn[name].kl_each) is not None
    ]
    kl = torch.cat(known, -1).cpu().numpy() if len(known) == len(run.sites) else None
    return mean, sd, kl


def decode(run: Run, z: Array, c: Tensor | None = None, drawn: bool = False) -> Array:
    """E[x|z] of each row of z (n, L), (n, *shape), or a draw of p(x|z), the same noise for every
    run.

    c: of a conditional model, one for all rows or one for each.  Of a category E[x|z] is the chance
    of each value.
    """

    def given(px: Distribution) -> Tensor:
        return px.sample() if drawn else px.mean if run.spec.fields else point(px)

    rows = Batch(
        torch.as_tensor(z, dtype=torch.float32),
        None if c is None else c.expand(len(z), -1),
    )
    with torch.no_grad(), seeded(0):
        return torch.cat(
            [given(run.px(part)).cpu() for part in rows.split(_decoded_at_once(run))]
        ).numpy()


def draws(run: Run, x: Tensor | Batch, n: int, seed: int = 0) -> Array:
    """n draws of z from q(z|x) of one example x (1, *shape), (n, L)."""
    with torch.no_grad(), seeded(seed):
        latents = run.trace(Batch.of(x).expand(n), Draw()).latents
    return torch.cat([latents[name].z for name in run.sites], -1).cpu().numpy()


def prior_draws(run: Run, n: int, seed: int = 0) -> Array:
    """n draws of z from the prior, (n, L); the same noise for every run."""
    most, found = 8 * _encoded_at_once(run), []
    with torch.no_grad(), seeded(seed):
        for done in range(0, n, most):
            latents = run.model.generate(min(most, n - done), Draw(source="p")).latents
            found.append(torch.cat([latents[name].z for name in run.sites], -1))
    return torch.cat(found).cpu().numpy()


_MOMENTS: WeakKeyDictionary[Run, tuple[Array, Array]] = WeakKeyDictionary()


def prior_moments(run: Run) -> tuple[Array, Array]:
    """Mean (L,) and covariance (L, L) of the prior: exact for independent features, else of 4,000
    draws.
    """
    if (known := _MOMENTS.get(run)) is not None:
        return known
    prior = run.prior
    if isinstance(prior, Independent) and run.spec.condition is None:
        known = prior.mean[0].cpu().numpy(), np.diag(prior.variance[0].cpu().numpy())
    else:
        z = prior_draws(run, 4000, seed=1)
        known = z.mean(0), np.atleast_2d(np.cov(z, rowvar=False))
    _MOMENTS[run] = known
    return known


def spread(px: Distribution) -> Tensor:
    """The standard deviation of p(x|z) in each dimension; of unordered values, the chance of any
    but the likeliest.
    """
    base = px.base_dist if isinstance(px, Independent) else px
    return (
        1 - base.probs.amax(-1) if isinstance(base, Categorical) else px.variance.sqrt()
    )


@dataclass(frozen=True)
class Passage:
    """One example's way through a model: z drawn (L,); mean, spread and a draw of p(x|z) (*shape);
    terms in nats.
    """

    z: Array
    mean: Array
    sd: Array
    draw: Array
    distortion: float
    rate: float | None


def passage(run: Run, x: Tensor | Batch, k: int = 256, seed: int = 0) -> Passage:
    """Follows one example x (1, *shape) through: the first z drawn, and the two terms averaged over
    k draws.
    """
    with torch.no_grad(), seeded(seed):
        x = Batch.of(x)
        trace = run.trace(x, Draw(min(k, max(8, _encoded_at_once(run)))))
        z = torch.cat([trace.latents[name].z[:1] for name in run.sites], -1)
        px = run.px(Batch(z, x.c))
        rate = float(trace.rate[0]) if trace.bound else None
        middle = px.mean if run.spec.fields else point(px)
        mean, sd, drawn = (
            t[0].cpu().numpy() for t in (middle, spread(px), px.sample())
        )
        return Passage(
            z[0].cpu().numpy(), mean, sd, drawn, float(trace.distortion[0]), rate
        )
