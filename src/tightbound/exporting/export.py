"""Export of a run: ONNX graphs that are checked against torch, or weights with a config."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tightbound.exporting import (
    diffusers_files,
    metadata,
    onnx_files,
    pt2_files,
    weights,
)
from tightbound.exporting.folder import ABOUT, check_target, whole_folder
from tightbound.exporting.plan import plan_of
from tightbound.runs.folder import EXPORTS
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError, lookup

Format = Literal["onnx", "pt2", "diffusers", "safetensors"]

#: What the comparison of a format compares.
COMPARED = {
    "onnx": "onnxruntime and torch",
    "pt2": "the saved programs and the model",
    "diffusers": "the written weights and the model",
}


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: The folder that was written.
        files: Names of its files.
        differences: Of ONNX, the largest difference from torch of each output, relative to its
            largest value: {"decoder.mean": 2.1e-07}.
        left_out: Graphs that this model has not, with the reason.
        format: The format.
    """

    folder: Path
    files: tuple[str, ...]
    differences: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    format: Format = "onnx"

    @property
    def worst_difference(self) -> float:
        """The largest difference from torch over all outputs; 0 where nothing is computed."""
        return max(self.differences.values(), default=0.0)

    def lines(self) -> list[str]:
        """The export in words, a line for each fact."""
        lines = [f"{self.folder}: {', '.join(self.files)}"]
        if self.differences:
            name = max(self.differences, key=lambda key: self.differences[key])
            lines.append(
                f"{COMPARED[self.format]} agree on batches of 1 and 7: the largest difference "
                f"is {self.worst_difference:.1e} of an output's largest value ({name})"
            )
        for name, reason in self.left_out.items():
            lines.append(f"no {name}.onnx: {reason}")
        return lines


def export_run(
    run: Run,
    format: Format = "onnx",
    out: Path | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write a run in a format that other programs read.

    Args:
        run: A trained run.
        format: "onnx", "pt2", "diffusers" or "safetensors".
        out: The folder to write; `exports/FORMAT` in the run folder where None.
        overwrite: Replace an export in the folder.

    Returns:
        The folder with its files and the differences that were measured.

    Raises:
        TightboundError: The model cannot be exported, the result differs from torch, packages are
            missing, or the folder is taken.
    """
    write = lookup(FORMATS, format, "format")
    if out is None:
        if run.folder is None:
            raise TightboundError(
                "this run is not saved in a folder: name one, out=..."
            )
        out = run.folder / EXPORTS / format
    check_target(out, overwrite=overwrite)
    with whole_folder(out, overwrite=overwrite) as folder:
        about = write(run, folder)
        files = sorted(path.name for path in folder.iterdir())
        text = json.dumps({**about, "files": files}, indent=2, ensure_ascii=False)
        write_atomic(folder / ABOUT, text)
    return Exported(
        out,
        (*files, ABOUT),
        _differences(about),
        _texts(about.get("left_out")),
        format,
    )


def _differences(about: Mapping[str, object]) -> dict[str, float]:
    differences = about.get("differences", {})
    assert isinstance(differences, dict)
    return differences


def _texts(values: object) -> dict[str, str]:
    return dict(values) if isinstance(values, dict) else {}


def _write_onnx(run: Run, folder: Path) -> dict[str, object]:
    """Write the graphs of a run; returns the metadata with the differences."""
    onnx_files.need_packages()
    plan = plan_of(run.model)
    about = {"format": "onnx", **metadata.of_run(run), **metadata.of_plan(plan)}
    graphs = []
    differences: dict[str, float] = {}
    for graph in plan.graphs:
        of_graph = metadata.of_graph(graph)
        checked = onnx_files.write(
            graph, folder, onnx_files.text_of({**about, **of_graph})
        )
        for output, difference in checked.worst.items():
            differences[f"{graph.name}.{output}"] = difference
        graphs.append({**of_graph, "not_compared": checked.left_out})
    return {**about, "graphs": graphs, "differences": differences}


def _write_pt2(run: Run, folder: Path) -> dict[str, object]:
    """Write encoder and decoder as programs; returns the metadata with the differences."""
    plan = plan_of(run.model)
    about = {"format": "pt2", **metadata.of_run(run), **metadata.of_plan(plan)}
    about.pop("left_out")
    graphs = []
    differences: dict[str, float] = {}
    for graph in plan.graphs:
        if graph.name not in pt2_files.GRAPHS:
            continue
        of_graph = {
            **metadata.of_graph(graph),
            "outputs": dict(pt2_files.outputs_of(graph)),
        }
        text = json.dumps({**about, **of_graph}, ensure_ascii=False)
        checked = pt2_files.write(graph, folder, text)
        for output, difference in checked.worst.items():
            differences[f"{graph.name}.{output}"] = difference
        graphs.append({**of_graph, "not_compared": checked.left_out})
    return {**about, "graphs": graphs, "differences": differences}


def _write_diffusers(run: Run, folder: Path) -> dict[str, object]:
    written = diffusers_files.write(run, folder)
    return {"format": "diffusers", **metadata.of_run(run), **written}


def _write_safetensors(run: Run, folder: Path) -> dict[str, object]:
    weights.write(run, folder)
    return {"format": "safetensors", **metadata.of_run(run)}


FORMATS: dict[str, Callable[[Run, Path], dict[str, object]]] = {
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "diffusers": _write_diffusers,
    "safetensors": _write_safetensors,
}
