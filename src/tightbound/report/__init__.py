"""The HTML report: what a model learned, as one page that needs nothing else."""

from tightbound.report.render import write

__all__ = ["write"]
