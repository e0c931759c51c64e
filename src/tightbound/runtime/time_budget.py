"""A time limit on a whole command, from its start to its report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import current_launch

UNITS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "": 1.0}


@dataclass(frozen=True)
class TimeBudget:
    """Seconds that all work of a command may take together.

    Attributes:
        seconds: the limit.
        after_training: the share of it that is kept, at most, for what follows training.
        clock: seconds of a clock that only goes forward.
        started: the time of the clock at which the command began.
    """

    seconds: float
    after_training: float = 0.25
    clock: Callable[[], float] = time.perf_counter
    started: float = field(default=math.nan)

    def __post_init__(self) -> None:
        if math.isnan(self.started):
            object.__setattr__(self, "started", self.clock())

    def left(self) -> float:
        """Seconds that are left, by the clock of rank 0 in every process."""
        elapsed = self.clock() - self.started
        return current_launch().broadcast(self.seconds - elapsed)


_limit: ContextVar[TimeBudget | None] = ContextVar("time budget", default=None)


@contextmanager
def limited(budget: TimeBudget | None) -> Iterator[None]:
    """Limit the time of all work in the block; None takes over the limit around it."""
    if budget is None:
        yield
        return
    token = _limit.set(budget)
    try:
        yield
    finally:
        _limit.reset(token)


def current_limit() -> TimeBudget | None:
    """The limit of the innermost `limited` block."""
    return _limit.get()


def parse_duration(text: str | float) -> float:
    """Parse a duration: `15min`, `90s`, `1.5h` or a number of seconds.

    Raises:
        TightboundError: It is no duration, or not above 0.
    """
    seconds = _seconds(text)
    if seconds is None:
        raise TightboundError(f"{text!r} is not a duration: write 90s, 15min or 2h")
    if not 0 < seconds < math.inf:
        raise TightboundError(
            f"a duration of {text!r} is not possible: write one above 0, such as 90s or 15min"
        )
    return seconds


def _seconds(text: str | float) -> float | None:
    if isinstance(text, int | float):
        return float(text)
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(number) :].strip()
    try:
        return float(number) * UNITS[unit]
    except (ValueError, KeyError):
        return None
