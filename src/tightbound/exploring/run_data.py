"""One run in the manifest of a page."""

from __future__ import annotations

from dataclasses import dataclass

from tightbound.core.draw import Draw
from tightbound.evaluation import saved
from tightbound.exploring.blocks import Blocks, Json
from tightbound.exploring.examples import (
    Examples,
    add_sprite,
    as_array,
    described,
    drawing_of,
    read_examples,
    shown_split,
)
from tightbound.exploring.graphs import Networks, PageGraph
from tightbound.exploring.latent_data import LatentSpace
from tightbound.exporting import metadata
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import notice, phase

#: Names of the terms in an evaluation, by their names in the manifest.
TERMS = {"elbo": "elbo", "log_px": "log_px", "inference_gap": "gap"}
#: Terms that the manifest has with the other sign or under another name.
SIGNS = {"reconstruction": ("distortion", -1.0), "kl": ("rate", 1.0)}
STANDARD = "standard normal"


@dataclass(frozen=True)
class Limits:
    """How much of the data a page gets.

    Args:
        points: Most points.
        training: Most training examples, among which the nearest one is searched.
    """

    points: int
    training: int


SERVED = Limits(points=20_000, training=20_000)
ONE_FILE = Limits(points=2_000, training=2_000)


@dataclass(frozen=True)
class PageRun:
    """A run of a page with its role and networks.

    Args:
        role: "main", "second", "scene-vae" or "scene-ae".
        run: The run.
        networks: Its networks.
    """

    role: str
    run: Run
    networks: Networks


def add_run(page_run: PageRun, blocks: Blocks, limits: Limits) -> Json:
    """A run in the manifest; its blocks are named after its role.

    Args:
        page_run: The run.
        blocks: Takes the blocks.
        limits: How much of the data.
    """
    run = page_run.run
    role = page_run.role
    with phase(f"page: points of {_name(page_run)}"):
        points = read_examples(run, shown_split(run), limits.points)
        space = LatentSpace(run, points)
        drawing = drawing_of(run, points)
        about: Json = {
            "role": role,
            "name": _name(page_run),
            "recipe": run.config.recipe.name,
            "has_bound": run.config.recipe.has_bound,
            "fingerprint": run.predictor.fingerprint,
            "terms": terms_of(run),
            "export": export_of(page_run),
            "graphs": {
                name: graph_entry(graph, blocks, role)
                for name, graph in page_run.networks.graphs.items()
            },
            "latent": space.described(blocks, role),
            "data": described(run, drawing),
            "points": {
                **_points(points, blocks, role),
                **space.point_blocks(blocks, f"{role}.points"),
                "sprite": add_sprite(blocks, f"{role}.sprite", run, points, drawing),
            },
            "training": _training(run, blocks, role, limits),
            "prior": space.prior(blocks, role, is_standard(run)),
        }
    return about


def _name(page_run: PageRun) -> str:
    """The name of the run; of a small run for the scenes that of its recipe."""
    if page_run.role in ("main", "second"):
        return page_run.run.name
    return page_run.run.config.recipe.name


def terms_of(run: Run) -> Json | None:
    """The terms of the saved evaluation, [mean, standard error] in nats per example."""
    if run.folder is None:
        return None
    try:
        tree = saved.read(run.folder, run.predictor.fingerprint)
    except TightboundError as error:
        notice(f"{error}, so the page has no terms of the whole split")
        return None
    if tree is None:
        return None
    closest = saved.closest_terms(tree)
    terms: Json = {"n": tree["n"], "k": tree["k"], "split": tree["split"]}
    for name, key in TERMS.items():
        if key in closest:
            terms[name] = _mean(closest[key], 1.0)
    for name, (key, sign) in SIGNS.items():
        if key in closest:
            terms[name] = _mean(closest[key], sign)
    best = tree.get("headline")
    terms["method"] = best["method"] if best else "importance"
    terms["one_sided"] = saved.one_sided(tree)
    return terms


def _mean(value: object, sign: float) -> list[float]:
    assert isinstance(value, dict)
    return [sign * float(value["mean"]), float(value["se"])]


def export_of(page_run: PageRun) -> Json:
    """The metadata of an export of the run."""
    about = metadata.of_run(page_run.run)
    plan = page_run.networks.plan
    if plan is None:
        return {**about, "reason": page_run.networks.reason}
    graphs = [metadata.of_graph(graph) for graph in plan.graphs]
    return {**about, **metadata.of_plan(plan), "graphs": graphs}


def graph_entry(graph: PageGraph, blocks: Blocks, role: str) -> Json:
    """A network in the manifest.

    Args:
        graph: The network.
        blocks: Takes its file.
        role: Of its run.
    """
    block = None
    size = 0
    if graph.content is not None:
        block = blocks.add_bytes(f"{role}.graph.{graph.name}", graph.content)
        size = len(graph.content)
    return {
        "block": block,
        "where": "page" if block else "server",
        "float16": graph.error is not None,
        "error": graph.error,
        "measured": graph.measured,
        "bytes": size,
        "reason": graph.reason,
        "waits": graph.waits,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }


def _points(points: Examples, blocks: Blocks, role: str) -> Json:
    about: Json = {
        "n": len(points),
        "split": points.split,
        "labels": None,
        "rows": blocks.add(f"{role}.points.rows", as_array(points.rows), "int32"),
        "x": blocks.add_examples(f"{role}.points.x", as_array(points.raw)),
        "condition": None,
    }
    if points.labels is not None:
        about["labels"] = blocks.add(f"{role}.points.labels", points.labels, "int32")
    if points.condition is not None:
        dtype = "float64" if points.condition.is_floating_point() else "int64"
        about["condition"] = blocks.add(
            f"{role}.points.condition", as_array(points.condition), dtype
        )
    return about


def _training(run: Run, blocks: Blocks, role: str, limits: Limits) -> Json:
    train = read_examples(run, "train", limits.training)
    x = blocks.add_examples(f"{role}.training", as_array(train.raw))
    return {"n": len(train), "x": x, "of": run.spec.rows}


def is_standard(run: Run) -> bool:
    """Whether p(z) is N(0, I) whatever else is given."""
    from tightbound.distributions import UnitNormal
    from tightbound.exporting.families import plain

    if len(run.model.sites) != 1:
        return False
    latents = run.model.generate(1, Draw(source="p")).latents
    p = latents[run.model.sites[0]].p
    return p is not None and isinstance(plain(p), UnitNormal)
