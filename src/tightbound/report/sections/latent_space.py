"""The codes of test examples on a map with the prior's contours."""

from __future__ import annotations

import shlex

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import plots
from tightbound.report.figures.display_scale import Array
from tightbound.report.figures.image_grid import Picture
from tightbound.report.figures.plots import Ellipse, Span
from tightbound.report.page.blocks import (
    Block,
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
)
from tightbound.report.page.text import Text
from tightbound.report.sections.common import Results, by_code, heads, panels
from tightbound.runs.run import Run, training_folder

MOST_EXPLORED = 2  # runs that `tightbound explore` shows together
MOST_LABELS = 24  # in a legend
ZOOM = 2.5  # a map on a scale this many times too large is drawn again on its own
WIDE = 0.75  # of the expected share within two sigma: below it, the codes are wider


def latent_space(results: Results, text: Text) -> Section:
    """Codes on maps of one scale, and on their own where that is much too large."""
    reaches = {id(result): _reach(result) for _, result in results}
    common = {}
    for dims in {len(reach) for reach in reaches.values()}:
        same = [reach for reach in reaches.values() if len(reach) == dims]
        common[dims] = np.max(same, axis=0)

    def panel(_: Group, result: RunResult) -> Panel:
        reach = reaches[id(result)]
        scale = common[len(reach)]
        alt = text("latent.alt", run=result.name)
        legend = Legend(_legend(result, text))
        blocks: list[Block] = [Plot(_map(result, scale), alt), legend]
        if (scale / reach).max() > ZOOM:
            zoomed = np.full(len(reach), reach.max())
            blocks.append(Plot(_map(result, zoomed), alt))
            blocks.append(Paragraph(text("latent.zoom")))
        return Panel(result.name, blocks, _caption(result, text))

    one = all(len(reach) == 1 for reach in reaches.values())
    heading, nav, lead = heads(text, "latent", "lead_one" if one else "lead")
    if len(results) > 1:
        lead += " " + text("latent.equal")
    names = [_folder_name(result.run) for _, result in results]
    if all(names):
        given = " ".join(map(shlex.quote, names[:MOST_EXPLORED]))
        lead += " " + text("latent.explore", names=given)
    return Section("latent", heading, nav, lead, panels(results, text, panel))


def _folder_name(run: Run) -> str:
    """The run's folder from the one beside it; "" where it has none."""
    home = training_folder(run)
    if run.folder is None or home is None:
        return ""
    return str(run.folder.relative_to(home.parent))


def _reach(result: RunResult) -> Array:
    """Half width of a map with nearly all codes and the prior's 2 sigma, (dims,)."""
    plane = result.map
    codes = np.quantile(np.abs(plane.xy), 0.995, axis=0)
    prior = np.abs(plane.prior_mean) + 2.3 * np.sqrt(np.diag(plane.prior_cov))
    reach: Array = 1.06 * np.maximum(codes, prior)
    return reach


def _map(result: RunResult, reach: Array) -> Picture:
    plane = result.map
    data = result.data
    spans: list[Span] = [(-float(r), float(r)) for r in reach]
    if plane.xy.shape[1] == 1:
        prior = (float(plane.prior_mean[0]), float(np.sqrt(plane.prior_cov[0, 0])))
        z = plane.xy[:, 0]
        return plots.line(z, data.test.y, data.colours, prior, spans[0], plane.axes[0])
    return plots.plane(
        plane.xy,
        data.test.y,
        data.colours,
        data.names,
        Ellipse(plane.prior_mean, plane.prior_cov),
        (spans[0], spans[1]),
        (plane.axes[0], plane.axes[1]),
    )


def _caption(result: RunResult, text: Text) -> str:
    plane = result.map
    key = _caption_key(result)
    words = [text(f"latent.{key}", inside=plane.inside, expected=plane.expected)]
    if plane.explained is not None:
        values = {"latent": len(result.order), "explained": plane.explained}
        words.append(text("latent.pca", **values))
    return " ".join(words)


def _caption_key(result: RunResult) -> str:
    """The caption for the kind of codes and for how far they spread."""
    stochastic = result.codes.stochastic
    if result.run.fitted:
        return "caption_fitted"
    if result.run.config.recipe.has_bound and not stochastic:
        return "caption_code"
    if stochastic and result.map.inside < WIDE * result.map.expected:
        return "caption_wide"
    return by_code(result, "caption")


def _legend(result: RunResult, text: Text) -> list[LegendEntry]:
    """The prior's density or contours, and the labels."""
    data = result.data
    has_prior = result.run.config.recipe.has_bound or result.run.fitted
    name = "legend.prior" if has_prior else "legend.normal"
    if result.map.xy.shape[1] == 1:
        entries = [LegendEntry("line", "ink", text(name))]
    else:
        entries = [
            LegendEntry("ring", "ink", text(f"{name}_one")),
            LegendEntry("dashed-ring", "ink", text(f"{name}_two")),
        ]
    if data.test.y is None:
        return entries
    if len(data.names) > MOST_LABELS:
        words = text("latent.many", n=len(data.names))
        return [*entries, LegendEntry("dot", "muted", words)]
    labels = set(data.test.y.tolist())
    for k, (colour, label) in enumerate(zip(data.colours, data.names, strict=True)):
        if k in labels:
            entries.append(LegendEntry("dot", colour, label))
    if -1 in labels:
        entries.append(LegendEntry("dot", "line", text("latent.other")))
    return entries
