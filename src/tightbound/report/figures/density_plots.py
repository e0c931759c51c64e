"""The plots of the theory and of the bounds: densities over two features, bounds by K,
KL by feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import (
    GAP,
    INK,
    LINE,
    MUTED,
    PAPER,
    POSTERIOR,
    PRIOR,
    RATE,
)
from tightbound.report.figures.plots import Array, Canvas, Series, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 210  # width of a picture that stands beside three others
MASS = (0.5, 0.9)


def _ramp(colour: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ramp", [PAPER, colour])


def density(
    axes: Sequence[Array],
    log_density: Array,
    colour: str,
    frame: Sequence[Array] | None = None,
) -> Picture:
    """A density over one or two features, on a scale of its own; axes: d arrays (m,), log_density:
    (m,) * d.

    frame: axes of another picture, whose outline is drawn here.
    """
    value = np.exp(log_density - np.max(log_density))
    with Canvas(0.94 * SMALL, SMALL) as (out, ax):
        if len(axes) == 1:
            ax.fill_between(axes[0], value, color=colour, alpha=0.6, lw=0)
            ax.set(
                xlim=(axes[0][0], axes[0][-1]), ylim=(0, 1.08), xlabel="z", yticks=[]
            )
        else:
            (x0, x1), (y0, y1) = ((float(a[0]), float(a[-1])) for a in axes)
            ax.imshow(
                value.T,
                origin="lower",
                extent=(x0, x1, y0, y1),
                cmap=_ramp(colour),
                aspect="auto",
            )
            ax.set(xlabel="z₁", ylabel="z₂")
        if frame is not None:
            _outline(ax, [(float(a[0]), float(a[-1])) for a in frame])
        _few_ticks(ax)
    return out[0]


def _outline(ax: Axes, spans: Sequence[Span]) -> None:
    (x0, x1), (y0, y1) = spans[0], spans[1] if len(spans) > 1 else (0.0, 1.04)
    ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=INK, lw=1.1)


def _few_ticks(ax: Axes) -> None:
    ax.locator_params(nbins=4)
    ax.tick_params(length=3, labelsize=9)


def posteriors(axes: Sequence[Array], log_posterior: Array, log_q: Array) -> Picture:
    """The true posterior, filled, with q over it as lines; contours hold 50 % and 90 % of the mass
    of each.
    """
    with Canvas(0.94 * SMALL, SMALL) as (out, ax):
        if len(axes) == 1:
            top = max(log_posterior.max(), log_q.max())
            ax.fill_between(
                axes[0], np.exp(log_posterior - top), color=INK, alpha=0.28, lw=0
            )
            ax.plot(axes[0], np.exp(log_q - top), color=POSTERIOR, lw=1.8)
            ax.set(
                xlim=(axes[0][0], axes[0][-1]), ylim=(0, 1.08), xlabel="z", yticks=[]
            )
        else:
            true = np.exp(log_posterior - log_posterior.max()).T
            own = np.exp(log_q - log_q.max()).T
            x, y = axes
            for level, alpha in zip(_levels(true), (0.2, 0.34), strict=True):
                ax.contourf(x, y, true, levels=[level, 1.01], colors=[INK], alpha=alpha)
            ax.contour(
                x,
                y,
                own,
                levels=_levels(own),
                colors=[POSTERIOR],
                linewidths=[1.1, 1.8],
            )
            ax.set(xlabel="z₁", ylabel="z₂")
        _few_ticks(ax)
    return out[0]


def _levels(density: Array) -> list[float]:
    """The heights above which 90 % and 50 % of the mass of a density on a grid lie, rising."""
    flat = np.sort(density.ravel())[::-1]
    mass = np.cumsum(flat) / max(flat.sum(), 1e-300)
    found = [
        float(flat[min(len(flat) - 1, int(np.searchsorted(mass, m)))])
        for m in sorted(MASS, reverse=True)
    ]
    return [found[0], max(found[1], found[0] * (1 + 1e-9))]


def by_k(
    sizes: Sequence[int], from_p: Array, from_q: Array, truth: float | None, span: Span
) -> Picture:
    """Estimates of log p(x) against K, (repeats, sizes) each: the median, and a band from the least
    to the most.
    """
    with Canvas(250) as (out, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        if truth is not None:
            ax.axhline(truth, color=INK, lw=1.1, ls=(0, (1, 2)))
        for values, colour in ((from_p, PRIOR), (from_q, POSTERIOR)):
            ax.fill_between(
                sizes, values.min(0), values.max(0), color=colour, alpha=0.22, lw=0
            )
            ax.plot(sizes, np.median(values, 0), color=colour, lw=1.9)
        _log_k(ax, sizes)
        ax.set(ylim=span)
    return out[0]


def _log_k(ax: Axes, sizes: Sequence[int]) -> None:
    ax.set(
        xscale="log",
        xlim=(0.88 * min(sizes), 1.14 * max(sizes)),
        xlabel="K",
        ylabel="nats",
    )
    ticks = [k for k in (1, 10, 100, 1000, 10_000) if min(sizes) <= k <= max(sizes)]
    ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
    ax.minorticks_off()


def curve(
    bounds: Series,
    errors: Array,
    levels: Sequence[tuple[float, float, str]],
    span: Span,
) -> Picture:
    """The importance-weighted bound against K, with 95 % intervals; levels: (value, half band,
    colour) beside it.
    """
    with Canvas(250) as (out, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        for value, half, colour in levels:
            ax.axhspan(value - half, value + half, color=colour, alpha=0.16, lw=0)
            ax.axhline(value, color=colour, lw=1.5, ls=(0, (5, 3)))
        ax.errorbar(
            bounds.x,
            bounds.y,
            1.96 * errors,
            color=bounds.colour,
            lw=1.9,
            elinewidth=1.0,
            capsize=2.5,
        )
        ax.plot(bounds.x, bounds.y, "o", color=bounds.colour, ms=4)
        _log_k(ax, [int(k) for k in bounds.x])
        ax.set(ylim=span)
    return out[0]


def gaps(values: Array) -> Picture:
    """How far apart two bounds are on each example, as a histogram, with the mean."""
    with Canvas(130) as (out, ax):
        ax.hist(values, bins=max(5, round(len(values) ** 0.5)), color=GAP, alpha=0.55)
        ax.axvline(float(values.mean()), color=INK, lw=1.3)
        ax.set(xlabel="nats", ylabel="n")
        ax.locator_params(axis="y", integer=True, nbins=4)
    return out[0]


def features(kl: Array, active: Array, top: float) -> Picture:
    """KL of each feature in nats, largest first; idle ones are hollow."""
    order = np.argsort(-kl, kind="stable")
    with Canvas(150) as (out, ax):
        place = np.arange(1, len(kl) + 1)
        shade = [RATE if a else PAPER for a in active[order]]
        ax.bar(
            place,
            kl[order],
            color=shade,
            edgecolor=[RATE if a else MUTED for a in active[order]],
            linewidth=0.7,
        )
        ax.set(ylim=(0, top), xlim=(0.2, len(kl) + 0.8), ylabel="nats", xlabel="z")
        ax.locator_params(axis="x", integer=True, nbins=8)
        ax.locator_params(axis="y", nbins=4)
    return out[0]
