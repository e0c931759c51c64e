"""How much an evaluation does: by default, as was asked for, or as much as fits a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tightbound.core.trace import Batch
from tightbound.evaluation.estimators.amortization_gap import Search, best_bound
from tightbound.evaluation.estimators.methods import METHODS, log_px
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

SUBSET, SUBSET_3D = (
    64,
    8,
)  # examples of what is slow; of integrals over three latents, which take seconds each
FEW_LATENTS, TOLERANCE = (
    3,
    1e-4,
)  # so many can be integrated over exactly, to so many nats
FROM_Q, TEMPERATURES, PILOT = "ais-q", (600, 300, 150, 75, 40), 30
SAMPLES = (5000, 2000, 1000, 500, 200, 100, 50)
SHARE, LEAST, MOST = (
    0.4,
    8,
    500,
)  # of the time for importance sampling; examples of what is slow


@dataclass(frozen=True)
class Plan:
    """K samples on n examples; on `subset` of them log p(x) by `methods`, and the gap in parts,
    train beside test.
    """

    k: int
    n: int
    subset: int
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    gap: bool = False
    train: bool = False


def exact_methods(run: Run) -> dict[str, dict[str, Any]]:
    """Quadrature where there are few enough latents, with its settings."""
    return (
        {"quadrature": {"tolerance": TOLERANCE}}
        if sum(run.sites.values()) <= FEW_LATENTS
        else {}
    )


def asked(run: Run, n: int, k: int, subset: int | None, ais: bool, gap: bool) -> Plan:
    """What was asked for, on 64 examples unless that was asked for too; on none if `subset`
    is 0.
    """
    if subset == 0:
        return Plan(k, n, 0)
    methods = exact_methods(run) | ({FROM_Q: {}} if ais else {})
    few = SUBSET_3D if sum(run.sites.values()) == FEW_LATENTS else SUBSET
    return Plan(k, n, min(n, subset or few), methods, gap, gap)


def within(
    run: Run, x: Batch, n: int, seconds: float, train: bool
) -> tuple[Plan, dict[str, float]]:
    """What fits into so many seconds, from timed trials on x, a few examples; and what an example
    took in each.

    Four tenths are for importance sampling on all n examples, or on fewer where even K = 50 takes
    too long; the rest for the exact or the annealed log p(x) and the gap in parts, on as many
    examples as fit, train beside test.
    """
    trials = _trials(run, x)
    k = next(
        (k for k in SAMPLES if k * trials["importance"] * n < SHARE * seconds),
        SAMPLES[-1],
    )
    n = min(n, max(1, int(SHARE * seconds / (k * trials["importance"]))))
    rest, sides = (1 - SHARE) * 0.9 * seconds, 2 if train else 1
    slow: dict[str, dict[str, Any]] = exact_methods(run)
    each = trials.get("quadrature", 0.0) + trials.get("gap", 0.0)
    if FROM_Q in trials:
        fits = [
            t
            for t in TEMPERATURES
            if (_of_ais(t) * trials[FROM_Q] + each) * sides * 2 * LEAST < rest
        ]
        if fits:
            slow[FROM_Q] = {"temperatures": fits[0]}
            each += _of_ais(fits[0]) * trials[FROM_Q]
    subset = min(n, MOST, int(rest / (sides * each))) if each else 0
    if subset < min(n, LEAST):
        return Plan(k, n, min(n, LEAST)), trials
    return Plan(k, n, subset, slow, "gap" in trials, train and "gap" in trials), trials


def _of_ais(temperatures: int) -> int:
    """Temperatures in all of an example: measured ones, the pilot's, those of the choice, and of
    the BDMC gap.
    """
    return 2 * temperatures + 4 * PILOT


def _trials(run: Run, x: Batch) -> dict[str, float]:
    """Seconds per example: of a sample, of an integral, of a temperature, of the search for the
    best q.
    """
    model, found = run.model, {}
    log_px(model, x, "importance", k=16)
    found["importance"] = _timed(lambda: log_px(model, x, "importance", k=256)) / (
        256 * len(x)
    )
    if exact_methods(run):
        found["quadrature"] = _timed(
            lambda: log_px(model, x[:1], "quadrature", tolerance=TOLERANCE)
        )
    elif FROM_Q in METHODS:
        with suppress(TightboundError):  # of a model that has no such start
            found[FROM_Q] = _timed(
                lambda: log_px(model, x, FROM_Q, temperatures=10)
            ) / ((10 + PILOT) * len(x))
    few = Search(steps=10, rounds=1, k=64)
    with suppress(TightboundError):  # of one whose q has no parameters to search over
        found["gap"] = (
            _timed(lambda: best_bound(run, x, 0, few))
            / len(x)
            * 2
            * Search().steps
            / few.steps
        )
    return found


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
