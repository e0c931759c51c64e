"""Small runs for tests of what is done with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tightbound import api

SMALL = {"recipe.size": "s", "latent": 4, "batch": 64, "validate_k": 4, "validate_n": 32, "validate_every": 30}


def small_run(folder: Path, recipe: str, source: Any = "digits", *, steps: int = 30, **settings: Any) -> Path:
    """Trains for a few steps, without evaluation and report; returns the run folder."""
    values = {**SMALL, "steps": steps, **settings}
    run = api.train(source, recipe, out=folder, display="none", report=False, settings=values)
    assert run.folder is not None
    return run.folder
