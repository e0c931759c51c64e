"""`detect`: a score and a p-value of each example, in one file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from tightbound.cli.outputs import Array, Target, read, write_columns
from tightbound.evaluation.detection import detect
from tightbound.runs.run import Run


@dataclass(frozen=True)
class Detection:
    """Options of `detect`, by the names of its function's arguments."""

    method: str
    k: int
    level: float
    seed: int
    calibration: str | None


def write(run: Run, data: str, out: Target, options: Detection) -> str:
    """Write a row for each example; returns a line about them."""
    split = read(run, data)
    result = detect(run, split, **asdict(options))
    columns: dict[str, Array] = {"row": np.arange(len(split))}
    if split.names is not None:
        columns["name"] = np.asarray([str(name) for name in split.names])
    columns |= {
        "score": result.scores,
        "p_value": result.p_values,
        "outlier": result.rejected,
    }
    write_columns(out, columns)
    return (
        f"{len(split)} examples, {int(result.rejected.sum())} outliers at a false discovery "
        f"rate of {options.level:g}, against {result.held_out} held-out examples: {out}"
    )
