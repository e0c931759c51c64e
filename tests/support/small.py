"""Small runs for tests of what is done with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tightbound import api
from tightbound.runs.run import Run

SMALL = {
    "recipe.size": "s",
    "latent": 4,
    "batch": 64,
    "validate_k": 4,
    "validate_n": 32,
    "validate_every": 30,
}


def trained(
    folder: Path,
    recipe: str,
    source: Any = "digits",
    *,
    steps: int = 30,
    **settings: Any,
) -> Run:
    """Trains for a few steps, without evaluation and report; returns the model as it is in
    memory.
    """
    values = {**SMALL, "steps": steps, **settings}
    return api.train(
        source, recipe, out=folder, display="none", report=False, settings=values
    )


def small_run(
    folder: Path,
    recipe: str,
    source: Any = "digits",
    *,
    steps: int = 30,
    **settings: Any,
) -> Path:
    """The same; returns the run folder."""
    run = trained(folder, recipe, source, steps=steps, **settings)
    assert run.folder is not None
    return run.folder
