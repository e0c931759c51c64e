"""Story: all that the report shows of one run, as plain arrays; gathered from a Run and the scene
of its data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import CONDITIONS
from tightbound.core.trace import Batch
from tightbound.report.content import model_outputs as passes
from tightbound.report.content.data_samples import (
    MOST_TYPICAL,
    Examples,
    Scene,
    fingerprint,
    scene,
)
from tightbound.report.content.linear_probe import Accuracy, probe
from tightbound.report.content.model_outputs import Codes, Passage
from tightbound.report.content.nearest_neighbours import Neighbours, nearest
from tightbound.report.content.table_marginals import (
    Kept,
    Marginal,
    in_columns,
    kept,
    marginals,
)
from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.image_grid import columns
from tightbound.report.figures.plots import subscript
from tightbound.runs.run import Run

Array = NDArray[Any]
ROWS_OF_SAMPLES, FEATURES, STEPS = 3, 6, 9
MOST_VALUES = 100_000_000  # of p(x|z) that are worked out to measure reconstructions


@dataclass(frozen=True)
class Plane:
    """Codes on a map: positions (n, 1 or 2), the prior's mean and covariance there, axis names,
    variance explained.
    """

    xy: Array
    prior_mean: Array
    prior_cov: Array
    axes: tuple[str, ...]
    explained: float | None

    @property
    def inside(self) -> float:
        """The share of codes within the prior's 2 sigma contour."""
        away = self.xy - self.prior_mean
        square = np.einsum("ni,ij,nj->n", away, np.linalg.pinv(self.prior_cov), away)
        return float((square <= 4).mean())

    @property
    def expected(self) -> float:
        """The share that a normal has there: 95 % in one dimension, 86 % in two."""
        return 0.9545 if self.xy.shape[1] == 1 else 1 - float(np.exp(-2))


@dataclass(frozen=True)
class Feature:
    """One feature walked from low to high, all others held: its name, what it tells, the images
    (STEPS, *shape).
    """

    name: str
    activity: float
    images: Floats


@dataclass
class Story:
    """One run, ready to be drawn; images are on the display scale. novelty: from one search for all
    runs.

    marginals, kept_of: of a table, for each column.
    """

    run: Run
    name: str
    position: int
    scene: Scene
    codes: Codes
    plane: Plane
    feature_names: list[str]
    order: list[int]
    reconstruction: Floats
    kept: float
    samples: Floats
    variations: Floats
    interpolation: Floats
    features: list[Feature]
    passage: Passage
    evaluation: Mapping[str, Any]
    history: list[dict[str, Any]]
    accuracy: Accuracy | None
    parameters: dict[str, int]
    marginals: list[Marginal] = field(default_factory=list)
    kept_of: list[Kept] = field(default_factory=list)
    novelty: Neighbours | None = field(default=None)

    @property
    def bound(self) -> bool:
        """True where the run has an ELBO."""
        return bool(self.evaluation["bound"])

    @property
    def active(self) -> int:
        """Features whose posterior mean varies with x: variance above 0.01.

        Burda et al. 2016, section 5.2.
        """
        return int((self.codes.mean.var(0) > 0.01).sum())


@dataclass(frozen=True)
class Stage:
    """A scene, the runs shown on it, the example that is followed, and the distances that are
    typical of new data.
    """

    scene: Scene
    stories: list[Story]
    hero: int
    partner: int
    typical: Floats
    searched: int
    baselines: dict[str, Accuracy] | None


@dataclass(frozen=True)
class Role:
    """A run, its evaluation, the name it goes by in the report, and its place among the runs."""

    run: Run
    evaluation: Mapping[str, Any]
    name: str
    position: int


def gather(
    runs: Sequence[Run], evaluations: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[Stage]:
    """Computes everything that a report shows; runs on the same data share one stage, in the order
    given.
    """
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(fingerprint(run.data), []).append(i)
    return [
        _stage([Role(runs[i], evaluations[i], names[i], i) for i in rows])
        for rows in groups.values()
    ]


def _stage(cast: Sequence[Role]) -> Stage:
    place = scene(cast[0].run.data)
    tests = place.test_unit[:MOST_TYPICAL]
    own = [new_samples(role.run, place) for role in cast]
    found = nearest(place.data.train, place.view, np.concatenate([tests, *own]))
    typical = found.distance[: len(tests)]
    hero = int(np.argsort(typical)[(len(typical) - 1) // 2])
    partner, baselines = place.partner(hero), place.baselines()
    stories, start = [], len(tests)
    for role, samples in zip(cast, own, strict=True):
        story = _story(role, place, hero, partner, samples, baselines is not None)
        stop = start + columns(place.view, place.spec.shape)
        story.novelty = Neighbours(
            found.distance[start:stop], found.example[start:stop], found.searched
        )
        start += len(samples)
        stories.append(story)
    return Stage(place, stories, hero, partner, typical, found.searched, baselines)


def _shown(run: Run, place: Scene, x: Array) -> Floats:
    """What a run gives, in its own units, on the display scale of the data."""
    return place.view.unit(
        (x * (run.spec.divisor / place.spec.divisor)).astype(np.float32)
    )


def conditions(run: Run, n: int) -> Tensor:
    """What a conditional model is told of each of n samples: conditions of training, in turn."""
    return run.model.get_buffer("conditions")[torch.arange(n) % CONDITIONS]


def new_samples(run: Run, place: Scene) -> Floats:
    """Samples of the run as `tightbound sample --seed 0` makes them, of tables draws; the same
    noise for every run.
    """
    n = ROWS_OF_SAMPLES * columns(place.view, place.spec.shape)
    c = None if run.spec.condition is None else conditions(run, n)
    return _shown(
        run,
        place,
        passes.decode(
            run, passes.prior_draws(run, n), c, drawn=place.sheet is not None
        ),
    )


def told(run: Run, place: Scene, shown: Examples) -> Batch:
    """What is shown as a run reads it: a likelihood may read levels as reals, and a conditional
    model is told more.
    """
    if run.spec.condition is None and not run.spec.missing:
        return Batch(run.spec.to_domain(place.spec.to_raw(shown.x)))
    found: Batch = run.data.splits[shown.split].examples(torch.as_tensor(shown.rows))
    return found


def _between(c: Tensor | None, a: int, b: int, t: Array) -> Tensor | None:
    """Conditions on the way from one example's to another's."""
    if c is None:
        return None
    share = torch.as_tensor(t, dtype=c.dtype)
    return c[a] * (1 - share) + c[b] * share


def _story(
    role: Role, place: Scene, hero: int, partner: int, samples: Floats, probed: bool
) -> Story:
    run, cols = role.run, columns(place.view, place.spec.shape)
    inputs = told(run, place, place.test)
    one = inputs[hero : hero + 1]
    codes = passes.codes(run, inputs)
    some = int(
        np.clip(
            MOST_VALUES // (run.spec.dims * (run.spec.levels or 1)), 16, len(inputs)
        )
    )
    rebuilt = _shown(run, place, passes.decode(run, codes.mean[:some], inputs[:some].c))
    marginal, kept_of = _columns(run, place, inputs, rebuilt)
    order = np.argsort(-codes.activity, kind="stable").tolist()
    names = _names(run)
    t = np.linspace(0, 1, cols)[:, None]
    ends = codes.mean[hero] * (1 - t) + codes.mean[partner] * t
    return Story(
        run=run,
        name=role.name,
        position=role.position,
        scene=place,
        codes=codes,
        plane=_plane(run, codes, names),
        feature_names=names,
        order=order,
        reconstruction=_shown(
            run,
            place,
            passes.decode(
                run, codes.mean[place.shown], inputs[torch.as_tensor(place.shown)].c
            ),
        ),
        kept=_kept(place.test_unit[:some], rebuilt),
        samples=samples,
        variations=_shown(
            run, place, passes.decode(run, passes.draws(run, one, cols), one.c)
        ),
        interpolation=_shown(
            run, place, passes.decode(run, ends, _between(inputs.c, hero, partner, t))
        ),
        features=_walks(run, place, codes, hero, order[:FEATURES], names, one.c),
        passage=passes.passage(run, one),
        evaluation=role.evaluation,
        history=run.history(),
        accuracy=_probe(run, place, codes) if probed else None,
        marginals=marginal,
        kept_of=kept_of,
        parameters={
            key: sum(p.numel() for p in group)
            for key, group in run.model.groups().items()
            if key != "critic"
        },
    )


def _columns(
    run: Run, place: Scene, inputs: Batch, rebuilt: Floats
) -> tuple[list[Marginal], list[Kept]]:
    """What is measured of each column of a table: its marginal, and what the first rows'
    reconstructions keep of it.
    """
    if place.sheet is None:
        return [], []
    names, train = place.sheet.columns, told(run, place, place.train)
    x, known = (in_columns(run.spec, names, rows) for rows in (inputs.x, train.x))
    return marginals(run, names, inputs, train), kept(
        names, x[: len(rebuilt)], place.raw(rebuilt), known
    )


def _names(run: Run) -> list[str]:
    """z₁, z₂, ... ; for several sites z1·₁, z1·₂, ..., z2·₁."""
    flat = len(run.sites) == 1
    return [
        ("z" if flat else f"{site}·") + subscript(k + 1)
        for site, width in run.sites.items()
        for k in range(width)
    ]


def _kept(x: Floats, rebuilt: Floats) -> float:
    """1 - squared error / squared distance to the mean: the share of the variance that a
    reconstruction keeps.
    """
    total = float(((x - x.mean(0)) ** 2).sum())
    return 1 - float(((x - rebuilt) ** 2).sum()) / max(total, 1e-12)


def _plane(run: Run, codes: Codes, names: Sequence[str]) -> Plane:
    """The codes themselves in one or two dimensions, else their first two principal components."""
    mean, cov = passes.prior_moments(run)
    if codes.mean.shape[1] <= 2:
        return Plane(codes.mean, mean, cov, tuple(names), None)
    centre = codes.mean.mean(0)
    _, s, v = np.linalg.svd(codes.mean - centre, full_matrices=len(codes.mean) < 2)
    v, share = v[:2], s**2 / max(float((s**2).sum()), 1e-12)
    axes = tuple(f"PC {i + 1}" for i in range(2))
    return Plane(
        (codes.mean - centre) @ v.T,
        (mean - centre) @ v.T,
        v @ cov @ v.T,
        axes,
        float(share[:2].sum()),
    )


def _walks(
    run: Run,
    place: Scene,
    codes: Codes,
    hero: int,
    order: Sequence[int],
    names: Sequence[str],
    c: Tensor | None,
) -> list[Feature]:
    """Each feature from -2 to 2 sigma of the prior, or of a point's own values; the others as in
    `hero`.
    """
    mean, cov = passes.prior_moments(run)
    sd = np.sqrt(np.diag(cov))
    if not codes.stochastic:
        mean, sd = codes.mean.mean(0), codes.mean.std(0)
    found = []
    for k in order:
        z = np.repeat(codes.mean[hero][None], STEPS, 0)
        z[:, k] = mean[k] + np.linspace(-2, 2, STEPS) * sd[k]
        found.append(
            Feature(
                names[k],
                float(codes.activity[k]),
                _shown(run, place, passes.decode(run, z, c)),
            )
        )
    return found


def _probe(run: Run, place: Scene, codes: Codes) -> Accuracy:
    train = told(run, place, place.train)
    assert place.train.y is not None and place.test.y is not None
    return probe(passes.codes(run, train).mean, place.train.y, codes.mean, place.test.y)
