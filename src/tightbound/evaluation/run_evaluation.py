"""evaluate: which figures of an account are computed, on which examples, in pieces that survive an
interruption.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.core.trace import Batch
from tightbound.data import Split
from tightbound.evaluation.budget import FROM_Q, LEAST, Plan, asked, within
from tightbound.evaluation.cache import Pieces
from tightbound.evaluation.diagnosis.classification import agreement
from tightbound.evaluation.diagnosis.diagnose import diagnose
from tightbound.evaluation.estimators.estimate import no_bound
from tightbound.evaluation.estimators.methods import rate_per_feature, score
from tightbound.evaluation.inference_gap import (
    certificate,
    overfitting,
    select,
    third_term,
)
from tightbound.evaluation.result import Evaluation, Method
from tightbound.evaluation.runner import Chosen, Tick, Work
from tightbound.evaluation.statistic import Figure
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import current_launch

TRIED = 2  # examples of the timed trials


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
    tick: Tick | None = None,
) -> Evaluation:
    """The account of a run on its test split, or on other data: distortion, rate, ELBO, log p(x)
    with K samples, gap.

    data: anything `run.encode` takes; the run's own data where None.  limit: n examples only,
    spread evenly. subset: on how many examples slow things are done (0: none): exact log p(x) of
    models with up to 3 latents; `ais`: annealed importance sampling and its certificate; `gap`: its
    two parts, on training examples too.  budget: seconds, by which timed trials choose all of
    these.  diagnosis: says what is wrong.  tick: called with (done, n, what). Finished pieces are
    kept in the run folder until all is done, so that an interrupted evaluation goes on.  Processes
    of a launch share the pieces, and all return the same. Raises TightboundError for an unknown
    split, a count below 1, or data that do not fit the model.
    """
    for what, count in (
        ("k", k),
        ("limit", limit),
        ("subset", None if subset == 0 else subset),
    ):
        if count is not None and count < 1:
            raise TightboundError(f"{what} = {count} says nothing: ask for 1 or more")
    started = time.perf_counter()
    seed = run.config.seed if seed is None else seed
    launch = current_launch()
    rows, digest = launch.rank_zero_first(lambda: _examples(run, data, split))
    n = len(rows) if limit is None else min(limit, len(rows))
    work = Work(run, seed, Pieces(run.folder, run.fingerprint), tick, launch)
    judged = (
        launch.on_rank_zero(lambda: diagnose(run, _judged(run, data, rows, n), seed))
        if diagnosis
        else None
    )
    plan, trials = asked(run, n, k, subset, ais, gap), None
    if budget is not None and run.has_bound:
        plan, trials = _settled(
            work, rows, n, budget, time.perf_counter() - started, data is None
        )
    x = Chosen(rows, rows.spread(plan.n))
    found = Evaluation(
        name=run.name,
        split=split
        if data is None
        else str(data)
        if isinstance(data, str | Path)
        else "given",
        n=plan.n,
        k=plan.k if run.has_bound else 0,
        seed=seed,
        bound=run.has_bound,
        reason="" if run.has_bound else no_bound(run.config.recipe),
        digest=digest,
        examples=launch.on_rank_zero(x.digest),
        weights=work.pieces.weights,
        diagnosis=judged,
        budget=trials
        and {"seconds": budget, "trials": trials, "plan": dataclasses.asdict(plan)},
        notes=_notes(run, data, plan.n, len(rows)),
    )
    if run.has_bound:
        _measure(
            work,
            found,
            x,
            plan,
            _training(run, plan.subset)
            if plan.train and plan.subset and data is None
            else None,
        )
    else:
        parts = work.each(
            x.rows.split(1000), lambda some: _distortion(run, rows.examples(some), seed)
        )
        found.account = {"distortion": Figure.of(torch.cat(parts))}
        if ais or gap or budget:
            found.notes.append(
                f"log p(x) and the parts of a gap were left out: {found.reason}"
            )
    if data is None and (said := agreement(run, x.split, x.rows)) is not None:
        found.notes.append(said)
    work.pieces.clear()
    launch.gather(None)
    launch.on_rank_zero(work.pieces.clear_rest)
    found.seconds = time.perf_counter() - started
    return found


def _settled(
    work: Work, rows: Split, n: int, budget: float, spent: float, own: bool
) -> tuple[Plan, dict[str, float]]:
    """The plan for a budget, by timed trials the first time; a continued evaluation keeps to it."""
    train = own and _training(work.run, 1) is not None

    def decide() -> dict[str, Any]:
        plan, trials = within(
            work.run, rows.examples(rows.spread(TRIED)), n, budget - spent, train
        )
        return {"plan": dataclasses.asdict(plan), "trials": trials}

    what = {"budget": budget, "n": n, "seed": work.seed, "rows": len(rows)}
    decided = work.launch.on_rank_zero(lambda: work.pieces.settled(what, decide))
    return Plan(**decided["plan"]), decided["trials"]


def _distortion(run: Run, x: Batch, seed: int) -> Tensor:
    return score(run, x, 1, seed)["distortion"]


def _measure(
    work: Work, found: Evaluation, x: Chosen, plan: Plan, train: Chosen | None
) -> None:
    """Fills in the account of a model that has a bound."""
    run = work.run
    base, spent = work.estimate(x, "importance", k=plan.k)
    terms = base.diagnostic | {"log_px": base.values}
    found.account = {
        name: Figure.of(terms[name])
        for name in ("distortion", "rate", "elbo", "log_px", "ess")
    }
    found.account["gap"] = Figure.of(terms["log_px"] - terms["elbo"])
    found.least_ess = float(terms["ess"].min())
    found.curve = {
        k: Figure.of(terms["curve"][:, i]) for i, k in enumerate(base.settings["curve"])
    }
    if plan.k not in found.curve:
        found.curve[plan.k] = found.account["log_px"]
    if run.spec.discrete and not run.spec.missing:
        unit = -math.log(2) * run.spec.dims
        found.bits_per_dim = {
            name: Figure.of(terms[name] / unit) for name in ("elbo", "log_px")
        }
    found.kl_per_latent = work.launch.on_rank_zero(
        lambda: rate_per_feature(run, x.some(2000)[1].x(), work.seed)
    )
    found.methods["importance"] = Method.of(base, spent)
    if not plan.subset:
        return
    at, some = x.some(plan.subset)
    found.third_term = third_term(work, found, some, select(base, at), plan)
    if train is not None and found.third_term is not None:
        rows, _ = work.estimate(train, "importance", k=plan.k)
        found.train = third_term(work, None, train, rows, plan)
        assert found.train is not None
        found.overfitting = overfitting(found.third_term, found.train)
    if FROM_Q in found.methods:
        found.certificate = certificate(
            work, max(LEAST, plan.subset // 2), plan.methods[FROM_Q], found
        )


def _training(run: Run, n: int) -> Chosen | None:
    train = run.data.train
    return Chosen(train, train.spread(n)) if isinstance(train, Split) else None


def _judged(run: Run, data: Any, rows: Split, n: int) -> Batch:
    """What a diagnosis holds against the training data: test examples, or the data that
    were given.
    """
    test = run.data.test if data is None and len(run.data.test) else rows
    return test.examples(test.spread(min(n, 1000)))


def _notes(run: Run, data: Any, n: int, of: int) -> list[str]:
    notes = [] if run.fitted is None else [str(run.fitted)]
    notes += [f"{n} of {of} examples, spread evenly"] if n < of else []
    if data is None and not run.data.held_out:
        notes.append(
            "these examples stand for a stream and were trained on too: the "
            "figures flatter the model"
        )
    return notes


def _examples(run: Run, data: Any, split: str) -> tuple[Split, str]:
    from tightbound import data as data_room

    if data is not None:
        return data_room.read(data, run.spec, run.config.data), ""
    splits = run.data.splits
    if split not in splits:
        raise TightboundError(
            f"there is no split {split!r}: name one of {', '.join(splits)}"
        )
    if not isinstance(splits[split], Split):
        raise TightboundError(
            f"split {split!r} is a stream, which cannot be evaluated: give the examples as data"
        )
    return splits[split], run.data.digest
