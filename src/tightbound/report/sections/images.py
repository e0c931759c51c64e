"""The sections that are looked at: reconstructions, latent space, samples, neighbours, variations,
paths, features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tightbound.report.content.gather import Array, Stage, Story
from tightbound.report.figures import plots as figures
from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.image_grid import Picture, columns, strip
from tightbound.report.figures.plots import Ellipse, Span
from tightbound.report.page.blocks import (
    Block,
    Key,
    Mark,
    Panel,
    Plot,
    Section,
    Strip,
    Words,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections import tables

Cast = Sequence[tuple[Stage, Story]]
MOST_LABELS, ZOOM = 24, 2.5
# nats of KL, or variance of a point's: a feature that tells less changes no column of a table
# visibly
LEAST = 0.01
# of the share of codes that a normal has within two deviations: below it, the codes lie wider
WIDE = 0.75


def kind(story: Story, key: str) -> str:
    """The key of a caption, or of its variant for a model whose codes are points."""
    return key if story.codes.stochastic else f"{key}_point"


def bounded(story: Story, key: str) -> str:
    """The key of a caption, or of its variant for a model without a prior; a quantised code is a
    point and has one.
    """
    return key if story.run.has_bound else f"{key}_point"


def say(text: Text, stage: Stage) -> None:
    """Sets the words for the data: image or row."""
    kind = stage.scene.spec.kind
    one = "row" if kind == "vector" else kind
    text.shared = {"item": text(f"noun.{one}"), "items": text(f"noun.{one}s")}


def panels(
    cast: Cast, text: Text, make: Callable[[Stage, Story], Panel]
) -> list[Panel]:
    """One panel a run."""
    found = []
    for stage, story in cast:
        say(text, stage)
        found.append(make(stage, story))
    return found


def heads(
    text: Text, name: str, words: str = "lead", **values: Any
) -> tuple[str, str, str]:
    """A section's heading, its word in the contents, and its first paragraph."""
    return (
        text(f"{name}.heading"),
        text(f"{name}.nav"),
        text(f"{name}.{words}", **values),
    )


def lead(cast: Cast, otherwise: str = "lead") -> str:
    """The key of a first paragraph, or of its variant for tables."""
    return "lead_table" if cast[0][0].scene.sheet is not None else otherwise


def row(
    story: Story,
    tag: str,
    x: Floats,
    alt: str,
    *,
    numbers: Sequence[str] = (),
    under: Floats | None = None,
) -> Strip:
    """A strip of examples, as many to a row as the data's shape allows."""
    view = story.scene.view
    cols = min(len(x), columns(view, story.scene.spec.shape))
    return Strip(tag, strip(x, view, cols, under), alt, numbers)


def reconstructions(cast: Cast, text: Text) -> Section:
    """Inputs over what is left of them."""

    def panel(stage: Stage, story: Story) -> Panel:
        place = stage.scene
        x, values = (
            place.test_unit[place.shown],
            {
                "numbers": text.count("numbers", len(story.order)),
                "dims": f"{place.spec.dims:,}",
                "kept": story.kept,
            },
        )
        alt_in, alt_out = (
            text(f"recon.{k}", run=story.name) for k in ("alt_in", "alt_out")
        )
        if place.sheet is not None:
            caption = "recon.caption_table" + (
                "" if any(c.values for c in place.sheet.columns) else "_numbers"
            )
            return Panel(
                story.name,
                [tables.rebuilt(story, text, alt_out)],
                text(caption, **values),
            )
        if not place.view.image:
            block = row(story, "x, x̂", story.reconstruction, alt_out, under=x)
            return Panel(story.name, [block], text("recon.caption_vector", **values))
        blocks = [
            row(story, "x", x, alt_in),
            row(story, "x̂", story.reconstruction, alt_out),
        ]
        return Panel(story.name, blocks, text(kind(story, "recon.caption"), **values))

    return Section(
        "recon", *heads(text, "recon", lead(cast)), panels(cast, text, panel)
    )


def _reach(xy: Array, centre: Array, cov: Array) -> Array:
    """How far from 0 a map must go to hold nearly all codes and the prior's 2 sigma, (dims,)."""
    codes = np.quantile(np.abs(xy), 0.995, axis=0)
    prior = np.abs(centre) + 2.3 * np.sqrt(np.diag(cov))
    reach: Array = 1.06 * np.maximum(codes, prior)
    return reach


def _map(story: Story, reach: Array) -> Picture:
    plane, place = story.plane, story.scene
    spans: list[Span] = [(-float(r), float(r)) for r in reach]
    if plane.xy.shape[1] == 1:
        prior = (float(plane.prior_mean[0]), float(np.sqrt(plane.prior_cov[0, 0])))
        return figures.line(
            plane.xy[:, 0], place.test.y, place.colours, prior, spans[0], plane.axes[0]
        )
    ellipse, axes = (
        Ellipse(plane.prior_mean, plane.prior_cov),
        (plane.axes[0], plane.axes[1]),
    )
    return figures.plane(
        plane.xy,
        place.test.y,
        place.colours,
        place.names,
        ellipse,
        (spans[0], spans[1]),
        axes,
    )


def _legend(story: Story, text: Text) -> list[Mark]:
    place, flat = story.scene, story.plane.xy.shape[1] == 1
    name = "key.prior" if story.run.has_bound or story.run.fitted else "key.normal"
    prior = (
        [("line", name)]
        if flat
        else [("ring", f"{name}_one"), ("dashed-ring", f"{name}_two")]
    )
    marks = [Mark(sign, "ink", text(key)) for sign, key in prior]
    if place.test.y is None:
        return marks
    if len(place.names) > MOST_LABELS:
        return [*marks, Mark("dot", "muted", text("latent.many", n=len(place.names)))]
    seen = set(place.test.y.tolist())
    marks += [
        Mark("dot", c, n)
        for k, (c, n) in enumerate(zip(place.colours, place.names, strict=True))
        if k in seen
    ]
    return [*marks, Mark("dot", "line", text("latent.other"))] if -1 in seen else marks


def latent_space(cast: Cast, text: Text) -> Section:
    """Codes on maps of one scale, and on a second one of its own where that scale leaves a model
    too small to see.
    """
    own = {
        id(s): _reach(s.plane.xy, s.plane.prior_mean, s.plane.prior_cov)
        for _, s in cast
    }
    common = {
        n: np.max([r for r in own.values() if len(r) == n], axis=0)
        for n in {len(r) for r in own.values()}
    }

    def panel(_: Stage, story: Story) -> Panel:
        reach, plane = own[id(story)], story.plane
        wide, alt = common[len(reach)], text("latent.alt", run=story.name)
        fixed = story.run.has_bound and not story.codes.stochastic
        wider = story.codes.stochastic and plane.inside < WIDE * plane.expected
        words = (
            "caption_code"
            if fixed
            else "caption_wide"
            if wider
            else kind(story, "caption")
        )
        words = "caption_fitted" if story.run.fitted else words
        caption = [
            text(f"latent.{words}", inside=plane.inside, expected=plane.expected)
        ]
        if plane.explained is not None:
            caption.append(
                text("latent.pca", latent=len(story.order), explained=plane.explained)
            )
        blocks: list[Block] = [Plot(_map(story, wide), alt), Key(_legend(story, text))]
        if (wide / reach).max() > ZOOM:
            blocks += [
                Plot(_map(story, np.full(len(reach), reach.max())), alt),
                Words(text("latent.zoom")),
            ]
        return Panel(story.name, blocks, " ".join(caption))

    flat = all(len(r) == 1 for r in own.values())
    heading, nav, words = heads(text, "latent", "lead_one" if flat else "lead")
    if len(cast) > 1:
        words += " " + text("latent.equal")
    return Section("latent", heading, nav, words, panels(cast, text, panel))


def samples(cast: Cast, text: Text) -> Section:
    """What each decoder makes of the same noise."""

    def panel(stage: Stage, story: Story) -> Panel:
        alt = text("samples.alt", run=story.name, n=len(story.samples))
        caption = (
            "samples.caption_fitted"
            if story.run.fitted
            else bounded(story, "samples.caption")
        )
        if stage.scene.sheet is not None:
            caption += "" if caption.endswith("_point") else "_table"
            return Panel(story.name, [tables.samples(story, alt)], text(caption))
        return Panel(story.name, [row(story, "x̃", story.samples, alt)], text(caption))

    return Section("samples", *heads(text, "samples"), panels(cast, text, panel))


def neighbours(cast: Cast, text: Text) -> Section:
    """Samples over their nearest training examples, and how near that is."""
    far = [
        np.max(np.concatenate([stage.typical, story.novelty.distance]))
        for stage, story in cast
        if story.novelty
    ]
    span = (0.0, 1.05 * max(float(max(far)), 1e-6))

    def panel(stage: Stage, story: Story) -> Panel:
        found = story.novelty
        assert found is not None
        first, name = story.samples[: len(found.distance)], {"run": story.name}
        alts, distances = (
            [text(f"nearest.{k}", **name) for k in ("alt_samples", "alt_nearest")],
            found.distance,
        )
        pictures: list[Block] = (
            [tables.neighbours(story, first, found.example, distances, alts[1])]
            if stage.scene.sheet is not None
            else [
                row(story, "x̃", first, alts[0]),
                row(
                    story,
                    "x",
                    found.example,
                    alts[1],
                    numbers=[number(d, ".2f") for d in distances],
                ),
            ]
        )
        blocks: list[Block] = [
            *pictures,
            Plot(
                figures.distances(stage.typical, found.distance, span, "L2"),
                text("nearest.alt", **name),
            ),
            Key(
                [
                    Mark("fill", "prior", text("key.tests")),
                    Mark("line", "drawn", text("key.samples")),
                ]
            ),
        ]
        middle = {
            "own": float(np.median(found.distance)),
            "typical": float(np.median(stage.typical)),
        }
        caption = (
            "nearest.caption" if stage.scene.sheet is None else "nearest.caption_table"
        )
        return Panel(story.name, blocks, text(caption, **middle))

    stage = cast[0][0]
    plain = "lead" if stage.scene.view.image else "lead_vector"
    words = heads(text, "nearest", lead(cast, plain), searched=f"{stage.searched:,}")
    return Section("nearest", *words, panels(cast, text, panel))


def variations(cast: Cast, text: Text) -> Section:
    """One example decoded from several draws of its z."""
    n = len(cast[0][1].variations)

    def panel(stage: Stage, story: Story) -> Panel:
        hero, alt = (
            stage.scene.test_unit[stage.hero : stage.hero + 1],
            text("vary.alt", run=story.name, n=n),
        )
        spread = float(np.sqrt(story.variations.var(0).mean()))
        values = {"spread": spread, "n": n}
        if stage.scene.sheet is not None:
            caption = text(kind(story, "vary.caption_table"), **values)
            return Panel(story.name, [tables.variations(stage, story, alt)], caption)
        if not stage.scene.view.image:
            block = row(story, "x̂", story.variations, alt, under=hero.repeat(n, 0))
            return Panel(
                story.name, [block], text(kind(story, "vary.caption_vector"), **values)
            )
        blocks = [
            row(story, "x", _padded(hero, n), text("follow.alt_input", run=story.name)),
            row(story, "x̂", story.variations, alt),
        ]
        return Panel(story.name, blocks, text(kind(story, "vary.caption"), **values))

    return Section("vary", *heads(text, "vary", n=n), panels(cast, text, panel))


def _padded(x: Floats, n: int) -> Floats:
    """One image and white space, so that it is as large as those of a full row."""
    blank = np.full((n - len(x), *x.shape[1:]), 1.0, x.dtype)
    return np.concatenate([x, blank])


def interpolation(cast: Cast, text: Text) -> Section:
    """From one example to another: between their codes, and value by value."""

    def panel(stage: Stage, story: Story) -> Panel:
        place, path = stage.scene, story.interpolation
        t = np.linspace(0, 1, len(path), dtype=np.float32).reshape(
            -1, *[1] * (path.ndim - 1)
        )
        a, b = place.test_unit[stage.hero], place.test_unit[stage.partner]
        blend, half = a * (1 - t) + b * t, len(path) // 2
        values = {
            "a": place.label(stage.hero) or text("interpolate.first"),
            "b": place.label(stage.partner) or text("interpolate.second"),
            "apart": float(np.sqrt(((path[half] - blend[half]) ** 2).sum())),
            "ends": float(np.sqrt(((a - b) ** 2).sum())),
        }
        alts = [
            text(f"interpolate.{k}", run=story.name)
            for k in ("alt_latent", "alt_blend")
        ]
        if place.sheet is not None:
            return Panel(
                story.name,
                [tables.way(story, blend, alts[0])],
                text("interpolate.caption_table", **values),
            )
        if not place.view.image:
            block = row(story, "z", path, alts[0], under=blend)
            return Panel(
                story.name, [block], text("interpolate.caption_vector", **values)
            )
        blocks = [row(story, "z", path, alts[0]), row(story, "x", blend, alts[1])]
        return Panel(story.name, blocks, text("interpolate.caption", **values))

    return Section(
        "interpolate",
        *heads(text, "interpolate", lead(cast)),
        panels(cast, text, panel),
    )


def traversals(cast: Cast, text: Text) -> Section:
    """The features that tell most, each moved alone."""

    def panel(stage: Stage, story: Story) -> Panel:
        blocks: list[Block] = []
        step = 1 if stage.scene.view.image else 2  # plots need more room than images
        ticks = ("−2σ", "", "−σ", "", "0", "", "σ", "", "2σ")[::step]
        told = [f for f in story.features if f.activity > LEAST] or story.features[:1]
        for feature in story.features if stage.scene.sheet is None else told:
            alt = text("traverse.alt", run=story.name, feature=feature.name)
            note = number(feature.activity, ".2f")
            if stage.scene.sheet is not None:
                blocks.append(tables.walk(story, feature, ticks, step, alt, note))
                continue
            picture = strip(feature.images[::step], story.scene.view, len(ticks))
            last = feature is story.features[-1]
            blocks.append(
                Strip(feature.name, picture, alt, ticks if last else (), note)
            )
        caption = text(
            kind(story, "traverse.caption"),
            active=story.active,
            latent=len(story.order),
        )
        if len(blocks) < len(story.features):
            caption += " " + text("traverse.few")
        return Panel(story.name, blocks, caption)

    return Section(
        "traverse", *heads(text, "traverse", lead(cast)), panels(cast, text, panel)
    )
