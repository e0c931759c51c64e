"""The marginal distribution of each column of a table, held out and drawn."""

from __future__ import annotations

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.content.table_format import MOST, TableFormat
from tightbound.report.content.table_marginals import Marginal
from tightbound.report.figures.display_scale import Array
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import DRAWN, FONTS, LINE, MUTED, PRIOR
from tightbound.report.page.blocks import (
    Block,
    Card,
    Cards,
    Legend,
    LegendEntry,
    Panel,
    Section,
)
from tightbound.report.page.text import Text
from tightbound.report.sections.common import Results, heads, panels

WIDE = 240  # pixels: of a histogram
HIGH = 92
FOOT = 16  # for the numbers of the axis
VALUES = 8  # of a column whose shares are shown one by one
LEAST_BINS = 8
MOST_BINS = 24


def marginals(results: Results, text: Text) -> Section | None:
    """The marginals of every column; None where no run is of a table."""
    if not any(group.data.table for group, _ in results):
        return None

    def panel(group: Group, result: RunResult) -> Panel:
        table = group.data.table
        if table is None:
            return Panel(result.name, [])
        shown = result.marginals[:MOST]
        cards = [_card(m, i, table, text) for i, m in enumerate(shown)]
        legend = Legend(
            [
                LegendEntry("fill", "prior", text("marginal.held_out")),
                LegendEntry("line", "drawn", text("marginal.drawn")),
            ]
        )
        blocks: list[Block] = [
            legend,
            Cards(cards, text("marginal.alt", run=result.name)),
        ]
        return Panel(result.name, blocks, _caption(group, result, text))

    return Section("marginals", *heads(text, "marginal"), panels(results, text, panel))


def _caption(group: Group, result: RunResult, text: Text) -> str:
    has_prior = result.run.config.recipe.has_bound or result.run.fitted
    key = "marginal.caption" if has_prior else "marginal.caption_point"
    held_out = f"{len(group.data.test.x):,}"
    words = [text(key, held_out=held_out, drawn=f"{len(group.data.train.x):,}")]
    if result.run.spec.condition is not None:
        words.append(text("marginal.conditional"))
    worst = max(result.marginals, key=_excess)
    key = "marginal.worst" if worst.distance > worst.baseline else "marginal.none"
    values = {"distance": worst.distance, "baseline": worst.baseline}
    words.append(text(key, name=worst.column.name, **values))
    return " ".join(words)


def _excess(marginal: Marginal) -> float:
    """The distance beyond that of training values, lowest where it is not defined."""
    if np.isnan(marginal.distance):
        return -1.0
    return marginal.distance - marginal.baseline


def _card(marginal: Marginal, i: int, table: TableFormat, text: Text) -> Card:
    name = marginal.column.name
    note = ""
    if not np.isnan(marginal.distance):
        values = {"distance": marginal.distance, "baseline": marginal.baseline}
        note = text("marginal.note", **values)
    if marginal.column.values:
        return Card(name, note, shares=_shares(marginal, i, table, text))
    if not len(marginal.real):
        return Card(name, note)
    return Card(name, note, picture=_histogram(marginal, i, table))


def _shares_of(x: Array, codes: int) -> Array:
    """The share of each code 0, 1, ... in x (n,)."""
    if not len(x):
        return np.zeros(codes)
    return np.array([(x == code).mean() for code in range(codes)])


def _shares(
    marginal: Marginal, i: int, table: TableFormat, text: Text
) -> list[tuple[str, float, float, str, str]]:
    """Each value with its two shares, the most frequent first, rare ones together."""
    codes = len(marginal.column.values)
    real = _shares_of(marginal.real, codes)
    drawn = _shares_of(marginal.drawn, codes)
    order = np.argsort(-real, kind="stable").tolist()
    most = codes if codes <= VALUES else VALUES - 1
    groups = [(table.print(i, code), [code]) for code in order[:most]]
    others = order[most:]
    if others:
        groups.append((text("marginal.others", n=len(others)), others))
    pairs = [(float(real[g].sum()), float(drawn[g].sum())) for _, g in groups]
    top = max(max(pair) for pair in pairs) or 1.0
    return [
        (name, a / top, b / top, f"{a:.0%}", f"{b:.0%}")
        for (name, _), (a, b) in zip(groups, pairs, strict=True)
    ]


def edges(real: Array, drawn: Array, whole: bool) -> Array:
    """Bin edges over all held-out values and nearly all draws.

    whole: True for whole numbers, of which each bin then contains equally many.
    """
    most = int(np.clip(2 * len(real) ** 0.5, LEAST_BINS, MOST_BINS))
    low = min(real.min(), np.quantile(drawn, 0.005))
    high = max(real.max(), np.quantile(drawn, 0.995))
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / most)))
        steps = int(np.ceil((high - low + 1) / step))
        return np.asarray(low - 0.5 + step * np.arange(steps + 1))
    return np.linspace(low, high if high > low else low + 1, most + 1)


def _histogram(marginal: Marginal, i: int, table: TableFormat) -> Picture:
    """Held-out values as a filled histogram with that of the draws as a line over it.

    Values beyond the axis are counted in the bins at its ends.
    """
    column = marginal.column
    whole = column.is_whole
    bins = edges(marginal.real, marginal.drawn, whole)
    shares = [
        np.histogram(np.clip(x, bins[0], bins[-1]), bins)[0] / len(x)
        for x in (marginal.real, marginal.drawn)
    ]
    top = max(s.max() for s in shares) or 1.0
    width = (WIDE - 2) / (len(bins) - 1)
    real, drawn = ((HIGH - 6) * s / top for s in shares)
    bars = "".join(
        f"M{1 + k * width:.1f} {HIGH}v{-h:.1f}h{width:.1f}v{h:.1f}z"
        for k, h in enumerate(real)
        if h > 0
    )
    line = " ".join(
        f"{1 + (k + side) * width:.1f},{HIGH - h:.1f}"
        for k, h in enumerate(drawn)
        for side in (0, 1)
    )
    edge = 0.5 if whole else 0.0
    numbers = _axis_numbers(bins[0] + edge, bins[-1] - edge, i, table)
    size = f'viewBox="0 0 {WIDE} {HIGH + FOOT}" width="{WIDE}" height="{HIGH + FOOT}"'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        f'<path d="{bars}" fill="{PRIOR}" opacity="0.55"/>'
        f'<polyline points="{line}" fill="none" stroke="{DRAWN}" '
        'stroke-width="1.6" stroke-linejoin="round"/>'
        f'<path d="M0 {HIGH}h{WIDE}" stroke="{LINE}"/>{numbers}</svg>'
    )
    return Picture(svg.encode(), "image/svg+xml", WIDE, HIGH + FOOT)


def _axis_numbers(low: float, high: float, i: int, table: TableFormat) -> str:
    """The numbers below a histogram: at both ends and in the middle."""
    marks = (
        (1, low, "start"),
        (WIDE / 2, (low + high) / 2, "middle"),
        (WIDE - 1, high, "end"),
    )
    y = HIGH + 13
    texts = [
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">'
        f"{table.print(i, float(value))}</text>"
        for x, value, anchor in marks
    ]
    style = f'font-family="{FONTS}" font-size="10.5" fill="{MUTED}"'
    return f"<g {style}>{''.join(texts)}</g>"
