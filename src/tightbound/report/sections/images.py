"""Sections of example images, plots or rows: reconstructions, samples, and so on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import plots
from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.image_grid import columns, strip
from tightbound.report.page.blocks import (
    Block,
    Legend,
    LegendEntry,
    Panel,
    Plot,
    Section,
    Strip,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections import tables
from tightbound.report.sections.common import (
    Results,
    by_bound,
    by_code,
    heads,
    lead_key,
    panels,
)

# Nats of KL, or variance of a point's coordinate: a feature with less changes no column
# of a table visibly.
LEAST = 0.01


def row(
    result: RunResult,
    tag: str,
    x: Floats,
    alt: str,
    *,
    numbers: Sequence[str] = (),
    under: Floats | None = None,
) -> Strip:
    """A strip of examples, as many to a row as their shape allows."""
    scale = result.data.scale
    cols = min(len(x), columns(scale, result.data.spec.shape))
    return Strip(tag, strip(x, scale, cols, under), alt, numbers)


def reconstructions(results: Results, text: Text) -> Section:
    """Test examples above their reconstructions."""

    def panel(group: Group, result: RunResult) -> Panel:
        data = group.data
        x = data.test_unit[data.shown_rows]
        rebuilt = result.reconstruction
        alt = text("recon.alt_out", run=result.name)
        blocks: list[Block]
        if data.table is not None:
            values = any(column.values for column in data.table.columns)
            key = "recon.caption_table" if values else "recon.caption_table_numbers"
            blocks = [tables.reconstructions(result, text, alt)]
        elif not data.scale.image:
            key = "recon.caption_vector"
            blocks = [row(result, "x, x̂", rebuilt, alt, under=x)]
        else:
            key = by_code(result, "recon.caption")
            inputs = row(result, "x", x, text("recon.alt_in", run=result.name))
            blocks = [inputs, row(result, "x̂", rebuilt, alt)]
        caption = text(
            key,
            numbers=text.count("numbers", len(result.order)),
            dims=f"{data.spec.dims:,}",
            kept=result.variance_kept,
        )
        return Panel(result.name, blocks, caption)

    titles = heads(text, "recon", lead_key(results))
    return Section("recon", *titles, panels(results, text, panel))


def samples(results: Results, text: Text) -> Section:
    """Examples decoded from draws of the prior, with the same noise for every run."""

    def panel(group: Group, result: RunResult) -> Panel:
        alt = text("samples.alt", run=result.name, n=len(result.samples))
        key = by_bound(result, "samples.caption")
        if result.run.fitted:
            key = "samples.caption_fitted"
        if group.data.table is None:
            block = row(result, "x̃", result.samples, alt)
            return Panel(result.name, [block], text(key))
        if not key.endswith("_point"):
            key += "_table"
        return Panel(result.name, [tables.samples(result, alt)], text(key))

    return Section("samples", *heads(text, "samples"), panels(results, text, panel))


def neighbours(results: Results, text: Text) -> Section:
    """Samples with their nearest training examples, and the distances."""
    longest = max(
        float(np.max(np.concatenate([group.typical, result.neighbours.distance])))
        for group, result in results
    )
    span = (0.0, 1.05 * max(longest, 1e-6))

    def panel(group: Group, result: RunResult) -> Panel:
        distance = result.neighbours.distance
        picture = plots.distances(group.typical, distance, span, "L2")
        legend = Legend(
            [
                LegendEntry("fill", "prior", text("legend.tests")),
                LegendEntry("line", "drawn", text("legend.samples")),
            ]
        )
        blocks: list[Block] = [
            *_sample_pairs(group, result, text),
            Plot(picture, text("nearest.alt", run=result.name)),
            legend,
        ]
        is_table = group.data.table is not None
        caption = text(
            "nearest.caption_table" if is_table else "nearest.caption",
            samples=float(np.median(distance)),
            typical=float(np.median(group.typical)),
        )
        return Panel(result.name, blocks, caption)

    group = results[0][0]
    plain = "lead" if group.data.scale.image else "lead_vector"
    key = lead_key(results, plain)
    titles = heads(text, "nearest", key, searched=f"{group.searched:,}")
    return Section("nearest", *titles, panels(results, text, panel))


def _sample_pairs(group: Group, result: RunResult, text: Text) -> list[Block]:
    """Samples, each with its nearest training example and the distance."""
    nearest = result.neighbours
    first = result.samples[: len(nearest.distance)]
    alt = text("nearest.alt_nearest", run=result.name)
    if group.data.table is not None:
        example = nearest.example
        return [tables.neighbours(result, first, example, nearest.distance, alt)]
    numbers = [number(d, ".2f") for d in nearest.distance]
    return [
        row(result, "x̃", first, text("nearest.alt_samples", run=result.name)),
        row(result, "x", nearest.example, alt, numbers=numbers),
    ]


def variations(results: Results, text: Text) -> Section:
    """One example decoded from several draws of its z."""
    n = len(results[0][1].variations)

    def panel(group: Group, result: RunResult) -> Panel:
        example = group.data.test_unit[group.example : group.example + 1]
        alt = text("vary.alt", run=result.name, n=n)
        blocks: list[Block]
        if group.data.table is not None:
            key = "vary.caption_table"
            blocks = [tables.variations(group, result, alt)]
        elif not group.data.scale.image:
            key = "vary.caption_vector"
            under = example.repeat(n, 0)
            blocks = [row(result, "x̂", result.variations, alt, under=under)]
        else:
            key = "vary.caption"
            alt_input = text("walkthrough.alt_input", run=result.name)
            inputs = row(result, "x", _padded(example, n), alt_input)
            blocks = [inputs, row(result, "x̂", result.variations, alt)]
        spread = float(np.sqrt(result.variations.var(0).mean()))
        caption = text(by_code(result, key), spread=spread, n=n)
        return Panel(result.name, blocks, caption)

    return Section("vary", *heads(text, "vary", n=n), panels(results, text, panel))


def _padded(x: Floats, n: int) -> Floats:
    """One image followed by white, at the size of those in a full row."""
    blank = np.full((n - len(x), *x.shape[1:]), 1.0, x.dtype)
    return np.concatenate([x, blank])


def interpolation(results: Results, text: Text) -> Section:
    """Steps between the codes, and between the values, of two examples."""

    def panel(group: Group, result: RunResult) -> Panel:
        data = group.data
        path = result.interpolation
        a = data.test_unit[group.example]
        b = data.test_unit[group.partner]
        t = np.linspace(0, 1, len(path), dtype=np.float32)
        t = t.reshape(-1, *[1] * (path.ndim - 1))
        blend = a * (1 - t) + b * t
        alt = text("interpolate.alt_latent", run=result.name)
        blocks: list[Block]
        if data.table is not None:
            key = "interpolate.caption_table"
            blocks = [tables.interpolation(result, blend, alt)]
        elif not data.scale.image:
            key = "interpolate.caption_vector"
            blocks = [row(result, "z", path, alt, under=blend)]
        else:
            key = "interpolate.caption"
            mixed = text("interpolate.alt_blend", run=result.name)
            blocks = [row(result, "z", path, alt), row(result, "x", blend, mixed)]
        half = len(path) // 2
        caption = text(
            key,
            a=data.label(group.example) or text("interpolate.first"),
            b=data.label(group.partner) or text("interpolate.second"),
            apart=float(np.sqrt(((path[half] - blend[half]) ** 2).sum())),
            ends=float(np.sqrt(((a - b) ** 2).sum())),
        )
        return Panel(result.name, blocks, caption)

    titles = heads(text, "interpolate", lead_key(results))
    return Section("interpolate", *titles, panels(results, text, panel))


def traversals(results: Results, text: Text) -> Section:
    """The most active features, each moved with all others fixed."""

    def panel(group: Group, result: RunResult) -> Panel:
        if group.data.table is not None:
            blocks = _table_traversals(result, text)
        else:
            blocks = _strip_traversals(result, text)
        key = by_code(result, "traverse.caption")
        caption = text(key, active=result.active, latent=len(result.order))
        if len(blocks) < len(result.traversals):
            caption += " " + text("traverse.few")
        return Panel(result.name, blocks, caption)

    titles = heads(text, "traverse", lead_key(results))
    return Section("traverse", *titles, panels(results, text, panel))


TICKS = ("−2σ", "", "−σ", "", "0", "", "σ", "", "2σ")


def _strip_traversals(result: RunResult, text: Text) -> list[Block]:
    """A strip of images or line plots for each feature."""
    step = 1 if result.data.scale.image else 2  # line plots need more room
    ticks = TICKS[::step]
    blocks: list[Block] = []
    for feature in result.traversals:
        alt = text("traverse.alt", run=result.name, feature=feature.name)
        picture = strip(feature.images[::step], result.data.scale, len(ticks))
        numbers = ticks if feature is result.traversals[-1] else ()
        note = number(feature.activity, ".2f")
        blocks.append(Strip(feature.name, picture, alt, numbers, note))
    return blocks


def _table_traversals(result: RunResult, text: Text) -> list[Block]:
    """A grid for each feature that changes a column visibly."""
    features = [f for f in result.traversals if f.activity > LEAST]
    blocks: list[Block] = []
    for feature in features or result.traversals[:1]:
        alt = text("traverse.alt", run=result.name, feature=feature.name)
        note = number(feature.activity, ".2f")
        blocks.append(tables.traversal(result, feature, TICKS[::2], alt, note))
    return blocks
