"""How long a run is: every "auto" of `[train]` as a number before the first step; what a budget of
seconds buys.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tightbound.config import TrainSettings
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import current_launch

LEAST, MOST, EPOCHS = 3000, 20_000, 30
VALIDATIONS = 40


def epoch_steps(n: int | None, batch: int) -> int:
    """Steps in an epoch of n examples; of a stream that does not say, as if a short run were one
    epoch.
    """
    return max(1, (n or LEAST * batch) // batch)


def resolve(
    settings: TrainSettings, n: int | None, steps: int | None = None
) -> TrainSettings:
    """Numbers for every "auto", from n training examples (None for a stream); `steps`, where a
    budget decided them.

    auto: 30 epochs, at least 3,000 and at most 20,000 steps (docs/results.md has the comparison).
    """
    batch = min(settings.batch, n or settings.batch)
    per_epoch = epoch_steps(n, batch)
    if steps is None:
        if settings.steps != "auto":
            steps = int(settings.steps)
        elif settings.epochs != "auto":
            steps = max(1, round(float(settings.epochs) * per_epoch))
        else:
            steps = min(MOST, max(LEAST, EPOCHS * per_epoch))
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


def now() -> float:
    """Seconds, by the clock of the first process, so that all of them decide alike."""
    return current_launch().broadcast(time.perf_counter())


def steps_within(
    settings: TrainSettings,
    per_epoch: int,
    train: Callable[[int], None],
    validate: Callable[[], object],
    spent: float,
) -> int:
    """How many steps fit `settings.budget` seconds, `spent` of them gone: times a few steps and one
    validation.

    train(m) runs m steps whose effect the caller undoes.  Timing takes at most 3 % of the budget.
    """
    budget = settings.budget or 0.0
    train(3)
    start, done, chunk = now(), 0, 5
    while now() - start < 0.02 * budget and done < 500:
        train(chunk)
        done += chunk
    per_step = (now() - start) / max(1, done)
    start = now()
    validate()
    per_validation = now() - start
    left = 0.97 * budget - spent - per_validation
    # A validation each epoch, but no more than VALIDATIONS of them.
    steps = int(
        max(
            left / (per_step + per_validation / per_epoch),
            (left - VALIDATIONS * per_validation) / per_step,
        )
    )
    if steps < 10:
        least = 20 * per_step + 2 * per_validation + spent
        raise TightboundError(
            f"a budget of {budget:.0f} s is too short: a step takes {per_step:.2g} s, a validation "
            f"{per_validation:.2g} s, so allow {least / 0.9:.0f} s or more"
        )
    return steps


def seconds(text: str | float) -> float:
    """`15min`, `90s`, `1.5h` or a number of seconds, as seconds."""
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
