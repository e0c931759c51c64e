"""Use of each latent: KL, activity, mutual information, distance to the prior."""

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
from tightbound.core.latent import Latent
from tightbound.distributions import is_point_mass, point
from tightbound.distributions.random import ContentNoise, StepNoise
from tightbound.evaluation.estimators.estimate import has_density
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run

Array = NDArray[np.float64]
# Variance of the posterior mean over x. Burda, Grosse and Salakhutdinov 2016, section 5.2
ACTIVE = 0.01
VALUES_AT_ONCE = 4_000_000
MOST_PAIRS = (
    100_000_000  # pairs of examples times dimensions, for the aggregate posterior
)
MOST_DIRECTIONS = 64  # of the codes, for the two-sample test
MOST_WITH_PRODUCTS = 32  # directions up to which the test has their products


@dataclass(frozen=True)
class Feature:
    """One latent dimension.

    Args:
        name: site and number, such as z_3.
        kl: KL(q(z_j|x), p(z_j)), averaged over x, nats; None where it is undefined.
        activity: variance over x of the posterior mean, in units of the prior. Where the
            prior depends on other latents, of the mean's difference from the prior's.
        mean: mean of the aggregate posterior, the codes of all examples together.
        sd: its standard deviation.
        skew: its skewness.
        kurtosis: its excess kurtosis.
        prior_kl: KL(q(z_j), p(z_j)) of the aggregate posterior, where it can be computed.
        distance: Wasserstein-1 distance from the aggregate posterior to the prior, in
            standard deviations of the prior.
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
        """True where the posterior mean varies with x."""
        return self.activity > ACTIVE


@dataclass(frozen=True)
class Site:
    """A group of latents, in nats.

    The KL is the sum of mutual information and aggregate KL (Hoffman and Johnson 2016).
    All but the KL are known only where q depends on x alone.

    Args:
        name: name of the site.
        width: number of dimensions.
        active: number of active dimensions.
        n: number of examples.
        kl: KL(q(z|x), p(z)); None for point codes.
        mutual_information: I(x; z) between an example of these n and its z, at most
            log n (`cap`).
        aggregate_kl: KL(q(z), p(z)) of the aggregate posterior of the n examples.
        total_correlation: KL(q(z), prod_j q(z_j)).
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
        """log n, the maximum of an estimate of I(x; z) from n examples."""
        return math.log(self.n)


@dataclass(frozen=True)
class Latents:
    """Use of all latents over n examples.

    Args:
        n: number of examples.
        sites: the groups of latents.
        features: all latent dimensions.
        c2st_auc: AUC of a classifier two-sample test between codes and draws of the
            prior, 0.5 (alike) to 1.
    """

    n: int
    sites: list[Site]
    features: list[Feature]
    c2st_auc: float


def spread(n: int, most: int) -> Tensor:
    """At most `most` of n rows, spread evenly."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


@torch.no_grad()
def latents(run: Run, x: Tensor | Batch, seed: int) -> Latents:
    """Measures the use of the latents, with one draw of z for each example.

    Args:
        run: the run.
        x: examples (n, *shape) in model units.
        seed: seed of all draws.
    """
    parts: dict[str, list[_SiteData]] = {}
    x = Batch.of(x)
    for part in x.split(max(1, VALUES_AT_ONCE // (run.spec.dims * 16))):
        for name, site in _infer(run, part.to(run.predictor.device), seed).items():
            parts.setdefault(name, []).append(site)
    data = {name: _SiteData.cat(pieces) for name, pieces in parts.items()}
    draws = _prior_codes(run, len(x), seed, x.c)
    sites = []
    features = []
    first = next(iter(data))  # of the sites, the first drawn depends on x alone
    for name in run.model.site_widths:
        aggregate = None
        if name == first and len(x) > 1:
            aggregate = _aggregate(data[name])
        features += _features(name, data[name], draws[name], aggregate)
        sites.append(_site(name, data[name], aggregate))
    codes = np.concatenate([data[name].z.numpy() for name in run.model.site_widths], 1)
    prior_codes = np.concatenate([draws[name] for name in run.model.site_widths], 1)
    return Latents(len(x), sites, features, c2st_auc(codes, prior_codes))


def _prior_codes(run: Run, n: int, seed: int, c: Tensor | None) -> dict[str, Array]:
    """n draws of each site from the prior, in passes of bounded size."""
    width = run.spec.dims * run.model.likelihood.params
    most = max(1, 4 * VALUES_AT_ONCE // width)
    parts: dict[str, list[Array]] = {}
    for i, start in enumerate(range(0, n, most)):
        purpose: list[str | int] = ["prior codes"]
        if i:
            purpose.append(i)
        draw = Draw(source="p", noise=StepNoise(seed, *purpose))
        condition = None
        if c is not None:
            condition = c[start : start + most].to(run.predictor.device)
        prior = run.model.generate(min(most, n - start), draw, condition).latents
        for name, site in prior.items():
            codes = site.z.flatten(1).double().cpu().numpy()
            parts.setdefault(name, []).append(codes)
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


Normals = tuple[Tensor, Tensor]  # loc and scale (n, d) of diagonal normals


@dataclass(frozen=True)
class _SiteData:
    """q(z|x) and p(z) of a site over n examples, float64 on the CPU.

    Args:
        z: a draw from q, (n, d).
        mean: mean of q, relative to p where p is normal, (n, d).
        kl: KL(q, p), (n,); None for a point.
        log_p: log p(z), (n,).
        kl_each: KL of each dimension, (n, d).
        q: loc and scale of a normal q, else None.
        p: loc and scale of a normal p, else None.
        late: True where p(z) is given other latents.
    """

    z: Tensor
    mean: Tensor
    kl: Tensor | None
    log_p: Tensor
    kl_each: Tensor | None
    q: Normals | None
    p: Normals | None
    late: bool

    @classmethod
    def cat(cls, parts: list[_SiteData]) -> _SiteData:
        """The data of all examples, from those of its parts, in order."""
        return cls(
            z=torch.cat([part.z for part in parts]),
            mean=torch.cat([part.mean for part in parts]),
            kl=_cat([part.kl for part in parts]),
            log_p=torch.cat([part.log_p for part in parts]),
            kl_each=_cat([part.kl_each for part in parts]),
            q=_cat_normals([part.q for part in parts]),
            p=_cat_normals([part.p for part in parts]),
            late=parts[0].late,
        )


def _cat(parts: list[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if len(tensors) == len(parts) else None


def _cat_normals(parts: list[Normals | None]) -> Normals | None:
    loc = _cat([None if part is None else part[0] for part in parts])
    scale = _cat([None if part is None else part[1] for part in parts])
    return None if loc is None or scale is None else (loc, scale)


def _double(t: Tensor) -> Tensor:
    return t.detach().double().cpu()


def _normal(dist: Distribution | None) -> Normals | None:
    """loc and scale (n, d) of a diagonal normal, else None."""
    if not isinstance(dist, Independent) or not isinstance(dist.base_dist, Normal):
        return None
    base = dist.base_dist
    return _double(base.loc.flatten(1)), _double(base.scale.flatten(1))


def _infer(run: Run, x: Batch, seed: int) -> dict[str, _SiteData]:
    """q and p of each site, for examples that fit into one pass."""
    drawn = run.model(x, Draw(noise=ContentNoise(seed, x.x, 0, 1))).latents
    points = run.model(x, Draw(source="point")).latents
    return {name: _site_data(site, points[name]) for name, site in drawn.items()}


def _site_data(site: Latent, at_centre: Latent) -> _SiteData:
    """From a site with z drawn from q, and one with z at q's centre."""
    centre = at_centre.z if at_centre.q is None else point(at_centre.q)
    mean = _double(centre.flatten(1))
    p = _normal(at_centre.p)
    if p is not None:
        mean = (mean - p[0]) / p[1]
    dense = has_density(site.p)
    is_point = is_point_mass(site.q)
    each = None if is_point else site.kl_each
    log_p = site.log_p[0] if dense else torch.full_like(site.z[:, 0], torch.nan)
    return _SiteData(
        z=_double(site.z.flatten(1)),
        mean=mean,
        kl=None if is_point or not dense else _double(site.kl[0]),
        log_p=_double(log_p),
        kl_each=None if each is None else _double(each.flatten(1)),
        q=_normal(site.q) if dense else None,
        p=_normal(site.p),
        late=site.late,
    )


@dataclass(frozen=True)
class _Aggregate:
    """Log-densities at the drawn z (n,) of a site whose q depends on x alone.

    Args:
        log_q: log q(z|x).
        joint: log q(z) of the aggregate posterior.
        marginals: sum over j of log q(z_j).
        log_p: log p(z).
        prior_kl: KL(q(z_j), p(z_j)) of each dimension, (d,).
    """

    log_q: Tensor
    joint: Tensor
    marginals: Tensor
    log_p: Tensor
    prior_kl: Tensor | None


def _aggregate(site: _SiteData) -> _Aggregate | None:
    """The aggregate posterior, a mixture of n normals, evaluated at the drawn z.

    Returns:
        None where q is not normal.
    """
    if site.q is None:
        return None
    d = site.z.shape[1]
    chosen = spread(len(site.z), max(50, int(math.sqrt(MOST_PAIRS / d))))
    loc, scale = (t[chosen] for t in site.q)
    z = site.z[chosen]
    n = len(chosen)
    log_q = []
    joint = []
    single = []
    for rows in torch.arange(n).split(max(1, VALUES_AT_ONCE // (n * d))):
        normals = Normal(loc, scale, validate_args=False)
        each = normals.log_prob(z[rows, None])  # (rows, n, d)
        log_q.append(each[torch.arange(len(rows)), rows].sum(-1))
        joint.append(each.sum(-1).logsumexp(1) - math.log(n))
        single.append(each.logsumexp(1) - math.log(n))
    marginal = torch.cat(single)
    prior_kl = None
    if site.p is not None and not site.late:
        prior = Normal(site.p[0][chosen], site.p[1][chosen], validate_args=False)
        prior_kl = (marginal - prior.log_prob(z)).mean(0)
    return _Aggregate(
        log_q=torch.cat(log_q),
        joint=torch.cat(joint),
        marginals=marginal.sum(1),
        log_p=site.log_p[chosen],
        prior_kl=prior_kl,
    )


def _site(name: str, site: _SiteData, aggregate: _Aggregate | None) -> Site:
    active = 0
    if len(site.mean) > 1:
        active = int((site.mean.var(0) > ACTIVE).sum())
    width = site.z.shape[1]
    kl = None if site.kl is None else Mean.of(site.kl)
    if aggregate is None:
        return Site(name, width, active, len(site.z), kl, None, None, None)
    aggregate_kl = None
    if not site.late:
        aggregate_kl = Mean.of(aggregate.joint - aggregate.log_p)
    total_correlation = None
    if width > 1:
        total_correlation = Mean.of(aggregate.joint - aggregate.marginals)
    return Site(
        name=name,
        width=width,
        active=active,
        n=len(aggregate.log_q),
        kl=kl,
        mutual_information=Mean.of(aggregate.log_q - aggregate.joint),
        aggregate_kl=aggregate_kl,
        total_correlation=total_correlation,
    )


def _features(
    name: str, site: _SiteData, prior: Array, aggregate: _Aggregate | None
) -> list[Feature]:
    """The dimensions of a site; prior: as many draws of it."""
    z = site.z.numpy()
    mean = z.mean(0)
    sd = z.std(0)
    unit = (z - mean) / np.maximum(sd, 1e-12)
    activity = site.mean.var(0, unbiased=False).tolist()
    apart = np.abs(np.sort(z, 0) - np.sort(prior, 0)).mean(0)
    distance = apart / np.maximum(prior.std(0), 1e-12)
    prior_kl = None if aggregate is None else aggregate.prior_kl
    return [
        Feature(
            name=f"{name}_{j + 1}",
            kl=None if site.kl_each is None else float(site.kl_each[:, j].mean()),
            activity=activity[j],
            mean=float(mean[j]),
            sd=float(sd[j]),
            skew=float((unit[:, j] ** 3).mean()),
            kurtosis=float((unit[:, j] ** 4).mean() - 3),
            prior_kl=None if prior_kl is None else float(prior_kl[j]),
            distance=float(distance[j]),
        )
        for j in range(z.shape[1])
    ]


def c2st_auc(codes: Array, prior: Array) -> float:
    """Classifier two-sample test between codes and draws of the prior.

    The classifier is a quadratic logistic regression, so the test is of means, variances
    and correlations. Lopez-Paz and Oquab 2017 (arXiv:1610.06545).

    Args:
        codes: (n, d).
        prior: (m, d).

    Returns:
        The cross-validated AUC: 0.5 where the two cannot be distinguished, 1 where they
        always can; not a number for fewer than 20 codes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(codes) < 20:
        return math.nan
    both = np.concatenate([codes, prior])
    z = (both - prior.mean(0)) / np.maximum(prior.std(0), 1e-12)
    if z.shape[1] > MOST_DIRECTIONS:  # the directions along which the codes vary most
        directions = np.linalg.svd(z[: len(codes)], full_matrices=False)[2]
        z = z @ directions[:MOST_DIRECTIONS].T
    columns = [z, z**2]
    if z.shape[1] <= MOST_WITH_PRODUCTS:
        i, j = np.triu_indices(z.shape[1], 1)
        columns.append(z[:, i] * z[:, j])
    y = np.repeat([1, 0], [len(codes), len(prior)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    inputs = np.concatenate(columns, 1)
    shares = cross_val_predict(model, inputs, y, cv=folds, method="predict_proba")
    return max(0.5, float(roc_auc_score(y, shares[:, 1])))
