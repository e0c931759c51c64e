"""Ctrl-C in training: the loop finishes its step and saves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tightbound.runtime.launch_context import started_by_torchrun


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C after its state was saved."""


@contextmanager
def ctrl_c() -> Iterator[list[int]]:
    """Collect SIGINT in a list, which the training loop reads after each step.

    A second Ctrl-C ends the process at once. Not so under torchrun, which forwards the
    first one to processes that already received it from the terminal.
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if not started_by_torchrun():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        old = signal.signal(signal.SIGINT, note)
    except ValueError:  # signals reach the main thread only
        yield pressed
        return
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old)
