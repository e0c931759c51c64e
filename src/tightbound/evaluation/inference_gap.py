"""The inference gap, KL(q(z|x), p(z|x)) = log p(x) - ELBO, its parts, the BDMC gap of AIS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tightbound.core.trace import Batch
from tightbound.distributions.random import seed_for
from tightbound.evaluation.budget import Plan
from tightbound.evaluation.cache import Piece
from tightbound.evaluation.estimators import amortization_gap as gap_room
from tightbound.evaluation.estimators.bdmc import bdmc
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import best
from tightbound.evaluation.result import Evaluation, InferenceGap, Method
from tightbound.evaluation.runner import Chosen, Work
from tightbound.evaluation.statistic import Mean
from tightbound.runtime.errors import TightboundError

PILOT_K, PILOT_TEMPERATURES, AT_ONCE = 500, 50, 16


def inference_gap(
    work: Work, found: Evaluation | None, x: Chosen, base: Estimate, plan: Plan
) -> InferenceGap | None:
    """The inference gap of some examples by the methods of the plan.

    The figures of the methods and their refusals go to `found` as well.

    base: importance sampling of these examples.  None where there is nothing closer and no gap to
    part.
    """
    tried, spent = [base], 0.0
    for name, options in plan.methods.items():
        try:
            other, seconds = work.estimate(x, name, **options)
        except TightboundError as error:
            _refused(found, error)
            continue
        tried, spent = [*tried, other], spent + seconds
        if found is not None:
            found.methods[name] = Method.of(other, seconds, base)
    if len(tried) == 1 and not plan.gap:
        return None
    closest, seconds = _closest(work, x, tried)
    log_px, elbo = closest.values, base.diagnostic["elbo"]
    terms: dict[str, Tensor] = {"log_px": log_px, "elbo": elbo, "gap": log_px - elbo}
    settings: dict[str, Any] = {"k": plan.k, "seed": work.seed}
    if "chosen" in closest.diagnostic and len(tried) > 1:
        chosen = closest.diagnostic["chosen"]
        settings["chosen"] = {
            e.method: int((chosen == i).sum()) for i, e in enumerate(tried)
        }
    spent += seconds
    if plan.gap:
        search = gap_room.Search()
        try:
            bounds, seconds = work.bounds(x, search)
            terms.update(gap_room.parts(log_px, elbo, bounds))
            spent += seconds
            settings |= {
                "search": dataclasses.asdict(search),
                "unfinished": float(bounds["last"].mean()),
            }
        except TightboundError as error:
            _refused(found, error)
    figures = {name: Mean.of(value) for name, value in terms.items()}
    exact = closest.kind == "exact"
    names = [closest.method] if exact else [e.method for e in tried]
    return InferenceGap(" or ".join(names), exact, len(x), figures, settings, spent)


def _refused(found: Evaluation | None, error: TightboundError) -> None:
    if found is not None and str(error) not in found.notes:
        found.notes.append(str(error))


def _closest(work: Work, x: Chosen, tried: list[Estimate]) -> tuple[Estimate, float]:
    """The exact method, or the tightest bound of each example, chosen by pilots with other noise;
    seconds of those.
    """
    exact = [e for e in tried if e.kind == "exact"]
    if exact or len(tried) == 1:
        return (exact or tried)[0], 0.0
    pilots: list[Estimate] = []
    spent, seed = 0.0, seed_for(work.seed, "choice")
    for e in tried:
        size = "k" if e.method == "importance" else "temperatures"
        least = PILOT_K if size == "k" else PILOT_TEMPERATURES
        pilot, seconds = work.estimate(
            x, e.method, noise=seed, **{size: min(least, int(e.settings[size]))}
        )
        pilots, spent = [*pilots, pilot], spent + seconds
    return best(tried, pilots), spent


def overfitting(test: InferenceGap, train: InferenceGap) -> dict[str, Mean]:
    """decoder: log p(x) that training examples have more.

    encoder: amortisation gap that test examples have more.
    """
    found = {"decoder": Mean.difference(train.terms["log_px"], test.terms["log_px"])}
    if "amortisation" in test.terms and "amortisation" in train.terms:
        found["encoder"] = Mean.difference(
            test.terms["amortisation"], train.terms["amortisation"]
        )
    return found


def select(e: Estimate, rows: Tensor) -> Estimate:
    """The estimate of some of its examples."""
    diagnostic = {name: value[rows] for name, value in e.diagnostic.items()}
    return Estimate(
        e.method, e.kind, e.values[rows], e.se[rows], diagnostic, e.settings
    )


def bdmc_gap(
    work: Work, n: int, options: Mapping[str, Any], found: Evaluation
) -> dict[str, Any] | None:
    """What the settings of AIS are off by on n examples that the model itself made (`bdmc`), nats;
    None if refused.

    lower, upper, gap: means with errors; gaps: of each example.
    """
    tell = work.teller("BDMC", n)

    def piece(start: int) -> Piece:
        m, seed = min(AT_ONCE, n - start), seed_for(work.seed, "certificate", start)

        def compute() -> tuple[dict[str, Tensor], dict[str, Any]]:
            pair = bdmc(work.run.model, m, seed=seed, tick=tell, **options)
            return {"lower": pair.lower.values, "upper": pair.upper.values}, {
                "settings": pair.lower.settings
            }

        return work.pieces.get(
            {"bdmc": dict(options), "seed": seed, "n": m},
            Batch(torch.zeros(0, 0)),
            compute,
        )

    try:
        pieces = work.each(range(0, n, AT_ONCE), piece)
    except TightboundError as error:
        _refused(found, error)
        return None
    settings = {**pieces[-1].facts["settings"], "seed": work.seed}
    low, high = (
        torch.cat([p.values[name] for p in pieces]) for name in ("lower", "upper")
    )
    spent = sum(p.seconds for p in pieces)
    figures = {
        "lower": Mean.of(low),
        "upper": Mean.of(high),
        "gap": Mean.of(high - low),
    }
    made = {name: figure.to_json() for name, figure in figures.items()}
    return {
        "n": n,
        **made,
        "gaps": (high - low).tolist(),
        "settings": settings,
        "seconds": round(spent, 2),
    }
