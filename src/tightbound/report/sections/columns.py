"""The section of a table's columns: each one's values held out and as the model draws them, side by
side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightbound.report.content.gather import Stage, Story
from tightbound.report.content.table_format import MOST, Sheet
from tightbound.report.content.table_marginals import Marginal
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.palette import DRAWN, FONTS, LINE, MUTED, PRIOR
from tightbound.report.page.blocks import Card, Cards, Key, Mark, Panel, Section
from tightbound.report.page.text import Text
from tightbound.report.sections.images import Cast, heads, panels

Array = NDArray[Any]
WIDE, HIGH, FOOT, VALUES = 240, 92, 16, 8
LEAST_BINS, MOST_BINS = 8, 24


def marginals(cast: Cast, text: Text) -> Section | None:
    """Every column's marginal; None where no run is of a table."""
    if not any(stage.scene.sheet for stage, _ in cast):
        return None

    def panel(stage: Stage, story: Story) -> Panel:
        sheet = stage.scene.sheet
        if sheet is None:
            return Panel(story.name, [])
        shown = story.marginals[:MOST]
        cards = [_card(m, i, sheet, text) for i, m in enumerate(shown)]
        marks = [
            Mark("fill", "prior", text("marginal.held")),
            Mark("line", "drawn", text("marginal.drawn")),
        ]
        worst = max(
            story.marginals,
            key=lambda m: -1.0 if np.isnan(m.distance) else m.distance - m.usual,
        )
        words = (
            "marginal.caption"
            if story.run.has_bound or story.run.fitted
            else "marginal.caption_point"
        )
        caption = [
            text(
                words,
                held=f"{len(stage.scene.test.x):,}",
                drawn=f"{len(stage.scene.train.x):,}",
            )
        ]
        if story.run.spec.condition is not None:
            caption.append(text("marginal.conditional"))
        values = {
            "name": worst.column.name,
            "distance": worst.distance,
            "usual": worst.usual,
        }
        caption.append(
            text(
                "marginal.worst" if worst.distance > worst.usual else "marginal.none",
                **values,
            )
        )
        return Panel(
            story.name,
            [Key(marks), Cards(cards, text("marginal.alt", run=story.name))],
            " ".join(caption),
        )

    return Section("marginals", *heads(text, "marginal"), panels(cast, text, panel))


def _card(m: Marginal, i: int, sheet: Sheet, text: Text) -> Card:
    note = (
        ""
        if np.isnan(m.distance)
        else text("marginal.note", distance=m.distance, usual=m.usual)
    )
    if m.column.values:
        return Card(m.column.name, note, shares=_shares(m, i, sheet, text))
    return Card(
        m.column.name, note, picture=_histogram(m, i, sheet) if len(m.real) else None
    )


def _shares(
    m: Marginal, i: int, sheet: Sheet, text: Text
) -> list[tuple[str, float, float, str, str]]:
    """Each value with its two shares, the most frequent first; those without room together."""
    both = [
        np.array(
            [
                (x == code).mean() if len(x) else 0.0
                for code in range(len(m.column.values))
            ]
        )
        for x in (m.real, m.drawn)
    ]
    order = np.argsort(-both[0], kind="stable").tolist()
    most = len(order) if len(order) <= VALUES else VALUES - 1
    groups = [(sheet.print(i, code), [code]) for code in order[:most]]
    if rest := order[most:]:
        groups.append((text("marginal.rest", n=len(rest)), rest))
    parts = [[float(share[codes].sum()) for share in both] for _, codes in groups]
    top = max(max(pair) for pair in parts) or 1.0
    named = zip((name for name, _ in groups), parts, strict=True)
    return [(name, a / top, b / top, f"{a:.0%}", f"{b:.0%}") for name, (a, b) in named]


def edges(real: Array, drawn: Array, whole: bool) -> Array:
    """Bins over all held-out values and nearly all draws; of whole numbers each as many of them."""
    most = int(np.clip(2 * len(real) ** 0.5, LEAST_BINS, MOST_BINS))
    low, high = (
        min(real.min(), np.quantile(drawn, 0.005)),
        max(real.max(), np.quantile(drawn, 0.995)),
    )
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / most)))
        steps = int(np.ceil((high - low + 1) / step))
        return np.asarray(low - 0.5 + step * np.arange(steps + 1))
    return np.linspace(low, high if high > low else low + 1, most + 1)


def _histogram(m: Marginal, i: int, sheet: Sheet) -> Picture:
    """Shares of the held-out values as areas, of the draws as a line over them; what lies beyond is
    in the end bins.
    """
    whole = m.column.kind == "count" or m.column.type.startswith(("int", "uint"))
    bins = edges(m.real, m.drawn, whole)
    shares = [
        np.histogram(np.clip(x, bins[0], bins[-1]), bins)[0] / len(x)
        for x in (m.real, m.drawn)
    ]
    top, width = max(s.max() for s in shares) or 1.0, (WIDE - 2) / (len(bins) - 1)
    heights = [(HIGH - 6) * s / top for s in shares]
    bars = "".join(
        f"M{1 + k * width:.1f} {HIGH}v{-h:.1f}h{width:.1f}v{h:.1f}z"
        for k, h in enumerate(heights[0])
        if h > 0
    )
    line = " ".join(
        f"{1 + (k + e) * width:.1f},{HIGH - h:.1f}"
        for k, h in enumerate(heights[1])
        for e in (0, 1)
    )
    ends = (bins[0] + 0.5, bins[-1] - 0.5) if whole else (bins[0], bins[-1])
    places = zip(
        (1, WIDE / 2, WIDE - 1),
        (ends[0], sum(ends) / 2, ends[1]),
        ("start", "middle", "end"),
        strict=True,
    )
    marks = [
        f'<text x="{x}" y="{HIGH + 13}" text-anchor="{a}">{sheet.print(i, float(v))}</text>'
        for x, v, a in places
    ]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} '
        f'{HIGH + FOOT}" width="{WIDE}" '
        f'height="{HIGH + FOOT}"><path d="{bars}" fill="{PRIOR}" opacity="0.55"/>'
        f'<polyline points="{line}" fill="none" stroke="{DRAWN}" '
        'stroke-width="1.6" stroke-linejoin="round"/>'
        f'<path d="M0 {HIGH}h{WIDE}" stroke="{LINE}"/>'
        f'<g font-family="{FONTS}" font-size="10.5" fill="{MUTED}">{"".join(marks)}</g></svg>'
    )
    return Picture(svg.encode(), "image/svg+xml", WIDE, HIGH + FOOT)
