"""How much memory there is, and freed memory that stays in the process while it trains.

glibc returns every large block to the system when it is freed, and the next step gets it again
page by page, filled with zeros. An importance-weighted step over colour images spent half of its
time on that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock

from tightbound.runtime.errors import TightboundError

TRIM = -1  # M_TRIM_THRESHOLD of malloc.h
MAPPED = -3  # M_MMAP_THRESHOLD
# Larger blocks are returned as before: gaps between blocks of different sizes would add up.
KEPT = 128 << 20
NEVER = 2**31 - 1
# The value of glibc's own rule in a process that uses large blocks; it trims at twice as much.
USUAL = 32 << 20
SETTINGS = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)

_lock = Lock()
_inside = [0]


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory for reuse inside the block, and return it at its end.

    Only with glibc (Linux), and only where the user has no settings of malloc. No result
    depends on it. Afterwards large blocks are returned as in a process that has used some.
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
    library = _glibc()
    if library is None:
        return
    set_option, give_back = library
    # An older glibc refuses a threshold above 32 MiB.
    if set_option(MAPPED, mapped) or set_option(MAPPED, USUAL):
        set_option(TRIM, trim)
    if trim != NEVER:
        give_back(0)


@cache
def _glibc() -> tuple[Callable[[int, int], int], Callable[[int], int]] | None:
    """mallopt and malloc_trim; None without glibc or with settings of the user."""
    if any(name in os.environ for name in SETTINGS):
        return None
    try:
        import ctypes

        library = ctypes.CDLL(None)
        return library.mallopt, library.malloc_trim
    except (ImportError, OSError, TypeError, AttributeError):
        return None


MEGABYTE = 1_000_000
_LIMIT_OF_GROUP = Path("/sys/fs/cgroup/memory.max")


@cache
def total_bytes() -> int:
    """The memory of this machine, or the limit of this process or its group if lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [total]
    with suppress(ImportError):
        import resource

        own, _ = resource.getrlimit(resource.RLIMIT_AS)
        if own != resource.RLIM_INFINITY:
            limits.append(own)
    with suppress(OSError, ValueError):  # no such group, or "max"
        limits.append(int(_LIMIT_OF_GROUP.read_text(encoding="ascii")))
    return min(limits)


def check_memory(what: str, nbytes: int, remedy: str) -> None:
    """Refuse work that needs more memory than there is.

    Args:
        what: the work, with the settings that its size depends on.
        nbytes: a lower bound on the bytes that it needs.
        remedy: how less is needed.

    Raises:
        TightboundError: with the memory that it needs.
    """
    total = total_bytes()
    if nbytes > total:
        raise TightboundError(
            f"{what} needs {nbytes / 1e9:,.1f} GB of memory at least, and there are "
            f"{total / 1e9:,.1f} GB: {remedy}"
        )
