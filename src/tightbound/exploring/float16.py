"""Graphs with weights in float16, kept where the decoded values stay the same to 1/255."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.exploring.examples import Examples
from tightbound.exploring.graphs import Networks, PageGraph
from tightbound.runs.run import Run

MOST_ERROR = 1 / 255  # of the range of the values
LEAST_VALUES = 256  # of a tensor that is stored in float16
LARGEST = 65504.0  # of float16
MEASURED = 500  # examples that are decoded to measure the error
MEASURED_PIXELS = 131_072  # of mixtures, whose mean takes long: 32 examples of 64 x 64
HALF = ".float16"

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Compute = Callable[[Mapping[str, Array], str], Array]


def halved(content: bytes) -> bytes:
    """An ONNX file whose large float32 weights are stored in float16.

    A node for each casts it back to float32, so that the graph computes in float32.

    Args:
        content: An ONNX file.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < LEAST_VALUES or not (np.abs(values) < LARGEST).all():
            continue
        name = tensor.name
        half = numpy_helper.from_array(values.astype(np.float16), name + HALF)
        tensor.CopyFrom(half)
        casts.append(
            onnx.helper.make_node(
                "Cast", [name + HALF], [name], to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    serialised: bytes = model.SerializeToString()
    return serialised


def with_halves(run: Run, networks: Networks, points: Examples) -> Networks:
    """The networks with encoder and decoder in float16, each where its error is small enough.

    The error of a decoder is the largest difference of a decoded value of the points, relative
    to the range in which it is drawn; that of an encoder the one of the decoded codes. It is
    computed by onnxruntime.

    Args:
        run: The run.
        networks: Its networks.
        points: Examples on which the error is measured.
    """
    encoder, decoder = networks.graphs.get("encoder"), networks.graphs.get("decoder")
    if encoder is None or decoder is None:
        return networks
    if encoder.content is None or decoder.content is None:
        return networks
    has_mean = any(port["name"] == "mean" for port in decoder.outputs)
    feed = _feed(points, MEASURED if has_mean else measured_of_mixtures(run))
    condition = {k: v for k, v in feed.items() if k == "condition"}
    encode = session(encoder.content)
    codes = encode(feed, "codes")
    scale = value_range(run)
    half_encoder, half_decoder = halved(encoder.content), halved(decoder.content)

    def means(content: bytes, z: Array) -> Array:
        decode = session(content)
        if has_mean:
            return decode({"z": z, **condition}, "mean")
        return mixture_mean(run, decode, {"z": z, **condition})

    exact = means(decoder.content, codes)
    by_decoder = means(half_decoder, codes)
    by_encoder = means(decoder.content, session(half_encoder)(feed, "codes"))
    graphs = {
        **networks.graphs,
        "encoder": _kept(encoder, half_encoder, by_encoder, exact, scale),
        "decoder": _kept(decoder, half_decoder, by_decoder, exact, scale),
    }
    return replace(networks, graphs=graphs)


def measured_of_mixtures(run: Run) -> int:
    """How many examples of a mixture of logistics are decoded to measure the error."""
    pixels = run.spec.dims // run.spec.shape[0]
    return max(1, min(MEASURED, MEASURED_PIXELS // pixels))


def mixture_mean(run: Run, decode: Compute, feed: Mapping[str, Array]) -> Array:
    """E[x|z] in raw units of a decoder that gives the parameters of a mixture of logistics."""
    import torch

    def parameter(name: str) -> Tensor:
        return torch.from_numpy(decode(feed, f"px.{name}"))

    levels = run.spec.levels
    assert levels is not None
    px = LogisticMixture(
        parameter("logits"),
        parameter("location"),
        parameter("log_scale"),
        parameter("slope"),
        levels,
    )
    raw: Array = run.spec.to_raw(px.mean).numpy()
    return raw


def _kept(
    graph: PageGraph, content: bytes, decoded: Array, exact: Array, scale: Floats
) -> PageGraph:
    """A graph with weights in float16 where decoded values (n, ...) stay what they are."""
    error = difference(decoded, exact, scale)
    if not error <= MOST_ERROR:
        return graph
    return replace(graph, content=content, error=error, measured=len(exact))


def _feed(points: Examples, most: int) -> dict[str, Array]:
    rows = np.linspace(0, len(points) - 1, min(len(points), most)).round()
    at = rows.astype(np.int64)
    feed = {"x": _graph_input(points.raw)[at]}
    if points.condition is not None:
        feed["condition"] = _graph_input(points.condition)[at]
    return feed


def _graph_input(values: Tensor) -> Array:
    """Raw values in a dtype that graphs take: int64 of classes, else float32 or float64."""
    return values.numpy()


def difference(actual: Array, exact: Array, scale: Floats) -> float:
    """The largest difference of two arrays of values, relative to their scale."""
    error = np.abs(actual.astype(np.float64) - exact.astype(np.float64)) / scale
    return float(error.max(initial=0.0))


def value_range(run: Run) -> Floats:
    """The range of each raw value, broadcast to one example: six spreads where unbounded."""
    spec = run.spec
    low, high = spec.bounds
    if np.isfinite(high - low):
        return np.asarray((high - low) * spec.divisor, np.float64)
    # of the model: the spec of a run that is read from its folder has none of its own
    spreads = run.model.get_buffer("spread").cpu()
    if spec.is_mixed:
        ranges = [
            1.0 if column.kind == "categorical" else 6 * float(spreads[place][0])
            for column, place in zip(spec.fields, spec.places, strict=True)
        ]
        return np.asarray(ranges, np.float64)
    spread = spec.spread_to_raw(spreads[None])[0]
    widths: Floats = 6 * np.maximum(spread.numpy().astype(np.float64), 1e-12)
    return widths


def session(content: bytes) -> Compute:
    """A function of the inputs of an ONNX file by name, and the name of an output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    dtypes = {each.name: each.type for each in loaded.get_inputs()}

    def compute(feed: Mapping[str, Array], output: str) -> Array:
        inputs = {name: _as_type(feed[name], dtype) for name, dtype in dtypes.items()}
        result: Array = loaded.run([output], inputs)[0]
        return result

    return compute


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
}


def _as_type(values: Array, name: str) -> Array:
    return values.astype(_TYPES[name])
