"""The exception for mistakes of the user, and the words of its messages."""

from __future__ import annotations

import difflib
import errno
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsFloat, SupportsIndex, TypeVar

T = TypeVar("T")
LONGEST = 200  # characters of a user's text in a message
MOST_OF_MESSAGE = 3000  # characters
MOST_SHOWN = 60  # characters of one cell or name
MOST_NAMES = 20
_LONG_WORD = re.compile(r"\S{400,}")  # longer than most paths
# One number, such as a seed, fits into 63 bits.
LARGEST = 2**63 - 1


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

    def __init__(self, message: object = "") -> None:
        super().__init__(_bounded(str(message)))


def _bounded(message: str) -> str:
    """A message whose words and whole length are bounded, whatever a user's text is."""
    message = _LONG_WORD.sub(lambda word: _middle_cut(word.group(), LONGEST), message)
    return _middle_cut(message, MOST_OF_MESSAGE)


def _middle_cut(text: str, most: int) -> str:
    """The start and the end of a text that is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2 - 2
    return f"{text[:half]}...{text[-half:]}"


def cut(value: object) -> str:
    """A text of the user or of a library for a message: one line of bounded length.

    Bytes of a name that are no UTF-8 are written as \\xff.
    """
    return _middle_cut(printable(value), LONGEST)


def printable(value: object) -> str:
    """A text as one line that a terminal shows as it is.

    Bytes of a name that are no UTF-8 are written as \\xff, control characters, which
    could change the terminal, as \\x1b.
    """
    text = (
        str(value)
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
    return without_controls(" ".join(text.split()))


def without_controls(text: str) -> str:
    """A text whose control characters, but line ends and tabs, are escaped."""
    if text.isprintable():
        return text
    return "".join(
        f"\\x{ord(character):02x}" if _is_control(character) else character
        for character in text
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\t"


def shortened(value: object) -> str:
    """A cell or a name for a message, a text in quotes, cut after 60 characters."""
    text = str(value)
    if len(text) > MOST_SHOWN:
        return f"{text[: MOST_SHOWN - 3]!r}... ({len(text):,} characters)"
    return repr(value)


_REASONS = {
    errno.ENOMEM: "out of memory",
    errno.EMFILE: "too many open files: raise the limit, ulimit -n",
    errno.ENFILE: "too many open files on this machine",
    errno.EFBIG: "larger than a file may be here, ulimit -f",
    errno.ENOSPC: "no room on the disk",
    errno.EDQUOT: "no room on the disk, the quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "links lead to each other",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network disk is gone",
}
# Errors of the machine: they say nothing about the content of a file.
_OF_MACHINE = (*_REASONS, errno.EROFS, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT)


def os_reason(error: OSError) -> str:
    """The reason of an error of the operating system in words."""
    if error.errno in _REASONS:
        return _REASONS[error.errno]
    return cut(error.strerror or error)


def machine_reason(error: BaseException) -> str | None:
    """The reason if memory, disk, permissions or limits fail; None for a damaged file.

    The errors that led to this one are searched, too.
    """
    current: BaseException | None = error
    for _ in range(10):
        if isinstance(current, MemoryError):
            return _REASONS[errno.ENOMEM]
        if isinstance(current, OSError) and current.errno in _OF_MACHINE:
            return os_reason(current)
        if current is not None:
            current = current.__cause__ or current.__context__
    return None


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most similar to a misspelt name, or all: `did you mean 'vae'?`."""
    names = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(str(name)[:LONGEST], names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {shortened(close[0])}?"
    return f"known: {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """Names for a message, at most 20 of them."""
    text = ", ".join(_printable(name[:MOST_SHOWN]) for name in names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        return f"{text} and {len(names) - MOST_NAMES} more"
    return text


def _printable(text: str) -> str:
    """A text; in quotes, with escapes, where it has line breaks or the like."""
    return text if text.isprintable() else repr(text)


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """`table[name]`, or a TightboundError that offers the nearest name."""
    if not isinstance(name, str) or name not in table:
        raise TightboundError(
            f"unknown {kind} {cut(repr(name))}: {nearest(name, table)}"
        )
    return table[name]


def at_least(least: int, n: object, what: str, most: int = 1_000_000_000) -> None:
    """Raise a TightboundError if a count is out of range or not a whole number."""
    count = _whole(n)
    if count is not None and least <= count <= most:
        return
    asked = f"{least} or more"
    if count is not None and count > most:
        asked = f"{most:,} or fewer at once"
    raise TightboundError(f"cannot make {written(n)} {what}: ask for {asked}")


def whole_number(name: str, value: object, least: int, most: int = LARGEST) -> int:
    """A whole number within a range.

    Raises:
        TightboundError: for another type or a value out of range; a truth value is none.
    """
    number = _whole(value)
    if number is None or not least <= number <= most:
        raise TightboundError(
            f"{name} = {written(value)} cannot be used: give a whole number from "
            f"{least} to {most}"
        )
    return number


def finite_number(name: str, value: object, least: float) -> float:
    """A finite number of a least size.

    Raises:
        TightboundError: for another type, NaN, an infinity, or a smaller number.
    """
    number = _real(value)
    if number is not None and least <= number < math.inf:
        return number
    raise TightboundError(
        f"{name} = {written(value)} cannot be used: give a number, {least:g} or more"
    )


def written(value: object) -> str:
    """A value for a message; Python writes no integers of more than 4,300 digits."""
    try:
        return cut(repr(value))
    except ValueError:
        return "a number of more than 4,300 digits"


def _real(value: object) -> float | None:
    """A number, also one of numpy or torch; None for anything else and beyond float64."""
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    # an array of several numbers, or an integer beyond float64
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _whole(value: object) -> int | None:
    """A whole number, also one of numpy or torch; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return value.__index__()
    except (TypeError, ValueError, RuntimeError):  # an array of several numbers
        return None
