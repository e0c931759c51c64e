"""`impute`: missing values of new data, by a run or by one that is trained for them."""

from __future__ import annotations

from collections.abc import Sequence

from tightbound import api
from tightbound.cli import outputs
from tightbound.cli.outputs import Target
from tightbound.config import assignments
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

RECIPE = "missing-data"


def train(data: str, pairs: Sequence[str], *, quiet: bool) -> Run:
    """Train recipe missing-data on data in a new run folder."""
    display = "none" if quiet else "auto"
    values = assignments(pairs)
    run = api.train(data, RECIPE, settings=values, display=display, report=False)
    print(f"run: {run.folder}")
    return run


def write(run: Run, data: str, out: Target, draws: int, condition: str | None) -> str:
    """Write the examples with their gaps filled in; returns a line about them.

    Raises:
        TightboundError: The run takes no missing values.
    """
    if not run.spec.missing:
        raise TightboundError(
            f"run {run.name!r} takes no missing values: leave --run out, and one that does is "
            "trained"
        )
    return outputs.reconstruct(run, data, out, 1, condition, draws)
