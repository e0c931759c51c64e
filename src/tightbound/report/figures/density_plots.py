"""Plots of densities over features, of bounds against K, and of KL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tightbound.report.figures.display_scale import Array
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
from tightbound.report.figures.plots import Canvas, Series, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

SMALL = 210  # pixels: width of a picture that stands beside three others
MASS = (0.9, 0.5)  # of a density inside the contours


def _ramp(colour: str) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ramp", [PAPER, colour])


def _span(axis: Array) -> Span:
    return float(axis[0]), float(axis[-1])


def density(
    axes: Sequence[Array],
    log_density: Array,
    colour: str,
    frame: Sequence[Array] | None = None,
) -> Picture:
    """A density over one or two features, scaled to a maximum of 1.

    axes: d arrays (m,); log_density: (m,) * d; frame: axes of another picture, whose
    outline is drawn.
    """
    value = np.exp(log_density - np.max(log_density))
    with Canvas(0.94 * SMALL, SMALL) as (pictures, ax):
        if len(axes) == 1:
            ax.fill_between(axes[0], value, color=colour, alpha=0.6, lw=0)
            ax.set(xlim=_span(axes[0]), ylim=(0, 1.08), xlabel="z", yticks=[])
        else:
            ax.imshow(
                value.T,
                origin="lower",
                extent=(*_span(axes[0]), *_span(axes[1])),
                cmap=_ramp(colour),
                aspect="auto",
            )
            ax.set(xlabel="z₁", ylabel="z₂")
        if frame is not None:
            _outline(ax, [_span(axis) for axis in frame])
        _few_ticks(ax)
    return pictures[0]


def _outline(ax: Axes, spans: Sequence[Span]) -> None:
    x0, x1 = spans[0]
    y0, y1 = spans[1] if len(spans) > 1 else (0.0, 1.04)
    ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=INK, lw=1.1)


def _few_ticks(ax: Axes) -> None:
    ax.locator_params(nbins=4)
    ax.tick_params(length=3, labelsize=9)


def posteriors(axes: Sequence[Array], log_posterior: Array, log_q: Array) -> Picture:
    """The true posterior, filled, with q(z|x) over it as lines.

    In two dimensions the contours hold 50 % and 90 % of the mass of each.
    """
    with Canvas(0.94 * SMALL, SMALL) as (pictures, ax):
        if len(axes) == 1:
            _posterior_lines(ax, axes[0], log_posterior, log_q)
        else:
            _posterior_contours(ax, axes, log_posterior, log_q)
        _few_ticks(ax)
    return pictures[0]


def _posterior_lines(ax: Axes, z: Array, log_posterior: Array, log_q: Array) -> None:
    top = max(log_posterior.max(), log_q.max())
    ax.fill_between(z, np.exp(log_posterior - top), color=INK, alpha=0.28, lw=0)
    ax.plot(z, np.exp(log_q - top), color=POSTERIOR, lw=1.8)
    ax.set(xlim=_span(z), ylim=(0, 1.08), xlabel="z", yticks=[])


def _posterior_contours(
    ax: Axes, axes: Sequence[Array], log_posterior: Array, log_q: Array
) -> None:
    true = np.exp(log_posterior - log_posterior.max()).T
    q = np.exp(log_q - log_q.max()).T
    x, y = axes
    for level, alpha in zip(_levels(true), (0.2, 0.34), strict=True):
        ax.contourf(x, y, true, levels=[level, 1.01], colors=[INK], alpha=alpha)
    widths = [1.1, 1.8]
    ax.contour(x, y, q, levels=_levels(q), colors=[POSTERIOR], linewidths=widths)
    ax.set(xlabel="z₁", ylabel="z₂")


def _levels(density: Array) -> list[float]:
    """Heights above which 90 % and 50 % of the mass of a density on a grid lie."""
    flat = np.sort(density.ravel())[::-1]
    mass = np.cumsum(flat) / max(flat.sum(), 1e-300)
    index = [min(len(flat) - 1, int(np.searchsorted(mass, m))) for m in MASS]
    outer, inner = (float(flat[i]) for i in index)
    return [outer, max(inner, outer * (1 + 1e-9))]


def by_k(
    sizes: Sequence[int], from_p: Array, from_q: Array, truth: float | None, span: Span
) -> Picture:
    """Repeated estimates of log p(x) against K, (repeats, sizes) each.

    Drawn as the median with a band from the minimum to the maximum. truth: log p(x),
    if known.
    """
    with Canvas(250) as (pictures, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        if truth is not None:
            ax.axhline(truth, color=INK, lw=1.1, ls=(0, (1, 2)))
        for values, colour in ((from_p, PRIOR), (from_q, POSTERIOR)):
            low = values.min(0)
            ax.fill_between(sizes, low, values.max(0), color=colour, alpha=0.22, lw=0)
            ax.plot(sizes, np.median(values, 0), color=colour, lw=1.9)
        _log_k(ax, sizes)
        ax.set(ylim=span)
    return pictures[0]


def _log_k(ax: Axes, sizes: Sequence[int]) -> None:
    """Set a logarithmic axis of K."""
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
    bound: Series,
    errors: Array,
    levels: Sequence[tuple[float, float, str]],
    span: Span,
) -> Picture:
    """The importance-weighted bound against K, with 95 % intervals.

    errors: standard errors (n,); levels: (value, half width of the band, colour) of
    estimates by other methods.
    """
    with Canvas(250) as (pictures, ax):
        ax.grid(axis="y", color=LINE, lw=0.8)
        for value, half, colour in levels:
            ax.axhspan(value - half, value + half, color=colour, alpha=0.16, lw=0)
            ax.axhline(value, color=colour, lw=1.5, ls=(0, (5, 3)))
        ax.errorbar(
            bound.x,
            bound.y,
            1.96 * errors,
            color=bound.colour,
            lw=1.9,
            elinewidth=1.0,
            capsize=2.5,
        )
        ax.plot(bound.x, bound.y, "o", color=bound.colour, ms=4)
        _log_k(ax, [int(k) for k in bound.x])
        ax.set(ylim=span)
    return pictures[0]


def gaps(values: Array) -> Picture:
    """Histogram of the distance between two bounds on each example, with its mean."""
    with Canvas(130) as (pictures, ax):
        ax.hist(values, bins=max(5, round(len(values) ** 0.5)), color=GAP, alpha=0.55)
        ax.axvline(float(values.mean()), color=INK, lw=1.3)
        ax.set(xlabel="nats", ylabel="n")
        ax.locator_params(axis="y", integer=True, nbins=4)
    return pictures[0]


def features(kl: Array, active: Array, top: float) -> Picture:
    """KL of each feature in nats, sorted; features that are not active are hollow."""
    order = np.argsort(-kl, kind="stable")
    with Canvas(150) as (pictures, ax):
        ax.bar(
            np.arange(1, len(kl) + 1),
            kl[order],
            color=[RATE if a else PAPER for a in active[order]],
            edgecolor=[RATE if a else MUTED for a in active[order]],
            linewidth=0.7,
        )
        ax.set(ylim=(0, top), xlim=(0.2, len(kl) + 0.8), ylabel="nats", xlabel="z")
        ax.locator_params(axis="x", integer=True, nbins=8)
        ax.locator_params(axis="y", nbins=4)
    return pictures[0]
