"""The charts of the benchmarks, from their JSON: bars of ratios, and curves of how cost grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from tightbound.report.figures.palette import DRAWN, INK, POSTERIOR, PRIOR, RATE

OURS, PEER, HAND, LIMIT = POSTERIOR, PRIOR, RATE, "#c8d6d8"


def _colour(name: str) -> str:
    kind = name.split("-")[0]
    return {"tightbound": OURS, "hand": HAND, "products": LIMIT}.get(kind, PEER)


def _bare(ax: Any) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8, colors=INK)


def ratios(found: dict[str, Any], path: Path) -> None:
    """One panel per case: each variant's median ratio to the base, with the least and the greatest
    over rounds.
    """
    cases = [case for case in found["cases"] if case.get("ratios")]
    tall = [len(case["ratios"]) for case in cases]
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(5.2 * columns, (0.24 * max(tall) + 0.7) * lines),
        squeeze=False,
        layout="constrained",
    )
    for ax, case in zip(axes.flat, cases, strict=False):
        names = list(case["ratios"])
        middle = [case["ratios"][n]["median"] for n in names]
        below = [
            m - case["ratios"][n]["low"] for n, m in zip(names, middle, strict=True)
        ]
        above = [
            case["ratios"][n]["high"] - m for n, m in zip(names, middle, strict=True)
        ]
        ax.barh(
            names,
            middle,
            xerr=(below, above),
            color=[_colour(n) for n in names],
            ecolor=INK,
            capsize=2,
            height=0.7,
        )
        for at, value, end in zip(range(len(names)), middle, above, strict=True):
            ax.text(
                value + end, at, f" {value:.2f}", va="center", fontsize=7, color=INK
            )
        ax.axvline(1, color=INK, lw=0.6, zorder=0)
        ax.margins(x=0.1)
        ax.invert_yaxis()
        ax.set_title(
            f"{case['network']}, batch {case['batch']}", fontsize=9, loc="left"
        )
        ax.set_xlabel(
            f"examples/s, ratio to {case['base']} in the same round", fontsize=8
        )
        _bare(ax)
    for ax in axes.flat[len(cases) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def growth(
    x: Sequence[float],
    y: dict[str, Sequence[float]],
    path: Path,
    *,
    xlabel: str,
    law: str,
) -> None:
    """Measured points joined by lines, the law as the title; both axes logarithmic."""
    figure, ax = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    for (name, values), colour in zip(y.items(), (OURS, DRAWN), strict=False):
        ax.plot(x, values, "o-", color=colour, ms=4, lw=1.2, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(
        x, [f"{v:,.0f}" if v < 10_000 else f"{v:.0e}".replace("e+0", "e") for v in x]
    )
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter("{x:,g}")
    every = [v for values in y.values() for v in values]
    ax.yaxis.set_minor_formatter(
        "{x:,g}" if max(every) < 10 * min(every) else NullFormatter()
    )
    ax.set_xlabel(xlabel, fontsize=8)
    ax.set_title(law, fontsize=7, loc="left")
    if len(y) > 1:
        ax.legend(fontsize=7, frameon=False)
    else:
        ax.set_ylabel(next(iter(y)), fontsize=8)
    _bare(ax)
    ax.tick_params(which="minor", labelsize=7, colors=INK)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def bdmc_gap(found: dict[str, Any], path: Path) -> None:
    """How many images have which gap, a panel per seed, with the mean and the goal of 0.05 nats."""
    seeds = found["seeds"]
    figure, axes = plt.subplots(
        1,
        len(seeds),
        figsize=(4.4 * len(seeds), 2.6),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for ax, one in zip(axes.flat, seeds, strict=True):
        ax.hist(one["gaps"], bins=24, color=OURS)
        ax.axvline(0.05, color=INK, lw=0.8, ls=":", label="goal: mean under 0.05")
        ax.axvline(
            one["mean"],
            color=PEER,
            lw=1.6,
            label=f"mean {one['mean']:.3f} ± {one['se']:.3f}",
        )
        ax.set_title(
            f"seed {one['seed']}, {len(one['gaps'])} images", fontsize=9, loc="left"
        )
        ax.set_xlabel("upper less lower bound of log p(x), nats", fontsize=8)
        ax.legend(fontsize=7, frameon=False, loc="upper left")
        _bare(ax)
    axes[0, 0].set_ylabel("images", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def nats(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: Path,
    xlabel: str,
    *,
    height: float = 8.0,
    marks: Sequence[float] = (),
) -> None:
    """-log p(x) against time, a line for each curve, as SVG that is equal for equal data.

    height: nats above the lowest value that are shown at least; the end of each curve is.
    marks: values with a line across.
    """
    colours, styles = (POSTERIOR, PRIOR, RATE, INK), ("-", "--", ":")
    least = min(value for points in curves.values() for _, value in points)
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tightbound"}):
        figure, ax = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        for mark in marks:
            ax.axhline(mark, color=LIMIT, lw=0.8, zorder=0)
        for number, (name, points) in enumerate(curves.items()):
            ax.plot(
                [at for at, _ in points],
                [value for _, value in points],
                styles[number // len(colours) % len(styles)],
                color=colours[number % len(colours)],
                lw=1.4,
                label=f"{name}: {points[-1][1]:.1f}",
            )
        ax.set_xscale("log")
        last = max(points[-1][1] for points in curves.values())
        ax.set_ylim(least - 1, max(least + height, last + 2))
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(xlabel, fontsize=9)
        ax.set_ylabel("-log p(x), nats, validation images", fontsize=9)
        ax.legend(fontsize=8, frameon=False)
        _bare(ax)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
