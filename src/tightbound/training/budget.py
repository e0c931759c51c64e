"""The length of a run: numbers for "auto" in `[train]`, and steps for a budget."""

from __future__ import annotations

import time
from collections.abc import Callable

from tightbound.config import TrainSettings
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import current_launch

LEAST = 3000  # steps of the shortest default run
MOST = 20_000  # steps of the longest
EPOCHS = 30  # passes over the data between these bounds
VALIDATIONS = 40


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


def steps_within(
    settings: TrainSettings,
    per_epoch: int,
    train: Callable[[int], None],
    validate: Callable[[], object],
    elapsed: float,
) -> int:
    """The number of steps that fit into `settings.budget` seconds.

    Times a few steps and one validation, which takes at most 3 % of the budget.

    Args:
        train: runs a number of steps whose effect the caller discards.
        validate: runs one validation.
        elapsed: seconds of the budget that are used already.

    Raises:
        TightboundError: where the budget allows fewer than ten steps.
    """
    budget = settings.budget or 0.0
    train(3)
    chunk = 5
    done = 0
    start = now()
    while now() - start < 0.02 * budget and done < 500:
        train(chunk)
        done += chunk
    per_step = (now() - start) / max(1, done)
    start = now()
    validate()
    per_validation = now() - start
    left = 0.97 * budget - elapsed - per_validation
    # one validation per epoch, but no more than VALIDATIONS of them
    with_epochs = left / (per_step + per_validation / per_epoch)
    with_most_validations = (left - VALIDATIONS * per_validation) / per_step
    steps = int(max(with_epochs, with_most_validations))
    if steps < 10:
        least = 20 * per_step + 2 * per_validation + elapsed
        raise TightboundError(
            f"a budget of {budget:.0f} s is too short: a step takes {per_step:.2g} s, a validation "
            f"{per_validation:.2g} s, so allow {least / 0.9:.0f} s or more"
        )
    return steps


def parse_duration(text: str | float) -> float:
    """Parse a duration: `15min`, `90s`, `1.5h` or a number of seconds."""
    if isinstance(text, int | float):
        return float(text)
    units = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "": 1.0}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(number) :].strip()
    try:
        return float(number) * units[unit]
    except (ValueError, KeyError):
        raise TightboundError(
            f"{text!r} is not a duration: write 90s, 15min or 2h"
        ) from None
