"""evaluate: the terms of log p(x) of a run, on test examples or other data."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.config import MOST_SAMPLES
from tightbound.data import Split, read
from tightbound.evaluation.budget import (
    FROM_Q,
    LEAST,
    Plan,
    Request,
    budgeted_plan,
    requested_plan,
)
from tightbound.evaluation.cache import Cache
from tightbound.evaluation.diagnosis.classification import agreement
from tightbound.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tightbound.evaluation.diagnosis.outliers import row_name
from tightbound.evaluation.estimators.estimate import Estimate, no_bound
from tightbound.evaluation.estimators.methods import rate_per_feature, score
from tightbound.evaluation.inference_gap import (
    bdmc_gap,
    inference_gap,
    overfitting,
    select,
)
from tightbound.evaluation.measures import BDMCGap, InferenceGap, Method
from tightbound.evaluation.metrics.request import MetricRequest, Metrics
from tightbound.evaluation.result import Evaluation
from tightbound.evaluation.runner import Runner, Selection, Tick
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, whole_number
from tightbound.runtime.launch_context import current_launch
from tightbound.runtime.progress import phase
from tightbound.runtime.reading import Options, Tree

TRIED = 2  # examples of the timed trials
RATED = 2000  # examples for the KL of each latent dimension


def evaluate(
    run: Run,
    data: Any = None,
    *,
    split: str = "test",
    k: int = 5000,
    ais: bool = False,
    gap: bool = False,
    subset: int | None = None,
    seed: int | None = None,
    limit: int | None = None,
    diagnosis: bool = True,
    budget: float | None = None,
    metrics: MetricRequest | None = None,
    tick: Tick | None = None,
) -> Evaluation:
    """Evaluates a run: distortion, rate, ELBO, log p(x) and the inference gap.

    Finished pieces are cached in the run folder until all is done, so an interrupted
    evaluation continues where it stopped. Processes of a launch share the pieces.

    Args:
        run: the run.
        data: anything that `run.encode` takes; the run's own data if None.
        split: split of the run's own data.
        k: samples of importance sampling, for each example.
        ais: also annealed importance sampling and its BDMC gap, on the subset.
        gap: also the parts of the inference gap, on the subset and on training examples.
        subset: examples for slow methods, as exact log p(x) of up to 3 latents; 0 for none.
        seed: seed of all draws; the run's own if None.
        limit: number of examples, spread evenly; all if None.
        diagnosis: whether faults of the model are looked for.
        budget: seconds, from which timed trials choose k, limit, subset and methods; those of
            `metrics` come first and are not bounded by it.
        metrics: also quality of samples, novelty and others, by name.
        tick: called with (examples done, examples in all, name of the stage).

    Returns:
        The evaluation, in nats per example.

    Raises:
        TightboundError: for an unknown split, a count below 1, or unfitting data.
    """
    whole_number("k", k, 1, MOST_SAMPLES)
    if limit is not None:
        whole_number("limit", limit, 1)
    if subset is not None:
        whole_number("subset", subset, 0)
    seed = run.config.seed if seed is None else whole_number("seed", seed, 0)
    request = Request(split, k, ais, gap, subset, limit, diagnosis, budget)
    launch = current_launch()
    runner = Runner(
        run, seed, Cache(run.folder, run.predictor.fingerprint), tick, launch
    )
    evaluation = _evaluate(runner, data, request, metrics or MetricRequest())
    runner.cache.clear()
    launch.gather(None)
    launch.on_rank_zero(runner.cache.clear_stale)
    return evaluation


@dataclass(frozen=True)
class _Setup:
    """The examples of an evaluation, what is done with them, and the diagnosis."""

    selection: Selection
    digest: str
    plan: Plan
    budget: Options | None
    diagnosis: Diagnosis | None
    metrics: Metrics
    available: int


@dataclass(frozen=True)
class _Subset:
    """Measurements on a subset of the examples; refusals: reasons of what is missing."""

    methods: Mapping[str, Method] = field(default_factory=dict)
    inference_gap: InferenceGap | None = None
    train: InferenceGap | None = None
    overfitting: Mapping[str, Mean] = field(default_factory=dict)
    bdmc_gap: BDMCGap | None = None
    refusals: Sequence[str] = ()


@dataclass(frozen=True)
class _Measured:
    """Measurements on all examples, and on a subset of them."""

    terms: Mapping[str, Mean]
    bits_per_dim: Mapping[str, Mean] | None = None
    kl_per_latent: list[float] | None = None
    least_ess: float | None = None
    curve: Mapping[int, Mean] = field(default_factory=dict)
    importance: Mapping[str, Method] = field(default_factory=dict)
    subset: _Subset = field(default_factory=_Subset)


def _evaluate(
    runner: Runner, data: Any, request: Request, metrics: MetricRequest
) -> Evaluation:
    run = runner.run
    started = time.perf_counter()
    setup = _prepare(runner, data, request, metrics, started)
    plan = setup.plan
    chosen = setup.selection
    examples = runner.launch.on_rank_zero(chosen.digest)
    reason = "" if run.config.recipe.has_bound else no_bound(run.config.recipe)
    if run.config.recipe.has_bound:
        measured = _measure(runner, chosen, plan, _training_rows(run, plan, data))
    else:
        measured = _Measured(_distortion(runner, chosen))
    subset = measured.subset
    return Evaluation(
        name=run.name,
        split=request.split if data is None else _name_of(data),
        n=plan.n,
        k=plan.k if run.config.recipe.has_bound else 0,
        seed=runner.seed,
        bound=run.config.recipe.has_bound,
        terms=measured.terms,
        bits_per_dim=measured.bits_per_dim,
        kl_per_latent=measured.kl_per_latent,
        digest=setup.digest,
        examples=examples,
        least_ess=measured.least_ess,
        weights=runner.cache.weights,
        curve=measured.curve,
        methods={**measured.importance, **subset.methods},
        inference_gap=subset.inference_gap,
        train=subset.train,
        overfitting=subset.overfitting,
        bdmc_gap=subset.bdmc_gap,
        diagnosis=setup.diagnosis,
        metrics=setup.metrics,
        budget=setup.budget,
        reason=reason,
        notes=_notes(run, data, request, setup, subset.refusals),
        seconds=time.perf_counter() - started,
    )


def _name_of(data: Any) -> str:
    return str(data) if isinstance(data, str | Path) else "given"


def _prepare(
    runner: Runner,
    data: Any,
    request: Request,
    metrics: MetricRequest,
    started: float,
) -> _Setup:
    """Reads the examples, measures metrics, diagnoses the run, and makes the plan."""
    run = runner.run
    launch = runner.launch
    rows, digest = launch.rank_zero_first(lambda: _read(run, data, request.split))
    n = len(rows) if request.limit is None else min(request.limit, len(rows))
    split = request.split if data is None else _name_of(data)
    chosen = Selection(rows, rows.spread(n))
    measured = launch.on_rank_zero(lambda: _metrics_of(runner, chosen, split, metrics))
    diagnosis = None
    if request.diagnosis:
        diagnosis = launch.on_rank_zero(
            lambda: _diagnose(runner, data, rows, n, measured)
        )
    plan = requested_plan(run, n, request)
    budget = None
    if request.budget is not None and run.config.recipe.has_bound:
        left = request.budget - (time.perf_counter() - started)
        train = data is None and isinstance(run.data.train, Split)
        budgets = (request.budget, left)
        plan, trials = _fit_to_budget(runner, rows, n, budgets, train)
        about = {"seconds": request.budget, "trials": trials}
        budget = {**about, "plan": dataclasses.asdict(plan)}
    selection = Selection(rows, rows.spread(plan.n))
    return _Setup(selection, digest, plan, budget, diagnosis, measured, len(rows))


def _fit_to_budget(
    runner: Runner, rows: Split, n: int, budget: tuple[float, float], train: bool
) -> tuple[Plan, dict[str, float]]:
    """The plan for a budget (all seconds, those left), and seconds of the trials.

    A continued evaluation keeps to the plan that it was started with.
    """
    total, left = budget

    def decide() -> Tree:
        x = rows.examples(rows.spread(TRIED))
        plan, trials = budgeted_plan(runner.run, x, n, left, train)
        return {"plan": dataclasses.asdict(plan), "trials": trials}

    key = {"budget": total, "n": n, "seed": runner.seed, "rows": len(rows)}
    decided = runner.launch.on_rank_zero(lambda: runner.cache.decision(key, decide))
    return Plan(**decided["plan"]), decided["trials"]


def _distortion(runner: Runner, x: Selection) -> dict[str, Mean]:
    """The distortion, of a model without a bound."""
    run = runner.run

    def compute_piece(rows: Tensor) -> Tensor:
        return score(run, x.split.examples(rows), 1, runner.seed)["distortion"]

    pieces = runner.each(x.rows.split(1000), compute_piece)
    return {"distortion": Mean.of(torch.cat(pieces))}


def _measure(
    runner: Runner, x: Selection, plan: Plan, train: Selection | None
) -> _Measured:
    """All measurements of a model that has a bound."""
    run = runner.run
    base, seconds = runner.estimate(x, "importance", k=plan.k)
    values = base.diagnostic | {"log_px": base.values}
    terms = {
        name: Mean.of(values[name])
        for name in ("distortion", "rate", "elbo", "log_px", "ess")
    }
    terms["gap"] = Mean.of(values["log_px"] - values["elbo"])
    curve = {
        k: Mean.of(values["curve"][:, i]) for i, k in enumerate(base.settings["curve"])
    }
    bits = None
    if run.spec.discrete and not run.spec.missing:
        unit = -math.log(2) * run.spec.dims
        bits = {name: Mean.of(values[name] / unit) for name in ("elbo", "log_px")}
    kl_per_latent = runner.launch.on_rank_zero(
        lambda: rate_per_feature(run, x.subset(RATED)[1].x(), runner.seed)
    )
    return _Measured(
        terms=terms,
        bits_per_dim=bits,
        kl_per_latent=kl_per_latent,
        least_ess=float(values["ess"].min()),
        curve={**curve, plan.k: curve.get(plan.k, terms["log_px"])},
        importance={"importance": Method.of(base, seconds)},
        subset=_measure_subset(runner, x, base, plan, train),
    )


def _measure_subset(
    runner: Runner, x: Selection, base: Estimate, plan: Plan, train: Selection | None
) -> _Subset:
    """The slow measurements; base: importance sampling of all examples."""
    if not plan.subset:
        return _Subset()
    places, subset = x.subset(plan.subset)
    test = inference_gap(runner, subset, select(base, places), plan)
    refusals = list(test.refusals)
    train_gap = None
    overfitted: dict[str, Mean] = {}
    if train is not None and test.gap is not None:
        train_base, _ = runner.estimate(train, "importance", k=plan.k)
        train_gap = inference_gap(runner, train, train_base, plan).gap
        assert train_gap is not None
        overfitted = overfitting(test.gap, train_gap)
    bdmc = None
    if FROM_Q in test.methods:
        n = max(LEAST, plan.subset // 2)
        try:
            bdmc = bdmc_gap(runner, n, plan.methods[FROM_Q])
        except TightboundError as error:
            refusals.append(str(error))
    return _Subset(test.methods, test.gap, train_gap, overfitted, bdmc, refusals)


def _training_rows(run: Run, plan: Plan, data: Any) -> Selection | None:
    """Training examples to evaluate beside the test examples, if the plan has them."""
    if not plan.train or not plan.subset or data is not None:
        return None
    train = run.data.train
    if not isinstance(train, Split):  # a stream
        return None
    return Selection(train, train.spread(plan.subset))


def _metrics_of(
    runner: Runner, selection: Selection, split: str, request: MetricRequest
) -> Metrics:
    """The metrics that are requested; their room is imported where there are any."""
    if not request.names:
        return Metrics()
    from tightbound.evaluation.metrics.measure import Source, measure

    return measure(Source(runner.run, selection, split, runner.seed, request))


def _diagnose(
    runner: Runner, data: Any, rows: Split, n: int, metrics: Metrics
) -> Diagnosis:
    """The diagnosis on at most n of the run's test examples, or of the given data."""
    run = runner.run
    is_test = data is None and len(run.data.test) > 0
    test = run.data.test if is_test else rows
    chosen = test.spread(min(n, 1000))
    names = [row_name(test, int(row)) for row in chosen]
    x = test.examples(chosen)
    return diagnose(run, x, runner.seed, names, novelty=metrics.novelty)


def _equal_rows(run: Run) -> list[str]:
    """The remark on test examples that are equal to training examples."""
    overlap = run.data.overlap
    if overlap is None or not overlap.test_in_train or not run.data.held_out:
        return []
    sentence = (
        f"{overlap.test_in_train:,} of {overlap.test:,} test examples are equal to a "
        "training example"
    )
    if overlap.by_nature:
        return [f"{sentence}; examples repeat in these data"]
    return [f"{sentence}, so the figures are too good"]


def _near_copies(metrics: Metrics) -> list[str]:
    """The remark on test examples that nearly are training examples."""
    if metrics.novelty is None or not metrics.novelty.pixels.has_near_copies:
        return []
    share = metrics.novelty.pixels.typical_copies
    return [
        f"{share:.0%} of the examples are near copies of a training example, less than a "
        "third as far from it as from the next one; unless such rows repeat by nature, "
        "the figures are too good"
    ]


def _notes(
    run: Run, data: Any, request: Request, setup: _Setup, refusals: Sequence[str]
) -> list[str]:
    """Remarks on the examples, on what was left out, and on labels."""
    notes = [] if run.fitted is None else [str(run.fitted)]
    notes += _about_examples(run, data, request, setup)
    if not run.config.recipe.has_bound and (
        request.ais or request.gap or request.budget
    ):
        reason = no_bound(run.config.recipe)
        notes.append(f"log p(x) and the parts of a gap were left out: {reason}")
    notes += dict.fromkeys(refusals)
    notes += dict.fromkeys(f"left out: {reason}" for reason in setup.metrics.skipped)
    notes += _near_copies(setup.metrics)
    if data is None:
        sentence = agreement(run, setup.selection.split, setup.selection.rows)
        if sentence is not None:
            notes.append(sentence)
    return notes


def _about_examples(run: Run, data: Any, request: Request, setup: _Setup) -> list[str]:
    """Remarks on how many examples were evaluated, and on whether they are unseen."""
    notes = []
    n = setup.plan.n
    if n < setup.available:
        notes.append(f"{n} of {setup.available} examples, spread evenly")
    if data is None and not run.data.held_out:
        notes.append(
            "these examples stand for a stream and were trained on too, so the "
            "figures are too good"
        )
    if data is None and request.split == "test":
        notes += _equal_rows(run)
    return notes


def _read(run: Run, data: Any, split: str) -> tuple[Split, str]:
    """The rows to evaluate, and the digest of the data set."""
    if data is not None:
        with phase(f"reading {_name_of(data)}"):
            return read(data, run.spec, run.config.data), ""
    splits = run.data.splits
    if split not in splits:
        raise TightboundError(
            f"there is no split {split!r}: name one of {', '.join(splits)}"
        )
    rows = splits[split]
    if not isinstance(rows, Split):
        raise TightboundError(
            f"split {split!r} is a stream, which cannot be evaluated: give the "
            "examples as data"
        )
    return rows, run.data.digest
