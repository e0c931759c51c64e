"""Rows of a table as the page shows them: side by side, a line for each column, in the user's names
and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tightbound.report.content.gather import Array, Feature, Stage, Story, conditions
from tightbound.report.figures.display_scale import Floats
from tightbound.report.page.blocks import Cell, Grid
from tightbound.report.page.text import Text, number

SAMPLES, CHANGING = (
    8,
    6,
)  # samples that have room; columns that are shown of those which a feature changes


def grid(
    story: Story,
    x: Floats,
    head: Sequence[str],
    alt: str,
    *,
    chances: bool = False,
    **options: Any,
) -> Grid:
    """Rows x (n, *shape) on the display scale; options as of `Sheet.grid`."""
    place = story.scene
    assert place.sheet is not None
    known = place.chances(x) if chances else None
    if known is not None and head[0] == "x":
        known[0] = np.nan  # the input itself is certain
    return place.sheet.grid(place.raw(x), head, alt, chances=known, **options)


def numbered(n: int) -> list[str]:
    """1, 2, ..., n."""
    return [str(i + 1) for i in range(n)]


def rebuilt(story: Story, text: Text, alt: str) -> Grid:
    """Test rows over what is rebuilt of them, and what is kept of each column over all of them."""
    place = story.scene
    gaps = None if place.test.gaps is None else place.test.gaps[place.shown]
    under = place.raw(place.test_unit[place.shown], gaps)
    head = [text("table.row", row=int(row)) for row in place.test.rows[place.shown]]
    notes = [_kept(k.value, k.base) for k in story.kept_of]
    return grid(
        story,
        story.reconstruction,
        [*head, text("table.kept")],
        alt,
        under=under,
        marked=True,
        notes=notes,
    )


def _kept(value: float, base: float | None) -> str:
    if not np.isfinite(value):
        return ""
    return f"R² {number(value, '.2f')}" if base is None else f"{value:.0%} ({base:.0%})"


def samples(story: Story, alt: str) -> Grid:
    """Draws of the model; of one that is told a class, under the class that it was told."""
    few, told = story.samples[:SAMPLES], story.run.spec.condition
    head = numbered(len(few))
    if told is not None and not told.mean:
        given = conditions(story.run, len(few)).argmax(1).tolist()
        head = [told.names[k] for k in given]
    return grid(story, few, head, alt)


def neighbours(
    story: Story, first: Floats, nearest: Floats, distance: Array, alt: str
) -> Grid:
    """Samples, over each the training row that is nearest to it; the distance at the head."""
    head = [number(float(d), ".2f") for d in distance]
    return grid(story, first, head, alt, under=story.scene.raw(nearest), tag="L2")


def variations(stage: Stage, story: Story, alt: str) -> Grid:
    """One row, and what it is decoded to from several draws of its z."""
    hero, n = stage.scene.test_unit[stage.hero : stage.hero + 1], len(story.variations)
    return grid(
        story,
        np.concatenate([hero, story.variations]),
        ["x", *numbered(n)],
        alt,
        chances=True,
    )


def way(story: Story, blend: Floats, alt: str) -> Grid:
    """Steps from one row to another, between their codes, under what mixing the values gives."""
    head = [number(float(t), ".2g") for t in np.linspace(0, 1, len(blend))]
    return grid(
        story,
        story.interpolation,
        head,
        alt,
        under=story.scene.raw(blend),
        chances=True,
        tag="t",
    )


def walk(
    story: Story, feature: Feature, head: Sequence[str], step: int, alt: str, note: str
) -> Grid:
    """One feature from low to high: the columns that it changes most, each beside its own
    spread.
    """
    place = story.scene
    assert place.sheet is not None
    x = feature.images[::step]
    unit = (
        np.ptp(x.reshape(len(x), -1), axis=0)
        / place.view.unit(place.train.x.numpy()).std(0).clip(1e-6).ravel()
    )
    moved = np.array([float(unit[span].max()) for span in place.spans])
    some = np.argsort(-moved[place.sheet.shown], kind="stable")[:CHANGING].tolist()
    return grid(
        story, x, head, alt, chances=True, some=some, tag=f"{feature.name}  {note}"
    )


def passage(
    stage: Stage, story: Story, mean: Floats, draw: Floats, text: Text, alt: str
) -> Grid:
    """One row, the mean of p(x|z) with its spread, and a draw; of a value, how likely the likeliest
    is.
    """
    place = stage.scene
    assert place.sheet is not None
    hero = place.test_unit[stage.hero : stage.hero + 1]
    gaps = (
        None
        if place.test.gaps is None
        else place.test.gaps[stage.hero : stage.hero + 1]
    )
    x, middle, drawn = (
        place.raw(hero, gaps)[0],
        place.raw(mean[None])[0],
        place.raw(draw[None])[0],
    )
    chances, lines, put = place.chances(mean[None])[0], [], place.sheet.print
    for i in place.sheet.shown:
        sd = float(story.passage.sd[place.spans[i]][0]) * story.run.spec.divisor
        wide = f"{chances[i]:.0%}" if np.isfinite(chances[i]) else f"± {put(i, sd)}"
        values = [
            Cell(put(i, x[i])),
            Cell(put(i, middle[i])),
            Cell(wide),
            Cell(put(i, drawn[i])),
        ]
        lines.append((place.sheet.columns[i].name, values, ""))
    return Grid(
        ["x", text("follow.mean"), text("follow.spread"), text("follow.draw")],
        lines,
        alt,
    )
