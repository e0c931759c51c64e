"""The exception for mistakes of the user, and the words of its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class TightboundError(ValueError):
    """A mistake of the user, as one sentence: the problem, its place and a remedy.

    The command line prints the sentence and exits with status 2.

    Example:
        >>> import tightbound as tb
        >>> try:
        ...     tb.build("vea", "digits")
        ... except tb.TightboundError as error:
        ...     print(error)
        unknown recipe 'vea': did you mean 'vae'?
    """


MOST_SHOWN = 60
MOST_NAMES = 20


def shortened(value: object) -> str:
    """A value in quotes for a message, cut after 60 characters."""
    text = str(value)
    if len(text) > MOST_SHOWN:
        return f"{text[: MOST_SHOWN - 3]!r}... ({len(text):,} characters)"
    return repr(text)


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most similar to a misspelt name, or all: `did you mean 'vae'?`."""
    names = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {shortened(close[0])}?"
    listed = ", ".join(name[:MOST_SHOWN] for name in names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        listed += f" and {len(names) - MOST_NAMES} more"
    return f"known: {listed}"


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """`table[name]`, or a TightboundError that offers the nearest name."""
    if name not in table:
        raise TightboundError(f"unknown {kind} {name!r}: {nearest(name, table)}")
    return table[name]


def at_least(least: int, n: int, what: str) -> None:
    """Raise a TightboundError if a count is too small or not a whole number."""
    if not hasattr(n, "__index__") or n < least:
        raise TightboundError(f"cannot make {n} {what}: ask for {least} or more")
