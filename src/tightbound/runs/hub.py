"""Runs on the Hugging Face Hub: which files a run has there, and their download."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

from tightbound.runs.folder import (
    AVERAGED_WEIGHTS,
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    LOG,
    WEIGHTS,
)
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.foreign_errors import first_line

PREFIX = "hub:"
# No training states, and no files that load code.
FILES = (CONFIG, WEIGHTS, AVERAGED_WEIGHTS, LOG, ENVIRONMENT, EVALUATION)
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_on_hub(folder: Path | str) -> bool:
    """True for `hub:user/name`, unless there is a folder of this name."""
    return str(folder).startswith(PREFIX) and not Path(folder).exists()


def checked_name(name: str) -> str:
    """A repository `user/name`.

    Raises:
        TightboundError: It is none.
    """
    if _NAME.fullmatch(name) is None:
        raise TightboundError(
            f"{cut(repr(name))} is no repository of the hub: name it user/name"
        )
    return name


def hub() -> ModuleType:
    """The package huggingface_hub.

    Raises:
        TightboundError: It is not installed.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise TightboundError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'tightbound[hf]'"
        ) from error
    return huggingface_hub


def endpoint() -> str | None:
    """The address of the hub, where `HF_ENDPOINT` names another one."""
    return os.environ.get("HF_ENDPOINT") or None


def download(path: Path | str) -> Path:
    """The files of `hub:user/name` or `hub:user/name@revision`, in the cache of the hub.

    Raises:
        TightboundError: There is no such run, or it cannot be reached and is not cached.
    """
    name, _, revision = str(path).removeprefix(PREFIX).partition("@")
    checked_name(name)
    package = hub()
    try:
        folder = package.snapshot_download(
            name,
            revision=revision or None,
            endpoint=endpoint(),
            allow_patterns=list(FILES),
            library_name="tightbound",
        )
    except Exception as error:
        raise TightboundError(
            f"cannot read {cut(path)} ({cut(first_line(error))}): check the name and the "
            "connection; a private one needs a login, by hf auth login"
        ) from error
    if not (Path(folder) / CONFIG).is_file():
        raise TightboundError(
            f"{cut(path)} is no run of tightbound, it has no {CONFIG}: check the name"
        )
    return Path(folder)
