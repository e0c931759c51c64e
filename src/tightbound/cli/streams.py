"""Standard streams that are closed, full, or cannot show every character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tightbound.runtime.errors import TightboundError, os_reason


class _Stream(io.TextIOBase):
    """A standard stream whose errors of writing are handled in one place.

    A reader that has closed a pipe ends the command, as usual: BrokenPipeError.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def failed(self, error: OSError) -> None:
        """Called for an error that is not a closed pipe."""

    def write(self, text: str, /) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._handle(error)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._handle(error)

    def _handle(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise error
        self.failed(error)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding or "utf-8"


class _Messages(_Stream):
    """Standard error: messages are lost where it cannot be written.

    A training does not end because the disk of its log file is full.
    """


class _Output(_Stream):
    """Standard output: an error of writing is one of the user's command."""

    def failed(self, error: OSError) -> None:
        _discard(self.stream)
        raise TightboundError(
            f"cannot write the output ({os_reason(error)}): send it to a place with room"
        ) from error


@contextmanager
def prepared() -> Iterator[None]:
    """Stand in for closed streams, and let others show any text, inside the block.

    A file that is opened later must not take the number of a closed stream.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("w")
    sys.stderr = sys.stderr or _null("w")
    output = sys.stdout
    messages = sys.stderr
    for stream in (output, messages):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± shows ?
    sys.stdout = _Output(output)  # type: ignore[assignment]
    sys.stderr = _Messages(messages)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout = output
        sys.stderr = messages
        for stream in (output, messages):
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)


def _null(mode: str) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")  # type: ignore[return-value]


def discard_output() -> None:
    """Send what is left of the output nowhere, so that Python's end is quiet."""
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)
