"""HTML report on what one or more runs learned, as one self-contained page."""

from tightbound.report.render import write

__all__ = ["write"]
