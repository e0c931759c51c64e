"""The length of a run: numbers for "auto" in `[train]`, and steps for a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from tightbound.config import TrainSettings
from tightbound.runtime.launch_context import current_launch
from tightbound.runtime.time_budget import TimeBudget

LEAST = 3000  # steps of the shortest default run
MOST = 20_000  # steps of the longest
EPOCHS = 30  # passes over the data between these bounds
VALIDATIONS = 40
TRIALS = 0.1  # most of a budget that all trials take
TIMED_STEPS = 0.02  # share of a budget for timing steps
FIRST_STEP = 0.08  # share of a budget, up to which a second step is timed
TIMED_VALIDATION = 0.03  # most of a budget that a timed validation takes
FEW = 10  # steps, below which a budget is called too short
REPORT = 10.0  # seconds of a report, without the passes of the model


def epoch_steps(n: int | None, batch: int) -> int:
    """Steps in an epoch of n examples.

    For a stream of unknown length, an epoch has the steps of the shortest run.
    """
    return max(1, (n or LEAST * batch) // batch)


def resolve(
    settings: TrainSettings, n: int | None, steps: int | None = None
) -> TrainSettings:
    """Replace every "auto" by a number.

    The default is 30 epochs, at least 3,000 and at most 20,000 steps
    (docs/results.md has the comparison).

    Args:
        n: training examples, None for a stream of unknown length.
        steps: the steps that a budget allows, where there is a budget.
    """
    batch = min(settings.batch, n or settings.batch)
    per_epoch = epoch_steps(n, batch)
    if steps is None:
        steps = _steps(settings, per_epoch)
    every = settings.validate_every
    if isinstance(every, str):
        every = max(per_epoch, -(-steps // VALIDATIONS))
    every = min(int(every), steps)
    patience = settings.patience
    if isinstance(patience, str):
        patience = max(5, round(0.4 * steps / int(every)))
    return settings.model_copy(
        update={
            "steps": steps,
            "batch": batch,
            "epochs": steps / per_epoch,
            "validate_every": every,
            "patience": patience,
        }
    )


def _steps(settings: TrainSettings, per_epoch: int) -> int:
    if settings.steps != "auto":
        return int(settings.steps)
    if settings.epochs != "auto":
        return max(1, round(float(settings.epochs) * per_epoch))
    return min(MOST, max(LEAST, EPOCHS * per_epoch))


def now() -> float:
    """Seconds by the clock of rank 0, so that all processes decide alike."""
    return current_launch().broadcast(time.perf_counter())


class Timed(Protocol):
    """A training whose steps and validations are timed, and then discarded."""

    first_step: float

    def run(self, steps: int) -> None: ...
    def validate(self) -> object: ...
    def steps_of_a_validation(self) -> float: ...


@dataclass(frozen=True)
class Timing:
    """Seconds of a step and of a validation."""

    step: float
    validation: float


def timing(trial: Timed, budget: float) -> Timing:
    """Time steps and a validation, in a small share of the budget.

    The first step of a process is slower than the others, so it counts only where a second
    one may take too long. A validation that would is not run: its time follows from the
    number of examples that it decodes.
    """
    per_step = trial.first_step
    if per_step < FIRST_STEP * budget:
        done = 0
        elapsed = 0.0
        start = now()
        while done == 0 or (elapsed < TIMED_STEPS * budget and done < 500):
            chunk = 1 if done == 0 else 5
            trial.run(chunk)
            done += chunk
            elapsed = now() - start
        per_step = elapsed / done
    per_validation = trial.steps_of_a_validation() * per_step
    if per_validation < TIMED_VALIDATION * budget:
        start = now()
        trial.validate()
        per_validation = now() - start
    return Timing(per_step, per_validation)


def examples_of_log_px(n: int, budget: float, times: Timing) -> int:
    """The number of examples whose log p(x) a validation estimates, in a short budget.

    The estimate takes most of a validation and decides nothing, so where validations are
    long it is made for fewer of the n examples, and at least one.
    """
    if times.validation <= TIMED_VALIDATION * budget:
        return n
    return max(1, int(n * TIMED_VALIDATION * budget / times.validation))


def steps_within(budget: float, per_epoch: int, times: Timing) -> int:
    """The number of steps that fit into a number of seconds, with their validations.

    At least one, also where the time is too short.
    """
    left = 0.97 * budget - times.validation
    # one validation per epoch, but no more than VALIDATIONS of them
    with_epochs = left / (times.step + times.validation / per_epoch)
    with_most_validations = (left - VALIDATIONS * times.validation) / times.step
    return max(1, int(max(with_epochs, with_most_validations)))


def too_short(budget: float, steps: int, times: Timing) -> list[str]:
    """A notice where a budget allows few steps, with a budget that allows more."""
    if steps >= FEW:
        return []
    more = budget + 2 * (10 * FEW * times.step + times.validation)
    return [
        f"the time is too short: a step takes {times.step:.2g} s, a validation "
        f"{times.validation:.2g} s, so {steps} {'step is' if steps == 1 else 'steps are'} "
        f"trained; allow {more:.0f} s or more for training"
    ]


def reserved(limit: TimeBudget, times: Timing | None) -> float:
    """Seconds of a total budget that are kept for the evaluation and the report.

    They decode about as many examples as seven validations.
    """
    most = limit.after_training * limit.seconds
    if times is None:
        return most
    return min(most, 7 * times.validation + REPORT)
