"""Read names, paths, arrays and Datasets into splits for a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tightbound.data.conform import read as read
    from tightbound.data.conform import read_one as read_one
    from tightbound.data.formats.listing import list_sources as list_sources
    from tightbound.data.loading import Data as Data
    from tightbound.data.loading import load as load
    from tightbound.data.prepare.split import Split as Split
    from tightbound.data.sequential import Ordered as Ordered
    from tightbound.data.sequential import Rows as Rows
    from tightbound.data.sequential import read_parts as read_parts
    from tightbound.data.settings import DataSettings as DataSettings
    from tightbound.data.source import as_latents as as_latents
    from tightbound.data.streams.loader import LoaderSplit as LoaderSplit
    from tightbound.data.streams.shards import ShardSplit as ShardSplit
    from tightbound.data.tables.frames import filled_frame as filled_frame
    from tightbound.data.tables.frames import frame as frame
    from tightbound.data.tables.frames import plain_frame as plain_frame
    from tightbound.data.tables.frames import rounded as rounded
    from tightbound.data.tables.frames import table_numbers as table_numbers
    from tightbound.data.tables.frames import table_of as table_of

_HOME = {
    "Data": "loading",
    "DataSettings": "settings",
    "LoaderSplit": "streams.loader",
    "Ordered": "sequential",
    "Rows": "sequential",
    "ShardSplit": "streams.shards",
    "Split": "prepare.split",
    "as_latents": "source",
    "filled_frame": "tables.frames",
    "frame": "tables.frames",
    "plain_frame": "tables.frames",
    "rounded": "tables.frames",
    "table_numbers": "tables.frames",
    "table_of": "tables.frames",
    "list_sources": "formats.listing",
    "load": "loading",
    "read": "conform",
    "read_one": "conform",
    "read_parts": "sequential",
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
    "filled_frame",
    "frame",
    "list_sources",
    "load",
    "plain_frame",
    "read",
    "read_one",
    "read_parts",
    "rounded",
    "table_numbers",
    "table_of",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that reading the settings needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
