"""Small runs for tests of what is done with a trained model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tightbound import api
from tightbound.evaluation import run_evaluation
from tightbound.evaluation.budget import FROM_Q, Plan, Request
from tightbound.evaluation.estimators import amortization_gap
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


def few_temperatures(patch: pytest.MonkeyPatch, temperatures: int) -> None:
    """Let `evaluate --ais` anneal over fewer temperatures than the default 300."""
    requested_plan = run_evaluation.requested_plan

    def plan_with_few(run: Run, n: int, request: Request) -> Plan:
        plan = requested_plan(run, n, request)
        if FROM_Q not in plan.methods:
            return plan
        methods = plan.methods | {FROM_Q: {"temperatures": temperatures}}
        return replace(plan, methods=methods)

    patch.setattr(run_evaluation, "requested_plan", plan_with_few)


def short_search(patch: pytest.MonkeyPatch) -> None:
    """Let the amortisation gap be measured with few steps of the search for q*."""
    search = partial(amortization_gap.Search, steps=5, rounds=1, k=64)
    patch.setattr(amortization_gap, "Search", search)
