"""Plan of an evaluation: as requested, or as much as fits into a given time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.amortization_gap import Search, best_bound
from tightbound.evaluation.estimators.methods import METHODS, log_px
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, phase
from tightbound.runtime.reading import Options

SUBSET = 64  # examples for slow methods
SUBSET_3D = 8  # of integrals over three latents, which take seconds each
FEW_LATENTS = 3  # quadrature is used for at most so many latents
TOLERANCE = 1e-4  # of quadrature, nats
FROM_Q = "ais-q"
TEMPERATURES = (600, 300, 150, 75, 40)
TRIALS_OF_A_PLAN = 3  # sampling, a slow method, and the search for a better q
PILOT = 30  # temperatures of the pilot run of AIS
SAMPLES = (5000, 2000, 1000, 500, 200, 100, 50)
SHARE = 0.4  # of the time for importance sampling
LEAST = 8  # examples for slow methods, below which they are left out
MOST = 500  # examples for slow methods, at the most


@dataclass(frozen=True)
class Request:
    """Options of `evaluate`; see there."""

    split: str = "test"
    k: int = 5000
    ais: bool = False
    gap: bool = False
    subset: int | None = None
    limit: int | None = None
    diagnosis: bool = True
    budget: float | None = None


@dataclass(frozen=True)
class Plan:
    """Sample and example counts of an evaluation, and its methods with settings.

    Args:
        k: samples of importance sampling.
        n: examples.
        subset: examples for the slow methods.
        methods: other methods for log p(x), with their settings.
        gap: whether the two parts of the inference gap are measured.
        train: whether they are measured on training examples too.
    """

    k: int
    n: int
    subset: int
    methods: dict[str, Options] = field(default_factory=dict)
    gap: bool = False
    train: bool = False


def exact_methods(run: Run) -> dict[str, Options]:
    """Quadrature with its settings, for a model with few enough latents."""
    if sum(run.model.site_widths.values()) <= FEW_LATENTS:
        return {"quadrature": {"tolerance": TOLERANCE}}
    return {}


def requested_plan(run: Run, n: int, request: Request) -> Plan:
    """The plan for a request without a budget, for n examples."""
    if request.subset == 0:
        return Plan(request.k, n, 0)
    methods = exact_methods(run)
    if request.ais:
        methods[FROM_Q] = {}
    default = (
        SUBSET_3D if sum(run.model.site_widths.values()) == FEW_LATENTS else SUBSET
    )
    subset = min(n, request.subset or default)
    return Plan(request.k, n, subset, methods, request.gap, request.gap)


def budgeted_plan(
    run: Run, x: Batch, n: int, seconds: float, train: bool
) -> tuple[Plan, dict[str, float]]:
    """The plan that fits into a time, from timed trials on a few examples x.

    Four tenths of the time are for importance sampling on all n examples, or on fewer
    where even K = 50 takes too long. The rest is for the exact or annealed log p(x) and
    for the two parts of the inference gap, on as many examples as fit.

    Args:
        run: the run.
        x: a few examples for the trials.
        n: number of examples of the evaluation.
        seconds: time of the whole evaluation.
        train: whether training examples are evaluated beside test examples.

    Returns:
        The plan, and the seconds per example of each trial.
    """
    trials = _trials(run, x)
    sample = trials["importance"]
    fitting = [k for k in SAMPLES if k * sample * n < SHARE * seconds]
    k = fitting[0] if fitting else SAMPLES[-1]
    n = min(n, max(1, int(SHARE * seconds / (k * sample))))
    remaining = (1 - SHARE) * 0.9 * seconds
    if train:
        remaining /= 2
    methods, cost = _slow_methods(run, trials, remaining)
    subset = min(n, MOST, int(remaining / cost)) if cost else 0
    if subset < min(n, LEAST):
        return Plan(k, n, min(n, LEAST)), trials
    gap = "gap" in trials
    return Plan(k, n, subset, methods, gap, train and gap), trials


def _slow_methods(
    run: Run, trials: dict[str, float], seconds: float
) -> tuple[dict[str, Options], float]:
    """The methods beside importance sampling, and the seconds of an example with all.

    Args:
        run: the run.
        trials: seconds per example of each trial.
        seconds: time of the methods and of the search for a better q.
    """
    methods = exact_methods(run)
    cost = trials.get("quadrature", 0.0) + trials.get("gap", 0.0)
    if FROM_Q not in trials:
        return methods, cost
    costs = {t: _temperatures_in_all(t) * trials[FROM_Q] for t in TEMPERATURES}
    affordable = [t for t in costs if (costs[t] + cost) * 2 * LEAST < seconds]
    if affordable:
        methods[FROM_Q] = {"temperatures": affordable[0]}
        cost += costs[affordable[0]]
    return methods, cost


def _temperatures_in_all(temperatures: int) -> int:
    """Temperatures of an example: measured, of pilots, of the choice, of BDMC."""
    return 2 * temperatures + 4 * PILOT


def _trials(run: Run, x: Batch) -> dict[str, float]:
    """Seconds per example of a sample, an integral, a temperature, and a search."""
    with phase("timing the estimates", TRIALS_OF_A_PLAN, " trials") as count:
        return _timed_trials(run, x, count)


def _timed_trials(run: Run, x: Batch, count: Steady) -> dict[str, float]:
    """The same, each trial counted."""
    model = run.model
    log_px(model, x, "importance", k=16)
    seconds = _timed(lambda: log_px(model, x, "importance", k=256))
    count.add(1)
    trials = {"importance": seconds / (256 * len(x))}
    if exact_methods(run):
        trials["quadrature"] = _timed(
            lambda: log_px(model, x[:1], "quadrature", tolerance=TOLERANCE)
        )
    elif FROM_Q in METHODS:
        with suppress(TightboundError):  # models on which AIS from q is not possible
            seconds = _timed(lambda: log_px(model, x, FROM_Q, temperatures=10))
            trials[FROM_Q] = seconds / ((10 + PILOT) * len(x))
    count.add(1)
    short = Search(steps=10, rounds=1, k=64)
    with suppress(TightboundError):  # models whose q has no parameters to search over
        seconds = _timed(lambda: best_bound(run, x, 0, short))
        trials["gap"] = seconds / len(x) * 2 * Search().steps / short.steps
    count.add(1)
    return trials


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
