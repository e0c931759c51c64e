"""Comparison of exported graphs with torch, on inputs that tracing has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.exporting.plan import Planned
from tightbound.runtime.errors import TightboundError

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]
Mask = NDArray[np.bool_]
BATCHES = (1, 7)  # rows of the inputs that are compared
SEEDS = {1: 101, 7: 107}
WORST = 1e-4  # largest difference, relative to the largest value of an output
NUDGE = 1e-5  # relative change of inputs that finds values next to a jump
JUMP = 1e-3  # change of an output, relative to its largest value, that is a jump
MOST_JUMPS = 0.1  # share of values next to a jump that may be left out


@dataclass(frozen=True)
class Checked:
    """The comparison of an exported graph with torch.

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


def compare(
    graph: Planned,
    names: Sequence[str],
    compute: Callable[[Sequence[Tensor]], Arrays],
) -> Checked:
    """Compare the outputs of a graph with those of the model, on batches of 1 and 7 rows.

    Args:
        graph: The graph.
        names: Names of its outputs.
        compute: Gives the outputs by name that the exported file computes of inputs.
    """
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
        actual = compute(examples)
        for name in names:
            reference = expected[name].double().numpy()
            smooth = _is_smooth(reference, [near[name] for near in nudged])
            difference = _difference(actual[name], reference, smooth)
            worst[name] = max(worst[name], difference)
            jumps += int((~smooth).sum())
            values += smooth.size
    return Checked(worst, jumps / max(1, values))


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


def refuse(path: Path, checked: Checked) -> None:
    """Raise TightboundError where a file differs from torch, or too little was compared."""
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
