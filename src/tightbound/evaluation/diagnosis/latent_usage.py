"""What each latent does: its KL, whether it is in use, what it knows of x, and how its codes lie
against the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import is_point_mass, point
from tightbound.distributions.random import ContentNoise, StepNoise
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run

Array = NDArray[np.float64]
# variance of the posterior mean over x. Burda, Grosse and Salakhutdinov 2016, section 5.2
ACTIVE = 0.01
VALUES_AT_ONCE, MOST_PAIRS = 4_000_000, 100_000_000
MOST_DIRECTIONS = 64


@dataclass(frozen=True)
class Feature:
    """One latent dimension. kl, prior_kl in nats; activity: variance over x of its posterior mean,
    prior's units.

    Where the prior depends on other latents, only what the posterior mean adds to the prior's
    counts.

    mean, sd, skew, kurtosis (excess): of the aggregate posterior, the codes of all examples
    together.  prior_kl: KL(q(z_j), p(z_j)) of that marginal, where both are known.  distance:
    Wasserstein-1 from the aggregate posterior to the prior, in standard deviations of the prior.
    """

    name: str
    kl: float | None
    activity: float
    mean: float
    sd: float
    skew: float
    kurtosis: float
    prior_kl: float | None
    distance: float

    @property
    def active(self) -> bool:
        """True where its posterior mean varies with x."""
        return self.activity > ACTIVE


@dataclass(frozen=True)
class Site:
    """A group of latents, in nats. kl: KL(q(z|x), p(z)), None of points; the rest only where q
    depends on x alone.

    mutual_information: I(x; z) between an example of these n and its z, at most log n (`cap`).
    aggregate_kl: KL(q(z), p(z)) of the aggregate posterior of the n examples; the two add up to kl
    (Hoffman and Johnson 2016). total_correlation: KL(q(z), prod_j q(z_j)).
    """

    name: str
    width: int
    active: int
    n: int
    kl: Mean | None
    mutual_information: Mean | None
    aggregate_kl: Mean | None
    total_correlation: Mean | None

    @property
    def cap(self) -> float:
        """log n: what no estimate of I(x; z) from n examples can exceed."""
        return math.log(self.n)


@dataclass(frozen=True)
class Latents:
    """All of it, over n examples; c2st_auc: how well codes and draws of the prior are told apart,
    0.5 to 1 (AUC).
    """

    n: int
    sites: list[Site]
    features: list[Feature]
    c2st_auc: float


def spread(n: int, most: int) -> Tensor:
    """At most so many of n rows, spread evenly."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


@torch.no_grad()
def latents(run: Run, x: Tensor | Batch, seed: int) -> Latents:
    """Measures the latents over examples x (n, *shape) in model units, with one draw of z each."""
    found: dict[str, list[_Pass]] = {}
    x = Batch.of(x)
    for part in x.split(max(1, VALUES_AT_ONCE // (run.spec.dims * 16))):
        for name, one in _passes(run, part.to(run.device), seed).items():
            found.setdefault(name, []).append(one)
    whole = {name: _Pass.cat(parts) for name, parts in found.items()}
    draws = _prior_codes(run, len(x), seed, x.c)
    sites, features = [], []
    first = next(
        iter(whole)
    )  # of the sites, the first that was drawn depends on x alone
    for name in run.sites:
        known = _aggregate(whole[name]) if name == first and len(x) > 1 else None
        features += _features(
            name, whole[name], draws[name], None if known is None else known.prior_kl
        )
        sites.append(_site(name, whole[name], known))
    codes, prior_codes = (
        np.concatenate([d[name] for name in run.sites], 1)
        for d in (_codes(whole), draws)
    )
    return Latents(len(x), sites, features, c2st_auc(codes, prior_codes))


def _prior_codes(run: Run, n: int, seed: int, c: Tensor | None) -> dict[str, Array]:
    """n draws of each site from the prior, made a bounded number at a time."""
    most, found = (
        max(
            1,
            4 * VALUES_AT_ONCE // (run.spec.dims * run.model.likelihood.params),
        ),
        [],
    )
    for i, done in enumerate(range(0, n, most)):
        noise = StepNoise(seed, "prior codes", *([i] if i else []))
        own = None if c is None else c[done : done + most].to(run.device)
        prior = run.model.generate(
            min(most, n - done), Draw(source="p", noise=noise), own
        ).latents
        found.append(
            {
                name: site.z.flatten(1).double().cpu().numpy()
                for name, site in prior.items()
            }
        )
    return {name: np.concatenate([f[name] for f in found]) for name in found[0]}


def _codes(whole: dict[str, _Pass]) -> dict[str, Array]:
    return {name: one.z.numpy() for name, one in whole.items()}


@dataclass(frozen=True)
class _Pass:
    """A site over n examples, float64 on the CPU: z, mean of q beside p's, kl_each (n, d); kl, log
    p(z) (n,).

    kl is None of a point; loc and scale (n, d) of a diagonal normal q, else None; p's the same;
    late: log p(z) is given other latents.
    """

    z: Tensor
    mean: Tensor
    kl: Tensor | None
    log_p: Tensor
    each: Tensor | None
    q: tuple[Tensor, Tensor] | None
    p: tuple[Tensor, Tensor] | None
    late: bool

    @classmethod
    def cat(cls, parts: list[_Pass]) -> _Pass:
        def join(name: str) -> Tensor:
            return torch.cat([getattr(p, name) for p in parts])

        def known(name: str) -> Tensor | None:
            return None if any(getattr(p, name) is None for p in parts) else join(name)

        def pair(name: str) -> tuple[Tensor, Tensor] | None:
            held = [getattr(p, name) for p in parts]
            if any(h is None for h in held):
                return None
            return torch.cat([h[0] for h in held]), torch.cat([h[1] for h in held])

        terms = (join("z"), join("mean"), known("kl"), join("log_p"), known("each"))
        return cls(*terms, pair("q"), pair("p"), parts[0].late)


def _double(t: Tensor) -> Tensor:
    return t.detach().double().cpu()


def _normal(dist: Distribution | None) -> tuple[Tensor, Tensor] | None:
    base = dist.base_dist if isinstance(dist, Independent) else None
    return (
        (_double(base.loc.flatten(1)), _double(base.scale.flatten(1)))
        if isinstance(base, Normal)
        else None
    )


def _passes(run: Run, x: Batch, seed: int) -> dict[str, _Pass]:
    drawn = run.model(x, Draw(noise=ContentNoise(seed, x.x, 0, 1))).latents
    points = run.model(x, Draw(source="point")).latents
    found = {}
    for name, site in drawn.items():
        q, p = points[name].q, _normal(points[name].p)
        mean = _double((points[name].z if q is None else point(q)).flatten(1))
        dense = getattr(site.p, "density", True)
        each = None if is_point_mass(site.q) else site.kl_each
        found[name] = _Pass(
            _double(site.z.flatten(1)),
            mean if p is None else (mean - p[0]) / p[1],
            None if is_point_mass(site.q) or not dense else _double(site.kl[0]),
            _double(
                site.log_p[0] if dense else torch.full_like(site.z[:, 0], torch.nan)
            ),
            None if each is None else _double(each.flatten(1)),
            _normal(site.q) if dense else None,
            _normal(site.p),
            site.late,
        )
    return found


@dataclass(frozen=True)
class _Known:
    """Of a site whose q depends on x alone: log q(z|x), log q(z), sum_j log q(z_j), log p(z), (n,);
    prior_kl (d,).
    """

    own: Tensor
    joint: Tensor
    marginals: Tensor
    log_p: Tensor
    prior_kl: Tensor | None


def _aggregate(site: _Pass) -> _Known | None:
    """The aggregate posterior of the n examples, a mixture of n normals, evaluated at the drawn z;
    None otherwise.
    """
    if site.q is None:
        return None
    d = site.z.shape[1]
    some = spread(len(site.z), max(50, int(math.sqrt(MOST_PAIRS / d))))
    (loc, scale), z, n = (t[some] for t in site.q), site.z[some], len(some)
    own, joint, single = [], [], []
    for rows in torch.arange(n).split(max(1, VALUES_AT_ONCE // (n * d))):
        each = Normal(loc, scale, validate_args=False).log_prob(
            z[rows, None]
        )  # (rows, n, d)
        own.append(each[torch.arange(len(rows)), rows].sum(-1))
        joint.append(each.sum(-1).logsumexp(1) - math.log(n))
        single.append(each.logsumexp(1) - math.log(n))
    marginal = torch.cat(single)
    prior_kl = None
    if site.p is not None and not site.late:
        prior_kl = (
            marginal
            - Normal(site.p[0][some], site.p[1][some], validate_args=False).log_prob(z)
        ).mean(0)
    return _Known(
        torch.cat(own), torch.cat(joint), marginal.sum(1), site.log_p[some], prior_kl
    )


def _site(name: str, site: _Pass, known: _Known | None) -> Site:
    active = int((site.mean.var(0) > ACTIVE).sum()) if len(site.mean) > 1 else 0
    width, kl = site.z.shape[1], None if site.kl is None else Mean.of(site.kl)
    if known is None:
        return Site(name, width, active, len(site.z), kl, None, None, None)
    aggregate = None if site.late else Mean.of(known.joint - known.log_p)
    return Site(
        name,
        width,
        active,
        len(known.own),
        kl,
        Mean.of(known.own - known.joint),
        aggregate,
        Mean.of(known.joint - known.marginals) if width > 1 else None,
    )


def _features(
    name: str, site: _Pass, prior: Array, prior_kl: Tensor | None
) -> list[Feature]:
    z, flat = site.z.numpy(), []
    mean, sd = z.mean(0), z.std(0)
    unit = (z - mean) / np.maximum(sd, 1e-12)
    activity = site.mean.var(0, unbiased=False).tolist()
    far = np.abs(np.sort(z, 0) - np.sort(prior, 0)).mean(0) / np.maximum(
        prior.std(0), 1e-12
    )
    for j in range(z.shape[1]):
        flat.append(
            Feature(
                f"{name}_{j + 1}",
                None if site.each is None else float(site.each[:, j].mean()),
                activity[j],
                float(mean[j]),
                float(sd[j]),
                float((unit[:, j] ** 3).mean()),
                float((unit[:, j] ** 4).mean() - 3),
                None if prior_kl is None else float(prior_kl[j]),
                float(far[j]),
            )
        )
    return flat


def c2st_auc(codes: Array, prior: Array) -> float:
    """How well a quadratic logistic regression tells codes from draws of the prior, (n, d) each:
    cross-validated AUC.

    0.5: not at all, so that the two have like means, variances and correlations; 1: always.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(codes) < 20:
        return math.nan
    z = (np.concatenate([codes, prior]) - prior.mean(0)) / np.maximum(
        prior.std(0), 1e-12
    )
    if z.shape[1] > MOST_DIRECTIONS:  # the directions along which the codes vary most
        z = (
            z
            @ np.linalg.svd(z[: len(codes)], full_matrices=False)[2][:MOST_DIRECTIONS].T
        )
    columns = [z, z**2]
    if z.shape[1] <= 32:
        i, j = np.triu_indices(z.shape[1], 1)
        columns.append(z[:, i] * z[:, j])
    y = np.repeat([1, 0], [len(codes), len(prior)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    shares = cross_val_predict(
        model, np.concatenate(columns, 1), y, cv=folds, method="predict_proba"
    )[:, 1]
    return max(0.5, float(roc_auc_score(y, shares)))
