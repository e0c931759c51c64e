"""The diagnosis as a section: what was found to be wrong, in plain words, and the measurements
behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tightbound.report.content.gather import Stage, Story
from tightbound.report.figures import density_plots as diagrams
from tightbound.report.page.blocks import (
    Block,
    Findings,
    Key,
    Ledger,
    Mark,
    Panel,
    Plot,
    Section,
    Term,
    Words,
)
from tightbound.report.page.text import Text, number, with_error
from tightbound.report.sections.images import Cast, heads, panels

Tree = Mapping[str, Any]


def health(cast: Cast, text: Text) -> Section | None:
    """Verdicts and measurements of all runs; None where none was diagnosed."""
    found = [story.evaluation.get("diagnosis") for _, story in cast]
    if not any(found):
        return None
    tops = [
        f["kl"]
        for d in found
        if d
        for f in d["latents"]["features"]
        if f.get("kl") is not None
    ]
    top = 1.08 * max(tops, default=1.0)

    def panel(_: Stage, story: Story) -> Panel:
        d = story.evaluation.get("diagnosis")
        if not d:
            return Panel(story.name, [Words(text("health.none"))])
        blocks: list[Block] = [Findings(_verdicts(d, text), good=not d["verdicts"])]
        kl = [f.get("kl") for f in d["latents"]["features"]]
        if len(kl) > 1 and all(v is not None for v in kl):
            active = np.array([f["active"] for f in d["latents"]["features"]])
            picture = diagrams.features(np.array(kl, dtype=float), active, top)
            marks = [Mark("fill", "rate", text("key.in_use"))]
            marks += [] if active.all() else [Mark("frame", "muted", text("key.idle"))]
            blocks += [Plot(picture, text("health.alt", run=story.name)), Key(marks)]
        return Panel(story.name, [*blocks, Ledger(_measured(d, text))])

    return Section("health", *heads(text, "health"), panels(cast, text, panel))


def _verdicts(d: Tree, text: Text) -> list[tuple[str, str, str]]:
    """Heading, explanation and remedy of each verdict; or that nothing was found."""
    if not d["verdicts"]:
        return [(text("health.fine"), text("health.fine_says"), "")]
    items = []
    for v in d["verdicts"]:
        name = v["name"].replace(" ", "_")
        values = {k: "-" if x is None else x for k, x in v["values"].items()}
        if name == "likelihood_scale_wrong":
            name += f"_{values['width']}"
        items.append(
            (
                text(f"verdict.{name}"),
                text(f"verdict.{name}_says", **values),
                text(f"fix.{v['fix']}", **values),
            )
        )
    return items


def _measured(d: Tree, text: Text) -> list[Term]:
    """The measurements, each with a sentence that says how to read it."""
    features, sites = d["latents"]["features"], d["latents"]["sites"]
    used = sum(f["active"] for f in features)
    rows = [
        Term(
            "",
            text("health.used"),
            f"{used} / {len(features)}",
            "",
            "rate",
            text("health.used_says"),
        )
    ]
    one = next((s for s in sites if s.get("mutual_information")), None)
    if one is not None:
        cap = number(one["cap"], ".2f")
        rows.append(
            _figure(
                one["mutual_information"],
                text,
                "information",
                n=f"{one['n']:,}",
                cap=cap,
            )
        )
        if one.get("aggregate_kl"):
            rows.append(_figure(one["aggregate_kl"], text, "aggregate"))
        if one.get("total_correlation"):
            rows.append(_figure(one["total_correlation"], text, "correlation"))
    if d.get("calibration"):
        c = d["calibration"]
        shown = f"{c['central50']['mean']:.0%}, {c['central90']['mean']:.0%}"
        rows.append(
            Term(
                "",
                text("health.calibration"),
                shown,
                "",
                "ink",
                text("health.calibration_says"),
            )
        )
    if d.get("transfer"):
        t = d["transfer"]
        rows.append(_figure(t["lost"], text, "lost", share=float(t["share"])))
    p = d.get("progress")
    if p and p["gained"] is not None:
        values = (
            number(p["gained"], ".2f"),
            "" if p["error"] is None else number(p["error"], ".2f"),
        )
        rows.append(
            Term(
                "",
                text("health.gained"),
                *values,
                "ink",
                text("health.gained_says", epochs=p["epochs"]),
            )
        )
    return rows


def _figure(figure: Tree, text: Text, name: str, **values: Any) -> Term:
    shown = with_error(float(figure["mean"]), float(figure["se"] or 0.0))
    return Term(
        "", text(f"health.{name}"), *shown, "ink", text(f"health.{name}_says", **values)
    )
