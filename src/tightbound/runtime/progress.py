"""Long work that is not training says how far it is: to whoever listens, and to nobody by
default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str], None]
FIRST, EVERY = 2.0, 5.0  # seconds of silence before the first line, and between lines

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(tell: Listener) -> Iterator[None]:
    """Long work inside the block calls tell("decoding images: 1,200 of 30,000") every few
    seconds.
    """
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


class Steady:
    """Counts work that is done and tells of it, at most every five seconds and not in the first
    two.
    """

    def __init__(self, what: str, total: int | None, unit: str = "") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.due = 0, time.monotonic() + FIRST

    def add(self, amount: int) -> None:
        """Notes that `amount` more is done."""
        self.done += amount
        tell = _listener.get()
        if tell is None or time.monotonic() < self.due:
            return
        self.due = time.monotonic() + EVERY
        of = "" if self.total is None else f" of {self.total:,}"
        tell(f"{self.what}: {self.done:,}{of}{self.unit}")


def steadily(what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, and after each one a note that it is done."""
    steady = Steady(what, total)
    for item in items:
        yield item
        steady.add(1)
