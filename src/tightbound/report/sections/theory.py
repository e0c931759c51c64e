"""Two sections of theory: estimating p(x) by sampling, and Bayes' rule on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.exact_terms import (
    ThreeTerms,
    by_k,
    gap_on_grid,
    three_terms,
)
from tightbound.evaluation.estimators.methods import score
from tightbound.evaluation.estimators.quadrature import (
    Grid,
    Space,
    posterior_box,
    posterior_grid,
)
from tightbound.report.content.data_samples import DataSample
from tightbound.report.content.gather import Group, model_inputs
from tightbound.report.figures import density_plots
from tightbound.report.figures.display_scale import Array
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import DISTORTION, INK, PRIOR, RATE
from tightbound.report.page.blocks import (
    Block,
    Equation,
    Gallery,
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
    Term,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections.common import Results, example_name, heads, set_nouns
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

FEW = 2  # features for which the posterior is computed on a grid
POINTS = 100  # of the grid along each feature
RANKED = 64  # examples ranked by their inference gap
RANKED_WITH = 500  # draws for each of them
SIZES = (1, 3, 10, 32, 100, 316, 1000)  # values of K
REPEATS = 12
MOST_VALUES = 1_500_000  # of p(x|z) at once


@dataclass(frozen=True)
class Ranked:
    """An example with its densities on a grid.

    kind: best, median or worst by the inference gap; row: among the test examples; gap:
    the inference gap in nats.
    """

    kind: str
    row: int
    grid: Grid
    gap: float


@dataclass(frozen=True)
class PosteriorStudy:
    """Bayes' rule for one model: the terms of one example and its densities.

    wide: on a grid over the prior; close: on a grid around the posterior.
    """

    name: str
    data: DataSample
    example: int
    terms: ThreeTerms
    wide: Grid
    close: Grid
    ranked: list[Ranked]


def study_posterior(
    run: Run, name: str, data: DataSample, example: int
) -> PosteriorStudy | None:
    """Compute the posterior on a grid.

    None for a model with more than two features, with features that are not real
    numbers, or without a density q(z|x).
    """
    if not run.config.recipe.has_bound or sum(run.model.site_widths.values()) > FEW:
        return None
    with suppress(TightboundError):
        space = Space(run.model)
        x = model_inputs(run, data, data.test)
        one = x[example : example + 1]
        terms = three_terms(run.model, one, space=space)
        low, high = posterior_box(run.model, one, space=space)
        box = (1.25 * low - 0.25 * high, 1.25 * high - 0.25 * low)
        wide = posterior_grid(run.model, one, points=POINTS, space=space)
        close = posterior_grid(run.model, one, points=POINTS, box=box, space=space)
        ranked = _rank(run, x, space)
        return PosteriorStudy(name, data, example, terms, wide, close, ranked)
    return None


def _rank(run: Run, x: Batch, space: Space) -> list[Ranked]:
    """The examples with the smallest, the median and the largest inference gap.

    They are taken from examples spread evenly over the test set.
    """
    spread = np.linspace(0, len(x) - 1, min(len(x), RANKED))
    rows = np.unique(spread.round().astype(int))
    terms = score(run, x[torch.as_tensor(rows)], RANKED_WITH, run.config.seed)
    order = np.argsort((terms["log_px"] - terms["elbo"]).numpy(), kind="stable")
    last = len(order) - 1
    ranked = []
    for kind, rank in (("best", 0), ("median", last // 2), ("worst", last)):
        row = int(rows[order[rank]])
        one = x[row : row + 1]
        box = posterior_box(run.model, one, space=space)
        grid = posterior_grid(run.model, one, points=POINTS, box=box, space=space)
        ranked.append(Ranked(kind, row, grid, gap_on_grid(grid)))
    return ranked


def _arrays(grid: Grid) -> list[Array]:
    return [axis.numpy() for axis in grid.axes]


def bayes(
    studies: Sequence[tuple[Group, PosteriorStudy]], text: Text
) -> Section | None:
    """The densities of Bayes' rule, the terms, and the true posterior beside q(z|x)."""
    if not studies:
        return None
    panels = []
    for group, study in studies:
        set_nouns(text, group)
        panels.append(_bayes_panel(study, text))
    return Section("bayes", *heads(text, "bayes"), panels, alone=len(panels) == 1)


def _bayes_panel(study: PosteriorStudy, text: Text) -> Panel:
    example = example_name(text, study.data, study.example)
    residual = _small(study.terms.residual)
    n = min(len(study.data.test.x), RANKED)
    entries = [
        LegendEntry("fill", "ink", text("legend.true")),
        LegendEntry("line", "posterior", text("legend.posterior")),
    ]
    blocks: list[Block] = [
        Paragraph(text("bayes.densities", name=example)),
        Gallery(_densities(study, text)),
        Paragraph(text("bayes.terms")),
        Equation(_equation(study.terms, text)),
        Paragraph(text("bayes.residual", residual=residual)),
        Paragraph(text("bayes.ranked", n=n)),
        Gallery([_ranked(study, each, text) for each in study.ranked]),
        Legend(entries),
    ]
    return Panel(study.name, blocks)


def _densities(study: PosteriorStudy, text: Text) -> list[tuple[Picture, str, str]]:
    """Prior, likelihood, their product, and the posterior."""
    axes = _arrays(study.close)
    grid = study.close
    joint = (grid.log_prior + grid.log_likelihood).numpy()
    prior = study.wide.log_prior.numpy()
    density = density_plots.density
    pictures = {
        "prior": density(_arrays(study.wide), prior, PRIOR, axes),
        "likelihood": density(axes, grid.log_likelihood.numpy(), DISTORTION),
        "product": density(axes, joint, RATE),
        "posterior": density(axes, grid.log_posterior.numpy(), INK),
    }
    items = []
    for key, picture in pictures.items():
        words = text(f"bayes.{key}", log_px=study.terms.log_px)
        items.append((picture, words, text(f"bayes.alt_{key}", run=study.name)))
    return items


def _equation(terms: ThreeTerms, text: Text) -> list[Term]:
    """log p(x) and its three terms in one line."""
    rows = (
        ("", "log_px", terms.log_px, "ink"),
        ("=", "distortion", terms.fit, "distortion"),
        ("−", "rate", terms.rate, "rate"),
        ("+", "gap", terms.inference_gap, "gap"),
    )
    return [
        Term(sign, text(f"headline.term_{name}"), number(value, ",.3f"), "", colour)
        for sign, name, value, colour in rows
    ]


def _ranked(
    study: PosteriorStudy, ranked: Ranked, text: Text
) -> tuple[Picture, str, str]:
    """The true posterior of one example with q(z|x)."""
    grid = ranked.grid
    name = example_name(text, study.data, ranked.row)
    picture = density_plots.posteriors(
        _arrays(grid), grid.log_posterior.numpy(), grid.log_q.numpy()
    )
    words = text(f"bayes.{ranked.kind}", name=name, gap=ranked.gap)
    return picture, words, text("bayes.alt_ranked", name=name, run=study.name)


def _small(value: float) -> str:
    return number(value, ".1e") if value and abs(value) < 1e-3 else number(value, ".3f")


@dataclass(frozen=True)
class Estimates:
    """Estimates of log p(x) of one example, from draws of the prior and of q(z|x).

    from_p, from_q: (repeats, sizes); exact: log p(x), if it was computed.
    """

    name: str
    latent: int
    sizes: list[int]
    from_p: Array
    from_q: Array
    exact: float | None


def estimate(
    run: Run, name: str, data: DataSample, example: int, exact: float | None
) -> Estimates | None:
    """Twelve estimates of log p(x) at each K; None for a model without a bound."""
    if not run.config.recipe.has_bound:
        return None
    values = run.spec.dims
    if run.spec.domain == "categorical":
        values *= run.spec.levels or 1
    sizes = [k for k in SIZES if k * values <= MOST_VALUES] or [1]
    x = model_inputs(run, data, data.test)[example : example + 1]
    estimates = by_k(run, x, sizes, REPEATS, run.config.seed)
    latent = sum(run.model.site_widths.values())
    from_p = estimates["p"].numpy()
    return Estimates(name, latent, sizes, from_p, estimates["q"].numpy(), exact)


def sampling(
    estimates: Sequence[tuple[Group, Estimates]], text: Text
) -> Section | None:
    """Estimates from the prior and from q(z|x) against K, and the size of a grid."""
    if not estimates:
        return None
    panels = []
    for group, each in estimates:
        set_nouns(text, group)
        panels.append(_sampling_panel(each, text))
    return Section("sampling", *heads(text, "sampling"), panels)


def _sampling_panel(estimates: Estimates, text: Text) -> Panel:
    sizes = estimates.sizes
    picture = density_plots.by_k(
        sizes, estimates.from_p, estimates.from_q, estimates.exact, _span(estimates)
    )
    entries = [
        LegendEntry("line", "prior", text("legend.from_p")),
        LegendEntry("line", "posterior", text("legend.from_q")),
    ]
    if estimates.exact is not None:
        entries.append(LegendEntry("dotted", "ink", text("legend.exact")))
    p = estimates.from_p[:, -1]
    q = estimates.from_q[:, -1]
    caption = text(
        "sampling.caption",
        repeats=REPEATS,
        k=f"{sizes[-1]:,}",
        p=float(np.median(p)),
        p_spread=float(np.ptp(p)),
        q=float(np.median(q)),
        q_spread=float(np.ptp(q)),
    )
    features = text.count("features", estimates.latent)
    points = _power(2 * estimates.latent)  # 100 points along each feature
    cost = text("sampling.cost", features=features, points=points)
    plot = Plot(picture, text("sampling.alt", run=estimates.name))
    return Panel(estimates.name, [plot, Legend(entries)], f"{caption} {cost}")


def _span(estimates: Estimates) -> tuple[float, float]:
    """An axis that contains the estimates from the prior at the largest K."""
    low = min(float(estimates.from_p[:, -1].min()), float(estimates.from_q[:, 0].min()))
    high = float(estimates.from_q.max())
    if estimates.exact is not None:
        high = max(high, estimates.exact)
    pad = 0.06 * max(high - low, 1.0)
    return low - pad, high + pad


def _power(exponent: int) -> str:
    """A power of ten: 4 gives 10⁴."""
    return "10" + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def theory(
    results: Results, extra_runs: Sequence[tuple[str, Run]], text: Text
) -> list[Section]:
    """Both sections, for the runs of the report and for extra runs shown only here.

    The extra runs are shown on the example of the first run.
    """
    first = results[0][0]
    runs = [(group, result.name, result.run) for group, result in results]
    runs += [(first, name, run) for name, run in extra_runs]
    studies = []
    estimates = []
    for group, name, run in runs:
        study = study_posterior(run, name, group.data, group.example)
        exact = None
        if study is not None:
            studies.append((group, study))
            exact = study.terms.log_px
        each = estimate(run, name, group.data, group.example, exact)
        if each is not None:
            estimates.append((group, each))
    sections = (sampling(estimates, text), bayes(studies, text))
    return [section for section in sections if section is not None]
