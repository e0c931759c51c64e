"""The sections that are read: the headline, training, the terms of log p(x), the probe, and one
input
followed through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tightbound.report.content.gather import Stage, Story
from tightbound.report.content.linear_probe import Accuracy
from tightbound.report.figures import plots as figures
from tightbound.report.figures.palette import DISTORTION, INK, RATE
from tightbound.report.figures.plots import Series, Span
from tightbound.report.page.blocks import (
    Bar,
    Bars,
    Block,
    Equation,
    Key,
    Ledger,
    Mark,
    Panel,
    Plot,
    Section,
    Term,
    Words,
)
from tightbound.report.page.text import Text, number, with_error
from tightbound.report.sections import bounds as closer
from tightbound.report.sections.images import Cast, heads, kind, panels

SMALL = 0.15  # of a quantity beside another: too small to be read on one axis with it
FEW = 3.0  # independent draws, below which an importance-sampled log p(x) says little


def measured(terms: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Mean and standard error of a term, or None where the model has no such term."""
    found = terms.get(name)
    if (
        not isinstance(found, Mapping)
        or found.get("mean") is None
        or not np.isfinite(found["mean"])
    ):
        return None
    se = found.get("se")
    return float(found["mean"]), float(se) if se is not None and np.isfinite(
        se
    ) else 0.0


def _term(
    terms: Mapping[str, Any],
    name: str,
    sign: str,
    words: str,
    colour: str,
    flip: float = 1.0,
    says: str = "",
) -> Term | None:
    found = measured(terms, name)
    if found is None:
        return None
    return Term(sign, words, *with_error(flip * found[0], found[1]), colour, says)


def why_no_bound(story: Story, text: Text) -> str:
    """The reason why a run has no ELBO."""
    return text(
        "headline.reason_none" if story.codes.stochastic else "headline.reason_point"
    )


def headline(story: Story, text: Text) -> list[Block]:
    """The three terms in a line, or the distortion alone and why."""
    a = story.evaluation["terms"]
    recipe = story.run.config.recipe
    about = {
        "recipe": recipe.name,
        "features": text.count("features", len(story.order)),
        "likelihood": recipe.likelihood.name,
    }
    what = Words(
        text("headline.what", parameters=f"{sum(story.parameters.values()):,}", **about)
    )
    if not story.bound:
        only = _term(a, "distortion", "", text("headline.term_cost"), "distortion")
        return [
            what,
            Words(text("headline.point")),
            Equation([only] if only else []),
            Words(why_no_bound(story, text)),
        ]
    terms = [
        _term(a, "log_px", "", text("headline.term_log_px"), "ink"),
        _term(
            a, "distortion", "=", text("headline.term_distortion"), "distortion", -1.0
        ),
        _term(a, "rate", "−", text("headline.term_rate"), "rate"),
        _term(a, "gap", "+", text("headline.term_gap"), "gap"),
    ]
    return [
        what,
        Words(text("headline.bound")),
        Equation([t for t in terms if t is not None]),
    ]


def _epochs(story: Story) -> list[Mapping[str, Any]]:
    return [line for line in story.history if line.get("event") == "epoch"]


def _series(story: Story) -> list[Series]:
    """Training dashed, validation solid; distortion, and for a bound the rate and their sum."""
    lines = _epochs(story)
    names = [("distortion", DISTORTION, 1.0)]
    if story.bound:
        names += [("rate", RATE, 1.0), ("elbo", INK, -1.0)]
    found = []
    for part, dashed in (("train", True), ("valid", False)):
        for name, colour, sign in names:
            points = [
                (e["epoch"], sign * v)
                for e in lines
                if (v := (e.get(part) or {}).get(name)) is not None
            ]
            if points:
                x, y = (
                    np.array(values, dtype=float)
                    for values in zip(*points, strict=True)
                )
                found.append(Series(x, y, colour, dashed))
    return found


def _spans(every: Sequence[Series]) -> tuple[Span, Span]:
    """Axes that hold all curves after their first steep fall."""
    last = max(float(s.x[-1]) for s in every)
    kept = np.concatenate([s.y[s.x >= 0.06 * last] for s in every])
    kept = kept[np.isfinite(kept)]
    low, high = (float(kept.min()), float(kept.max())) if len(kept) else (0.0, 1.0)
    pad = 0.05 * max(high - low, 1.0)
    whole = low >= 0 and high - low > SMALL * high
    return (0.0, last * 1.01), (min(0.0, low - pad) if whole else low - pad, high + pad)


def _apart(every: Sequence[Series]) -> bool:
    """Whether the rates are too small to be seen on an axis that also holds the distortions."""
    low = [float(np.nanmin(s.y)) for s in every if s.colour == DISTORTION]
    high = [float(np.nanmax(s.y)) for s in every if s.colour == RATE]
    return bool(low and high) and 0 <= max(high) < SMALL * min(low)


def training(cast: Cast, text: Text) -> Section:
    """Curves of all runs on one scale."""
    series = {id(story): _series(story) for _, story in cast}
    every = [s for found in series.values() for s in found]
    apart = _apart(every)

    def on(axis: bool, some: Sequence[Series]) -> list[Series]:
        return [s for s in some if (apart and s.colour == RATE) == axis]

    def panel(_: Stage, story: Story) -> Panel:
        mine = series[id(story)]
        if not mine:
            return Panel(story.name, [Words(text("curves.none"))])
        kept = _best(story)["epoch"]
        picture = figures.curves(
            on(False, mine), *_spans(on(False, every)), "epoch", kept
        )
        plots = [Plot(picture, text("curves.alt", run=story.name))]
        if story.bound and apart:
            small = figures.curves(
                on(True, mine), *_spans(on(True, every)), "epoch", kept, height=150
            )
            plots.append(Plot(small, text("curves.alt_rate", run=story.name)))
        marks = [Mark("line", "distortion", text("key.distortion"))]
        if story.bound:
            marks += [
                Mark("line", "rate", text("key.rate")),
                Mark("line", "ink", text("key.cost")),
            ]
        marks += [
            Mark("line", "muted", text("key.validation")),
            Mark("dashed", "muted", text("key.training")),
        ]
        marks.append(Mark("dotted", "drawn", text("key.kept")))
        caption = [
            _kept(story, text),
            *([text("curves.apart")] if len(plots) > 1 else []),
        ]
        return Panel(story.name, [*plots, Key(marks)], " ".join(caption))

    return Section("curves", *heads(text, "curves"), panels(cast, text, panel))


def _best(story: Story) -> Mapping[str, Any]:
    """The line of the log at which the weights that were kept stood."""
    lines = _epochs(story)
    return ([e for e in lines if e.get("best")] or lines)[-1]


def _kept(story: Story, text: Text) -> str:
    line = _best(story)
    valid = line.get("valid") or {}
    if "distortion" not in valid:
        return ""
    values = {"epoch": line["epoch"], "distortion": valid["distortion"]}
    if story.bound:
        return text("curves.caption", **values, rate=valid["rate"], cost=-valid["elbo"])
    return text("curves.caption_point", **values)


def terms(cast: Cast, text: Text) -> Section:
    """The terms of log p(x): as steps of a bar, and in a table with a sentence each."""
    span = _span_of_terms(cast)
    evaluations = [story.evaluation for _, story in cast]
    heights, widest = closer.span_of(evaluations), closer.widest(evaluations)

    def panel(stage: Stage, story: Story) -> Panel:
        a = story.evaluation
        found = {
            n: measured(a["terms"], n)
            for n in ("distortion", "rate", "elbo", "log_px", "gap")
        }
        blocks: list[Block] = []
        if found["distortion"]:
            rate, gap = ((found[n] or (None,))[0] for n in ("rate", "gap"))
            se = {n: v[1] for n, v in found.items() if v}
            picture = figures.terms(found["distortion"][0], rate, gap, se, span)
            blocks.append(Plot(picture, text("terms.alt", run=story.name)))
        n = f"{a.get('n') or stage.scene.counts['test']:,}"
        words = "terms.caption" if story.bound else "terms.caption_point"
        caption = text(words, reason=why_no_bound(story, text), n=n)
        start = (
            [text("terms.start", start=number(span[0], ",.0f"))] if span[0] > 0 else []
        )
        blocks += [Words(" ".join([caption, *start])), Ledger(_ledger(story, text))]
        blocks += [
            *closer.curve(story, text, heights),
            *closer.stack(story, text, widest),
        ]
        return Panel(story.name, blocks)

    return Section("terms", *heads(text, "terms"), panels(cast, text, panel))


def _span_of_terms(cast: Cast) -> Span:
    """The axis of all evaluations and their errors: from 0, or from below the first term where that
    dwarfs the others.
    """
    ends = []
    for _, story in cast:
        d, r, g = (
            (measured(story.evaluation["terms"], n) or (0.0, 0.0))[0]
            for n in ("distortion", "rate", "gap")
        )
        errors = [
            (measured(story.evaluation["terms"], n) or (0.0, 0.0))[1]
            for n in ("distortion", "elbo", "log_px")
        ]
        ends += [
            e + s * 1.96 * se
            for e, se in zip((d, d + r, d + r - g), errors, strict=True)
            for s in (-1, 1)
        ]
    low, high = min(ends), max(ends)
    if low < high and high - low < SMALL * low:
        return low - 0.4 * (high - low), high + 0.05 * (high - low)
    reach = max(high, 0.0) - min(low, 0.0) or 1.0
    return min(low, 0.0) - (0.06 * reach if low < 0 else 0), max(
        high, 0.0
    ) + 0.06 * reach


def _ledger(story: Story, text: Text) -> list[Term]:
    a = story.evaluation
    k = f"{a.get('k') or 0:,}"
    worth = measured(a["terms"], "ess")
    ess = number(worth[0], ",.1f") if worth else ""
    rows = [
        ("distortion", "distortion"),
        ("rate", "rate"),
        ("elbo", "ink"),
        ("gap", "gap"),
        ("log_px", "ink"),
    ]
    says = {name: f"terms.{name}_says" for name, _ in rows}
    says["distortion"] = kind(story, says["distortion"])
    says["log_px"] += "_few" if worth and worth[0] < FEW else ""
    terms = [
        _term(
            a["terms"], n, "", text(f"terms.{n}"), c, says=text(says[n], k=k, ess=ess)
        )
        for n, c in rows
    ]
    shared = a.get("bits_per_dim") or {}
    if bits := measured(shared, "log_px") or measured(shared, "elbo"):
        values = number(bits[0], ".3f"), number(bits[1], ".3f")
        terms.append(
            Term(
                "",
                text("terms.bits"),
                *values,
                "ink",
                text("terms.bits_says", dims=f"{story.run.spec.dims:,}"),
            )
        )
    return [t for t in terms if t is not None]


def probes(cast: Cast, text: Text) -> Section | None:
    """Accuracies as bars, with raw values and guessing beside them; None without labels."""
    scored = [
        (stage, story)
        for stage, story in cast
        if story.accuracy is not None and stage.baselines is not None
    ]
    if not scored:
        return None
    stage = scored[0][0]
    base = stage.baselines or {}

    def bar(words: str, a: Accuracy, own: bool) -> Bar:
        low, high = max(0.0, a.value - 1.96 * a.se), min(1.0, a.value + 1.96 * a.se)
        return Bar(words, a.value, low, high, f"{a.value:.1%}", own)

    bars = [
        bar(
            text(
                "probe.features",
                run=s.name,
                features=text.count("features", len(s.order)),
            ),
            s.accuracy,
            True,
        )
        for _, s in scored
        if s.accuracy
    ]
    bars.append(
        bar(text("probe.raw", dims=f"{stage.scene.spec.dims:,}"), base["raw"], False)
    )
    bars.append(bar(text("probe.majority"), base["majority"], False))
    best = max(
        (s for _, s in scored), key=lambda s: s.accuracy.value if s.accuracy else 0.0
    )
    assert best.accuracy is not None
    values = {"best": best.name, "value": best.accuracy.value, "se": best.accuracy.se}
    caption = text(
        "probe.caption",
        **values,
        raw=base["raw"].value,
        majority=base["majority"].value,
    )
    words = heads(text, "probe", train=f"{len(stage.scene.train.x):,}")
    return Section(
        "probe", *words, [], wide=[Bars(bars, text("probe.alt"))], caption=caption
    )
