"""ONNX files: a graph is traced, written, and compared with torch by onnxruntime."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tightbound.exporting import decompositions
from tightbound.exporting.plan import Planned
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
NEEDED = ("onnx", "onnxscript", "onnxruntime")
QUIET = ("torch.onnx", "torch.export", "torch.__trace")
TRACED = 3  # rows of the example inputs of tracing
BATCHES = (1, 7)  # rows of the inputs that are compared
SEEDS = {1: 101, 7: 107}
WORST = 1e-4  # largest difference, relative to the largest value of an output
NUDGE = 1e-5  # relative change of inputs that finds values next to a jump
JUMP = 1e-3  # change of an output, relative to its largest value, that is a jump
MOST_JUMPS = 0.1  # share of values next to a jump that may be left out
MOST_BYTES = 2_000_000_000  # an ONNX file holds at most 2 GiB


def need_packages() -> None:
    """Raise TightboundError where the packages of the extra `export` are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TightboundError(
            f"an export to ONNX needs {', '.join(missing)}: pip install 'tightbound[export]'"
        )


@dataclass(frozen=True)
class Checked:
    """The comparison of an ONNX file with torch.

    Args:
        worst: Largest difference of each output, relative to its largest value.
        left_out: Share of the values that lie next to a jump (of a code, of a class) and were not
            compared.
    """

    worst: Mapping[str, float]
    left_out: float

    @property
    def difference(self) -> float:
        """The largest of the differences."""
        return max(self.worst.values())


def write(graph: Planned, folder: Path, metadata: Mapping[str, str]) -> Checked:
    """Write one graph to `folder/NAME.onnx` and compare it with torch.

    Args:
        graph: The graph.
        folder: An existing folder.
        metadata: Texts for the metadata of the file.

    Returns:
        The comparison.

    Raises:
        TightboundError: torch cannot trace or translate the graph, the file would be too large, or
            its outputs differ from those of torch.
    """
    path = folder / f"{graph.name}.onnx"
    examples = graph.examples(TRACED, 0)
    with torch.no_grad():
        names = list(graph.module.outputs(*examples))
    blob = _translated(graph, examples, names, metadata)
    write_atomic(path, blob)
    return check(path, graph, names)


def _translated(
    graph: Planned,
    examples: Sequence[Tensor],
    names: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    """The file of a graph."""
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                _exported(graph.module, examples),
                (),
                input_names=list(graph.inputs),
                output_names=list(names),
                dynamo=True,
                # its rules take constants below 1e-8 for 0, and those near 1 for 1
                optimize=False,
                verbose=False,
            )
    except Exception as error:
        raise TightboundError(
            f"{graph.name}.onnx cannot be made, since torch does not translate this model to ONNX "
            f"({first_line(error)}): export with --format safetensors"
        ) from error
    assert program is not None
    _tidy(program.model.graph, {*graph.inputs, *names})
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    proto = program.model_proto
    if proto.ByteSize() > MOST_BYTES:
        raise TightboundError(
            f"{graph.name}.onnx would hold {proto.ByteSize()} bytes, more than an ONNX file can: "
            "export with --format safetensors, or train a smaller model"
        )
    return proto.SerializeToString()


class Value(Protocol):
    """A named tensor of a graph of onnx_ir."""

    name: str | None

    @property
    def metadata_props(self) -> MutableMapping[str, str]: ...


class Node(Protocol):
    """An operator of a graph of onnx_ir."""

    doc_string: str | None

    @property
    def outputs(self) -> Sequence[Value]: ...

    @property
    def metadata_props(self) -> MutableMapping[str, str]: ...


class Nodes(Protocol):
    """A graph of onnx_ir."""

    @property
    def outputs(self) -> Sequence[Value]: ...

    @property
    def metadata_props(self) -> MutableMapping[str, str]: ...

    def __iter__(self) -> Iterator[Node]: ...


def _tidy(graph: Nodes, names: set[str]) -> None:
    """Remove the traces of Python code, with paths of this machine, from a graph.

    Values inside the graph get other names than its inputs and outputs have.
    """
    outside = {id(value) for value in graph.outputs}
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if id(value) not in outside and value.name in names:
                value.name = f"inside.{value.name}"


def _exported(
    module: nn.Module, examples: Sequence[Tensor]
) -> torch.export.ExportedProgram:
    """The graph as operators of torch that ONNX has, with any number of rows."""
    rows = torch.export.Dim("rows")
    shapes = tuple({0: rows} for _ in examples)
    program = torch.export.export(
        module, tuple(examples), dynamic_shapes=(shapes,), strict=True
    )
    table = decompositions.table()
    used = {node.target for node in program.graph.nodes}
    if used & set(table):
        return program.run_decompositions(table)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings and notes of the exporter, which no user can act on."""
    loggers = [logging.getLogger(name) for name in QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# ---- the comparison


def check(path: Path, graph: Planned, names: Sequence[str]) -> Checked:
    """Compare an ONNX file with torch, on batches of 1 and 7 rows that tracing has not seen.

    Raises:
        TightboundError: An output differs by more than 1e-4 of its largest value.
    """
    session = _session(path)
    worst = dict.fromkeys(names, 0.0)
    jumps = 0
    values = 0
    for rows in BATCHES:
        examples = graph.examples(rows, SEEDS[rows])
        with torch.no_grad():
            expected = graph.reference.outputs(*examples)
            nudged = [
                graph.reference.outputs(*_nudged(examples, sign, graph))
                for sign in (-1, 1)
            ]
        feed = {
            name: value.numpy()
            for name, value in zip(graph.inputs, examples, strict=True)
        }
        actual = dict(zip(names, session.run(list(names), feed), strict=True))
        for name in names:
            reference = expected[name].double().numpy()
            smooth = _is_smooth(reference, [near[name] for near in nudged])
            difference = _difference(actual[name], reference, smooth)
            worst[name] = max(worst[name], difference)
            jumps += int((~smooth).sum())
            values += smooth.size
    checked = Checked(worst, jumps / max(1, values))
    _refuse(path, checked)
    return checked


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise TightboundError(
            f"onnxruntime does not load {path.name} ({first_line(error)}): "
            "export with --format safetensors"
        ) from error


def _nudged(examples: Sequence[Tensor], sign: int, graph: Planned) -> list[Tensor]:
    """Inputs changed by a hundred-thousandth; integers and columns of codes stay.

    float64 values, which lie far from 0, are changed relative to their spread. Columns of a table
    are changed each by its own size, and a 0 in one stays, since 0 may be a value apart.
    """
    nudged = []
    for i, x in enumerate(examples):
        if not x.is_floating_point():
            nudged.append(x)
            continue
        generator = torch.Generator().manual_seed(i)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        values = x.nan_to_num()
        has_columns = i == 0 and graph.has_columns
        if x.dtype == torch.float64:
            values = values - values.mean(0)
            size = NUDGE * values.abs().amax(0).clamp(min=1e-3)
        elif has_columns:
            size = NUDGE * values.abs().amax(0)
        else:
            size = NUDGE * values.abs().amax().clamp(min=1e-3)
        if has_columns:
            noise[:, list(graph.codes)] = 0
            noise[x == 0] = 0
        nudged.append(x + sign * size * noise)
    return nudged


def _is_smooth(reference: Array, nudged: Sequence[Tensor]) -> Mask:
    """Where an output does not jump between inputs that differ by rounding."""
    limit = JUMP * np.abs(reference).max(initial=0.0)
    smooth = np.ones(reference.shape, dtype=bool)
    for near in nudged:
        smooth &= np.abs(near.double().numpy() - reference) <= limit
    return smooth


def _difference(actual: Array, reference: Array, smooth: Mask) -> float:
    """max|a - b| / max|b|, of the values that do not lie next to a jump."""
    if actual.shape != reference.shape:
        return float("inf")
    largest = float(np.abs(reference).max(initial=0.0))
    error = np.abs(actual.astype(np.float64) - reference)[smooth]
    difference = float(error.max(initial=0.0))
    if difference == 0:
        return 0.0
    if not np.isfinite(difference) or largest == 0:
        return float("inf")
    return difference / largest


def _refuse(path: Path, checked: Checked) -> None:
    name = max(checked.worst, key=lambda key: checked.worst[key])
    if checked.worst[name] > WORST:
        raise TightboundError(
            f"{path.name} is not kept, since its output {name!r} differs from torch by "
            f"{checked.worst[name]:.1e} of its largest value, more than {WORST:.0e}: export with "
            "--format safetensors, and report this model"
        )
    if checked.left_out > MOST_JUMPS:
        raise TightboundError(
            f"{path.name} is not kept, since {checked.left_out:.0%} of its outputs jump between "
            "inputs that differ by rounding, so that they cannot be compared: export with --format "
            "safetensors"
        )


def text_of(values: Mapping[str, object]) -> dict[str, str]:
    """Values of JSON as texts, for the metadata of a file; a text stays as it is."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
