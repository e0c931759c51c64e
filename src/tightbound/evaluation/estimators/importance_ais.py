"""log p(x) by importance sampling, and by AIS where importance sampling has no error."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.ais import ais
from tightbound.evaluation.estimators.estimate import MARKOV, Estimate, Tick, Z
from tightbound.evaluation.estimators.importance import importance
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

WIDEST = 1.5  # standard deviation of AIS's log-weights above which there is no interval


def importance_ais(
    model: VAE,
    x: Tensor | Batch,
    *,
    k: int = 500,
    chains: int = 16,
    temperatures: int = 100,
    seed: int = 0,
    tick: Tick | None = None,
) -> Estimate:
    """Importance sampling, and annealed importance sampling where its tail is too heavy.

    An example whose weights may have a Pareto k above 0.7 gets the value of AIS from q instead,
    which is a lower bound in expectation too. Neal 2001 (arXiv:physics/9803008). The value
    is without an interval where that of importance sampling is more than log 20 nats above
    it: an unbiased estimate is rarely so much too high, so the chains may miss a mode.

    Args:
        model: the model.
        x: examples (n, *shape) in model units.
        k: samples of importance sampling.
        chains, temperatures: of AIS; see `ais`.
        seed: seed of all draws.
        tick: called with the number of examples finished since the last call.

    Returns:
        The estimate. se is not a number where AIS is not possible for the model, where
        its log-weights spread over more than 1.5 nats, or where the two disagree.
        Diagnostic: that of importance
        sampling; annealed, 1 where the value is that of AIS.
    """
    x = Batch.of(x)
    base = importance(model, x, k=k, seed=seed)
    settings = {**base.settings, "chains": chains, "temperatures": temperatures}
    heavy = base.one_sided & ~base.diagnostic["pareto_k"].isnan()
    values = base.values.clone()
    se = base.se.clone()
    if tick:
        tick(int((~heavy).sum()))
    if heavy.any():
        rows = heavy.nonzero().flatten()
        try:
            annealed = ais(
                model,
                x[rows],
                chains=chains,
                temperatures=temperatures,
                seed=seed,
                tick=tick,
            )
        except TightboundError:  # a discrete latent: the bound stays one-sided
            heavy = torch.zeros_like(heavy)
            if tick:
                tick(len(rows))
        else:
            error = chains_error(annealed)
            disagrees = base.values[rows] > annealed.values + MARKOV
            values[rows] = annealed.values
            se[rows] = torch.where(disagrees, torch.nan, error)
    diagnostic = base.diagnostic | {"annealed": heavy.double()}
    return replace(
        base,
        method="importance-ais",
        values=values,
        se=se,
        diagnostic=diagnostic,
        settings=settings,
    )


def chains_error(annealed: Estimate) -> Tensor:
    """Standard error of AIS over few chains, so that 1.96 of them cover 95 %.

    The larger of the jackknife's and that of log-normal weights of the same spread, times
    the ratio of Student's quantile to the normal one.
    """
    from scipy.special import stdtrit

    chains = int(annealed.settings["chains"])
    if chains < 2:
        return torch.full_like(annealed.values, math.nan)
    spread = annealed.diagnostic["log_w_sd"]
    log_normal = (torch.expm1(spread.square()) / chains).sqrt()
    student = float(stdtrit(chains - 1, 0.975)) / Z
    error = student * torch.maximum(annealed.se, log_normal)
    return torch.where(spread <= WIDEST, error, torch.nan)
