"""ONNX files: a graph is traced, written, and compared with torch by onnxruntime."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from tightbound.exporting import comparison, decompositions
from tightbound.exporting.comparison import Arrays, Checked
from tightbound.exporting.plan import Planned
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NEEDED = ("onnx", "onnxscript", "onnxruntime")
QUIET = ("torch.onnx", "torch.export", "torch.__trace")
TRACED = 3  # rows of the example inputs of tracing
MOST_BYTES = 2_000_000_000  # an ONNX file holds at most 2 GiB


def need_packages() -> None:
    """Raise TightboundError where the packages of the extra `export` are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TightboundError(
            f"an export to ONNX needs {', '.join(missing)}: pip install 'tightbound[export]'"
        )


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
    serialized: bytes = proto.SerializeToString()
    return serialized


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


def traced(
    module: nn.Module, examples: Sequence[Tensor]
) -> torch.export.ExportedProgram:
    """The graph as operators of torch, with any number of rows."""
    rows = torch.export.Dim("rows")
    shapes = tuple({0: rows} for _ in examples)
    return torch.export.export(
        module, tuple(examples), dynamic_shapes=(shapes,), strict=True
    )


def _exported(
    module: nn.Module, examples: Sequence[Tensor]
) -> torch.export.ExportedProgram:
    """The graph as operators of torch that ONNX has, with any number of rows."""
    program = traced(module, examples)
    table = decompositions.table()
    used = {node.target for node in program.graph.nodes}
    if used & set(table):
        decomposed: torch.export.ExportedProgram = program.run_decompositions(table)
        return decomposed
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


def check_outputs(path: Path, graph: Planned) -> Checked:
    """Compare an ONNX file that was written before with torch.

    Raises:
        TightboundError: It cannot be read, has other inputs or outputs, or differs from torch.
    """
    with torch.no_grad():
        names = list(graph.module.outputs(*graph.examples(TRACED, 0)))
    session = _session(path)
    ports = [
        [port.name for port in session.get_inputs()],
        [port.name for port in session.get_outputs()],
    ]
    if ports != [list(graph.inputs), names]:
        raise TightboundError(f"{path.name} has other inputs or outputs than the model")
    try:
        return check(path, graph, names)
    except TightboundError:
        raise
    except Exception as error:  # of shapes and types
        raise TightboundError(
            f"onnxruntime does not run {path.name} ({first_line(error)})"
        ) from error


def check(path: Path, graph: Planned, names: Sequence[str]) -> Checked:
    """Compare an ONNX file with torch, on batches of 1 and 7 rows that tracing has not seen.

    Raises:
        TightboundError: An output differs by more than 1e-4 of its largest value.
    """
    session = _session(path)

    def compute(examples: Sequence[Tensor]) -> Arrays:
        feed = {
            name: value.numpy()
            for name, value in zip(graph.inputs, examples, strict=True)
        }
        return dict(zip(names, session.run(list(names), feed), strict=True))

    checked = comparison.compare(graph, names, compute)
    comparison.refuse(path, checked)
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


def text_of(values: Mapping[str, object]) -> dict[str, str]:
    """Values of JSON as texts, for the metadata of a file; a text stays as it is."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
