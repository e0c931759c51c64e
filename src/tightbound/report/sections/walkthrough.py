"""One test example followed through each model: code, decoded distribution, cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.content.model_outputs import prior_moments
from tightbound.report.figures import plots
from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.image_grid import Picture, strip
from tightbound.report.figures.plots import Span
from tightbound.report.page.blocks import (
    Block,
    Equation,
    ImageRow,
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
    Term,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections import tables
from tightbound.report.sections.common import (
    Results,
    by_bound,
    by_code,
    example_name,
    heads,
    panels,
)

MOST_FEATURES = 16
LEAST_REACH = 3.2  # of the axis of z


def _axis(results: Results) -> Span:
    """A common axis of z for all runs.

    It contains three standard deviations of every q(z|x), and points unless they are far
    outside.
    """
    reach = LEAST_REACH
    points = 0.0
    for group, result in results:
        mean = np.abs(result.codes.mean[group.example])
        if result.codes.stochastic:
            sd = result.codes.sd[group.example]
            reach = max(reach, float((mean + 3 * sd).max()))
        else:
            points = max(points, 1.05 * float(mean.max()))
    if reach < points < 2 * reach:
        reach = points
    return -reach, reach


def walkthrough(results: Results, text: Text) -> Section:
    """One test example, step by step, through each model."""
    span = _axis(results)
    brightest = max(float(_unit_spread(result).max()) for _, result in results)

    def panel(group: Group, result: RunResult) -> Panel:
        name = example_name(text, group.data, group.example)
        shown = result.order[:MOST_FEATURES]
        picture = _ridge(result, group.example, shown, span)
        terms = Paragraph(text(by_bound(result, "walkthrough.terms")), step=True)
        blocks: list[Block] = [
            Paragraph(text("walkthrough.input", name=name), step=True),
            *_input(group, result, text),
            Paragraph(_code_caption(group, result, text, span), step=True),
            Plot(picture, text("walkthrough.alt_code", run=result.name)),
            _legend(result, text),
            Paragraph(_decode_caption(result, text), step=True),
            _decoded(group, result, text, brightest),
            terms,
            Equation(_costs(result, text)),
        ]
        return Panel(result.name, blocks)

    titles = heads(text, "walkthrough")
    return Section("walkthrough", *titles, panels(results, text, panel))


def _code_caption(group: Group, result: RunResult, text: Text, span: Span) -> str:
    sd = result.codes.sd[group.example]
    words = [text(by_code(result, "walkthrough.code"), narrow=float(sd.min()))]
    shown = result.order[:MOST_FEATURES]
    if (np.abs(result.walkthrough.z[shown]) > span[1]).any():
        words.append(text("walkthrough.beyond"))
    if len(shown) < len(result.order):
        values = {"n": len(shown), "latent": len(result.order)}
        words.append(text("walkthrough.most", **values))
    return " ".join(words)


def _legend(result: RunResult, text: Text) -> Legend:
    if not result.codes.stochastic:
        normal = LegendEntry("fill", "prior", text("legend.normal"))
        return Legend([normal, LegendEntry("line", "posterior", text("legend.point"))])
    return Legend(
        [
            LegendEntry("fill", "prior", text("legend.prior")),
            LegendEntry("fill", "posterior", text("legend.posterior")),
            LegendEntry("dot", "drawn", text("legend.drawn")),
        ]
    )


def _input(group: Group, result: RunResult, text: Text) -> list[Block]:
    """The input as a picture; a row of a table is shown beside its decoded values."""
    if group.data.table is not None:
        return []
    x = _single(group.data.test_unit[group.example], result)
    return [ImageRow([(x, "", text("walkthrough.alt_input", run=result.name))])]


def _decode_caption(result: RunResult, text: Text) -> str:
    if result.data.table is not None:
        return text("walkthrough.decode_table")
    image = result.data.scale.image
    key = "walkthrough.decode" if image else "walkthrough.decode_vector"
    return text(key, top=float(_unit_spread(result).max()))


def _decoded(group: Group, result: RunResult, text: Text, brightest: float) -> Block:
    """Mean, standard deviation and a draw of p(x|z)."""
    data = result.data
    mean, draw = _unit_outputs(result)
    run = {"run": result.name}
    alts = [text(f"walkthrough.alt_{k}", **run) for k in ("mean", "spread", "draw")]
    if data.table is not None:
        return tables.walkthrough(group, result, mean, draw, text, alts[0])
    spread = _unit_spread(result)
    if data.scale.image:
        spread = spread / max(brightest, 1e-9)
    return ImageRow(
        [
            (_single(mean, result), text("walkthrough.mean"), alts[0]),
            (_single(spread, result), text("walkthrough.spread"), alts[1]),
            (_single(draw, result), text("walkthrough.draw"), alts[2]),
        ]
    )


def _unit_outputs(result: RunResult) -> tuple[Floats, Floats]:
    """Mean and a draw of p(x|z) on the display scale."""
    both = np.stack([result.walkthrough.mean, result.walkthrough.draw])
    scaled = both * (result.run.spec.divisor / result.data.spec.divisor)
    mean, draw = result.data.scale.unit(scaled.astype(np.float32))
    return mean, draw


def _unit_spread(result: RunResult) -> Floats:
    """The standard deviation of p(x|z) on the display scale."""
    scale = result.data.scale
    factor = result.run.spec.divisor / result.data.spec.divisor
    sd = result.walkthrough.sd * factor
    if scale.image:
        return (sd / (scale.high - scale.low)).astype(np.float32)
    return (sd / (1.0 if scale.span is None else scale.span)).astype(np.float32)


def _single(x: Floats, result: RunResult) -> Picture:
    return strip(np.asarray(x, np.float32)[None], result.data.scale, 1)


def _ridge(
    result: RunResult, example: int, features: Sequence[int], span: Span
) -> Picture:
    """Density of q(z|x) over the prior for some features."""
    columns = list(features)
    mean, cov = prior_moments(result.run)
    prior = (mean[columns], np.sqrt(np.diag(cov))[columns])
    q_mean = result.codes.mean[example][columns]
    q_sd = result.codes.sd[example][columns]
    names = [result.feature_names[k] for k in columns]
    z = result.walkthrough.z[columns]
    return plots.ridge(q_mean, q_sd, prior, z, names, span)


def _costs(result: RunResult, text: Text) -> list[Term]:
    """The terms of the example's ELBO, or log p(x|z) alone."""
    rate = result.walkthrough.rate
    fit = -result.walkthrough.distortion
    printed = number(fit, ",.2f")
    if rate is None:
        return [Term("", text("headline.term_log_px_z"), printed, "", "distortion")]
    elbo = number(fit - rate, ",.2f")
    return [
        Term("", text("headline.term_elbo"), elbo, "", "ink"),
        Term("=", text("headline.term_distortion"), printed, "", "distortion"),
        Term("−", text("headline.term_rate"), number(rate, ",.2f"), "", "rate"),
    ]
