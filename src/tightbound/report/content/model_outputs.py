"""Outputs of a trained model: codes, decoded examples, and one input's terms.

Inputs and outputs are in model units.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import moments, point
from tightbound.distributions.random import ContentNoise
from tightbound.report.figures.display_scale import Array
from tightbound.runs.run import Run, seeded

PRIOR_DRAWS = 4000  # for the moments of a prior that has no closed form


@dataclass(frozen=True)
class Codes:
    """q(z|x) of n examples: mean and standard deviation of each feature, (n, L).

    kl: (n, L) in nats, or None where it is not defined by feature.
    """

    mean: Array
    sd: Array
    kl: Array | None

    @property
    def stochastic(self) -> bool:
        """False where every code is a point."""
        return bool((self.sd > 0).any())

    @property
    def activity(self) -> Array:
        """Information of each feature about x, (L,).

        The mean KL in nats or, for points, the variance of the coordinate.
        """
        activity: Array = self.mean.var(0) if self.kl is None else self.kl.mean(0)
        return activity


def _encoded_at_once(run: Run) -> int:
    """Rows per pass, so that the decoder gives at most 2 million numbers."""
    return int(
        np.clip(
            2_000_000 // (run.spec.dims * run.model.likelihood.params),
            1,
            1024,
        )
    )


def _decoded_at_once(run: Run) -> int:
    """Rows to decode together, at most 16 million numbers.

    The mean over levels needs all levels of every dimension.
    """
    return max(1, 16_000_000 // (run.spec.dims * (run.spec.levels or 1)))


def codes(run: Run, x: Tensor | Batch) -> Codes:
    """q(z|x) of each row of x (n, *shape); several sites are concatenated, z1 first."""
    parts = Batch.of(x).split(_encoded_at_once(run))
    with torch.no_grad():
        results = [_codes(run, part) for part in parts]
    kl = [result.kl for result in results if result.kl is not None]
    return Codes(
        np.concatenate([result.mean for result in results]),
        np.concatenate([result.sd for result in results]),
        np.concatenate(kl) if kl else None,
    )


def moments_of(run: Run, x: Tensor | Batch) -> tuple[Array, Array]:
    """Mean and standard deviation of q(z|x) for each row of x (n, *shape), (n, L)."""
    parts = Batch.of(x).split(_encoded_at_once(run))
    with torch.no_grad():
        results = [_moments(run, part) for part in parts]
    mean = np.concatenate([mean for mean, _ in results])
    return mean, np.concatenate([sd for _, sd in results])


def _moments(run: Run, x: Batch) -> tuple[Array, Array]:
    latents = run.predictor.latents(x)
    q = [d for name in run.model.site_widths if (d := latents[name].q) is not None]
    mean = torch.cat([point(d) for d in q], -1)
    with seeded(run.config.seed):
        sd = torch.cat([moments(d)[1].sqrt() for d in q], -1)
    return mean.cpu().numpy(), sd.cpu().numpy()


def _codes(run: Run, x: Batch) -> Codes:
    mean, sd = _moments(run, x)
    return Codes(mean, sd, _kl(run, x))


def _kl(run: Run, x: Batch) -> Array | None:
    """KL of each feature (n, L), or None where a site has none."""
    if not run.config.recipe.has_bound:
        return None
    noise = ContentNoise(run.config.seed, x.x, 0, 1)
    latents = run.predictor.trace(x, Draw(noise=noise)).latents
    each = [latents[name].kl_each for name in run.model.site_widths if name in latents]
    defined = [kl for kl in each if kl is not None]
    if len(defined) < len(run.model.site_widths):
        return None
    kl: Array = torch.cat(defined, -1).cpu().numpy()
    return kl


def decode(run: Run, z: Array, c: Tensor | None = None, drawn: bool = False) -> Array:
    """E[x|z] of each row of z (n, L), (n, *shape).

    For a category this is the probability of each value. c: condition of a conditional
    model, one for all rows or one for each. drawn: return draws of p(x|z) instead, with
    the same noise for every run.
    """
    rows = Batch(
        torch.as_tensor(z, dtype=torch.float32),
        None if c is None else c.expand(len(z), -1),
    )
    results = []
    with torch.no_grad(), seeded(0):
        for part in rows.split(_decoded_at_once(run)):
            px = run.predictor.decode(part)
            results.append((px.sample() if drawn else _mean(run, px)).cpu())
    x: Array = torch.cat(results).numpy()
    return x


def _mean(run: Run, px: Distribution) -> Tensor:
    return px.mean if run.spec.is_mixed else point(px)


def draws(run: Run, x: Tensor | Batch, n: int, seed: int = 0) -> Array:
    """n draws of z from q(z|x) of one example x (1, *shape), (n, L)."""
    with torch.no_grad(), seeded(seed):
        latents = run.predictor.trace(Batch.of(x).expand(n), Draw()).latents
    z: Array = (
        torch.cat([latents[name].z for name in run.model.site_widths], -1).cpu().numpy()
    )
    return z


def prior_draws(run: Run, n: int, seed: int = 0) -> Array:
    """n draws of z from the prior, (n, L), with the same noise for every run."""
    most = 8 * _encoded_at_once(run)
    parts = []
    with torch.no_grad(), seeded(seed):
        for start in range(0, n, most):
            draw = Draw(source="p")
            latents = run.model.generate(min(most, n - start), draw).latents
            parts.append(
                torch.cat([latents[name].z for name in run.model.site_widths], -1)
            )
    z: Array = torch.cat(parts).cpu().numpy()
    return z


_MOMENTS: WeakKeyDictionary[Run, tuple[Array, Array]] = WeakKeyDictionary()


def prior_moments(run: Run) -> tuple[Array, Array]:
    """Mean (L,) and covariance (L, L) of the prior.

    Exact for independent features, otherwise those of 4,000 draws.
    """
    if run not in _MOMENTS:
        _MOMENTS[run] = _prior_moments(run)
    return _MOMENTS[run]


def _prior_moments(run: Run) -> tuple[Array, Array]:
    sites = list(run.prior.values())
    prior = sites[0] if len(sites) == 1 else None
    if isinstance(prior, Independent) and run.spec.condition is None:
        return prior.mean[0].cpu().numpy(), np.diag(prior.variance[0].cpu().numpy())
    z = prior_draws(run, PRIOR_DRAWS, seed=1)
    return z.mean(0), np.atleast_2d(np.cov(z, rowvar=False))


def spread(px: Distribution) -> Tensor:
    """The standard deviation of p(x|z) in each dimension.

    For categories, the probability of all values but the most likely one.
    """
    base = px.base_dist if isinstance(px, Independent) else px
    if isinstance(base, Categorical):
        return 1 - base.probs.amax(-1)
    return px.variance.sqrt()


@dataclass(frozen=True)
class Walkthrough:
    """The pass of one example through a model.

    z: a draw of q(z|x), (L,); mean, sd, draw: of p(x|z), (*shape); distortion, rate: in
    nats, rate is None where the model has no bound.
    """

    z: Array
    mean: Array
    sd: Array
    draw: Array
    distortion: float
    rate: float | None


def walk_through(
    run: Run, x: Tensor | Batch, k: int = 256, seed: int = 0
) -> Walkthrough:
    """Pass one example x (1, *shape) through a model.

    z is the first draw of q(z|x); distortion and rate are averaged over up to k draws.
    """
    with torch.no_grad(), seeded(seed):
        x = Batch.of(x)
        trace = run.predictor.trace(x, Draw(min(k, max(8, _encoded_at_once(run)))))
        z = torch.cat([trace.latents[name].z[:1] for name in run.model.site_widths], -1)
        px = run.predictor.decode(Batch(z, x.c))
        rate = float(trace.rate[0]) if trace.bound else None
        mean, sd, draw = (
            t[0].cpu().numpy() for t in (_mean(run, px), spread(px), px.sample())
        )
        z_first = z[0].cpu().numpy()
        return Walkthrough(z_first, mean, sd, draw, float(trace.distortion[0]), rate)
