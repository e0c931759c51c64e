"""Measurement of the inference gap KL(q(z|x), p(z|x)), and of the BDMC gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.distributions.random import seed_for
from tightbound.evaluation.budget import Plan
from tightbound.evaluation.cache import CachedResult
from tightbound.evaluation.estimators import amortization_gap
from tightbound.evaluation.estimators.bdmc import bdmc
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import best
from tightbound.evaluation.measures import BDMCGap, InferenceGap, Method
from tightbound.evaluation.runner import Add, Runner, Selection
from tightbound.evaluation.statistic import Mean
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Options, Tree

PILOT_K = 500
PILOT_TEMPERATURES = 50
AT_ONCE = 16  # simulated examples of a piece


@dataclass(frozen=True)
class GapResult:
    """The inference gap, if measured, the methods used, and the reasons of refusals."""

    gap: InferenceGap | None = None
    methods: Mapping[str, Method] = field(default_factory=dict)
    refusals: Sequence[str] = ()


def inference_gap(
    runner: Runner, x: Selection, base: Estimate, plan: Plan
) -> GapResult:
    """The inference gap of examples x by the methods of the plan.

    Args:
        runner: computes the estimates.
        x: the examples.
        base: importance sampling of these examples.
        plan: the methods, and whether the two parts of the gap are measured.

    Returns:
        The gap, or None where the plan has nothing beyond importance sampling.
    """
    estimates = [base]
    methods: dict[str, Method] = {}
    refusals: list[str] = []
    for name, options in plan.methods.items():
        try:
            estimate, spent = runner.estimate(x, name, **options)
        except TightboundError as error:
            refusals.append(str(error))
        else:
            estimates.append(estimate)
            methods[name] = Method.of(estimate, spent, base)
    if len(estimates) == 1 and not plan.gap:
        return GapResult(None, methods, refusals)
    closest, spent = _closest(runner, x, estimates)
    seconds = sum(method.seconds for method in methods.values()) + spent
    elbo = base.diagnostic["elbo"]
    terms = {"log_px": closest.values, "elbo": elbo, "gap": closest.values - elbo}
    settings = {"k": plan.k, "seed": runner.seed, **_choices(closest, estimates)}
    if plan.gap:
        try:
            parts, about, spent = _gap_parts(runner, x, closest.values, elbo)
        except TightboundError as error:
            refusals.append(str(error))
        else:
            terms |= parts
            settings |= about
            seconds += spent
    gap = InferenceGap(
        method=_name(closest, estimates),
        exact=closest.kind == "exact",
        n=len(x),
        terms={name: Mean.of(value) for name, value in terms.items()},
        settings=settings,
        seconds=seconds,
    )
    return GapResult(gap, methods, refusals)


def _gap_parts(
    runner: Runner, x: Selection, log_px: Tensor, elbo: Tensor
) -> tuple[dict[str, Tensor], Tree, float]:
    """The two parts of the gap of each example, settings of the search, and seconds."""
    search = amortization_gap.Search()
    bounds, seconds = runner.bounds(x, search)
    settings = {
        "search": dataclasses.asdict(search),
        "unfinished": float(bounds["last"].mean()),
    }
    return amortization_gap.parts(log_px, elbo, bounds), settings, seconds


def _name(closest: Estimate, estimates: Sequence[Estimate]) -> str:
    if closest.kind == "exact":
        return closest.method
    return " or ".join(e.method for e in estimates)


def _choices(closest: Estimate, estimates: Sequence[Estimate]) -> Tree:
    """How many examples each method was chosen for, where there was a choice."""
    chosen = closest.diagnostic.get("chosen")
    if chosen is None or len(estimates) == 1:
        return {}
    counts = {e.method: int((chosen == i).sum()) for i, e in enumerate(estimates)}
    return {"chosen": counts}


def _closest(
    runner: Runner, x: Selection, estimates: Sequence[Estimate]
) -> tuple[Estimate, float]:
    """The exact estimate, or the tightest lower bound of each example, and seconds.

    The tightest bound is chosen by pilot estimates with other noise, which take the
    seconds.
    """
    exact = [e for e in estimates if e.kind == "exact"]
    if exact:
        return exact[0], 0.0
    if len(estimates) == 1:
        return estimates[0], 0.0
    pilots: list[Estimate] = []
    seconds = 0.0
    seed = seed_for(runner.seed, "choice")
    for e in estimates:
        if e.method == "importance":
            settings = {"k": min(PILOT_K, int(e.settings["k"]))}
        else:
            temperatures = int(e.settings["temperatures"])
            settings = {"temperatures": min(PILOT_TEMPERATURES, temperatures)}
        pilot, spent = runner.estimate(x, e.method, seed=seed, **settings)
        pilots.append(pilot)
        seconds += spent
    return best(estimates, pilots), seconds


def overfitting(test: InferenceGap, train: InferenceGap) -> dict[str, Mean]:
    """Overfitting of decoder and encoder, in nats.

    Returns:
        decoder: log p(x) of training examples above that of test examples. encoder:
        amortisation gap of test examples above that of training examples, where both
        were measured.
    """
    decoder = Mean.difference(train.terms["log_px"], test.terms["log_px"])
    if "amortisation" not in test.terms or "amortisation" not in train.terms:
        return {"decoder": decoder}
    encoder = Mean.difference(test.terms["amortisation"], train.terms["amortisation"])
    return {"decoder": decoder, "encoder": encoder}


def select(e: Estimate, rows: Tensor) -> Estimate:
    """The estimate of some of its examples."""
    diagnostic = {name: value[rows] for name, value in e.diagnostic.items()}
    return dataclasses.replace(
        e, values=e.values[rows], se=e.se[rows], diagnostic=diagnostic
    )


def bdmc_gap(runner: Runner, n: int, options: Options) -> BDMCGap:
    """The BDMC gap of AIS with these settings on n examples simulated by the model.

    Raises:
        TightboundError: if bidirectional Monte Carlo is not possible for the model.
    """

    def compute_piece(start: int, add: Add) -> CachedResult:
        m = min(AT_ONCE, n - start)
        seed = seed_for(runner.seed, "certificate", start)

        def compute() -> tuple[dict[str, Tensor], Options]:
            bracket = bdmc(runner.run.model, m, seed=seed, tick=add, **options)
            values = {"lower": bracket.lower.values, "upper": bracket.upper.values}
            return values, {"settings": bracket.lower.settings}

        key = {"bdmc": dict(options), "seed": seed, "n": m}
        return runner.cache.get(key, Batch(torch.zeros(0, 0)), compute)

    starts = range(0, n, AT_ONCE)
    with runner.progress("BDMC", n) as add:
        pieces = runner.each(starts, lambda start: compute_piece(start, add))
    lower = torch.cat([piece.values["lower"] for piece in pieces])
    upper = torch.cat([piece.values["upper"] for piece in pieces])
    return BDMCGap(
        n=n,
        lower=Mean.of(lower),
        upper=Mean.of(upper),
        gap=Mean.of(upper - lower),
        gaps=(upper - lower).tolist(),
        settings={**pieces[-1].facts["settings"], "seed": runner.seed},
        seconds=sum(piece.seconds for piece in pieces),
    )
