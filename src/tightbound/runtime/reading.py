"""Read small files that others may have written: regular files of a bounded size.

A device, pipe or socket is refused before it is opened, because reading it may wait or
grow without end. A number of thousands of digits and nesting of thousands of brackets
are refused as damage.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tightbound.runtime.errors import TightboundError, cut, os_reason
from tightbound.runtime.memory import MEGABYTE

SMALL = 64 * MEGABYTE  # settings, logs and evaluations are far smaller
# An object of a JSON or TOML file, whose values are looked up by their names.
Tree = dict[str, Any]
# Settings or facts by name, which are only read.
Options = Mapping[str, Any]
JSON = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


class NotRegularFile(OSError):
    """A path is a device, pipe, socket or folder where a file is expected."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", str(path))


def special_kind(path: Path | str) -> str | None:
    """What a path is that is neither a regular file nor a folder: "a device"; else None.

    Links are followed; a path that does not exist gives None.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return _kind(mode)


def exists(path: Path) -> bool:
    """Whether a path exists.

    Raises:
        TightboundError: for a name that no disk takes, or a folder that cannot be read.
    """
    try:
        path.lstat()
        return path.exists()
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    except (OSError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else cut(error)
        raise TightboundError(
            f"{cut(repr(str(path)))} cannot be a path ({reason}): check it"
        ) from error


def check_regular(path: Path | str, role: str = "") -> None:
    """Refuse a device, pipe or socket, which may wait or never end.

    Raises:
        TightboundError: for such a path, also behind a link.
    """
    kind = special_kind(path)
    if kind is not None:
        raise TightboundError(
            f"{role}{cut(path)} is {kind}, not a file or folder: name a file"
        )


def expanded(path: Path | str) -> Path:
    """A path with ~ as the home of a user, where that is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or a user without a home
        return Path(path)


def check_text(name: str) -> None:
    """Refuse a name that is no text in UTF-8, which the settings of a run cannot hold.

    Raises:
        TightboundError: for such a name.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise TightboundError(
            f"{cut(name)} is a name that is no text in UTF-8: rename it"
        ) from None


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "not a regular file")


def read_bytes(path: Path | str, most: int | None = None) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        OSError: as by `open`, and for a path that is no regular file or is too large.
    """
    path = Path(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):  # open() would name the handle, not the path
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise NotRegularFile(path, _kind(mode))
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read() if most is None else file.read(most + 1)
    finally:
        os.close(handle)
    if most is not None and len(content) > most:
        size = f"it has more than {most // MEGABYTE} MB"
        raise OSError(errno.EFBIG, size, str(path))
    return content


def read_text(path: Path | str, most: int = SMALL, errors: str = "strict") -> str:
    """The UTF-8 text of a small regular file; raises OSError or UnicodeDecodeError."""
    return read_bytes(path, most).decode("utf-8", errors)


def parse_json(text: str | bytes) -> JSON:
    """The value of a JSON text, as `json.loads` reads it.

    Raises:
        ValueError: for any damage, numbers of thousands of digits and deep nesting too.
    """
    try:
        value: JSON = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def read_json(path: Path | str) -> dict[str, JSON]:
    """The object in a JSON file.

    Raises:
        TightboundError: the file cannot be read, or is damaged.
    """
    try:
        value = parse_json(read_text(path))
    except OSError as error:
        raise TightboundError(
            f"cannot read {cut(path)} ({os_reason(error)}): check the path"
        ) from error
    except ValueError as error:
        raise TightboundError(f"{cut(path)} is damaged ({cut(error)})") from error
    if not isinstance(value, dict):
        raise TightboundError(f"{cut(path)} is damaged (it holds no object)")
    return value
