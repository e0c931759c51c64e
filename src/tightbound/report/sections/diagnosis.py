"""The diagnosis: faults that were found, with remedies, and the measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import density_plots
from tightbound.report.page.blocks import (
    Block,
    Findings,
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
    Term,
    TermTable,
)
from tightbound.report.page.text import Text, number, with_error
from tightbound.report.sections.common import Results, Tree, heads, panels


def diagnosis(results: Results, text: Text) -> Section | None:
    """Verdicts and measurements of all runs; None where none was diagnosed."""
    trees = [result.evaluation.get("diagnosis") for _, result in results]
    diagnosed = [tree for tree in trees if tree]
    if not diagnosed:
        return None
    features = [f for tree in diagnosed for f in tree["latents"]["features"]]
    kl = [f["kl"] for f in features if f.get("kl") is not None]
    top = 1.08 * max(kl, default=1.0)

    def panel(_: Group, result: RunResult) -> Panel:
        tree = result.evaluation.get("diagnosis")
        if not tree:
            return Panel(result.name, [Paragraph(text("diagnosis.none"))])
        blocks: list[Block] = [
            Findings(_verdicts(tree, text), good=not tree["verdicts"]),
            *_kl_by_feature(result, tree, text, top),
            TermTable(_measurements(tree, text)),
        ]
        return Panel(result.name, blocks)

    return Section("diagnosis", *heads(text, "diagnosis"), panels(results, text, panel))


def _kl_by_feature(
    result: RunResult, tree: Tree, text: Text, top: float
) -> list[Block]:
    """A plot of the KL of each feature, where it is defined for all of several."""
    features = tree["latents"]["features"]
    kl = [feature.get("kl") for feature in features]
    if len(kl) < 2 or any(value is None for value in kl):
        return []
    active = np.array([feature["active"] for feature in features])
    picture = density_plots.features(np.array(kl, dtype=float), active, top)
    entries = [LegendEntry("fill", "rate", text("legend.in_use"))]
    if not active.all():
        entries.append(LegendEntry("frame", "muted", text("legend.unused")))
    return [Plot(picture, text("diagnosis.alt", run=result.name)), Legend(entries)]


def _verdicts(tree: Tree, text: Text) -> list[tuple[str, str, str]]:
    """Heading, explanation and remedy of each verdict, or that there is none."""
    if not tree["verdicts"]:
        return [(text("diagnosis.fine"), text("diagnosis.fine_says"), "")]
    items = []
    for verdict in tree["verdicts"]:
        name = verdict["name"].replace(" ", "_")
        values = {k: "-" if x is None else x for k, x in verdict["values"].items()}
        if name == "likelihood_scale_wrong":
            name += f"_{values['width']}"
        heading = text(f"verdict.{name}")
        if name == "not_trained_enough" and not values["early"]:
            name += "_short"
        if name == "outlier_in_the_test_data":
            values["named"] = _outlying_rows(values, text)
        explanation = text(f"verdict.{name}_says", **values)
        items.append((heading, explanation, text(f"fix.{verdict['fix']}", **values)))
    return items


def _outlying_rows(values: Tree, text: Text) -> str:
    """A sentence on each test row; a file of an earlier version has one for all."""
    point = values.get("term", "bound") != "bound"
    term = text("verdict.outlier_term_point" if point else "verdict.outlier_term")
    sentences = []
    for row in values.get("rows") or [values]:
        shown = {
            "row": row["row"],
            "bound": row["bound"],
            "column": row.get("column") or "",
            "term": term,
        }
        key = "outlier_row_column" if shown["column"] else "outlier_row"
        sentences.append(text(f"verdict.{key}", **shown))
    return " ".join(sentences)


def _measurements(tree: Tree, text: Text) -> list[Term]:
    """The measurements, each with an explanation."""
    features = tree["latents"]["features"]
    active = [feature for feature in features if feature["active"]]
    used = f"{len(active)} / {len(features)}"
    return [
        _row(text, "used", used, colour="rate"),
        *_information(tree, text),
        *_codes(tree, text),
        *_gap(tree, text),
        *_calibration(tree, text),
        *_constant(tree, text),
        *_transfer(tree, text),
        *_progress(tree, text),
    ]


def _information(tree: Tree, text: Text) -> list[Term]:
    """Mutual information, KL of the aggregate posterior and total correlation."""
    sites = [s for s in tree["latents"]["sites"] if s.get("mutual_information")]
    if not sites:
        return []
    site = sites[0]
    values = {"n": f"{site['n']:,}", "cap": number(site["cap"], ".2f")}
    rows = [_mean(text, "information", site["mutual_information"], **values)]
    if site.get("aggregate_kl"):
        rows.append(_mean(text, "aggregate", site["aggregate_kl"]))
        if site.get("total_correlation"):
            rows.append(_mean(text, "correlation", site["total_correlation"]))
    return rows


def _codes(tree: Tree, text: Text) -> list[Term]:
    """Entries of each codebook in use, and their perplexity."""
    rows = []
    for usage in tree.get("codes", []):
        shown = f"{usage['used']:.1f} / {usage['entries']}"
        perplexity = f"{usage['perplexity']:.1f}"
        values = {"site": usage["site"], "n": f"{usage['n']:,}"}
        rows.append(_row(text, "codes", shown, perplexity=perplexity, **values))
    return rows


def _gap(tree: Tree, text: Text) -> list[Term]:
    """The inference gap of training examples."""
    gap = tree.get("encoder_gap")
    if not gap:
        return []
    values = {"n": gap["n"], "k": gap["k"], "share": float(gap["share"])}
    return [_mean(text, "gap", gap["gap"], **values)]


def _constant(tree: Tree, text: Text) -> list[Term]:
    """The bound above that of independent dimensions."""
    constant = tree.get("constant")
    if not constant:
        return []
    return [_mean(text, "constant", constant["above"])]


def _calibration(tree: Tree, text: Text) -> list[Term]:
    calibration = tree.get("calibration")
    if not calibration:
        return []
    central50 = calibration["central50"]["mean"]
    central90 = calibration["central90"]["mean"]
    return [_row(text, "calibration", f"{central50:.0%}, {central90:.0%}")]


def _transfer(tree: Tree, text: Text) -> list[Term]:
    transfer = tree.get("transfer")
    if not transfer:
        return []
    return [_mean(text, "lost", transfer["lost"], share=float(transfer["share"]))]


def _progress(tree: Tree, text: Text) -> list[Term]:
    progress = tree.get("progress")
    if not progress or progress["gained"] is None:
        return []
    error = "" if progress["error"] is None else number(progress["error"], ".2f")
    gained = number(progress["gained"], ".2f")
    return [_row(text, "gained", gained, error, epochs=progress["epochs"])]


def _mean(text: Text, name: str, mean: Tree, **values: Any) -> Term:
    """A row of the table for a mean with its standard error."""
    printed, error = with_error(float(mean["mean"]), float(mean["se"] or 0.0))
    return _row(text, name, printed, error, **values)


def _row(
    text: Text, name: str, value: str, se: str = "", colour: str = "ink", **values: Any
) -> Term:
    explanation = text(f"diagnosis.{name}_says", **values)
    return Term("", text(f"diagnosis.{name}"), value, se, colour, explanation)
