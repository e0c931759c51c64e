"""log p(x) by the name of a method, and the terms of the ELBO of each example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tightbound.config import MOST_SAMPLES
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators.ais import ais
from tightbound.evaluation.estimators.estimate import (
    Estimate,
    Tick,
    need_bound,
)
from tightbound.evaluation.estimators.importance import importance
from tightbound.evaluation.estimators.importance_ais import importance_ais
from tightbound.evaluation.estimators.quadrature import quadrature
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.runtime.errors import (
    TightboundError,
    lookup,
    nearest,
    whole_number,
)
from tightbound.runtime.reading import Options

METHODS: Mapping[str, Callable[..., Estimate]] = {
    "quadrature": quadrature,
    "importance": importance,
    "importance-ais": importance_ais,
    "ais-q": ais,
    "ais-prior": partial(ais, start="prior", temperatures=1000),
}
NOT_SETTINGS = ("model", "x", "seed", "tick", "start")
COUNTS = ("k", "chains", "temperatures", "leapfrog", "pilot_temperatures")
# Standard errors by which a method must be ahead on an example to replace the method
# that is best on average.
CLEAR = 2.0


def log_px(
    model: VAE,
    x: Tensor | Batch,
    method: str = "importance",
    *,
    seed: int = 0,
    tick: Tick | None = None,
    **settings: Any,
) -> Estimate:
    """Estimates log p(x) of each example by a method of `METHODS`.

    Args:
        model: the model.
        x: examples (n, *shape) in model units.
        method: quadrature, importance, importance-ais, ais-q or ais-prior.
        seed: seed of all draws.
        tick: called with the number of examples finished since the last call.
        **settings: settings of the method, such as k=5000.

    Returns:
        The estimate, nats per example.

    Raises:
        TightboundError: for an unknown method or setting; if the model has no log p(x)
            (an autoencoder), or the method is not possible for it, with the reason.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> x = data.train.examples(3).x
        >>> exact = tb.log_px(model.eval(), x, "quadrature", seed=0)
        >>> exact.kind, exact.values.shape
        ('exact', torch.Size([3]))
    """
    function = lookup(METHODS, method, "method")
    _check_settings(method, function, settings)
    if not len(x):
        raise TightboundError(
            "there are no examples to estimate log p(x) of: give 1 or more"
        )
    x = Batch.of(x)
    need_bound(model, x.to(model.get_buffer("centre").device))
    return function(model, x, seed=seed, tick=tick, **settings)


def _check_settings(
    method: str, function: Callable[..., Estimate], settings: Options
) -> None:
    names = [
        name
        for name in inspect.signature(function).parameters
        if name not in NOT_SETTINGS
    ]
    for key in settings:
        if key not in names:
            raise TightboundError(
                f"method {method!r} has no setting {key!r}: {nearest(key, names)}"
            )
    for key in COUNTS:
        whole_number(key, settings.get(key, 1), 1, MOST_SAMPLES)


def best(estimates: Sequence[Estimate], pilots: Sequence[Estimate]) -> Estimate:
    """The tightest lower bound of each example among several methods'.

    The larger of two noisy bounds is no bound, but one that is chosen independently of
    its own noise is. So the choice depends on pilots with other noise alone: the method
    with the largest mean, or on an example where another is ahead of it by more than
    two standard errors, that one. An exact method is always chosen.

    Args:
        estimates: lower bounds or exact values of the same examples.
        pilots: for each of them, an estimate by the same method with another seed.

    Returns:
        The chosen values. diagnostic: chosen, an index into settings["methods"].

    Raises:
        ValueError: if an estimate and its pilot share a seed, or one is no lower bound.
    """
    for i, (estimate, pilot) in enumerate(zip(estimates, pilots, strict=True)):
        if estimate.kind == "exact":
            return replace(
                estimate, diagnostic={"chosen": torch.full((len(estimate),), i)}
            )
        if (
            estimate.kind != "lower"
            or estimate.method != pilot.method
            or estimate.settings["seed"] == pilot.settings["seed"]
        ):
            raise ValueError(
                f"{estimate.method}: a choice needs a lower bound and a pilot of it "
                "with another seed"
            )
    chosen = _choose(pilots)
    rows = torch.arange(len(chosen))
    values = torch.stack([e.values for e in estimates])[chosen, rows]
    se = torch.stack([e.se for e in estimates])[chosen, rows]
    names = [e.method for e in estimates]
    settings = {"methods": names, **{e.method: e.settings for e in estimates}}
    return Estimate("best", "lower", values, se, {"chosen": chosen}, settings)


def _choose(pilots: Sequence[Estimate]) -> Tensor:
    """The index of the best method of each example, (n,), from pilots."""
    values = torch.stack([p.values for p in pilots])
    se = torch.stack([_spread(p) for p in pilots])
    general = int(values.mean(1).argmax())
    error = (se.square() + se[general].square()).sqrt().clamp(min=1e-12)
    lead = ((values - values[general]) / error).max(0)
    return torch.where(lead.values > CLEAR, lead.indices, general)


def _spread(pilot: Estimate) -> Tensor:
    """Standard error of a pilot's values, (n,), for a choice that needs no coverage.

    That of importance sampling is by the delta method over its weights, also where their
    tail is too heavy for an error that holds.
    """
    if pilot.method != "importance":
        return pilot.se.nan_to_num(0)
    k = int(pilot.settings["k"])
    return ((k / pilot.diagnostic["ess"] - 1) / k).clamp(min=0).sqrt()


@torch.no_grad()
def score(
    run: Run,
    x: Tensor | Batch,
    k: int,
    seed: int,
    tick: Callable[[int], None] | None = None,
    *,
    ais: bool = False,
) -> dict[str, Tensor]:
    """The terms of each example, by importance sampling.

    Args:
        run: the run.
        x: examples (n, *shape) in model units.
        k: samples.
        seed: seed of all draws.
        tick: called with the number of examples finished since the last call.
        ais: whether examples whose Pareto k may be above 0.7 get their log_px by annealed
            importance sampling, which takes some ten times longer for them.

    Returns:
        Tensors (n,) in float64, nats: distortion, rate, elbo, log_px, log_px_se, and
        without a unit ess and pareto_k of the importance weights; only distortion for a
        model without a bound. log_px_se is not a number where log_px is a lower bound in
        expectation without an interval: Pareto k may be above 0.7, or k is below 25.

    Raises:
        TightboundError: k is no whole number of 1 or more.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        >>> terms = tb.score(run, data.train.examples(3).x, k=20, seed=0)
        >>> bool((terms["elbo"] <= terms["log_px"] + 1e-6).all())
        True
    """
    whole_number("k", k, 1, MOST_SAMPLES)
    x = Batch.of(x)
    if not run.config.recipe.has_bound:
        parts = [_distortion(run, part, tick) for part in x.split(1000)]
        return {"distortion": torch.cat(parts)}

    done = 0.0

    def tick_rows(m: float) -> None:
        nonlocal done
        if tick is not None:
            tick(round(done + m) - round(done))
        done += m

    method = importance_ais if ais else importance
    estimate = method(run.model, x, k=k, seed=seed, tick=tick_rows)
    terms = {
        name: estimate.diagnostic[name]
        for name in ("distortion", "rate", "elbo", "ess", "pareto_k")
    }
    return terms | {"log_px": estimate.values, "log_px_se": estimate.se}


def _distortion(run: Run, x: Batch, tick: Callable[[int], None] | None) -> Tensor:
    value = run.predictor.trace(x, Draw(source="point")).distortion.double().cpu()
    if tick:
        tick(len(x))
    return value


@torch.no_grad()
def rate_per_feature(run: Run, x: Tensor | Batch, seed: int) -> list[float] | None:
    """KL(q(z_j|x), p(z_j)) of each latent dimension, averaged over x, in nats.

    Returns:
        None where a distribution does not factorise over dimensions.
    """
    total: Tensor | None = None
    for part in Batch.of(x).split(1000):
        inputs = part.to(run.predictor.device)
        draw = Draw(noise=ContentNoise(seed, inputs.x, 0, 1))
        trace = run.predictor.trace(inputs, draw)
        sites = []
        for name in run.model.site_widths:
            kl = trace.latents[name].kl_each
            if kl is None:
                return None
            sites.append(kl.double().sum(0).cpu())
        sums = torch.cat(sites)
        total = sums if total is None else total + sums
    return None if total is None else (total / len(x)).tolist()
