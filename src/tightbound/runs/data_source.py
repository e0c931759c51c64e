"""The data of a run by name, in `config.toml` and in the name of a run folder."""

from __future__ import annotations

import re
from pathlib import Path

from tightbound.runtime.reading import exists, expanded


def is_builtin(data: object) -> bool:
    """True if the data are a built-in set."""
    from tightbound.data.formats.builtin import BUILTIN

    return isinstance(data, str) and data in BUILTIN


def stored_source(data: object, valid: object = None, test: object = None) -> str:
    """The data as `data.source`: a built-in name or an absolute path.

    Empty for arrays and for data with splits of their own, which cannot be read again.
    """
    if not isinstance(data, str | Path) or valid is not None or test is not None:
        return ""
    kind, colon, place = str(data).partition(":")
    if colon and kind in ("wds", "hf") and (kind == "wds" or exists(Path(place))):
        return f"{kind}:{expanded(place).absolute()}"
    if exists(Path(data)) and not is_builtin(data):
        return str(Path(data).resolve())
    return str(data)


def short_name(data: object) -> str:
    """The data in the name of a folder: the stem of a path, or "array"."""
    if not isinstance(data, str | Path):
        return "array"
    path = Path(str(data).removeprefix("wds:").removeprefix("hf:"))
    name = path.resolve().name if path.is_dir() else path.name.split(".")[0]
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "data"
