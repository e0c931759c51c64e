"""Metrics that were asked for: quality, novelty, out of distribution, factors, features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tightbound.evaluation.metrics.stamp import (
    SpaceValue,
    check_comparable,
    from_json,
    stamp_of,
)
from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import metric_plots
from tightbound.report.page.blocks import (
    Bar,
    Bars,
    Block,
    Cell,
    Grid,
    Legend,
    LegendEntry,
    Panel,
    Paragraph,
    Plot,
    Section,
    Term,
    TermTable,
)
from tightbound.report.page.text import Text, number
from tightbound.report.sections.common import Results, Tree, heads, panels

COMPARED = ("pixels", "scattering")  # spaces that depend on the data alone
SETS = ("train", "draws", "means", "independent")
QUALITY = ("FD", "KID", "precision", "recall", "density", "coverage", "C2ST")
PROBES = ("linear", "neighbours", "few")


def metrics(results: Results, text: Text) -> list[Section | None]:
    """A section for each metric that one of the runs has.

    Raises:
        TightboundError: sample quality of runs on the same data was measured with other
            examples or in another space.
    """
    _check_quality(results)
    makers: dict[str, Callable[[RunResult, Tree, Text], Panel]] = {
        "quality": _quality,
        "novelty": _novelty,
        "ood": _outside,
        "disentanglement": _factors,
        "features": _features,
    }
    return [_section(results, text, name, make) for name, make in makers.items()]


def _of(result: RunResult, name: str) -> Tree | None:
    tree: Tree | None = (result.evaluation.get("metrics") or {}).get(name)
    return tree


def _section(
    results: Results,
    text: Text,
    name: str,
    make: Callable[[RunResult, Tree, Text], Panel],
) -> Section | None:
    """The section of one metric; None where no run has it."""
    if not any(_of(result, name) for _, result in results):
        return None

    def panel(_: Group, result: RunResult) -> Panel:
        tree = _of(result, name)
        if not tree:
            return Panel(result.name, [Paragraph(text("metrics.none"))])
        return make(result, tree, text)

    titles = heads(text, name)
    return Section(name, *titles, panels(results, text, panel), alone=len(results) == 1)


# ---- sample quality


def _check_quality(results: Results) -> None:
    """Refuse values of runs on the same data that do not compare."""
    values: dict[tuple[int, str], list[SpaceValue]] = {}
    for group, result in results:
        for space in (_of(result, "quality") or {}).get("spaces", []):
            kind = str(space["space"]).partition("@")[0]
            if kind in COMPARED:
                value = from_json("FD", space["sets"]["draws"]["FD"], stamp_of(space))
                values.setdefault((id(group), kind), []).append(value)
    for of_space in values.values():
        check_comparable(of_space)


def _quality(result: RunResult, tree: Tree, text: Text) -> Panel:
    """Distances between floor and noise, and all values of each space."""
    shares = {}
    for space in tree["spaces"]:
        noise = space["sets"]["independent"]["FD"]["value"]
        shares[space["space"].partition("@")[0]] = {
            name: values["FD"]["value"] / max(noise, 1e-12)
            for name, values in space["sets"].items()
        }
    names = [
        LegendEntry("dot", metric_plots.SET_COLOURS[s], _set(s, text)) for s in SETS
    ]
    alt = text("quality.alt", run=result.name)
    blocks: list[Block] = [Plot(metric_plots.between(shares), alt), Legend(names)]
    for space in tree["spaces"]:
        stamp = f"FD[{space['space']}, n={space['n']}, {space['reference']}]"
        kind = space["space"].partition("@")[0]
        words = text(f"quality.{kind}", stamp=stamp, axes=space["axes"])
        blocks += [Paragraph(words), _values(space, text)]
    return Panel(result.name, blocks, text("quality.caption"))


def _set(name: str, text: Text) -> str:
    return text(f"metrics.{name}")


def _values(space: Tree, text: Text) -> Grid:
    """A column for each set of examples, a row for each metric."""
    sets = [name for name in SETS if name in space["sets"]]
    lines = []
    for metric in QUALITY:
        cells = []
        for name in sets:
            value = space["sets"][name][metric]["value"]
            cells.append(Cell("–" if value is None else number(value, ".3g")))
        lines.append((metric, cells, ""))
    return Grid([_set(name, text) for name in sets], lines, text("quality.alt_table"))


# ---- novelty


def _novelty(result: RunResult, tree: Tree, text: Text) -> Panel:
    """Distances to the nearest training example, in pixels and in codes."""
    blocks: list[Block] = []
    for space in tree["spaces"]:
        groups = [
            metric_plots.Group(
                np.array(space["typical"]), metric_plots.SET_COLOURS["test"], True
            )
        ]
        entries = [LegendEntry("fill", "prior", text("legend.tests"))]
        for name, values in space["sets"].items():
            colour = metric_plots.SET_COLOURS[name]
            groups.append(metric_plots.Group(np.array(values["distances"]), colour))
            entries.append(LegendEntry("line", colour, _set(name, text)))
        searched = f"{space['searched']:,}"
        blocks += [
            Paragraph(text(f"novelty.{space['space']}", searched=searched)),
            Plot(
                metric_plots.histograms(groups, "L2"),
                text("novelty.alt", run=result.name),
            ),
            Legend(entries),
            _copies(space, text),
        ]
    return Panel(result.name, blocks, text("novelty.caption"))


def _copies(space: Tree, text: Text) -> Grid:
    """Median distance, how often a sample is the closer one, and copies."""
    sets = space["sets"]
    typical = float(np.median(space["typical"]))
    rows = {
        "median": [typical, *(s["median"] for s in sets.values())],
        "closer": [0.5, *(s["closer"]["mean"] for s in sets.values())],
        "copies": [
            space["typical_copies"],
            *(s["copies"]["mean"] for s in sets.values()),
        ],
    }
    lines = []
    for name, values in rows.items():
        form = ".1%" if name == "copies" else ".2f"
        cells = [Cell(number(float(v), form)) for v in values]
        lines.append((text(f"novelty.{name}"), cells, ""))
    head = [text("legend.tests"), *(_set(name, text) for name in sets)]
    return Grid(head, lines, text("novelty.alt_table"))


# ---- out of distribution


def _outside(result: RunResult, tree: Tree, text: Text) -> Panel:
    """log p(x) of both data sets, and the AUROC of each score."""
    against = tree["against"]
    entries = [
        LegendEntry("fill", "prior", text("legend.tests")),
        LegendEntry("line", "drawn", against),
    ]
    blocks: list[Block] = []
    scores = tree["scores"]
    for name in ("log_px", "regret", "mahalanobis"):
        if name not in scores or ("log_px" in scores and name == "mahalanobis"):
            continue
        sign = 1.0 if name == "log_px" else -1.0  # a distance is shown as it is
        inside = sign * np.array(scores[name]["inside"])
        outside = sign * np.array(scores[name]["outside"])
        groups = [
            metric_plots.Group(inside, metric_plots.SET_COLOURS["test"], True),
            metric_plots.Group(outside, metric_plots.SET_COLOURS["draws"]),
        ]
        axis = "" if name == "mahalanobis" else "nats"
        words = text(f"ood.{name}")
        alt = text("ood.alt", run=result.name, score=words, against=against)
        blocks += [Paragraph(words), Plot(metric_plots.histograms(groups, axis), alt)]
    blocks.append(Legend(entries))
    terms = []
    for name, score in scores.items():
        auroc = score["auroc"]
        colour = "gap" if score["fails"] else "ink"
        se = number(auroc["se"], ".3f")
        says = text(f"ood.{name}_says")
        value = number(auroc["mean"], ".3f")
        terms.append(Term("", text(f"ood.{name}"), value, se, colour, says))
    blocks.append(TermTable(terms))
    values = {"against": against, "n": tree["n"], "m": tree["m"], "k": tree["k"]}
    key = "ood.fails" if tree["likelihood_fails"] else "ood.caption"
    return Panel(result.name, blocks, text(key, **values))


# ---- factors


def _factors(result: RunResult, tree: Tree, text: Text) -> Panel:
    """Information of codes on factors, codes against factors, and the scores."""
    codes = tree["codes"]
    factors = tree["factors"]
    table = np.array(tree["information"])
    blocks: list[Block] = [
        Plot(
            metric_plots.information(table, codes, factors),
            text("disentanglement.alt_information", run=result.name),
        ),
        Paragraph(text("disentanglement.curves")),
        Plot(
            metric_plots.latents_against_factors(tree["curves"], codes, factors),
            text("disentanglement.alt", run=result.name),
        ),
    ]
    terms = []
    for name, value in tree["scores"].items():
        slug = name.replace(" ", "_").replace("-", "_").lower()
        chance = number(tree["chance"][name], ".2f")
        says = text(f"disentanglement.{slug}_says", chance=chance)
        terms.append(Term("", name, number(value, ".3f"), "", "ink", says))
    blocks.append(TermTable(terms))
    return Panel(
        result.name, blocks, text("disentanglement.caption", n=f"{tree['n']:,}")
    )


# ---- features


def _features(result: RunResult, tree: Tree, text: Text) -> Panel:
    """Accuracy of the linear probe as bars, and all figures of each set of features."""
    sets = tree["sets"]
    bars = []
    for i, (name, probed) in enumerate(sets.items()):
        value = probed["linear"]["mean"]
        half = 1.96 * probed["linear"]["se"]
        low = max(0.0, value - half)
        high = min(1.0, value + half)
        bars.append(Bar(name, value, low, high, f"{value:.1%}", i == 0))
    lines = []
    for name, probed in sets.items():
        cells = [_share(probed[key]) for key in PROBES]
        cells += [Cell(number(probed[key], ".2f")) for key in ("nmi", "ari")]
        lines.append((name, cells, ""))
    head = [text(f"features.{key}") for key in (*PROBES, "nmi", "ari")]
    values = {
        "train": f"{tree['train']:,}",
        "test": f"{tree['test']:,}",
        "classes": tree["classes"],
        "majority": float(tree["majority"]),
        "width": next(iter(sets.values()))["width"],
    }
    blocks: list[Block] = [
        Bars(bars, text("features.alt", run=result.name)),
        Grid(head, lines, text("features.alt_table", run=result.name)),
    ]
    return Panel(result.name, blocks, text("features.caption", **values))


def _share(pair: Tree) -> Cell:
    return Cell(f"{pair['mean']:.1%}", probability=f"± {pair['se']:.1%}")
