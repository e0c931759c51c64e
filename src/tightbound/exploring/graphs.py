"""The networks of a run in the page: ONNX graphs, or a reason to compute on the server."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tightbound.exploring.blocks import Json
from tightbound.exporting import onnx_files
from tightbound.exporting.families import Tensors
from tightbound.exporting.graphs import DecoderGraph, EncoderGraph, Graph, on_cpu
from tightbound.exporting.inputs import raw_conditions, raw_examples
from tightbound.exporting.plan import Plan, Planned, latents_of, plan_of, posterior_plan
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import phase

MOST_IN_PAGE = 50_000_000  # bytes of a graph that a page computes by itself
ROWS = 2  # of the pass that gives the shapes of a graph's outputs


@dataclass(frozen=True)
class PageGraph:
    """One network of a page.

    Args:
        name: "encoder", "decoder" and so on.
        module: It in torch, for the server.
        inputs: Names, dtypes and shapes of the inputs; axis 0 is any number of rows.
        outputs: The same of the outputs.
        content: The ONNX file; None where the server computes it.
        reason: Why the server computes it.
        error: Of weights in float16, the largest difference of a pixel, of the range of the
            data; None for float32.
    """

    name: str
    module: Graph
    inputs: Sequence[Json]
    outputs: Sequence[Json]
    content: bytes | None = None
    reason: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Args:
        graphs: By name.
        plan: What the graphs are of; None where the model cannot be exported.
        reason: Why it cannot be exported.
    """

    graphs: dict[str, PageGraph] = field(default_factory=dict)
    plan: Plan | None = None
    reason: str = ""


class CodesGraph(Graph):
    """x in raw units -> codes alone, of a posterior whose parameters are not exported."""

    def outputs(self, *inputs: Tensor) -> Tensors:
        values = EncoderGraph(self.model).inferred(*inputs)
        return {"codes": self.joined(values)}


class MeanGraph(Graph):
    """z of all sites -> E[x|z] in raw units, of a likelihood that is not exported."""

    def outputs(self, *inputs: Tensor) -> Tensors:
        from tightbound.distributions import point

        z, *condition = inputs
        _, px = self.generated(z, condition)
        return {"mean": self.model.spec.to_raw(point(px))}


def networks_of(model: VAE, most: int = MOST_IN_PAGE) -> Networks:
    """The graphs of a model, each compared with torch; larger ones stay on the server.

    Args:
        model: A trained model.
        most: Largest file in bytes that the page computes by itself.
    """
    onnx_files.need_packages()
    try:
        plan = plan_of(model)
    except TightboundError as error:
        return Networks(_server_graphs(model, str(error)), reason=str(error))
    posterior = posterior_plan(model)
    planned_graphs = [*plan.graphs, *([posterior] if posterior else [])]
    graphs = {}
    with (
        phase("page: networks", len(planned_graphs), " graphs") as count,
        tempfile.TemporaryDirectory(prefix="tightbound-") as folder,
    ):
        for planned in planned_graphs:
            graphs[planned.name] = _page_graph(planned, Path(folder), most)
            count.add(1)
    return Networks(graphs, plan)


def _page_graph(planned: Planned, folder: Path, most: int) -> PageGraph:
    names = list(planned.inputs)
    examples = planned.examples(ROWS, 0)
    inputs, outputs = _described(planned.reference, names, examples)
    for port in inputs:
        if (kind := planned.noise.get(str(port["name"]))) is not None:
            port["noise"] = kind
    content = None
    reason = ""
    size = sum(p.numel() * p.element_size() for p in planned.module.parameters())
    if size > 2 * most:
        reason = f"its weights take {size:,} bytes, more than {most:,}"
    else:
        try:
            onnx_files.write(planned, folder, {})
        except TightboundError as error:
            reason = str(error)
        else:
            content = (folder / f"{planned.name}.onnx").read_bytes()
            if len(content) > most:
                reason = f"its file has {len(content):,} bytes, more than {most:,}"
                content = None
    return PageGraph(planned.name, planned.reference, inputs, outputs, content, reason)


def _server_graphs(model: VAE, reason: str) -> dict[str, PageGraph]:
    """Encoder and decoder in torch, with as many parameters as have a family."""
    model = on_cpu(model)
    condition = raw_conditions(model, ROWS, 0)
    x = raw_examples(model, ROWS, 0)
    names = ["condition"] if condition else []
    z = latents_of(model)(ROWS, 0)[0]
    pairs: list[tuple[str, str, Tensor, Sequence[Graph]]] = [
        ("encoder", "x", x, (EncoderGraph(model), CodesGraph(model))),
        ("decoder", "z", z, (DecoderGraph(model, ()), MeanGraph(model))),
    ]
    graphs = {}
    for name, first, value, choices in pairs:
        for graph in choices:
            try:
                described = _described(graph, [first, *names], [value, *condition])
            except TightboundError:
                continue
            graphs[name] = PageGraph(name, graph, *described, reason=reason)
            break
    return graphs


def _described(
    graph: Graph, names: Sequence[str], examples: Sequence[Tensor]
) -> tuple[list[Json], list[Json]]:
    """Names, dtypes and shapes of the inputs and outputs of a graph."""
    with torch.no_grad():
        values = graph.outputs(*examples)
    pairs = zip(names, examples, strict=True)
    inputs = [_tensor(name, value) for name, value in pairs]
    return inputs, [_tensor(name, value) for name, value in values.items()]


def _tensor(name: str, value: Tensor) -> Json:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"name": name, "dtype": dtype, "shape": [None, *value.shape[1:]]}
