"""Programs of torch.export: encoder and decoder, compared with torch before they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tightbound.exporting import comparison
from tightbound.exporting.comparison import Arrays, Checked
from tightbound.exporting.onnx_files import TRACED, quiet, traced
from tightbound.exporting.plan import Planned
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import first_line

GRAPHS = ("encoder", "decoder")
ABOUT = "about.json"  # the metadata inside a file


def write(graph: Planned, folder: Path, metadata: str) -> Checked:
    """Write one graph to `folder/NAME.pt2` and compare the file with torch.

    Args:
        graph: The graph.
        folder: An existing folder.
        metadata: A text for the metadata of the file.

    Returns:
        The comparison.

    Raises:
        TightboundError: torch cannot trace the graph, or its outputs differ from the model's.
    """
    path = folder / f"{graph.name}.pt2"
    examples = graph.examples(TRACED, 0)
    with torch.no_grad():
        names = list(graph.module.outputs(*examples))
    try:
        with quiet(), torch.no_grad():
            program = traced(graph.module, examples)
            _without_traces(program)
            about = {ABOUT: metadata}
            write_atomic(
                path, lambda file: torch.export.save(program, file, extra_files=about)
            )
            loaded = torch.export.load(path).module()
    except TightboundError:
        raise
    except Exception as error:
        raise TightboundError(
            f"{path.name} cannot be made, since torch does not trace this model "
            f"({first_line(error)}): export with --format safetensors"
        ) from error

    def compute(inputs: Sequence[Tensor]) -> Arrays:
        with torch.no_grad():
            outputs = loaded(*inputs)
        pairs = zip(names, outputs, strict=True)
        return {name: value.numpy() for name, value in pairs}

    checked = comparison.compare(graph, names, compute)
    comparison.refuse(path, checked)
    return checked


def _without_traces(program: torch.export.ExportedProgram) -> None:
    """Remove the traces of Python code, with paths of this machine, from a program."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
        node.meta.pop("source_fn_stack", None)
        node.meta.pop("from_node", None)


def outputs_of(graph: Planned) -> Mapping[str, str]:
    """The names of the outputs in the order of the tuple that the program returns."""
    with torch.no_grad():
        values = graph.module.outputs(*graph.examples(TRACED, 0))
    return {
        name: graph.outputs.get(name, "a parameter, see the families")
        for name in values
    }
