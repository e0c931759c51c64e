"""ONNX graphs that another process makes while the page is in use.

    python -m tightbound.exploring.graph_process RUN ...

keeps the graphs of runs in their folders and prints, for each run, why a graph has no file. Until
it ends, the server computes these networks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tightbound.config import code_names
from tightbound.exploring.graphs import (
    Networks,
    PageGraph,
    graph_folder,
    networks_of_run,
)
from tightbound.exploring.run_data import PageRun
from tightbound.runs.run import Run, load, training_folder
from tightbound.runtime.atomic_files import is_writable
from tightbound.runtime.errors import cut

NICE = 10  # so that the page answers first
TO_CLOSE = 3.0  # seconds for the process to end
MODULE = "tightbound.exploring.graph_process"


def can_wait(run: Run) -> bool:
    """Whether another process can make the graphs of a run.

    It reads the run from its folder, where it writes, and runs no code that the settings name.
    """
    home = training_folder(run)
    if home is None or run.fitted is not None:
        return False
    return is_writable(home) and not code_names(run.config)


class GraphProcess:
    """Makes the graphs of runs that wait for them.

    Args:
        runs: The runs of a page.
    """

    def __init__(self, runs: Sequence[PageRun]) -> None:
        self.runs = [run for run in runs if _waiting(run)]
        self._files = [file for run in self.runs for file in _files(run)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def total(self) -> int:
        """Number of graphs that waited for their files when the page was made."""
        return len(self._files)

    @property
    def made(self) -> int:
        """Number of those whose files are there."""
        return sum(file.is_file() for file in self._files)

    def start(self) -> None:
        """Begin, where any graph waits."""
        if not self.runs:
            return
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            self.command(),
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the server, which ends this one
        )

    def command(self) -> list[str]:
        """The words of the process."""
        folders = [str(training_folder(run.run)) for run in self.runs]
        return [sys.executable, "-P", "-m", MODULE, *folders]

    def networks(self) -> dict[str, Networks] | None:
        """The networks by the role of their run, as made; None before the process ends."""
        if self._process is None or self._process.poll() is None:
            return None
        networks = {}
        reasons = _reasons(self._process, len(self.runs))
        for run, why in zip(self.runs, reasons, strict=True):
            kept = networks_of_run(run.run, only_kept=True)
            graphs = {name: _ended(graph, why) for name, graph in kept.graphs.items()}
            networks[run.role] = replace(kept, graphs=graphs)
        return networks

    def close(self) -> None:
        """End the process, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(TO_CLOSE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _waiting(run: PageRun) -> list[PageGraph]:
    return [graph for graph in run.networks.graphs.values() if graph.waits]


def _files(run: PageRun) -> list[Path]:
    """The files of the graphs that wait."""
    folder = graph_folder(run.run)
    return [folder / f"{graph.name}.onnx" for graph in _waiting(run)]


def _reasons(process: subprocess.Popen[bytes], count: int) -> list[dict[str, str]]:
    """What a process that has ended printed: for each run the reasons by the graph's name."""
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    with suppress(ValueError, IndexError):
        reasons: list[dict[str, str]] = json.loads(lines[-1])
        return reasons
    return [{} for _ in range(count)]


def _ended(graph: PageGraph, reasons: dict[str, str]) -> PageGraph:
    """A graph after the end of the process: one that still waits gets the reason."""
    if not graph.waits:
        return graph
    reason = reasons.get(graph.name) or "the process that makes its ONNX graph failed"
    return replace(graph, waits=False, reason=reason)


def main(folders: Sequence[str]) -> None:
    """Make and keep the graphs of runs; prints the reasons of those without a file."""
    reasons = []
    for folder in folders:
        networks = networks_of_run(load(Path(folder)))
        graphs = networks.graphs.values()
        reasons.append({graph.name: cut(graph.reason) for graph in graphs})
    print(json.dumps(reasons))


if __name__ == "__main__":
    with suppress(AttributeError, OSError):
        os.nice(NICE)
    main(sys.argv[1:])
