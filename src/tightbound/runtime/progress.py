"""Progress of long work outside training, reported to a listener."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str], None]
FIRST = 2.0  # seconds before the first line
EVERY = 5.0  # seconds between lines

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(report: Listener) -> Iterator[None]:
    """Report the progress of long work inside the block.

    Args:
        report: Called every few seconds with a line such as "decoding images: 1,200 of 30,000".
    """
    token = _listener.set(report)
    try:
        yield
    finally:
        _listener.reset(token)


def notice(line: str) -> None:
    """Report a line to the listener at once; without one nothing is shown."""
    report = _listener.get()
    if report is not None:
        report(line)


class Steady:
    """A counter of finished work that reports at most every five seconds."""

    def __init__(self, what: str, total: int | None, unit: str = "") -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        self.due = time.monotonic() + FIRST

    def add(self, amount: int) -> None:
        """Count finished work."""
        self.done += amount
        report = _listener.get()
        if report is None or time.monotonic() < self.due:
            return
        self.due = time.monotonic() + EVERY
        of = "" if self.total is None else f" of {self.total:,}"
        report(f"{self.what}: {self.done:,}{of}{self.unit}")


def steadily(what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, each counted as finished when the next one is requested."""
    steady = Steady(what, total)
    for item in items:
        yield item
        steady.add(1)
