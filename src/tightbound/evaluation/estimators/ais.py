"""log p(x) by annealed importance sampling: a pilot that settles steps and temperatures, and the
chains it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.annealing import AnnealedTarget, ChainNoise, move
from tightbound.evaluation.estimators.estimate import (
    Estimate,
    Kind,
    Tick,
    log_mean_exp,
    rows_at_once,
)
from tightbound.models.vae import VAE

TARGET, GAIN, FIRST = (
    0.8,
    0.7,
    0.3,
)  # the pilot's acceptance rate, how fast it steers to it, and its first step
RAD = 4.0  # how far the sigmoid schedule reaches; Wu et al. 2017 (arXiv:1611.04273), appendix
SMOOTH, EVEN = (
    0.1,
    0.1,
)  # what share of the pilot's temperatures one of its figures is averaged over; see `_spacing`


@dataclass(frozen=True)
class Settings:
    """What a run of AIS is made of; the defaults are those whose error the BDMC gap of
    docs/results.md gives.
    """

    start: str = "q"
    chains: int = 16
    temperatures: int = 300
    leapfrog: int = 3
    pilot: int = 30
    seed: int = 0

    def plain(self) -> dict[str, Any]:
        """For `Estimate.settings`."""
        return dict(vars(self))


@dataclass(frozen=True)
class Plan:
    """What a pilot settled for B examples, frozen before a chain is measured: t and step size, (T +
    1, B) each.
    """

    t: Tensor
    step: Tensor


def sigmoid_schedule(temperatures: int) -> Tensor:
    """t_0 = 0 to t_T = 1, close together at both ends, (T + 1,) float64.

    Wu et al. 2017 (arXiv:1611.04273).
    """
    s = torch.sigmoid(torch.linspace(-RAD, RAD, temperatures + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


def pilot(target: AnnealedTarget, settings: Settings, tick: Callable[[], None]) -> Plan:
    """A short run with noise of its own: at each of its temperatures the step size follows the
    acceptance rate.

    What it finds is a function of x and that noise alone, so the measured chains, with other noise,
    may use it.
    """
    t = sigmoid_schedule(settings.pilot).to(target.x.x.device)
    noise = ChainNoise(settings.seed, "pilot", target.x.x, settings.chains, target.d)
    state = target.at(noise.normal())
    step = torch.full_like(state.f[0], FIRST)
    steps, spreads = [], []
    for k in range(1, len(t)):
        spreads.append(
            state.f.double().std(0)
            if settings.chains > 1
            else torch.ones_like(t[:1]).expand(len(step))
        )
        state, rate = move(
            target, state, t[k].expand_as(step), step, settings.leapfrog, noise
        )
        steps.append(step)
        step = step * torch.exp(GAIN * (rate.mean(0).to(step) - TARGET))
        tick()
    found = _spacing(t, _smooth(torch.stack(spreads)), settings.temperatures)
    return Plan(
        found,
        _interpolate(t[1:], _smooth(torch.stack(steps).double().log()), found)
        .exp()
        .to(step),
    )


def _smooth(values: Tensor) -> Tensor:
    """A running mean along the first dimension, (T, B)."""
    half = max(1, round(len(values) * SMOOTH))
    padded = torch.cat(
        [values[:1].expand(half, -1), values, values[-1:].expand(half, -1)]
    )
    return padded.unfold(0, 2 * half + 1, 1).mean(-1)


def _spacing(t: Tensor, spread: Tensor, temperatures: int) -> Tensor:
    """Temperatures (T + 1, B) so spaced that each step adds as much variance as any other.

    The variance that a step dt adds is about dt^2 var f, so their density follows the standard
    deviation of f, which the pilot saw at t; a share EVEN follows the pilot's own schedule.  Grosse
    et al. 2013 (NeurIPS), section 3.
    """
    length = spread * t.diff()[:, None]
    length = (1 - EVEN) * length / length.sum(0).clamp(min=1e-300) + EVEN / len(length)
    reached = torch.cat([torch.zeros_like(length[:1]), length.cumsum(0)])
    goal = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64, device=t.device)
    goal = goal[:, None].expand(-1, reached.shape[1])
    found = _interpolate(reached / reached[-1], t[:, None].expand_as(reached), goal)
    found[0], found[-1] = 0.0, 1.0
    return found


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Piecewise linear values of y (m, B), known at rising x (m,) or (m, B), at points (p, B); flat
    outside.
    """
    x = (x[:, None].expand_as(y) if x.dim() == 1 else x).T.contiguous()
    at = at.T.contiguous()
    right = torch.searchsorted(x, at).clamp(1, x.shape[1] - 1)
    x0, x1 = x.gather(1, right - 1), x.gather(1, right)
    y0, y1 = y.T.gather(1, right - 1), y.T.gather(1, right)
    share = ((at - x0) / (x1 - x0).clamp(min=1e-300)).clamp(0, 1)
    return (y0 + share * (y1 - y0)).T


def run_chains(
    target: AnnealedTarget,
    plan: Plan,
    settings: Settings,
    tick: Callable[[], None],
    exact: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """log-weights (C, B) in float64 of C chains along a frozen plan, and their mean acceptance rate
    (B,).

    From the start to the posterior: the weights' mean is p(x) in expectation.  With `exact` (B, d),
    a draw from the posterior, back from there to the start: the mean of their inverses is 1 / p(x)
    in expectation.  Neal 2001, eq. 12.
    """
    noise = ChainNoise(
        settings.seed,
        "there" if exact is None else "back",
        target.x.x,
        settings.chains,
        target.d,
    )
    t, step = plan.t, plan.step
    if exact is not None:
        t, step = t.flip(0), step.flip(0)
    gaps = t.diff(dim=0).abs()
    state = target.at(
        noise.normal() if exact is None else exact.expand(settings.chains, -1, -1)
    )
    log_w, rates = gaps[0] * state.f.double(), []
    for k in range(1, len(gaps)):
        state, rate = move(target, state, t[k], step[k], settings.leapfrog, noise)
        log_w += gaps[k] * state.f.double()
        rates.append(rate.mean(0))
        tick()
    return log_w, torch.stack(rates).mean(0) if rates else torch.ones_like(log_w[0])


def chains_estimate(
    settings: Settings, kind: Kind, log_w: Tensor, acceptance: Tensor
) -> Estimate:
    """log of the mean weight, with the jackknife's error over chains; of reverse chains, of their
    inverses.
    """
    sign = 1.0 if kind == "lower" else -1.0
    log_w, chains = (sign * log_w).cpu(), len(log_w)
    unknown = torch.full_like(log_w[0], torch.nan)
    diagnostic = {
        "acceptance": acceptance.double().cpu(),
        "ess": (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp(),
        "log_w_sd": log_w.std(0) if chains > 1 else unknown,
    }
    without = [
        log_mean_exp(torch.cat([log_w[:i], log_w[i + 1 :]]))
        for i in range(chains if chains > 1 else 0)
    ]
    se = (
        ((chains - 1) * torch.stack(without).var(0, unbiased=False)).sqrt()
        if chains > 1
        else unknown
    )
    name = f"ais-{settings.start}" + ("" if kind == "lower" else "-back")
    return Estimate(
        name, kind, sign * log_mean_exp(log_w), se, diagnostic, settings.plain()
    )


def groups(model: VAE, settings: Settings, n: int) -> list[Tensor]:
    """Which examples share a pass."""
    return list(torch.arange(n).split(max(1, rows_at_once(model) // settings.chains)))


def ticker(tick: Tick | None, examples: int, moves: int) -> Callable[[], None]:
    """Called at each of `moves` moves of some examples, it tells `tick` what part of them
    is done.
    """
    return (lambda: tick(examples / moves)) if tick else (lambda: None)


def ais(
    model: VAE,
    x: Tensor | Batch,
    *,
    start: str = "q",
    chains: int = 16,
    temperatures: int = 300,
    leapfrog: int = 3,
    pilot_temperatures: int = 30,
    seed: int = 0,
    tick: Tick | None = None,
) -> Estimate:
    """log of the mean weight of annealed chains from q(z|x) or the prior to p(z|x): a lower bound
    in expectation.

    log w = sum over k of (t_k - t_{k-1}) f(u_{k-1}), with a Hamiltonian move at t_k between two
    terms (`annealing.py`); step sizes and temperatures come from a pilot run and are frozen.  All
    latents of a hierarchy move together. se: the jackknife over chains.  diagnostic: acceptance,
    ess (of the chains), log_w_sd (over chains; the bound falls short by about log_w_sd^2 / (2
    chains)).  Neal 2001 (arXiv:physics/9803008); Wu et al. 2017 (arXiv:1611.04273).
    """
    settings = Settings(start, chains, temperatures, leapfrog, pilot_temperatures, seed)
    x, found = Batch.of(x), []
    for rows in groups(model, settings, len(x)):
        step = ticker(tick, len(rows), pilot_temperatures + temperatures - 1)
        target = AnnealedTarget(
            model, x[rows].to(model.get_buffer("centre").device), start
        )
        plan = pilot(target, settings, step)
        found.append(
            chains_estimate(
                settings, "lower", *run_chains(target, plan, settings, step)
            )
        )
    return Estimate.join(found)
