"""Plots of metrics: distances, scores of two data sets, latents against factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tightbound.report.figures.display_scale import Array
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import (
    DRAWN,
    INK,
    LINE,
    PAPER,
    POSTERIOR,
    PRIOR,
    RATE,
)
from tightbound.report.figures.plots import Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SET_COLOURS = {
    "train": PRIOR,
    "draws": DRAWN,
    "means": POSTERIOR,
    "independent": INK,
    "test": PRIOR,
}
LEAST_SHARE = 1e-4  # of the Frechet distance of noise, at the left end
TALL = 2.2  # standard deviations at the upper end of a cell


@dataclass(frozen=True)
class Group:
    """Values of a histogram: their colour, filled or as a line."""

    values: Array
    colour: str
    filled: bool = False


def between(shares: Mapping[str, Mapping[str, float]]) -> Picture:
    """Distances of sets of examples, as shares of that of noise, a row for each space.

    shares: by space and set, on a logarithmic axis.
    """
    with Canvas(58 + 34 * len(shares)) as (pictures, ax):
        for i, values in enumerate(shares.values()):
            ax.plot([LEAST_SHARE, 1], [i, i], color=LINE, lw=1.2, zorder=1)
            for name, share in values.items():
                x = max(share, LEAST_SHARE)
                ax.plot(x, i, "o", color=SET_COLOURS[name], ms=8, zorder=2)
        least = min(min(values.values()) for values in shares.values())
        low = max(LEAST_SHARE, 10 ** np.floor(np.log10(max(least, LEAST_SHARE))))
        ax.set(xscale="log", xlim=(0.7 * low, 1.6), ylim=(len(shares) - 0.5, -0.5))
        ax.set_yticks(range(len(shares)), list(shares))
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ticks = [10.0**k for k in range(-4, 1) if 10.0**k >= low]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.spines["left"].set_visible(False)
    return pictures[0]


def histograms(groups: Sequence[Group], axis: str) -> Picture:
    """Densities of several groups of values over one axis."""
    every = np.concatenate([group.values for group in groups])
    low, high = (float(q) for q in np.quantile(every, (0.002, 0.998)))
    if not high > low:
        low -= 0.5
        high += 0.5
    bins = np.linspace(low, high, 41).tolist()
    with Canvas(170) as (pictures, ax):
        for group in groups:
            values = group.values.clip(low, high)
            ax.hist(
                values,
                bins=bins,
                density=True,
                histtype="stepfilled" if group.filled else "step",
                color=group.colour,
                alpha=0.5 if group.filled else 1.0,
                lw=1.6,
            )
        ax.set(xlim=(low, high), xlabel=axis, yticks=[])
        ax.spines["left"].set_visible(False)
    return pictures[0]


def information(table: Array, codes: Sequence[str], factors: Sequence[str]) -> Picture:
    """Information of each code on each factor as a heat map, from 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("information", [PAPER, RATE])
    with Canvas(70 + 22 * len(codes)) as (pictures, ax):
        ax.imshow(table, cmap=ramp, vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(table):
            for j, value in enumerate(row):
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9.5)
        ax.set_yticks(range(len(codes)), list(codes))
        ax.set_xticks(range(len(factors)), list(factors))
        ax.tick_params(length=0, labelcolor=INK)
        ax.spines[:].set_visible(False)
    return pictures[0]


def latents_against_factors(
    curves: Sequence[Sequence[Mapping[str, Sequence[float]]]],
    codes: Sequence[str],
    factors: Sequence[str],
) -> Picture:
    """A cell for each code and factor: the code's mean at each value, with a band.

    The band is one standard deviation on both sides. Codes are in units of their own
    standard deviation, and cells reach from -2.2 to 2.2.
    """
    with Canvas(60 + 40 * len(codes)) as (pictures, ax):
        for i, row in enumerate(curves):
            ax.plot([0, len(factors)], [i, i], color=LINE, lw=0.8)
            for j, curve in enumerate(row):
                mean = np.array(curve["mean"])
                sd = np.array(curve["sd"])
                x = j + 0.06 + 0.88 * np.linspace(0, 1, len(mean))
                _band(ax, x, i, mean, sd)
        for j in range(1, len(factors)):
            ax.axvline(j, color=LINE, lw=0.8)
        ax.set(xlim=(0, len(factors)), ylim=(len(codes) - 0.5, -0.5))
        ax.set_yticks(range(len(codes)), list(codes))
        ax.set_xticks(np.arange(len(factors)) + 0.5, list(factors))
        ax.tick_params(length=0, labelcolor=INK)
        ax.spines[:].set_visible(False)
    return pictures[0]


def _band(ax: Axes, x: Array, row: int, mean: Array, sd: Array) -> None:
    """A mean with its band in the cell of a row, clipped to the cell."""

    def height(values: Array) -> Array:
        scaled: Array = row - 0.46 * values.clip(-TALL, TALL) / TALL
        return scaled

    ax.fill_between(
        x, height(mean - sd), height(mean + sd), color=PRIOR, alpha=0.3, lw=0
    )
    ax.plot(x, height(mean), color=POSTERIOR, lw=1.7, solid_capstyle="round")
    if len(x) <= 4:
        ax.plot(x, height(mean), "o", color=POSTERIOR, ms=3.5)
