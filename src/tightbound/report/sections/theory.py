"""Two sections of theory: Bayes' rule drawn for models with one or two features, and why p(x) is
out of reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from tightbound.core.trace import Batch
from tightbound.evaluation.estimators.exact_terms import (
    ThreeTerms,
    by_k,
    third_of,
    three_terms,
)
from tightbound.evaluation.estimators.methods import score
from tightbound.evaluation.estimators.quadrature import (
    Grid,
    Space,
    posterior_box,
    posterior_grid,
)
from tightbound.report.content.data_samples import Scene
from tightbound.report.content.gather import Stage, told
from tightbound.report.figures import density_plots as diagrams
from tightbound.report.figures.palette import DISTORTION, INK, PRIOR, RATE
from tightbound.report.figures.plots import Array
from tightbound.report.page.blocks import (
    Block,
    Equation,
    Gallery,
    Key,
    Mark,
    Panel,
    Plot,
    Section,
    Term,
    Words,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections.images import Cast, heads, say
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

FEW, RANKED, RANKED_WITH, POINTS = 2, 64, 500, 100
SIZES, REPEATS, MOST_VALUES = (1, 3, 10, 32, 100, 316, 1000), 12, 1_500_000
# of a grid with 100 points along each feature: 10 to the power of twice the features
PER_FEATURE = 2


@dataclass(frozen=True)
class Zoom:
    """An example (its row among the test examples), its posteriors on a grid around them, and its
    inference gap, nats.
    """

    kind: str
    row: int
    grid: Grid
    third: float


@dataclass(frozen=True)
class Study:
    """Bayes' rule for one model: the terms of one example, its densities on the prior's scale and
    close by, zooms.
    """

    name: str
    place: Scene
    hero: int
    terms: ThreeTerms
    wide: Grid
    close: Grid
    zooms: list[Zoom]


def study(run: Run, name: str, place: Scene, hero: int) -> Study | None:
    """Computed where a model has one or two features and a density in each; None for all others."""
    if not run.has_bound or sum(run.sites.values()) > FEW:
        return None
    with suppress(
        TightboundError
    ):  # features that are no real numbers, or a q without a density
        space = Space(run.model)
        x = told(run, place, place.test)
        one = x[hero : hero + 1]
        terms = three_terms(run.model, one, space=space)
        low, high = posterior_box(run.model, one, space=space)
        box = (1.25 * low - 0.25 * high, 1.25 * high - 0.25 * low)
        wide = posterior_grid(run.model, one, points=POINTS, space=space)
        close = posterior_grid(run.model, one, points=POINTS, box=box, space=space)
        return Study(name, place, hero, terms, wide, close, _zooms(run, x, space))
    return None


def _zooms(run: Run, x: Batch, space: Space) -> list[Zoom]:
    """The examples whose inference gap is least, in the middle and largest, of some that are spread
    over the test set.
    """
    some = np.unique(
        np.linspace(0, len(x) - 1, min(len(x), RANKED)).round().astype(int)
    )
    terms = score(run, x[torch.as_tensor(some)], RANKED_WITH, run.config.seed)
    order = np.argsort((terms["log_px"] - terms["elbo"]).numpy(), kind="stable")
    found = []
    for kind, rank in (
        ("best", 0),
        ("median", (len(order) - 1) // 2),
        ("worst", len(order) - 1),
    ):
        row = int(some[order[rank]])
        one = x[row : row + 1]
        box = posterior_box(run.model, one, space=space)
        grid = posterior_grid(run.model, one, points=POINTS, box=box, space=space)
        found.append(Zoom(kind, row, grid, third_of(grid)))
    return found


def _arrays(grid: Grid) -> list[Array]:
    return [a.numpy() for a in grid.axes]


def _named(text: Text, place: Scene, row: int) -> str:
    label, number_of = place.label(row), int(place.test.rows[row])
    return (
        text("follow.named", row=number_of, label=label)
        if label
        else text("follow.unnamed", row=number_of)
    )


def bayes(studies: Sequence[tuple[Stage, Study]], text: Text) -> Section | None:
    """The four densities of one example, the three terms, and the true posterior beside q for three
    examples.
    """
    if not studies:
        return None
    panels = []
    for stage, s in studies:
        say(text, stage)
        panels.append(_panel(s, text))
    return Section("bayes", *heads(text, "bayes"), panels, alone=len(panels) == 1)


def _panel(s: Study, text: Text) -> Panel:
    near, g, t = _arrays(s.close), s.close, s.terms
    run = {"run": s.name}
    four = [
        (
            diagrams.density(_arrays(s.wide), s.wide.log_prior.numpy(), PRIOR, near),
            "prior",
        ),
        (diagrams.density(near, g.log_likelihood.numpy(), DISTORTION), "likelihood"),
        (
            diagrams.density(near, (g.log_prior + g.log_likelihood).numpy(), RATE),
            "product",
        ),
        (diagrams.density(near, g.log_posterior.numpy(), INK), "posterior"),
    ]
    pictures = [
        (p, text(f"bayes.{k}", log_px=t.log_px), text(f"bayes.alt_{k}", **run))
        for p, k in four
    ]
    two = ",.3f"
    equation = [
        Term("", text("headline.term_log_px"), number(t.log_px, two), "", "ink"),
        Term(
            "=", text("headline.term_distortion"), number(t.fit, two), "", "distortion"
        ),
        Term("−", text("headline.term_rate"), number(t.rate, two), "", "rate"),
        Term("+", text("headline.term_gap"), number(t.third, two), "", "gap"),
    ]
    zooms = [
        (
            diagrams.posteriors(
                _arrays(z.grid), z.grid.log_posterior.numpy(), z.grid.log_q.numpy()
            ),
            text(f"bayes.{z.kind}", name=_named(text, s.place, z.row), third=z.third),
            text("bayes.alt_zoom", name=_named(text, s.place, z.row), **run),
        )
        for z in s.zooms
    ]
    marks = [
        Mark("fill", "ink", text("key.true")),
        Mark("line", "posterior", text("key.posterior")),
    ]
    blocks: list[Block] = [
        Words(text("bayes.four", name=_named(text, s.place, s.hero))),
        Gallery(pictures),
        Words(text("bayes.terms")),
        Equation(equation),
        Words(text("bayes.residual", residual=_small(t.residual))),
        Words(text("bayes.zooms", n=min(len(s.place.test.x), RANKED))),
        Gallery(zooms),
        Key(marks),
    ]
    return Panel(s.name, blocks)


def _small(value: float) -> str:
    return number(value, ".1e") if value and abs(value) < 1e-3 else number(value, ".3f")


@dataclass(frozen=True)
class Reach:
    """log p(x) of one example from K draws of the prior and of q, (repeats, sizes); exact: known
    for few features.
    """

    name: str
    latent: int
    sizes: list[int]
    from_p: Array
    from_q: Array
    exact: float | None


def reach(
    run: Run, name: str, place: Scene, hero: int, exact: float | None
) -> Reach | None:
    """Twelve estimates of log p(x) at each K, from the prior and from q; None for a model without a
    bound.
    """
    if not run.has_bound:
        return None
    values = run.spec.dims * (
        run.spec.levels or 1 if run.spec.domain == "categorical" else 1
    )
    sizes = [k for k in SIZES if k * values <= MOST_VALUES] or [1]
    x = told(run, place, place.test)[hero : hero + 1]
    found = by_k(run, x, sizes, REPEATS, run.config.seed)
    return Reach(
        name,
        sum(run.sites.values()),
        sizes,
        found["p"].numpy(),
        found["q"].numpy(),
        exact,
    )


def out_of_reach(found: Sequence[tuple[Stage, Reach]], text: Text) -> Section | None:
    """Estimates from the prior and from q against K, and what a grid would cost."""
    if not found:
        return None
    panels = []
    for stage, r in found:
        say(text, stage)
        values = np.concatenate(
            [r.from_p[:, r.sizes.index(max(r.sizes)) :], r.from_q[:, :1]], 1
        )
        low, high = float(values.min()), float(max(r.from_q.max(), r.exact or -np.inf))
        pad = 0.06 * max(high - low, 1.0)
        picture = diagrams.by_k(
            r.sizes, r.from_p, r.from_q, r.exact, (low - pad, high + pad)
        )
        marks = [
            Mark("line", "prior", text("key.from_p")),
            Mark("line", "posterior", text("key.from_q")),
        ]
        if r.exact is not None:
            marks.append(Mark("dotted", "ink", text("key.exact")))
        last = {
            "k": f"{r.sizes[-1]:,}",
            "p": float(np.median(r.from_p[:, -1])),
            "p_spread": float(np.ptp(r.from_p[:, -1])),
            "q": float(np.median(r.from_q[:, -1])),
            "q_spread": float(np.ptp(r.from_q[:, -1])),
        }
        cost = text(
            "reach.cost",
            features=text.count("features", r.latent),
            points=_power(PER_FEATURE * r.latent),
        )
        caption = f"{text('reach.caption', repeats=REPEATS, **last)} {cost}"
        blocks: list[Block] = [Plot(picture, text("reach.alt", run=r.name)), Key(marks)]
        panels.append(Panel(r.name, blocks, caption))
    return Section("reach", *heads(text, "reach"), panels)


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def theory(cast: Cast, aside: Sequence[tuple[str, Run]], text: Text) -> list[Section]:
    """Both sections, for the runs of the report and for those that are shown here alone, on the
    first run's example.
    """
    first = cast[0][0]
    runs = [(stage, story.name, story.run) for stage, story in cast] + [
        (first, name, run) for name, run in aside
    ]
    studies = [
        (stage, s)
        for stage, name, run in runs
        if (s := study(run, name, stage.scene, stage.hero)) is not None
    ]
    exact = {s.name: s.terms.log_px for _, s in studies}
    reached = [
        (stage, r)
        for stage, name, run in runs
        if (r := reach(run, name, stage.scene, stage.hero, exact.get(name))) is not None
    ]
    return [
        section
        for section in (out_of_reach(reached, text), bayes(studies, text))
        if section is not None
    ]
