"""The plots: pure functions from arrays to SVG.

No sentence stands inside a figure, only symbols, numbers and units.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

Array = NDArray[Any]
Span = tuple[float, float]
WIDTH = 420
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tightbound",
    "font.family": [
        "DejaVu Sans"
    ],  # wider than the fonts a browser puts in its place, so no text is clipped
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
    """z's number as a subscript: 12 becomes ₁₂."""
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
    """`with Canvas(height) as (picture, ax)`: a figure in the report's style, encoded when the
    block ends.
    """

    def __init__(self, height: float, width: int = WIDTH) -> None:
        from matplotlib import rc_context

        self.height, self.width, self.context = height, width, rc_context(STYLE)

    def __enter__(self) -> tuple[list[Picture], Axes]:
        self.context.__enter__()
        self.figure, axes = _new(self.height, self.width)
        self.out: list[Picture] = []
        return self.out, axes

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self.out.append(self._encode())
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
    """A normal in the plane: its centre (2,) and covariance (2, 2)."""

    centre: Array
    cov: Array

    def ring(self, sigmas: float) -> Array:
        """The contour `sigmas` standard deviations out, (200, 2)."""
        turn = np.linspace(0, 2 * np.pi, 200)
        value, vector = np.linalg.eigh(self.cov)
        circle = np.stack([np.cos(turn), np.sin(turn)], -1)
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
    """Codes (n, 2) coloured by label y (n,), the prior's 1 and 2 sigma contours over them."""
    (x0, x1), (y0, y1) = spans
    height = min(1.35, max(0.55, (y1 - y0) / (x1 - x0))) * (WIDTH - 50) + 42
    with Canvas(height) as (out, ax):
        shade = MUTED if y is None else [colours[int(k)] if k >= 0 else LINE for k in y]
        size = float(np.clip(5000 / len(xy), 7, 26))
        ax.scatter(
            xy[:, 0],
            xy[:, 1],
            s=size,
            c=shade,
            alpha=0.75,
            linewidths=0,
            rasterized=True,
        )
        if prior is not None:
            for sigmas, width in ((1, 1.5), (2, 1.1)):
                ring = prior.ring(sigmas)
                ax.plot(*ring.T, color=PAPER, lw=width + 2, alpha=0.7)
                ax.plot(
                    *ring.T, color=INK, lw=width, ls="-" if sigmas == 1 else (0, (5, 3))
                )
        _name_clouds(ax, xy, y, names)
        ax.set(
            xlim=(x0, x1), ylim=(y0, y1), xlabel=axes[0], ylabel=axes[1], aspect="equal"
        )
        ax.tick_params(length=3)
    return out[0]


def _name_clouds(ax: Axes, xy: Array, y: Array | None, names: Sequence[str]) -> None:
    """Writes each short label at the median of its codes; long ones stand in the page's legend
    alone.
    """
    if y is None or max((len(n) for n in names), default=9) > 2:
        return
    from matplotlib.patheffects import withStroke

    for k, name in enumerate(names):
        if name.isascii() and (y == k).sum() > 2:
            centre = np.median(xy[y == k], 0)
            halo = [withStroke(linewidth=3, foreground=PAPER)]
            ax.text(
                float(centre[0]),
                float(centre[1]),
                name,
                color=INK,
                fontsize=13,
                weight="bold",
                ha="center",
                va="center",
                path_effects=halo,
            )


def line(
    z: Array,
    y: Array | None,
    colours: Sequence[str],
    prior: Span | None,
    span: Span,
    axis: str,
) -> Picture:
    """One-dimensional codes (n,) as stacked histograms by label, with the prior's density (mean,
    sd) over them.
    """
    with Canvas(250) as (out, ax):
        groups = (
            [z] if y is None else [z[y == k] for k in range(len(colours))] + [z[y < 0]]
        )
        shades = [MUTED] if y is None else [*colours, LINE]
        bins = np.linspace(*span, 61)
        weight = 1 / max(1, len(z)) / (bins[1] - bins[0])
        weights = [np.full(len(g), weight) for g in groups]
        bars: Any = {"bins": bins, "weights": weights, "color": shades, "stacked": True}
        ax.hist(groups, histtype="stepfilled", alpha=0.85, **bars)
        if prior is not None:
            t = np.linspace(*span, 400)
            ax.plot(t, _density(t, *prior), color=INK, lw=1.6)
        ax.set(xlim=span, xlabel=axis, ylabel="density")
    return out[0]


def _density(t: Array, mean: float, sd: float) -> Array:
    density: Array = np.exp(-0.5 * ((t - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    return density


def distances(typical: Array, own: Array, span: Span, axis: str) -> Picture:
    """Distances to the nearest training example: of test examples as a histogram, of samples as
    ticks over it.
    """
    with Canvas(170) as (out, ax):
        counts, _, _ = ax.hist(
            typical, bins=np.linspace(*span, 41).tolist(), color=PRIOR, alpha=0.55
        )
        top = float(np.max(counts, initial=1.0))
        ax.vlines(own, 0, top * 0.5, color=DRAWN, lw=1.6)
        ax.plot(own, np.full(len(own), top * 0.5), "o", color=DRAWN, ms=3.5)
        ax.set(xlim=span, ylim=(0, top * 1.1), xlabel=axis, ylabel="n")
        ax.locator_params(axis="y", integer=True, nbins=4)
    return out[0]


@dataclass(frozen=True)
class Series:
    """A curve: its points, colour, and whether it is of training (dashed) or validation (solid)."""

    x: Array
    y: Array
    colour: str
    dashed: bool = False


def curves(
    series: Sequence[Series],
    xspan: Span,
    yspan: Span,
    axis: str,
    kept: float | None = None,
    height: float = 260,
) -> Picture:
    """Training curves, in nats per example; kept: where the weights that were kept stood."""
    with Canvas(height) as (out, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        if kept is not None:
            ax.axvline(kept, color=DRAWN, lw=1.1, ls=(0, (1, 2)))
        for s in series:
            style = (
                {"lw": 1.2, "ls": (0, (3, 2)), "alpha": 0.9}
                if s.dashed
                else {"lw": 1.9}
            )
            ax.plot(s.x, s.y, color=s.colour, solid_capstyle="round", **style)
            if len(s.x) == 1:
                ax.plot(s.x, s.y, "o", color=s.colour, ms=4)
        ax.set(xlim=xspan, ylim=yspan, xlabel=axis, ylabel="nats")
    return out[0]


def terms(
    distortion: float,
    rate: float | None,
    gap: float | None,
    se: dict[str, float],
    span: Span,
) -> Picture:
    """The terms as steps: D, plus R is -ELBO, minus the gap is -log p(x); each bar starts where the
    last ended.
    """
    rows: list[tuple[str, float, float, str, float]] = [
        ("D", 0.0, distortion, DISTORTION, se.get("distortion", 0.0))
    ]
    if rate is not None:
        rows.append(("+ R", distortion, rate, RATE, se.get("elbo", 0.0)))
        if gap is not None:
            rows.append(("− gap", distortion + rate, -gap, GAP, se.get("log_px", 0.0)))
    with Canvas(62 + 34 * 3) as (out, ax):
        for i, (_, start, size, colour, error) in enumerate(rows):
            ax.barh(i, size, left=start, height=0.62, color=colour)
            end = start + size
            ax.errorbar(end, i, xerr=1.96 * error, color=INK, lw=1.1, capsize=2.5)
            if i + 1 < len(rows):
                ax.plot(
                    [end, end],
                    [i - 0.31, i + 1.31],
                    color=MUTED,
                    lw=0.8,
                    ls=(0, (2, 2)),
                )
        ax.set(xlim=span, ylim=(2.6, -0.6), xlabel="nats")
        ax.set_yticks(range(len(rows)), [r[0] for r in rows])
        ax.tick_params(axis="y", length=0, labelsize=11, labelcolor=INK)
        ax.axvline(0, color=MUTED, lw=0.8)
    return out[0]


def ridge(
    mean: Array,
    sd: Array,
    prior: tuple[Array, Array],
    drawn: Array,
    names: Sequence[str],
    span: Span,
) -> Picture:
    """Each feature's q(z|x) over its prior, and the drawn z; a point mass is a spike, or an arrow
    beyond the axis.
    """
    rows = len(mean)
    with Canvas(52 + 24 * rows) as (out, ax):
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
    return out[0]


def _bump(
    ax: Axes, row: int, mean: float, sd: float, high: float, span: Span, **style: Any
) -> None:
    """A normal's density over a row's line, as high as asked; by few points, all of them where it
    is not 0.
    """
    t = np.clip(mean + sd * np.linspace(-4, 4, 97), *span)
    peak = _density(t, mean, sd)
    ax.fill_between(t, row, row - high * peak / max(peak.max(), 1e-9), lw=0, **style)


def _mark(ax: Axes, z: float, row: int, span: Span, spike: bool) -> None:
    if span[0] <= z <= span[1]:
        if spike:
            ax.plot([z, z], [row, row - 0.88], color=POSTERIOR, lw=2)
        else:
            ax.plot(
                z,
                row,
                "o",
                color=DRAWN,
                ms=4.5,
                mec=PAPER,
                mew=0.8,
                clip_on=False,
                zorder=5,
            )
        return
    right = z > span[1]
    text = (f"{z:.1f} →" if right else f"← {z:.1f}").replace("-", "−")
    ax.text(
        span[right],
        row - 0.12,
        text,
        color=POSTERIOR,
        fontsize=9.5,
        ha="right" if right else "left",
        va="bottom",
    )
