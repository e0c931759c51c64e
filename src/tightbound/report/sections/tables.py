"""Rows of a table side by side, one line per column, in the table's own values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tightbound.report.content.gather import Group, RunResult, Traversal, conditions
from tightbound.report.content.table_format import GridOptions
from tightbound.report.content.table_marginals import ColumnFit
from tightbound.report.figures.display_scale import Array, Floats
from tightbound.report.page.blocks import Cell, Grid
from tightbound.report.page.text import Text, number

SAMPLES = 8  # that are shown
CHANGING = 6  # columns that are shown of those which a feature changes


def grid(
    result: RunResult,
    x: Floats,
    head: Sequence[str],
    alt: str,
    options: GridOptions | None = None,
    tag: str = "",
) -> Grid:
    """Rows x (n, *shape) on the display scale."""
    data = result.data
    assert data.table is not None
    return data.table.grid(data.table_values(x), head, alt, options, tag)


def numbered(n: int) -> list[str]:
    """1, 2, ..., n."""
    return [str(i + 1) for i in range(n)]


def reconstructions(result: RunResult, text: Text, alt: str) -> Grid:
    """Test rows above their reconstructions, with the fit of each column."""
    data = result.data
    rows = data.shown_rows
    gaps = None if data.test.gaps is None else data.test.gaps[rows]
    head = [text("table.row", row=int(row)) for row in data.test.rows[rows]]
    return grid(
        result,
        result.reconstruction,
        [*head, text("table.fit")],
        alt,
        GridOptions(
            reference=data.table_values(data.test_unit[rows], gaps),
            mark_differences=True,
            notes=[_fit(column_fit) for column_fit in result.column_fits],
        ),
    )


def _fit(fit: ColumnFit) -> str:
    """R², or the share of values that are right with that of the most frequent one."""
    if not np.isfinite(fit.value):
        return ""
    if fit.majority is None:
        return f"R² {number(fit.value, '.2f')}"
    return f"{fit.value:.0%} ({fit.majority:.0%})"


def samples(result: RunResult, alt: str) -> Grid:
    """Draws of the model; those of a model conditional on classes below their class."""
    few = result.samples[:SAMPLES]
    condition = result.run.spec.condition
    head = numbered(len(few))
    if condition is not None and not condition.mean:
        classes = conditions(result.run, len(few)).argmax(1).tolist()
        head = [condition.names[k] for k in classes]
    return grid(result, few, head, alt)


def neighbours(
    result: RunResult, first: Floats, nearest: Floats, distance: Array, alt: str
) -> Grid:
    """Samples below the nearest training row of each, with the distance at the head."""
    head = [number(float(d), ".2f") for d in distance]
    options = GridOptions(reference=result.data.table_values(nearest))
    return grid(result, first, head, alt, options, tag="L2")


def variations(group: Group, result: RunResult, alt: str) -> Grid:
    """A row, and rows decoded from several draws of its z."""
    example = group.data.test_unit[group.example : group.example + 1]
    rows = np.concatenate([example, result.variations])
    head = ["x", *numbered(len(result.variations))]
    p = result.data.probabilities(rows)
    p[0] = np.nan  # the input itself is certain
    return grid(result, rows, head, alt, GridOptions(probabilities=p))


def interpolation(result: RunResult, blend: Floats, alt: str) -> Grid:
    """Steps between the codes of two rows, below the mixture of their values."""
    head = [number(float(t), ".2g") for t in np.linspace(0, 1, len(blend))]
    rows = result.interpolation
    options = GridOptions(
        reference=result.data.table_values(blend),
        probabilities=result.data.probabilities(rows),
    )
    return grid(result, rows, head, alt, options, tag="t")


def traversal(
    result: RunResult, feature: Traversal, head: Sequence[str], alt: str, note: str
) -> Grid:
    """A row with one feature moved from low to high, a value for each word of `head`.

    The columns are those that change most, relative to their standard deviation.
    """
    data = result.data
    assert data.table is not None
    step = -(-len(feature.images) // len(head))
    x = feature.images[::step]
    change = np.ptp(x.reshape(len(x), -1), axis=0)
    sd = data.scale.unit(data.train.x.numpy()).std(0).clip(1e-6).ravel()
    relative = change / sd
    largest = np.array([float(relative[s].max()) for s in data.column_slices])
    order = np.argsort(-largest[data.table.shown], kind="stable")
    options = GridOptions(
        probabilities=data.probabilities(x), columns=order[:CHANGING].tolist()
    )
    return grid(result, x, head, alt, options, tag=f"{feature.name}  {note}")


def walkthrough(
    group: Group, result: RunResult, mean: Floats, draw: Floats, text: Text, alt: str
) -> Grid:
    """A row, the mean of p(x|z) with its standard deviation, and a draw of p(x|z).

    Of categories, the most likely value with its probability.
    """
    data = group.data
    table = data.table
    assert table is not None
    row = slice(group.example, group.example + 1)
    gaps = None if data.test.gaps is None else data.test.gaps[row]
    x = data.table_values(data.test_unit[row], gaps)[0]
    means = data.table_values(mean[None])[0]
    draws = data.table_values(draw[None])[0]
    p = data.probabilities(mean[None])[0]
    lines = []
    for i in table.shown:
        if np.isfinite(p[i]):
            spread = f"{p[i]:.0%}"
        else:
            sd = float(result.walkthrough.sd[data.column_slices[i]][0])
            spread = f"± {table.print(i, sd * result.run.spec.divisor)}"
        printed = [table.print(i, x[i]), table.print(i, means[i])]
        values = [*printed, spread, table.print(i, draws[i])]
        lines.append((table.columns[i].name, [Cell(v) for v in values], ""))
    words = [text(f"walkthrough.{key}") for key in ("mean", "spread", "draw")]
    return Grid(["x", *words], lines, alt)
