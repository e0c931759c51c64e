"""Memory that large steps use again and again stays with the process while they run, and goes back
when they are done.

The C library hands every large block back to the system as soon as it is free, and the next step
gets it anew, page by page, each filled with zeros.  An importance-weighted step over colour images
spent half of its time so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

TRIM, MAPPED = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT = (
    128 << 20
)  # larger blocks go back as before: what lies between blocks of different sizes would add up
NEVER = 2**31 - 1
USUAL = (
    32 << 20
)  # where glibc's own rule ends up in a process that uses large blocks; it trims at twice as much
SETTINGS = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)

_lock, _inside = Lock(), [0]


@contextmanager
def kept_memory() -> Iterator[None]:
    """Blocks that are freed inside are kept for the next ones; on leaving the last of such blocks
    all goes back.

    With glibc alone (Linux), and not where the user has settings of malloc's; elsewhere it does
    nothing.  No result changes by it.  Afterwards large blocks go back as they do in a process that
    has used some.
    """
    with _lock:
        _inside[0] += 1
        if _inside[0] == 1:
            _keep(KEPT, NEVER)
    try:
        yield
    finally:
        with _lock:
            _inside[0] -= 1
            if _inside[0] == 0:
                _keep(USUAL, 2 * USUAL)


def _keep(mapped: int, trim: int) -> None:
    if (library := _glibc()) is None:
        return
    set_option, give_back = library
    if set_option(MAPPED, mapped) or set_option(
        MAPPED, USUAL
    ):  # an older glibc refuses what is above 32 MiB
        set_option(TRIM, trim)
    if trim != NEVER:
        give_back(0)


@cache
def _glibc() -> tuple[Callable[[int, int], int], Callable[[int], int]] | None:
    """mallopt and malloc_trim, where they are and are ours to use."""
    if any(name in os.environ for name in SETTINGS):
        return None
    try:
        import ctypes

        library = ctypes.CDLL(None)
        return library.mallopt, library.malloc_trim
    except (
        ImportError,
        OSError,
        TypeError,
        AttributeError,
    ):  # no such library, or one without these functions
        return None
