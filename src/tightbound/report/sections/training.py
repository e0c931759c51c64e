"""The training curves of all runs on a common scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import plots
from tightbound.report.figures.palette import DISTORTION, INK, RATE
from tightbound.report.figures.plots import Series, Span
from tightbound.report.page.blocks import (
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
)
from tightbound.report.page.text import Text
from tightbound.report.sections.common import Results, Tree, heads, panels
from tightbound.report.sections.terms import SMALL

SKIPPED = 0.06  # of the epochs: the steep start, which does not set the axis


def _epochs(result: RunResult) -> list[Tree]:
    return [line for line in result.history if line.get("event") == "epoch"]


def _series(result: RunResult) -> list[Series]:
    """Distortion and, where there is a bound, rate and -ELBO."""
    names = [("distortion", DISTORTION, 1.0)]
    if result.bound:
        names += [("rate", RATE, 1.0), ("elbo", INK, -1.0)]
    series = []
    for split in ("train", "valid"):
        for name, colour, sign in names:
            points = []
            for line in _epochs(result):
                value = (line.get(split) or {}).get(name)
                if value is not None:
                    points.append((line["epoch"], sign * value))
            if points:
                x, y = np.array(points, dtype=float).T
                series.append(Series(x, y, colour, dashed=split == "train"))
    return series


def _spans(series: Sequence[Series]) -> tuple[Span, Span]:
    """Axes that contain all curves after their steep start."""
    if not series:
        return (0.0, 1.0), (0.0, 1.0)
    last = max(float(s.x[-1]) for s in series)
    y = np.concatenate([s.y[s.x >= SKIPPED * last] for s in series])
    y = y[np.isfinite(y)]
    low = float(y.min()) if len(y) else 0.0
    high = float(y.max()) if len(y) else 1.0
    pad = 0.05 * max(high - low, 1.0)
    bottom = low - pad
    if low >= 0 and high - low > SMALL * high:
        bottom = min(0.0, bottom)
    return (0.0, last * 1.01), (bottom, high + pad)


def _rate_apart(series: Sequence[Series]) -> bool:
    """True where the rates are too small for an axis with the distortions."""
    low = [float(np.nanmin(s.y)) for s in series if s.colour == DISTORTION]
    high = [float(np.nanmax(s.y)) for s in series if s.colour == RATE]
    if not low or not high:
        return False
    return 0 <= max(high) < SMALL * min(low)


def training(results: Results, text: Text) -> Section:
    """Training and validation curves, with the epoch of the weights that were kept."""
    series = {id(result): _series(result) for _, result in results}
    axes = _Axes([s for curves in series.values() for s in curves])

    def panel(_: Group, result: RunResult) -> Panel:
        curves = series[id(result)]
        if not curves:
            return Panel(result.name, [Paragraph(text("curves.none"))])
        return _panel(result, curves, axes, text)

    return Section("curves", *heads(text, "curves"), panels(results, text, panel))


class _Axes:
    """Whether rates have axes of their own, and the range of each pair of axes."""

    def __init__(self, series: Sequence[Series]) -> None:
        self.series = series
        self.rates_apart = _rate_apart(series)

    @property
    def main(self) -> tuple[Span, Span]:
        """The range of the main axes, where there is any series."""
        return _spans(self.of_main(self.series))

    @property
    def rates(self) -> tuple[Span, Span]:
        """The range of the axes of the rates, where these are apart."""
        return _spans([s for s in self.series if s.colour == RATE])

    def of_main(self, series: Sequence[Series]) -> list[Series]:
        """The series of the main axes."""
        return [s for s in series if not self.rates_apart or s.colour != RATE]


def _panel(
    result: RunResult, curves: Sequence[Series], axes: _Axes, text: Text
) -> Panel:
    """The curves of one run."""
    best = _best(result)["epoch"]
    picture = plots.curves(axes.of_main(curves), *axes.main, "epoch", best)
    figures = [Plot(picture, text("curves.alt", run=result.name))]
    caption = _caption(result, text)
    if result.bound and axes.rates_apart:
        small = [s for s in curves if s.colour == RATE]
        picture = plots.curves(small, *axes.rates, "epoch", best, height=150)
        figures.append(Plot(picture, text("curves.alt_rate", run=result.name)))
        caption = f"{caption} {text('curves.apart')}"
    return Panel(result.name, [*figures, _legend(result, text)], caption)


def _legend(result: RunResult, text: Text) -> Legend:
    entries = [LegendEntry("line", "distortion", text("legend.distortion"))]
    if result.bound:
        entries.append(LegendEntry("line", "rate", text("legend.rate")))
        entries.append(LegendEntry("line", "ink", text("legend.cost")))
    entries.append(LegendEntry("line", "muted", text("legend.validation")))
    entries.append(LegendEntry("dashed", "muted", text("legend.training")))
    entries.append(LegendEntry("dotted", "drawn", text("legend.best")))
    return Legend(entries)


def _best(result: RunResult) -> Tree:
    """The line of the log at which the kept weights were saved."""
    lines = _epochs(result)
    return ([line for line in lines if line.get("best")] or lines)[-1]


def _caption(result: RunResult, text: Text) -> str:
    line = _best(result)
    valid = line.get("valid") or {}
    if "distortion" not in valid:
        return ""
    values = {"epoch": line["epoch"], "distortion": valid["distortion"]}
    if not result.bound:
        return text("curves.caption_point", **values)
    cost = -valid["elbo"]
    return text("curves.caption", **values, rate=valid["rate"], cost=cost)
