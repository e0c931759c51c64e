"""`tightbound bench`: the repository's benchmarks, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tightbound.runtime.errors import TightboundError

CLONE = Path(__file__).parents[3]
Names = Annotated[list[str] | None, Parameter(consume_multiple=True)]


def script() -> Path:
    """The benchmark of the clone of this package, or of the working folder."""
    for root in (CLONE, Path.cwd()):
        path = root / "benchmarks" / "speed.py"
        if path.is_file():
            return path
    raise TightboundError(
        "the benchmarks are in the repository's folder benchmarks/, which an installed "
        "package does not have: clone the repository and run tightbound bench in it"
    )


def bench(
    *,
    rounds: Annotated[int | None, Parameter(help="windows of each variant; 5")] = None,
    only: Annotated[
        Names, Parameter(help="variants, such as pythae hand-float32 tightbound")
    ] = None,
    networks: Annotated[
        Names, Parameter(help="burda, wide, strided, residual, ladder")
    ] = None,
    batches: Annotated[Names, Parameter(help="such as 100 1000")] = None,
    threads: Annotated[int | None, Parameter(help="of each variant; all cores")] = None,
    quick: Annotated[
        bool, Parameter(help="one small case without other libraries, under a minute")
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="write all windows and ratios as JSON")
    ] = None,
    chart: Annotated[Path | None, Parameter(help="write a chart as PNG")] = None,
) -> None:
    """Compare training speed with other libraries; in a clone of the repository."""
    options: dict[str, Any] = {
        "rounds": rounds,
        "only": only,
        "networks": networks,
        "batches": batches,
        "threads": threads,
        "out": out,
        "chart": chart,
    }
    words = ["--quick"] if quick else []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(str, values)]
    raise SystemExit(subprocess.run([sys.executable, str(script()), *words]).returncode)
