"""Import of classes that settings name by import path."""

from __future__ import annotations

import importlib
import sys
from functools import reduce

from tightbound.runtime.errors import TightboundError


def import_class(path: str, setting: str, advice: str = "") -> type:
    """The class at `package.module:Name` or `package.module.Name`.

    This runs the code of the module, so the caller has checked that the user trusts it.
    Modules of the working folder are found after all installed ones.

    Args:
        path: the import path.
        setting: the setting that has it, for messages.
        advice: the remedy, for messages.

    Raises:
        TightboundError: the module cannot be imported, or has no such class.
    """
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    remedy = advice or "name a class as package.module:Name"
    _search_working_folder()
    try:
        value: object = reduce(
            getattr, name.split("."), importlib.import_module(module)
        )
    except Exception as error:  # the module may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TightboundError(
            f"{setting} {path!r} cannot be imported ({reason}): {remedy}"
        ) from error
    if not isinstance(value, type):
        raise TightboundError(f"{setting} {path!r} is not a class: {remedy}")
    return value


def _search_working_folder() -> None:
    """Add the working folder to the places where modules are looked for, as the last.

    Only here, and not at start-up: an optional library that is not installed must not
    be taken from a folder of data.
    """
    if "" not in sys.path:
        sys.path.append("")
