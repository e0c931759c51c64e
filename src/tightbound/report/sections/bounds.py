"""The bound on log p(x) against K, other estimates, and the parts of the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tightbound.report.content.gather import RunResult
from tightbound.report.figures import density_plots
from tightbound.report.figures.palette import GAP, INK, POSTERIOR
from tightbound.report.figures.plots import Series, Span
from tightbound.report.page.blocks import (
    Block,
    Legend,
    LegendEntry,
    Paragraph,
    Plot,
    Segment,
    StackedBars,
)
from tightbound.report.page.text import Text, number, with_error
from tightbound.report.sections.common import Tree

GAPS = ("inference_gap", "train")  # on test and on training examples
NARROW = 0.15  # of the full width: a shorter segment has no room for its number
PARTS = {"amortisation": "amortization", "approximation": "gap"}  # name -> colour


@dataclass(frozen=True)
class _Level:
    """log p(x) by another method: value, half width of its band, colour and name."""

    value: float
    half: float
    colour: str
    name: str


def _points(evaluation: Tree) -> list[Tree]:
    """The points of the bound against K, or none where there is only one."""
    points = evaluation.get("curve") or []
    return list(points) if len(points) > 1 else []


def _levels(evaluation: Tree) -> list[_Level]:
    """log p(x) of all examples by each of the other methods.

    A method is run on a subset only, so its level is the importance-sampled log p(x) of
    all examples plus the mean difference on the subset. The band is 1.96 standard errors
    of that difference, plus the BDMC gap for estimates by AIS.
    """
    log_px = (evaluation["terms"].get("log_px") or {}).get("mean")
    if log_px is None:
        return []
    bdmc_gap = _mean_bdmc_gap(evaluation)
    levels = []
    for name, method in (evaluation.get("methods") or {}).items():
        above = method.get("above_importance")
        if above is None:
            continue
        if above.get("se") is None and method["n"] < evaluation["n"]:
            continue  # a single example
        value = float(log_px) + float(above["mean"])
        half = 1.96 * float(above.get("se") or 0.0)
        if method.get("kind") == "exact":
            levels.append(_Level(value, half, INK, name))
        else:
            levels.append(_Level(value, half + bdmc_gap, GAP, name))
    return levels


def _mean_bdmc_gap(evaluation: Tree) -> float:
    """The mean BDMC gap, 0 where it was not measured."""
    gap = (evaluation.get("bdmc_gap") or {}).get("gap") or {}
    return gap.get("mean") or 0.0


def curve_span(evaluations: Sequence[Tree]) -> Span | None:
    """A common axis for the curves of all runs, or None where there are none."""
    values: list[float] = []
    for evaluation in evaluations:
        points = _points(evaluation)
        bands = [(float(p["mean"]), 1.96 * float(p["se"] or 0.0)) for p in points]
        if points:
            bands += [(level.value, level.half) for level in _levels(evaluation)]
        values += [value + sign * half for value, half in bands for sign in (-1, 1)]
    if not values:
        return None
    pad = 0.08 * max(max(values) - min(values), 1.0)
    return min(values) - pad, max(values) + pad


def curve(result: RunResult, text: Text, span: Span | None) -> list[Block]:
    """The importance-weighted bound against K, with estimates by other methods."""
    points = _points(result.evaluation)
    if not points or span is None:
        return []
    rows = [(p["k"], p["mean"] or 0.0, p["se"] or 0.0) for p in points]
    k, mean, se = np.array(rows, dtype=float).T
    levels = _levels(result.evaluation)
    lines = [(level.value, level.half, level.colour) for level in levels]
    picture = density_plots.curve(Series(k, mean, POSTERIOR), se, lines, span)
    entries = [LegendEntry("line", "posterior", text("legend.bound"))]
    for level in levels:
        key = f"legend.{level.name.replace('-', '_')}"
        entries.append(LegendEntry("dashed", level.colour, text(key)))
    values = {"first": number(mean[0]), "last": number(mean[-1])}
    words = text("bounds.curve", **values, k=f"{int(k[-1]):,}")
    return [
        Plot(picture, text("bounds.alt_curve", run=result.name)),
        Legend(entries),
        Paragraph(f"{words} {_heavy_tails(result.evaluation, text)}".strip()),
        *_bdmc_gap(result, text),
    ]


def _bdmc_gap(result: RunResult, text: Text) -> list[Block]:
    """Histogram of the BDMC gaps on examples drawn from the model."""
    bdmc = result.evaluation.get("bdmc_gap")
    if not bdmc:
        return []
    mean = float(bdmc["gap"]["mean"])
    se = float(bdmc["gap"]["se"] or 0.0)
    picture = density_plots.gaps(np.array(bdmc["gaps"]))
    return [
        Plot(picture, text("bounds.alt_gaps", run=result.name)),
        Paragraph(text("bounds.bdmc_gap", n=bdmc["n"], gap=mean, se=se)),
    ]


def _heavy_tails(evaluation: Tree, text: Text) -> str:
    """A warning if weights have heavy tails (Vehtari et al., arXiv:1507.02646)."""
    importance = (evaluation.get("methods") or {}).get("importance") or {}
    share = (importance.get("pareto_k") or {}).get("above_0.7")
    return text("bounds.heavy_tails", share=float(share)) if share else ""


def _with_parts(evaluation: Tree) -> dict[str, Tree]:
    """The inference gaps of a run that are split in two parts."""
    gaps = {name: evaluation.get(name) for name in GAPS}
    return {name: gap for name, gap in gaps.items() if gap and "amortisation" in gap}


def widest_gap(evaluations: Sequence[Tree]) -> float:
    """The largest inference gap of all runs, for a common scale."""
    gaps = [gap for tree in evaluations for gap in _with_parts(tree).values()]
    return max([float(gap["gap"]["mean"]) for gap in gaps], default=0.0)


def gap_parts(result: RunResult, text: Text, widest: float) -> list[Block]:
    """The amortization gap and the approximation gap as stacked bars."""
    if widest <= 0:
        return []
    gaps = _with_parts(result.evaluation)
    rows = [_bar(name, gap, text, widest) for name, gap in gaps.items()]
    if not rows:
        return []
    exact = result.evaluation["inference_gap"]["exact"]
    words = [text("bounds.parts"), text("bounds.exact" if exact else "bounds.bound")]
    words += _overfitting(result.evaluation, text)
    entries = [
        LegendEntry("fill", "amortization", text("legend.amortization")),
        LegendEntry("fill", "gap", text("legend.approximation")),
    ]
    return [
        StackedBars(rows, text("bounds.alt_parts", run=result.name)),
        Legend(entries),
        Paragraph(" ".join(words)),
    ]


def _bar(
    name: str, gap: Tree, text: Text, widest: float
) -> tuple[str, str, list[Segment], str]:
    """One stacked bar from the ELBO to log p(x)."""
    segments = []
    printed = {}
    for part, colour in PARTS.items():
        mean = float(gap[part]["mean"])
        share = max(0.0, mean) / widest
        printed[part] = number(mean, ".2f")
        inside = printed[part] if share > NARROW else ""
        segments.append(Segment(share, colour, inside))
    label = text(
        "bounds.test" if name == "inference_gap" else "bounds.train",
        n=gap["n"],
        amortization=printed["amortisation"],
        approximation=printed["approximation"],
    )
    elbo, log_px = (
        " ± ".join(with_error(float(gap[k]["mean"]), float(gap[k]["se"] or 0.0)))
        for k in ("elbo", "log_px")
    )
    return label, f"`ELBO` {elbo}", segments, f"`log p(x)` {log_px}"


def _overfitting(evaluation: Tree, text: Text) -> list[str]:
    """A sentence on the overfitting of decoder and encoder, if it was measured."""
    over = evaluation.get("overfitting") or {}
    if "encoder" not in over or "decoder" not in over:
        return []
    values = {
        f"{part}_{key}": over[part][key] or 0.0
        for part in ("encoder", "decoder")
        for key in ("mean", "se")
    }
    return [text("bounds.overfitting", **values)]
