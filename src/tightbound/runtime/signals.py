"""Signals that end a command: Ctrl-C, SIGTERM, SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from tightbound.runtime.launch_context import started_by_torchrun

# Sent by a batch system or a restart of the machine, and by a terminal that closes.
ENDING = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)


Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Ended(KeyboardInterrupt):
    """The process was told to end by a signal, of which this has the number."""

    def __init__(self, number: int = signal.SIGINT, text: str = "") -> None:
        super().__init__(text)
        self.number = number


def signal_number(stop: KeyboardInterrupt) -> int:
    """The signal that ended the work; that of Ctrl-C where Python raised the exception."""
    if isinstance(stop, Ended):
        return stop.number
    return signal.SIGINT


def in_words(number: int) -> str:
    """What happened, for a message: "interrupted" or "ended by SIGTERM"."""
    if number == signal.SIGINT:
        return "interrupted"
    return f"ended by {signal.Signals(number).name}"


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Ended` inside the block on SIGTERM and SIGHUP, as Ctrl-C raises its exception.

    A second SIGTERM ends the process at once. A second SIGHUP is ignored: a terminal that
    closes may send two. A signal that is ignored (by `nohup`) or that the program handles
    itself is left alone.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, _after_first(number))
        raise Ended(number)

    with ExitStack() as stack:
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                _handle(number, end, stack)
        yield


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collect Ctrl-C, SIGTERM and SIGHUP in a list, which a loop reads between its steps.

    A second signal ends the process at once, but for SIGHUP, of which a terminal that
    closes may send two. Not so under torchrun, which forwards the first one to processes
    that already received it from the terminal or the batch system.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if not started_by_torchrun():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for other in installed:
                signal.signal(other, _after_first(other))

    with ExitStack() as stack:
        installed = [number for number in ENDING if _is_ours(number)]
        for number in (signal.SIGINT, *installed):
            _handle(number, note, stack)
        yield received


def _after_first(number: int) -> Handler:
    """The action of a signal after the first one."""
    if number == signal.SIGHUP:
        return signal.SIG_IGN
    return signal.SIG_DFL


def _is_ours(number: int) -> bool:
    """True for a signal that has its default action, or that `raised` handles."""
    handler = signal.getsignal(number)
    if handler is signal.SIG_DFL:
        return True
    return getattr(handler, "__module__", "") == __name__


def _handle(number: int, handler: Handler, stack: ExitStack) -> None:
    """Install a handler until the stack is left; outside the main thread, do nothing."""
    try:
        old = signal.signal(number, handler)
    except ValueError:  # signals reach the main thread only
        return
    stack.callback(signal.signal, number, old)
