"""The one exception for mistakes of the user: a sentence that says what is wrong, where, and what
to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class TightboundError(ValueError):
    """A mistake that the user can mend; the command line prints it as one sentence and exits with
    status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Says which known name is nearest to a misspelt one, or lists them: `'vea' (did you mean
    'vae'?)`.
    """
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns `table[name]`, or raises a `TightboundError` that offers the nearest name."""
    if name not in table:
        raise TightboundError(f"unknown {kind} {name!r}: {nearest(name, table)}")
    return table[name]


def at_least(least: int, n: int, what: str) -> None:
    """Raises a `TightboundError` where a count is too small or no whole number: `cannot make 0
    samples: ...`.
    """
    if not hasattr(n, "__index__") or n < least:
        raise TightboundError(f"cannot make {n} {what}: ask for {least} or more")
