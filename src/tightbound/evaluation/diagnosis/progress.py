"""Progress of the validation bound at the end of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run
from tightbound.runtime.reading import Options

Line = Options  # of the training log


@dataclass(frozen=True)
class Progress:
    """Progress at the end of training.

    Args:
        gained: gain of the validation bound in the last fifth of training, nats; where
            there was no earlier validation, over the training bound.
        error: standard error of the gain, from the differences of the same validation
            examples where they were logged; else that of the validation bound.
        early: number of validations before the last fifth.
        epochs: epochs of training.
        steps: steps of training.
        paired: whether the error is that of paired differences.
    """

    gained: float
    error: float
    early: int
    epochs: float
    steps: int
    paired: bool = False


def progress(run: Run, error: float) -> Progress | None:
    """The best validation of all against the best in four fifths of training.

    Args:
        run: the run.
        error: standard error of a mean bound, for a log without one.

    Returns:
        None without a log of validations, and of a model that was solved in closed form.
    """
    if was_solved(run):
        return None
    name = "elbo" if run.config.recipe.has_bound else "distortion"
    sign = 1.0 if run.config.recipe.has_bound else -1.0
    lines = [line for line in run.history() if _validation(line).get(name) is not None]
    if not lines:
        return None
    last = lines[-1]

    def bound(line: Line) -> float:
        return sign * float(line["valid"][name])

    best = max(lines, key=bound)
    early = [line for line in lines if line["step"] <= 0.8 * last["step"]]
    paired = None
    if early:
        before = max(early, key=bound)
        gained = bound(best) - bound(before)
        paired = _paired_error(before, best)
    else:
        gained = bound(best) - sign * float(last["train"].get(name, math.nan))
    unpaired = best["valid"].get("elbo_se") or error
    return Progress(
        gained=gained,
        error=unpaired if paired is None else paired,
        early=len(early),
        epochs=float(last["epoch"]),
        steps=int(last["step"]),
        paired=paired is not None,
    )


def was_solved(run: Run) -> bool:
    """Whether the model was solved in closed form, so that no step could improve it."""
    return any(line.get("solved") for line in run.history())


def _validation(line: Line) -> Line:
    return line.get("valid") or {}


def _paired_error(before: Line, after: Line) -> float | None:
    """Standard error of the gain between two validations of the same examples."""
    pair = [line.get("valid_by_example") or {} for line in (before, after)]
    bounds = [logged.get("bound") or [] for logged in pair]
    n = len(bounds[0])
    if n < 2 or len(bounds[1]) != n:
        return None
    change = torch.tensor(bounds[1], dtype=torch.float64) - torch.tensor(
        bounds[0], dtype=torch.float64
    )
    # the mean is over all validation examples, of which these are a part
    return Mean.of(change).se * math.sqrt(n / max(n, int(pair[1].get("of", n))))
