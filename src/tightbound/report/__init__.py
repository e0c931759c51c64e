"""HTML report on what one or more runs learned, as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tightbound.report.render import write as write

__all__ = ["write"]


def __getattr__(name: str) -> Any:
    """Import `write` when it is first used: a training needs no figures before its end."""
    if name != "write":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tightbound.report.render import write

    globals()["write"] = write
    return write
