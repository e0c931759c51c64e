"""Beyond the terms of log p(x): the bound by K with what brackets it, and the gap
in its two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tightbound.report.content.gather import Story
from tightbound.report.figures import density_plots as diagrams
from tightbound.report.figures.palette import GAP, INK, POSTERIOR
from tightbound.report.figures.plots import Series, Span
from tightbound.report.page.blocks import Block, Key, Mark, Plot, Segment, Stack, Words
from tightbound.report.page.text import Text, number, with_error

Tree = Mapping[str, Any]


def curve_of(evaluation: Tree) -> list[Tree]:
    """The points of the bound by K, where there are two or more."""
    points = evaluation.get("curve") or []
    return list(points) if len(points) > 1 else []


def levels_of(evaluation: Tree) -> list[tuple[float, float, str, str]]:
    """Of each other method: where it puts log p(x) on all examples, half its band, its colour, its
    name.

    It was run on some examples only, so it is placed by its mean difference from importance
    sampling on those; the band is two standard errors of that difference, and the BDMC gap of
    the settings where there is one.
    """
    found, at = [], (evaluation["terms"].get("log_px") or {}).get("mean")
    slack = ((evaluation.get("bdmc_gap") or {}).get("gap") or {}).get("mean") or 0.0
    for name, method in (evaluation.get("methods") or {}).items():
        above = method.get("above_importance")
        if above is None or at is None:
            continue
        exact = method.get("kind") == "exact"
        half = 1.96 * float(above.get("se") or 0.0) + (0.0 if exact else slack)
        found.append(
            (float(at) + float(above["mean"]), half, INK if exact else GAP, name)
        )
    return found


def span_of(evaluations: Sequence[Tree]) -> Span | None:
    """One scale for the curves of all runs."""
    values: list[float] = []
    for evaluation in evaluations:
        points = curve_of(evaluation)
        values += [
            float(p["mean"]) + s * 1.96 * float(p["se"] or 0.0)
            for p in points
            for s in (-1, 1)
        ]
        values += (
            [v + s * half for v, half, _, _ in levels_of(evaluation) for s in (-1, 1)]
            if points
            else []
        )
    if not values:
        return None
    pad = 0.08 * max(max(values) - min(values), 1.0)
    return min(values) - pad, max(values) + pad


def curve(story: Story, text: Text, span: Span | None) -> list[Block]:
    """The bound against K."""
    points = curve_of(story.evaluation)
    if not points or span is None:
        return []
    x, y, se = (
        np.array([p[k] or 0.0 for p in points], dtype=float)
        for k in ("k", "mean", "se")
    )
    levels = levels_of(story.evaluation)
    bounds = Series(x, y, POSTERIOR)
    picture = diagrams.curve(bounds, se, [(v, h, c) for v, h, c, _ in levels], span)
    marks = [Mark("line", "posterior", text("key.bound"))]
    marks += [
        Mark("dashed", colour, text(f"key.{name.replace('-', '_')}"))
        for _, _, colour, name in levels
    ]
    bdmc = _bdmc_gap(story, text)
    words = text(
        "closer.curve", first=number(y[0]), last=number(y[-1]), k=f"{int(x[-1]):,}"
    )
    warned = _trust(story.evaluation, text)
    return [
        Plot(picture, text("closer.alt_curve", run=story.name)),
        Key(marks),
        Words(f"{words} {warned}".strip()),
        *bdmc,
    ]


def _bdmc_gap(story: Story, text: Text) -> list[Block]:
    """How far apart the bounds of AIS from below and from above are, on examples that the model
    made.
    """
    c = story.evaluation.get("bdmc_gap")
    if not c:
        return []
    mean, se = float(c["gap"]["mean"]), float(c["gap"]["se"] or 0.0)
    words = text("closer.bdmc_gap", n=c["n"], gap=mean, se=se)
    return [
        Plot(
            diagrams.gaps(np.array(c["gaps"])), text("closer.alt_gaps", run=story.name)
        ),
        Words(words),
    ]


def _trust(evaluation: Tree, text: Text) -> str:
    tail = ((evaluation.get("methods") or {}).get("importance") or {}).get("pareto_k")
    share = None if not tail else tail.get("above_0.7")
    return text("closer.trust", share=float(share)) if share else ""


def widest(evaluations: Sequence[Tree]) -> float:
    """The largest gap of all runs, for a common scale."""
    terms = [
        t
        for a in evaluations
        for t in (a.get("inference_gap"), a.get("train"))
        if t and "amortisation" in t
    ]
    return max([float(t["gap"]["mean"]) for t in terms], default=0.0)


def stack(story: Story, text: Text, widest: float) -> list[Block]:
    """From the ELBO to log p(x): what a better encoder would close, and what no q of this family
    would.
    """
    rows = []
    for part in ("inference_gap", "train"):
        t = story.evaluation.get(part)
        if not t or "amortisation" not in t or widest <= 0:
            continue
        segments = [
            Segment(
                max(0.0, float(t[name]["mean"])) / widest,
                colour,
                number(float(t[name]["mean"]), ".2f"),
            )
            for name, colour in (("amortisation", "missed"), ("approximation", "gap"))
        ]
        label = text(
            "closer.test" if part == "inference_gap" else "closer.train", n=t["n"]
        )
        ends = [
            " ± ".join(with_error(float(t[k]["mean"]), float(t[k]["se"] or 0.0)))
            for k in ("elbo", "log_px")
        ]
        rows.append((label, f"`ELBO` {ends[0]}", segments, f"`log p(x)` {ends[1]}"))
    if not rows:
        return []
    t = story.evaluation["inference_gap"]
    exact = text("closer.exact" if t["exact"] else "closer.bound")
    marks = [
        Mark("fill", "missed", text("key.amortisation")),
        Mark("fill", "gap", text("key.approximation")),
    ]
    words = [text("closer.stack"), exact]
    over = story.evaluation.get("overfitting") or {}
    if "encoder" in over and "decoder" in over:
        values = {
            f"{k}_{s}": over[k][s] or 0.0
            for k in ("encoder", "decoder")
            for s in ("mean", "se")
        }
        words.append(text("closer.overfitting", **values))
    return [
        Stack(rows, text("closer.alt_stack", run=story.name)),
        Key(marks),
        Words(" ".join(words)),
    ]
