"""Ctrl-C in training: the loop finishes its step and saves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tightbound.runtime.launch_context import started_by_torchrun


class Interrupted(KeyboardInterrupt):
    """The user pressed Ctrl-C; the state is saved."""


@contextmanager
def ctrl_c() -> Iterator[list[int]]:
    """Turns the first Ctrl-C into a mark that the loop reads after its step; a second one ends the
    process at once.

    torchrun hands the first on to processes that had it from the terminal already, so there a
    second one is no other.
    """
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        if not started_by_torchrun():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        old = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: nothing to catch
        yield pressed
        return
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old)
