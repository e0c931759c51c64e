"""log p(x) by annealed importance sampling (AIS) with Hamiltonian transitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

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
from tightbound.runtime.reading import Tree

ACCEPTANCE = 0.8  # acceptance rate that the pilot aims at
GAIN = 0.7  # of the pilot's step size on the error of the acceptance rate
FIRST_STEP = 0.3  # the pilot's first step size
# Range of the sigmoid schedule; Wu et al. 2017 (arXiv:1611.04273), appendix.
RAD = 4.0
SMOOTH = 0.1  # share of the pilot's temperatures in a running mean
EVEN = 0.1  # share of the schedule that does not depend on the pilot; see `_spacing`


@dataclass(frozen=True)
class Settings:
    """Settings of AIS; docs/results.md gives the BDMC gap of the default ones.

    Args:
        start: "q" or "prior".
        chains: chains of each example.
        temperatures: steps from the start to the posterior.
        leapfrog: leapfrog steps of a transition.
        pilot: temperatures of the pilot run.
        seed: seed of all draws.
    """

    start: str = "q"
    chains: int = 16
    temperatures: int = 300
    leapfrog: int = 3
    pilot: int = 30
    seed: int = 0

    def to_json(self) -> Tree:
        """For `Estimate.settings`."""
        return asdict(self)


@dataclass(frozen=True)
class Schedule:
    """Temperatures t and step sizes of B examples, (T + 1, B), from a pilot."""

    t: Tensor
    step: Tensor


def sigmoid_schedule(temperatures: int) -> Tensor:
    """t_0 = 0 to t_T = 1, close together at both ends, (T + 1,) float64.

    Wu et al. 2017 (arXiv:1611.04273).
    """
    s = torch.sigmoid(torch.linspace(-RAD, RAD, temperatures + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


def pilot(
    target: AnnealedTarget, settings: Settings, tick: Callable[[], None]
) -> Schedule:
    """Temperatures and step sizes from a short run of AIS.

    The step size follows the acceptance rate. The pilot has noise of its own, so chains
    with other noise may use the schedule without bias.
    """
    t = sigmoid_schedule(settings.pilot).to(target.x.x.device)
    noise = ChainNoise(settings.seed, "pilot", target.x.x, settings.chains, target.d)
    state = target.at(noise.normal())
    step = torch.full_like(state.f[0], FIRST_STEP)
    steps = []
    spreads = []
    for k in range(1, len(t)):
        if settings.chains > 1:
            spreads.append(state.f.double().std(0))
        else:
            spreads.append(torch.ones_like(t[:1]).expand(len(step)))
        state, rate = move(
            target, state, t[k].expand_as(step), step, settings.leapfrog, noise
        )
        steps.append(step)
        step = step * torch.exp(GAIN * (rate.mean(0).to(step) - ACCEPTANCE))
        tick()
    chosen_t = _spacing(t, _smooth(torch.stack(spreads)), settings.temperatures)
    log_steps = _smooth(torch.stack(steps).double().log())
    chosen_step = _interpolate(t[1:], log_steps, chosen_t).exp().to(step)
    return Schedule(chosen_t, chosen_step)


def _smooth(values: Tensor) -> Tensor:
    """A running mean along the first dimension, (T, B)."""
    half = max(1, round(len(values) * SMOOTH))
    before = values[:1].expand(half, -1)
    after = values[-1:].expand(half, -1)
    padded = torch.cat([before, values, after])
    return padded.unfold(0, 2 * half + 1, 1).mean(-1)


def _spacing(t: Tensor, spread: Tensor, temperatures: int) -> Tensor:
    """Temperatures (T + 1, B) so that all steps add the same variance to log w.

    A step dt adds about dt^2 var f, so the density of temperatures is proportional to
    the standard deviation of f, which the pilot measured at t. A share EVEN follows the
    pilot's own schedule. Grosse et al. 2013 (NeurIPS), section 3.
    """
    length = spread * t.diff()[:, None]
    length = (1 - EVEN) * length / length.sum(0).clamp(min=1e-300) + EVEN / len(length)
    reached = torch.cat([torch.zeros_like(length[:1]), length.cumsum(0)])
    goal = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64, device=t.device)
    goal = goal[:, None].expand(-1, reached.shape[1])
    spaced = _interpolate(reached / reached[-1], t[:, None].expand_as(reached), goal)
    spaced[0] = 0.0
    spaced[-1] = 1.0
    return spaced


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Piecewise linear interpolation of each column, constant outside.

    Args:
        x: rising points (m,) or (m, B).
        y: values at x, (m, B).
        at: points (p, B).

    Returns:
        Values at `at`, (p, B).
    """
    if x.dim() == 1:
        x = x[:, None].expand_as(y)
    x = x.T.contiguous()
    at = at.T.contiguous()
    right = torch.searchsorted(x, at).clamp(1, x.shape[1] - 1)
    x0 = x.gather(1, right - 1)
    x1 = x.gather(1, right)
    y0 = y.T.gather(1, right - 1)
    y1 = y.T.gather(1, right)
    share = ((at - x0) / (x1 - x0).clamp(min=1e-300)).clamp(0, 1)
    return (y0 + share * (y1 - y0)).T


def run_chains(
    target: AnnealedTarget,
    schedule: Schedule,
    settings: Settings,
    tick: Callable[[], None],
    exact: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-weights of annealed chains. Neal 2001 (arXiv:physics/9803008), eq. 12.

    Args:
        target: the annealed densities.
        schedule: temperatures and step sizes.
        settings: settings of AIS.
        tick: called at each step.
        exact: a draw from the posterior, (B, d). With it the chains run back from there
            to the start, and the mean of the inverse weights is 1 / p(x) in expectation;
            without it they run from the start, and the mean weight is p(x).

    Returns:
        Log-weights (C, B) in float64, and the mean acceptance rate (B,).
    """
    purpose = "there" if exact is None else "back"
    noise = ChainNoise(settings.seed, purpose, target.x.x, settings.chains, target.d)
    t = schedule.t
    step = schedule.step
    if exact is None:
        state = target.at(noise.normal())
    else:
        t = t.flip(0)
        step = step.flip(0)
        state = target.at(exact.expand(settings.chains, -1, -1))
    gaps = t.diff(dim=0).abs()
    log_w = gaps[0] * state.f.double()
    rates = []
    for k in range(1, len(gaps)):
        state, rate = move(target, state, t[k], step[k], settings.leapfrog, noise)
        log_w += gaps[k] * state.f.double()
        rates.append(rate.mean(0))
        tick()
    if not rates:
        return log_w, torch.ones_like(log_w[0])
    return log_w, torch.stack(rates).mean(0)


def chains_estimate(
    settings: Settings, kind: Kind, log_w: Tensor, acceptance: Tensor
) -> Estimate:
    """The log of the mean weight, with the jackknife's standard error over chains.

    For an upper bound, from reverse chains, the mean is that of the inverse weights.
    """
    sign = 1.0 if kind == "lower" else -1.0
    log_w = (sign * log_w).cpu()
    chains = len(log_w)
    log_w_sd = torch.full_like(log_w[0], torch.nan)
    se = torch.full_like(log_w[0], torch.nan)
    if chains > 1:
        log_w_sd = log_w.std(0)
        without = [
            log_mean_exp(torch.cat([log_w[:i], log_w[i + 1 :]])) for i in range(chains)
        ]
        se = ((chains - 1) * torch.stack(without).var(0, unbiased=False)).sqrt()
    diagnostic = {
        "acceptance": acceptance.double().cpu(),
        "ess": (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp(),
        "log_w_sd": log_w_sd,
    }
    suffix = "" if kind == "lower" else "-back"
    return Estimate(
        f"ais-{settings.start}{suffix}",
        kind,
        sign * log_mean_exp(log_w),
        se,
        diagnostic,
        settings.to_json(),
    )


def groups(model: VAE, settings: Settings, n: int) -> list[Tensor]:
    """The rows of the examples that share a pass."""
    return list(torch.arange(n).split(max(1, rows_at_once(model) // settings.chains)))


def step_ticker(tick: Tick | None, examples: int, steps: int) -> Callable[[], None]:
    """A function that reports one of `steps` steps on some examples to `tick`."""

    def tick_step() -> None:
        if tick is not None:
            tick(examples / steps)

    return tick_step


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
    """A lower bound on log p(x) by annealed importance sampling.

    The log of the mean weight of chains from q(z|x) or the prior to p(z|x), log w = sum
    over k of (t_k - t_{k-1}) f(u_{k-1}), with a Hamiltonian transition at t_k between
    two terms (`annealing.py`). A pilot run chooses step sizes and temperatures. All
    latents of a hierarchy move together. Neal 2001 (arXiv:physics/9803008); Wu et al.
    2017 (arXiv:1611.04273).

    Args:
        model: the model.
        x: examples (n, *shape) in model units.
        start: "q" or "prior".
        chains: chains of each example.
        temperatures: steps from the start to the posterior.
        leapfrog: leapfrog steps of a transition.
        pilot_temperatures: temperatures of the pilot run.
        seed: seed of all draws.
        tick: called with the number of examples finished since the last call.

    Returns:
        The estimate; se by the jackknife over chains. Diagnostic: acceptance; ess, of
        the chains; log_w_sd, over chains (the bound is below log p(x) by about
        log_w_sd^2 / (2 chains)).
    """
    settings = Settings(start, chains, temperatures, leapfrog, pilot_temperatures, seed)
    x = Batch.of(x)
    estimates = []
    for rows in groups(model, settings, len(x)):
        step = step_ticker(tick, len(rows), pilot_temperatures + temperatures - 1)
        inputs = x[rows].to(model.get_buffer("centre").device)
        target = AnnealedTarget(model, inputs, start)
        schedule = pilot(target, settings, step)
        log_w, acceptance = run_chains(target, schedule, settings, step)
        estimates.append(chains_estimate(settings, "lower", log_w, acceptance))
    return Estimate.join(estimates)
