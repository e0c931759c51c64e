"""One input followed through each model: its code, the answer of the decoder, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tightbound.report.content.gather import Stage, Story
from tightbound.report.content.model_outputs import prior_moments
from tightbound.report.figures import plots as figures
from tightbound.report.figures.image_grid import Picture, strip
from tightbound.report.figures.plots import Span
from tightbound.report.page.blocks import (
    Block,
    Equation,
    Key,
    Mark,
    Panel,
    Plot,
    Section,
    Term,
    Trio,
    Words,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections import tables
from tightbound.report.sections.images import Cast, bounded, heads, kind, panels

MOST_FEATURES = 16


def _axis(cast: Cast) -> Span:
    """An axis of z for all runs: it holds what the encoders with a variance say, and points unless
    they are far out.
    """
    reach, points = 3.2, [0.0]
    for stage, s in cast:
        mean, sd = s.codes.mean[stage.hero], s.codes.sd[stage.hero]
        if s.codes.stochastic:
            reach = max(reach, float((np.abs(mean) + 3 * sd).max()))
        else:
            points.append(1.05 * float(np.abs(mean).max()))
    reach = max(points) if reach < max(points) < 2 * reach else reach
    return -reach, reach


def followed(cast: Cast, text: Text) -> Section:
    """One test example, step by step, through each model."""
    span, top = _axis(cast), max(float(_unit_spread(s).max()) for _, s in cast)

    def panel(stage: Stage, story: Story) -> Panel:
        place, hero = stage.scene, stage.hero
        label, number_of = place.label(hero), int(place.test.rows[hero])
        name = (
            text("follow.named", row=number_of, label=label)
            if label
            else text("follow.unnamed", row=number_of)
        )
        words = [
            text(kind(story, "follow.code"), narrow=float(story.codes.sd[hero].min()))
        ]
        some = story.order[:MOST_FEATURES]
        if (np.abs(story.passage.z[some]) > span[1]).any():
            words.append(text("follow.far"))
        if len(some) < len(story.order):
            words.append(text("follow.most", n=len(some), latent=len(story.order)))
        shown, answer, says = _seen(stage, story, text, top)
        if story.codes.stochastic:
            marks = [
                Mark("fill", "prior", text("key.prior")),
                Mark("fill", "posterior", text("key.posterior")),
            ]
            marks.append(Mark("dot", "drawn", text("key.drawn")))
        else:
            marks = [
                Mark("fill", "prior", text("key.normal")),
                Mark("line", "posterior", text("key.point")),
            ]
        blocks: list[Block] = [
            Words(text("follow.input", name=name), step=True),
            *shown,
            Words(" ".join(words), step=True),
            Plot(
                _ridge(story, hero, some, span), text("follow.alt_code", run=story.name)
            ),
            Key(marks),
            Words(says, step=True),
            answer,
            Words(text(bounded(story, "follow.terms")), step=True),
            Equation(_costs(story, text)),
        ]
        return Panel(story.name, blocks)

    return Section("follow", *heads(text, "follow"), panels(cast, text, panel))


def _seen(
    stage: Stage, story: Story, text: Text, top: float
) -> tuple[list[Block], Block, str]:
    """The input, the decoder's answer, and what is said of it; of a table the answer has the input
    beside it.
    """
    place, way, run = stage.scene, story.passage, {"run": story.name}
    both = np.stack([way.mean, way.draw]) * (
        story.run.spec.divisor / place.spec.divisor
    )
    mean, draw = place.view.unit(both.astype(np.float32))
    if place.sheet is not None:
        answer = tables.passage(
            stage, story, mean, draw, text, text("follow.alt_mean", **run)
        )
        return [], answer, text("follow.decode_table")
    spread = _unit_spread(story)
    trio = [
        (_single(mean, story), text("follow.mean"), text("follow.alt_mean", **run)),
        (
            _single(spread / max(top, 1e-9) if place.view.image else spread, story),
            text("follow.spread"),
            text("follow.alt_spread", **run),
        ),
        (_single(draw, story), text("follow.draw"), text("follow.alt_draw", **run)),
    ]
    says = text(
        "follow.decode" if place.view.image else "follow.decode_vector",
        top=float(spread.max()),
    )
    first = Trio(
        [
            (
                _single(place.test_unit[stage.hero], story),
                "",
                text("follow.alt_input", **run),
            )
        ]
    )
    return [first], Trio(trio), says


def _unit_spread(story: Story) -> Any:
    """The standard deviation of p(x|z) on the display scale."""
    view, place = story.scene.view, story.scene
    scale = story.run.spec.divisor / place.spec.divisor
    over = (
        (view.high - view.low)
        if view.image
        else (1.0 if view.span is None else view.span)
    )
    return (story.passage.sd * scale / over).astype(np.float32)


def _single(x: Any, story: Story) -> Picture:
    return strip(np.asarray(x, np.float32)[None], story.scene.view, 1)


def _ridge(story: Story, hero: int, some: Sequence[int], span: Span) -> Picture:
    mean, cov = prior_moments(story.run)
    prior = (mean[list(some)], np.sqrt(np.diag(cov))[list(some)])
    names = [story.feature_names[k] for k in some]
    q = story.codes.mean[hero][list(some)], story.codes.sd[hero][list(some)]
    return figures.ridge(*q, prior, story.passage.z[list(some)], names, span)


def _costs(story: Story, text: Text) -> list[Term]:
    way = story.passage
    fit, two = -way.distortion, ",.2f"
    if way.rate is None:
        return [
            Term("", text("headline.term_log_px_z"), number(fit, two), "", "distortion")
        ]
    return [
        Term("", text("headline.term_elbo"), number(fit - way.rate, two), "", "ink"),
        Term("=", text("headline.term_distortion"), number(fit, two), "", "distortion"),
        Term("−", text("headline.term_rate"), number(way.rate, two), "", "rate"),
    ]
