"""Standard streams that are closed, full, or cannot show every character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from tightbound.runtime.errors import TightboundError, os_reason


class _Stream(io.TextIOWrapper):
    """A standard stream that shows any text, and handles errors of writing.

    A terminal without ± shows ?. A reader that has closed a pipe ends the command, as
    usual: BrokenPipeError.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.flush()
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def failed(self, error: OSError) -> None:
        """Called for an error that is not a closed pipe."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._handle(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._handle(error)

    def _handle(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise error
        self.failed(error)


class _Messages(_Stream):
    """Standard error: messages are lost where it cannot be written.

    A training does not end because the disk of its log file is full.
    """


class _Output(_Stream):
    """Standard output: an error of writing is one of the user's command."""

    def failed(self, error: OSError) -> None:
        _discard(self)
        raise TightboundError(
            f"cannot write the output ({os_reason(error)}): send it to a place with room"
        ) from error


@contextmanager
def prepared() -> Iterator[None]:
    """Stand in for closed streams, and handle their errors, inside the block.

    A file that is opened later must not take the number of a closed stream.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # without closefd Python would warn of open files at its end
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    output = sys.stdout
    messages = sys.stderr
    if isinstance(output, io.TextIOWrapper):
        sys.stdout = _Output(output)
    if isinstance(messages, io.TextIOWrapper):
        sys.stderr = _Messages(messages)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Stream):
                _release(stream)
        sys.stdout = output
        sys.stderr = messages


def _release(stream: _Stream) -> None:
    """Write what is left of a stream, and leave its buffer to the original one."""
    try:
        io.TextIOWrapper.flush(stream)
    except (OSError, ValueError):
        _discard(stream)
    with suppress(OSError, ValueError):
        stream.detach()


def discard_output() -> None:
    """Send what is left of the output nowhere, so that Python's end is quiet."""
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)
