"""log p(x) by name: the table of methods behind the interface of `estimate.py`, and per-example
scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators.ais import ais
from tightbound.evaluation.estimators.estimate import Estimate, Tick, need_bound
from tightbound.evaluation.estimators.importance import importance
from tightbound.evaluation.estimators.quadrature import quadrature
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, lookup, nearest

METHODS: Mapping[str, Callable[..., Estimate]] = {
    "quadrature": quadrature,
    "importance": importance,
    "ais-q": ais,
    "ais-prior": partial(ais, start="prior", temperatures=1000),
}
NOT_SETTINGS = ("model", "x", "seed", "tick", "start")


def log_px(
    model: VAE,
    x: Tensor | Batch,
    method: str = "importance",
    *,
    seed: int = 0,
    tick: Tick | None = None,
    **settings: Any,
) -> Estimate:
    """log p(x) of x (n, *shape) in model units by a method of `METHODS`; see `estimate.py` for
    what comes back.

    settings: the method's own, such as k=5000; an unknown one is refused.  Raises TightboundError
    where the model has no log p(x) (an autoencoder), or the method is not for such a model, with
    the reason.
    """
    found = lookup(METHODS, method, "method")
    known = [
        name for name in inspect.signature(found).parameters if name not in NOT_SETTINGS
    ]
    for key in settings:
        if key not in known:
            raise TightboundError(
                f"method {method!r} has no setting {key!r}: {nearest(key, known)}"
            )
    for key in ("k", "chains", "temperatures", "leapfrog", "pilot_temperatures"):
        if settings.get(key, 1) < 1:
            raise TightboundError(
                f"{key} = {settings[key]} of method {method!r} says nothing: ask for 1 or more"
            )
    if not len(x):
        raise TightboundError(
            "there are no examples to estimate log p(x) of: give 1 or more"
        )
    x = Batch.of(x)
    need_bound(model, x.to(model.get_buffer("centre").device))
    return found(model, x, seed=seed, tick=tick, **settings)


# standard errors by which a method must be ahead on an example to be chosen there against the
# general best
CLEAR = 2.0


def best(estimates: Sequence[Estimate], pilots: Sequence[Estimate]) -> Estimate:
    """The tightest lower bound of each example among several methods', chosen by pilots with other
    noise.

    The larger of two noisy bounds is no bound; one that is chosen without looking at its own noise
    is.  So the choice looks at the pilots alone: the method with the largest mean, but on an
    example where another is ahead of it by more than two standard errors, that one.  An exact
    method is always chosen.  diagnostic: chosen, an index into settings["methods"].  Raises
    ValueError where an estimate and its pilot share a seed, or one is no lower bound.
    """
    for found, pilot in zip(estimates, pilots, strict=True):
        if found.kind == "exact":
            return replace(
                found,
                diagnostic={
                    "chosen": torch.full((len(found),), estimates.index(found))
                },
            )
        if (
            found.kind != "lower"
            or found.method != pilot.method
            or found.settings["seed"] == pilot.settings["seed"]
        ):
            raise ValueError(
                f"{found.method}: a choice needs a lower bound and a pilot of it with another seed"
            )
    guess, doubt = (
        torch.stack([p.values for p in pilots]),
        torch.stack([p.se.nan_to_num(0) for p in pilots]),
    )
    general = int(guess.mean(1).argmax())
    lead = (guess - guess[general]) / (
        doubt.square() + doubt[general].square()
    ).sqrt().clamp(min=1e-12)
    ahead, by = lead.max(0).indices, lead.max(0).values
    chosen = torch.where(by > CLEAR, ahead, general)
    rows = torch.arange(len(chosen))
    values, se = (
        torch.stack([getattr(e, name) for e in estimates])[chosen, rows]
        for name in ("values", "se")
    )
    names = [e.method for e in estimates]
    settings = {"methods": names, **{e.method: e.settings for e in estimates}}
    return Estimate("best", "lower", values, se, {"chosen": chosen}, settings)


@torch.no_grad()
def score(
    run: Run,
    x: Tensor | Batch,
    k: int,
    seed: int,
    tick: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Per-example terms of x (n, *shape) in model units, float64 (n,), in nats: those of
    `importance` by name.

    distortion, rate, elbo, ess, log_px, log_px_se; a model without a bound has only `distortion`.
    """
    x = Batch.of(x)
    if not run.has_bound:
        return {
            "distortion": torch.cat(
                [_distortion(run, part, tick) for part in x.split(1000)]
            )
        }
    found = importance(
        run.model,
        x,
        k=k,
        seed=seed,
        tick=None if tick is None else lambda m: tick(round(m)),
    )
    terms = {
        name: found.diagnostic[name] for name in ("distortion", "rate", "elbo", "ess")
    }
    return terms | {"log_px": found.values, "log_px_se": found.se}


def _distortion(run: Run, x: Batch, tick: Callable[[int], None] | None) -> Tensor:
    value = run.predictor.trace(x, Draw(source="point")).distortion.double().cpu()
    if tick:
        tick(len(x))
    return value


@torch.no_grad()
def rate_per_feature(run: Run, x: Tensor | Batch, seed: int) -> list[float] | None:
    """KL(q(z_j|x), p(z_j)) of each latent feature, averaged over x; None where a distribution does
    not factorise.
    """
    total: Tensor | None = None
    for part in Batch.of(x).split(1000):
        inputs = part.to(run.device)
        trace = run.predictor.trace(
            inputs, Draw(noise=ContentNoise(seed, inputs.x, 0, 1))
        )
        each = []
        for name in run.sites:
            kl = trace.latents[name].kl_each
            if kl is None:
                return None
            each.append(kl.double().sum(0).cpu())
        sums = torch.cat(each)
        total = sums if total is None else total + sums
    return None if total is None else (total / len(x)).tolist()
