"""Progress of long work, reported to a listener: phases, and counts within them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str], None]
FIRST = 2.0  # seconds before the first line, and of a phase whose end is reported
EVERY = 5.0  # seconds between lines


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours, minutes and seconds: 71 as 1:11."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{minute}:{second:02}"


class Reporter:
    """Reports progress as plain lines: the start and the end of a phase, counts between.

    Args:
        report: called with each line.
    """

    first = FIRST
    every = EVERY

    def __init__(self, report: Listener) -> None:
        self.note = report

    def begin(self, count: Steady) -> None:
        """A phase begins."""
        self.note(f"{count.what} ...")

    def advance(self, count: Steady) -> None:
        """More work of a phase, or of work without a phase, is finished."""
        left = count.left
        words = "" if left is None else f", {clock(left)} left"
        self.note(f"{count.what}: {count.progress}{words}")

    def end(self, count: Steady, seconds: float) -> None:
        """A phase has ended; a short one is not worth a line."""
        if seconds >= FIRST:
            self.note(f"{count.what}: {seconds:.0f} s")

    def cancel(self, count: Steady) -> None:
        """An error has ended a phase."""


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@contextmanager
def listening(report: Listener | Reporter) -> Iterator[None]:
    """Report the progress of long work inside the block.

    Args:
        report: called every few seconds with a line such as "decoding images: 1,200 of
            30,000"; or a Reporter.
    """
    reporter = report if isinstance(report, Reporter) else Reporter(report)
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def notice(line: str) -> None:
    """Report a line to the listener at once; without one nothing is shown."""
    reporter = _reporter.get()
    if reporter is not None:
        reporter.note(line)


class Steady:
    """A counter of finished work that reports at most every five seconds.

    Args:
        what: the work, as "reading images".
        total: the amount of work, where it is known.
        unit: of the amounts, with a blank before it: " examples".
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "") -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        reporter = _reporter.get()
        self.started = time.monotonic()
        self.due = self.started + (FIRST if reporter is None else reporter.first)

    @property
    def progress(self) -> str:
        """The finished amount of the whole, as "1,200 of 30,000 bytes"."""
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.done:,}{of}{self.unit}"

    @property
    def left(self) -> float | None:
        """Seconds left at the mean rate so far; None without a total or finished work."""
        if not self.total or not self.done:
            return None
        elapsed = time.monotonic() - self.started
        return elapsed * max(0, self.total - self.done) / self.done

    def add(self, amount: int) -> None:
        """Count finished work."""
        self.reach(self.done + amount)

    def reach(self, done: int) -> None:
        """Set the amount of finished work."""
        self.done = done
        reporter = _reporter.get()
        if reporter is None or time.monotonic() < self.due:
            return
        self.due = time.monotonic() + reporter.every
        reporter.advance(self)


@contextmanager
def phase(what: str, total: int | None = None, unit: str = "") -> Iterator[Steady]:
    """A phase of a command: its start and its end are reported, with the seconds.

    Args:
        what: the work, as "evaluation".
        total: the amount of work, where it is known.
        unit: of the amounts, with a blank before it.
    """
    count = Steady(what, total, unit)
    reporter = _reporter.get()
    if reporter is None:
        yield count
        return
    start = time.monotonic()
    reporter.begin(count)
    try:
        yield count
    except BaseException:
        reporter.cancel(count)
        raise
    reporter.end(count, time.monotonic() - start)


def steadily(what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, each counted as finished when the next one is requested."""
    steady = Steady(what, total)
    for item in items:
        yield item
        steady.add(1)
