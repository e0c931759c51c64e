"""Plots of codes, distances, training curves and terms, as SVG.

Figures contain symbols, numbers and units but no sentences, so that they serve every
language.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbound.report.figures.display_scale import Array
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import (
    DISTORTION,
    DRAWN,
    FONTS,
    GAP,
    INK,
    LINE,
    MUTED,
    PAPER,
    POSTERIOR,
    PRIOR,
    RATE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Span = tuple[float, float]
WIDTH = 420
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tightbound",
    # Wider than the fonts that browsers put in its place, so no text is clipped.
    "font.family": ["DejaVu Sans"],
    "font.size": 11.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "axes.unicode_minus": True,
}


def subscript(number: int) -> str:
    """A number in subscript digits: 12 becomes ₁₂."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _new(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width / 72, height / 72), layout="constrained", facecolor=PAPER
    )
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


class Canvas:
    """Context manager for one figure: `with Canvas(height) as (pictures, ax)`.

    The encoded picture is appended to `pictures` when the block ends.
    """

    def __init__(self, height: float, width: int = WIDTH) -> None:
        from matplotlib import rc_context

        self.height = height
        self.width = width
        self.context = rc_context(STYLE)

    def __enter__(self) -> tuple[list[Picture], Axes]:
        self.context.__enter__()
        self.figure, axes = _new(self.height, self.width)
        self.pictures: list[Picture] = []
        return self.pictures, axes

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self.pictures.append(self._encode())
        finally:
            self.context.__exit__(*error)

    def _encode(self) -> Picture:
        data = io.StringIO()
        self.figure.savefig(
            data, format="svg", dpi=200, metadata={"Date": None, "Creator": None}
        )
        text = data.getvalue()
        text = re.sub(r"'DejaVu Sans'", FONTS, text[text.index("<svg") :])
        return Picture(text.encode(), "image/svg+xml", self.width, round(self.height))


@dataclass(frozen=True)
class Ellipse:
    """A bivariate normal: its mean (2,) and covariance (2, 2)."""

    centre: Array
    cov: Array

    def ring(self, sigmas: float) -> Array:
        """The contour at `sigmas` standard deviations, (200, 2)."""
        angle = np.linspace(0, 2 * np.pi, 200)
        value, vector = np.linalg.eigh(self.cov)
        circle = np.stack([np.cos(angle), np.sin(angle)], -1)
        ring: Array = (
            self.centre + sigmas * (circle * np.sqrt(np.maximum(value, 0))) @ vector.T
        )
        return ring


def plane(
    xy: Array,
    y: Array | None,
    colours: Sequence[str],
    names: Sequence[str],
    prior: Ellipse | None,
    spans: tuple[Span, Span],
    axes: tuple[str, str],
) -> Picture:
    """Scatter plot of codes (n, 2) with the prior's 1 and 2 sigma contours.

    y: labels (n,), -1 where unknown, with one colour and one name each.
    """
    (x0, x1), (y0, y1) = spans
    height = min(1.35, max(0.55, (y1 - y0) / (x1 - x0))) * (WIDTH - 50) + 42
    with Canvas(height) as (pictures, ax):
        ax.scatter(
            xy[:, 0],
            xy[:, 1],
            s=float(np.clip(5000 / len(xy), 7, 26)),
            c=_shades(y, colours),
            alpha=0.75,
            linewidths=0,
            rasterized=True,
        )
        if prior is not None:
            _contours(ax, prior)
        _name_clouds(ax, xy, y, names)
        ax.set(
            xlim=(x0, x1), ylim=(y0, y1), xlabel=axes[0], ylabel=axes[1], aspect="equal"
        )
        ax.tick_params(length=3)
    return pictures[0]


def _shades(y: Array | None, colours: Sequence[str]) -> str | list[str]:
    """The colour of each point by its label."""
    if y is None:
        return MUTED
    return [colours[int(k)] if k >= 0 else LINE for k in y]


def _contours(ax: Axes, prior: Ellipse) -> None:
    for sigmas, width, dashes in ((1, 1.5, "-"), (2, 1.1, (0, (5, 3)))):
        ring = prior.ring(sigmas)
        ax.plot(*ring.T, color=PAPER, lw=width + 2, alpha=0.7)
        ax.plot(*ring.T, color=INK, lw=width, ls=dashes)


def _name_clouds(ax: Axes, xy: Array, y: Array | None, names: Sequence[str]) -> None:
    """Write labels at the median of their codes, if all have at most two letters."""
    if y is None or max((len(n) for n in names), default=9) > 2:
        return
    from matplotlib.patheffects import withStroke

    for k, name in enumerate(names):
        if name.isascii() and (y == k).sum() > 2:
            centre = np.median(xy[y == k], 0)
            ax.text(
                float(centre[0]),
                float(centre[1]),
                name,
                color=INK,
                fontsize=13,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[withStroke(linewidth=3, foreground=PAPER)],
            )


def line(
    z: Array,
    y: Array | None,
    colours: Sequence[str],
    prior: Span | None,
    span: Span,
    axis: str,
) -> Picture:
    """Stacked histogram of one-dimensional codes (n,) by label.

    prior: mean and standard deviation of a normal whose density is drawn over it.
    """
    if y is None:
        groups = [z]
        shades = [MUTED]
    else:
        groups = [*(z[y == k] for k in range(len(colours))), z[y < 0]]
        shades = [*colours, LINE]
    with Canvas(250) as (pictures, ax):
        bins = np.linspace(*span, 61)
        weight = 1 / max(1, len(z)) / (bins[1] - bins[0])
        ax.hist(
            groups,
            bins=list(bins),
            weights=[np.full(len(group), weight) for group in groups],
            color=shades,
            stacked=True,
            histtype="stepfilled",
            alpha=0.85,
        )
        if prior is not None:
            t = np.linspace(*span, 400)
            ax.plot(t, _density(t, *prior), color=INK, lw=1.6)
        ax.set(xlim=span, xlabel=axis, ylabel="density")
    return pictures[0]


def _density(t: Array, mean: float, sd: float) -> Array:
    """The density of a normal at t."""
    density: Array = np.exp(-0.5 * ((t - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    return density


def distances(typical: Array, samples: Array, span: Span, axis: str) -> Picture:
    """Distances to the nearest training example.

    typical: those of test examples, drawn as a histogram; samples: those of samples of
    the model, drawn as ticks over it.
    """
    with Canvas(170) as (pictures, ax):
        bins = np.linspace(*span, 41).tolist()
        counts, _, _ = ax.hist(typical, bins=bins, color=PRIOR, alpha=0.55)
        top = float(np.max(counts, initial=1.0))
        ax.vlines(samples, 0, top * 0.5, color=DRAWN, lw=1.6)
        ax.plot(samples, np.full(len(samples), top * 0.5), "o", color=DRAWN, ms=3.5)
        ax.set(xlim=span, ylim=(0, top * 1.1), xlabel=axis, ylabel="n")
        ax.locator_params(axis="y", integer=True, nbins=4)
    return pictures[0]


@dataclass(frozen=True)
class Series:
    """A curve: its points and colour; dashed for training, solid for validation."""

    x: Array
    y: Array
    colour: str
    dashed: bool = False


def curves(
    series: Sequence[Series],
    xspan: Span,
    yspan: Span,
    axis: str,
    best: float | None = None,
    height: float = 260,
) -> Picture:
    """Training curves in nats per example.

    best: position on the x axis of the weights that were kept.
    """
    with Canvas(height) as (pictures, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        if best is not None:
            ax.axvline(best, color=DRAWN, lw=1.1, ls=(0, (1, 2)))
        for s in series:
            style: dict[str, Any] = {"lw": 1.9}
            if s.dashed:
                style = {"lw": 1.2, "ls": (0, (3, 2)), "alpha": 0.9}
            ax.plot(s.x, s.y, color=s.colour, solid_capstyle="round", **style)
            if len(s.x) == 1:
                ax.plot(s.x, s.y, "o", color=s.colour, ms=4)
        ax.set(xlim=xspan, ylim=yspan, xlabel=axis, ylabel="nats")
    return pictures[0]


def terms(
    distortion: float,
    rate: float | None,
    gap: float | None,
    se: dict[str, float],
    span: Span,
) -> Picture:
    """Waterfall chart of the terms: D, D + R = -ELBO, -ELBO - gap = -log p(x).

    Each bar starts at the end of the last one. se: standard errors by name of the
    term at whose end they are drawn.
    """
    rows: list[tuple[str, float, float, str, float]] = [
        ("D", 0.0, distortion, DISTORTION, se.get("distortion", 0.0))
    ]
    if rate is not None:
        rows.append(("+ R", distortion, rate, RATE, se.get("elbo", 0.0)))
        if gap is not None:
            rows.append(("− gap", distortion + rate, -gap, GAP, se.get("log_px", 0.0)))
    with Canvas(62 + 34 * 3) as (pictures, ax):
        for i, (_, start, size, colour, error) in enumerate(rows):
            end = start + size
            ax.barh(i, size, left=start, height=0.62, color=colour)
            ax.errorbar(end, i, xerr=1.96 * error, color=INK, lw=1.1, capsize=2.5)
            if i + 1 < len(rows):
                y = [i - 0.31, i + 1.31]
                ax.plot([end, end], y, color=MUTED, lw=0.8, ls=(0, (2, 2)))
        ax.set(xlim=span, ylim=(2.6, -0.6), xlabel="nats")
        ax.set_yticks(range(len(rows)), [r[0] for r in rows])
        ax.tick_params(axis="y", length=0, labelsize=11, labelcolor=INK)
        ax.axvline(0, color=MUTED, lw=0.8)
    return pictures[0]


def ridge(
    mean: Array,
    sd: Array,
    prior: tuple[Array, Array],
    drawn: Array,
    names: Sequence[str],
    span: Span,
) -> Picture:
    """Density of q(z|x) over that of the prior for each feature, and the drawn z.

    prior: mean and standard deviation of each feature. A posterior that is a point is
    drawn as a vertical line, and a value beyond the axis as an arrow.
    """
    rows = len(mean)
    with Canvas(52 + 24 * rows) as (pictures, ax):
        for i in range(rows):
            ax.plot(span, [i, i], color=LINE, lw=0.8)
            _bump(ax, i, prior[0][i], prior[1][i], 0.8, span, color=PRIOR, alpha=0.3)
            if sd[i] > 0:
                _bump(ax, i, mean[i], sd[i], 0.88, span, color=POSTERIOR, alpha=0.55)
            _mark(ax, float(drawn[i]), i, span, spike=sd[i] == 0)
        ax.set(xlim=span, ylim=(rows - 0.6, -1.05), xlabel="z")
        ax.set_yticks(range(rows), list(names))
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.spines["left"].set_visible(False)
    return pictures[0]


def _bump(
    ax: Axes, row: int, mean: float, sd: float, high: float, span: Span, **style: Any
) -> None:
    """Draw the density of a normal over the line of a row, scaled to height `high`."""
    t = np.clip(mean + sd * np.linspace(-4, 4, 97), *span)
    peak = _density(t, mean, sd)
    ax.fill_between(t, row, row - high * peak / max(peak.max(), 1e-9), lw=0, **style)


def _mark(ax: Axes, z: float, row: int, span: Span, spike: bool) -> None:
    """Draw a value of z as a dot or vertical line, or as an arrow beyond the axis."""
    if not span[0] <= z <= span[1]:
        _arrow(ax, z, row, span)
    elif spike:
        ax.plot([z, z], [row, row - 0.88], color=POSTERIOR, lw=2)
    else:
        edge: dict[str, Any] = {"mec": PAPER, "mew": 0.8, "clip_on": False, "zorder": 5}
        ax.plot(z, row, "o", color=DRAWN, ms=4.5, **edge)


def _arrow(ax: Axes, z: float, row: int, span: Span) -> None:
    value = f"{z:.1f}".replace("-", "−")
    style: dict[str, Any] = {"color": POSTERIOR, "fontsize": 9.5, "va": "bottom"}
    if z > span[1]:
        ax.text(span[1], row - 0.12, f"{value} →", ha="right", **style)
    else:
        ax.text(span[0], row - 0.12, f"← {value}", ha="left", **style)
