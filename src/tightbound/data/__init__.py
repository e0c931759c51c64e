"""The data room: from what the user has (a name, a path, an array, a Dataset) to splits that a model can read."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tightbound.data.columns import frame as frame
    from tightbound.data.columns import plain_frame as plain_frame
    from tightbound.data.listing import list_sources as list_sources
    from tightbound.data.loading import Data as Data
    from tightbound.data.loading import load as load
    from tightbound.data.ordered import Ordered as Ordered
    from tightbound.data.ordered import Rows as Rows
    from tightbound.data.ordered import read_parts as read_parts
    from tightbound.data.part import as_latents as as_latents
    from tightbound.data.reading import read as read
    from tightbound.data.reading import read_one as read_one
    from tightbound.data.settings import DataSettings as DataSettings
    from tightbound.data.shards import ShardSplit as ShardSplit
    from tightbound.data.split import Split as Split
    from tightbound.data.stream import LoaderSplit as LoaderSplit

_HOME = {
    "Data": "loading",
    "DataSettings": "settings",
    "LoaderSplit": "stream",
    "Ordered": "ordered",
    "Rows": "ordered",
    "ShardSplit": "shards",
    "Split": "split",
    "as_latents": "part",
    "frame": "columns",
    "plain_frame": "columns",
    "list_sources": "listing",
    "load": "loading",
    "read": "reading",
    "read_one": "reading",
    "read_parts": "ordered",
}
__all__ = [
    "Data",
    "DataSettings",
    "LoaderSplit",
    "Ordered",
    "Rows",
    "ShardSplit",
    "Split",
    "as_latents",
    "frame",
    "list_sources",
    "load",
    "plain_frame",
    "read",
    "read_one",
    "read_parts",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that the settings can be read without torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
