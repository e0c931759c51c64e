"""The networks of a run in the page: ONNX graphs, or a reason to compute on the server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.exploring.blocks import Json
from tightbound.exporting import onnx_files
from tightbound.exporting.families import Tensors
from tightbound.exporting.graphs import DecoderGraph, EncoderGraph, Graph, on_cpu
from tightbound.exporting.inputs import raw_conditions, raw_examples
from tightbound.exporting.plan import Plan, Planned, latents_of, plan_of, posterior_plan
from tightbound.models.vae import VAE
from tightbound.runs.folder import EXPLORE
from tightbound.runs.run import Run, training_folder
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import first_line
from tightbound.runtime.progress import notice, phase

MOST_IN_PAGE = 50_000_000  # bytes of a graph that a page computes by itself
ROWS = 2  # of the pass that gives the shapes of a graph's outputs
WAITS = "its ONNX graph is being made"


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
        measured: On how many examples that was measured.
        waits: Whether the file is made later, by another process.
    """

    name: str
    module: Graph
    inputs: Sequence[Json]
    outputs: Sequence[Json]
    content: bytes | None = None
    reason: str = ""
    error: float | None = None
    measured: int | None = None
    waits: bool = False


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


class ParametersGraph(DecoderGraph):
    """z of all sites -> the parameters of p(x|z), of which the page computes the mean itself."""

    def mean(self, px: Distribution) -> Tensors:
        return {}


def without_slow_mean(planned: Planned) -> Planned:
    """A decoder of a mixture of logistics without its mean, and any other graph as it is.

    The mean of a mixture over 64 x 64 colour pixels takes a second in a graph, which has no
    branches; the page computes it from the parameters (`logistic_mixture.ts`).
    """
    if planned.name != "decoder":
        return planned
    graph = planned.reference
    assert isinstance(graph, DecoderGraph)
    z, *condition = planned.examples(1, 0)
    with torch.no_grad():
        _, px = graph.generated(z, condition)
    if not isinstance(px, LogisticMixture):
        return planned
    graphs = (planned.module, graph)
    module, reference = (ParametersGraph(g.model, graph.dependent) for g in graphs)
    return replace(planned, module=module, reference=reference, outputs={})


def networks_of(
    model: VAE,
    most: int = MOST_IN_PAGE,
    *,
    cache: Path | None = None,
    only_kept: bool = False,
) -> Networks:
    """The graphs of a model, each compared with torch; larger ones stay on the server.

    Args:
        model: A trained model.
        most: Largest file in bytes that the page computes by itself.
        cache: A folder of these weights where files are kept. One that is there is compared with
            torch as a new one is, and made anew where it differs.
        only_kept: Make no file: a graph without one waits for it.
    """
    onnx_files.need_packages()
    try:
        plan = plan_of(model)
    except TightboundError as error:
        return Networks(_server_graphs(model, str(error)), reason=str(error))
    plan = replace(plan, graphs=[without_slow_mean(graph) for graph in plan.graphs])
    posterior = posterior_plan(model)
    planned_graphs = [*plan.graphs, *([posterior] if posterior else [])]
    graphs = {}
    with (
        phase("page: networks", len(planned_graphs), " graphs") as count,
        tempfile.TemporaryDirectory(prefix="tightbound-") as folder,
    ):
        for planned in planned_graphs:
            store = GraphFiles(Path(folder), cache, only_kept)
            graphs[planned.name] = _page_graph(planned, store, most)
            count.add(1)
    return Networks(graphs, plan)


def networks_of_run(run: Run, *, only_kept: bool = False) -> Networks:
    """The graphs of a run, whose files are kept in its folder until its weights change.

    Args:
        run: The run.
        only_kept: As of `networks_of`.
    """
    if training_folder(run) is None:
        return networks_of(run.model)
    return networks_of(run.model, cache=graph_folder(run), only_kept=only_kept)


def graph_folder(run: Run) -> Path:
    """The folder in which the graphs of a run that has a folder are kept."""
    home = training_folder(run)
    assert home is not None
    return home / EXPLORE / f"graphs-{run.predictor.fingerprint}"


@dataclass(frozen=True)
class GraphFiles:
    """ONNX files of graphs, made once and then kept.

    Args:
        folder: A temporary folder.
        cache: The folder where files are kept; None keeps none.
        only_kept: Make none.
    """

    folder: Path
    cache: Path | None
    only_kept: bool = False

    def content(self, planned: Planned) -> bytes | None:
        """The file of a graph, which has been compared with torch; None for one that waits.

        Raises:
            TightboundError: The graph cannot be made.
        """
        kept = self._kept(planned)
        if kept is not None:
            return kept
        if self.only_kept:
            return None
        onnx_files.write(planned, self.folder, {})
        content = (self.folder / f"{planned.name}.onnx").read_bytes()
        self._keep(planned.name, content)
        return content

    def _kept(self, planned: Planned) -> bytes | None:
        """A file that was kept and agrees with torch; None where there is none."""
        if self.cache is None:
            return None
        path = self.cache / f"{planned.name}.onnx"
        if not path.is_file():
            return None
        try:
            onnx_files.check_outputs(path, planned)
            return path.read_bytes()
        except (TightboundError, OSError) as error:
            notice(f"{path} is made again: {first_line(error)}")
            return None

    def _keep(self, name: str, content: bytes) -> None:
        """Keep a file, and remove those of other weights; where it cannot be, go on."""
        if self.cache is None:
            return
        for older in self.cache.parent.glob("graphs-*"):
            if older != self.cache:
                shutil.rmtree(older, ignore_errors=True)
        try:
            write_atomic(make_folder(self.cache) / f"{name}.onnx", content)
        except TightboundError as error:
            notice(f"{error}; the graph {name} is not kept")


def _page_graph(planned: Planned, files: GraphFiles, most: int) -> PageGraph:
    names = list(planned.inputs)
    examples = planned.examples(ROWS, 0)
    inputs, outputs = _described(planned.reference, names, examples)
    for port in inputs:
        if (kind := planned.noise.get(str(port["name"]))) is not None:
            port["noise"] = kind
    content = None
    reason = ""
    waits = False
    size = sum(p.numel() * p.element_size() for p in planned.module.parameters())
    if size > 2 * most:
        reason = f"its weights take {size:,} bytes, more than {most:,}"
    else:
        try:
            content = files.content(planned)
        except TightboundError as error:
            reason = str(error)
        else:
            if content is None:
                reason = WAITS
                waits = True
            elif len(content) > most:
                reason = f"its file has {len(content):,} bytes, more than {most:,}"
                content = None
    return PageGraph(
        planned.name,
        planned.reference,
        inputs,
        outputs,
        content,
        reason,
        waits=waits,
    )


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
