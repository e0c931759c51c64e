"""Bidirectional Monte Carlo: the error of AIS on examples simulated by the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import StepNoise
from tightbound.evaluation.estimators.ais import (
    Settings,
    chains_estimate,
    groups,
    pilot,
    run_chains,
    step_ticker,
)
from tightbound.evaluation.estimators.annealing import AnnealedTarget
from tightbound.evaluation.estimators.estimate import Estimate, Tick
from tightbound.models.vae import VAE
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class Bracket:
    """Lower and upper bounds on log p(x) of n simulated examples, in nats.

    Args:
        x: the examples (n, *shape) in model units.
        lower: lower bounds, by AIS.
        upper: upper bounds, by AIS run backwards.
    """

    x: Tensor
    lower: Estimate
    upper: Estimate

    @property
    def gap(self) -> Tensor:
        """upper - lower of each example, (n,), which bounds the error of AIS.

        Its expectation is not negative; single values may be.
        """
        return self.upper.values - self.lower.values

    @property
    def mean(self) -> float:
        """The mean gap, nats."""
        return float(self.gap.mean())

    @property
    def se(self) -> float:
        """Standard error of the mean gap, over examples and chains."""
        return float(self.gap.std() / len(self.gap) ** 0.5)


def simulate(
    model: VAE, n: int, seed: int = 0
) -> tuple[Batch, dict[str, Tensor], dict[str, Tensor]]:
    """Draws n examples from the model.

    Returns:
        The examples with their conditions, the latents z of each site, and the noise
        that gave them.
    """
    draw_noise = StepNoise(seed, "simulate")
    noise: dict[str, Tensor] = {}

    def recorded(name: str, dist: Distribution) -> Tensor:
        noise[name] = draw_noise(name, dist)
        return noise[name]

    with torch.no_grad(), seeded(seed):
        trace = model.generate(n, Draw(source="p", noise=recorded))
        x = trace.px.sample().to(model.get_buffer("centre"))
    latents = {name: site.z for name, site in trace.latents.items()}
    return Batch(x, trace.c), latents, noise


def _rows(values: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in values.items()}


def bdmc(
    model: VAE,
    n: int = 100,
    *,
    start: str = "q",
    chains: int = 16,
    temperatures: int = 300,
    leapfrog: int = 3,
    pilot_temperatures: int = 30,
    seed: int = 0,
    tick: Tick | None = None,
) -> Bracket:
    """Bounds log p(x) of simulated examples from below and above by AIS.

    The z that gave x is an exact draw from p(z|x). Chains that run back from it to the
    start bound log p(x) from above in expectation. So the gap between the two bounds
    limits the error of `ais` with the same settings, on data like the model's own.
    Grosse et al. 2015 (arXiv:1511.02543).

    Args:
        model: the model.
        n: number of simulated examples.
        start, chains, temperatures, leapfrog, pilot_temperatures, seed, tick: see `ais`.

    Returns:
        Both bounds, nats per example.

    Raises:
        TightboundError: if q cannot be inverted to its noise.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> bracket = tb.bdmc(model.eval(), 4, seed=0, temperatures=20, chains=2)
        >>> bool(bracket.lower.values.mean() <= bracket.upper.values.mean())
        True
    """
    settings = Settings(start, chains, temperatures, leapfrog, pilot_temperatures, seed)
    x, latents, noise = simulate(model, n, seed)
    lower = []
    upper = []
    for rows in groups(model, settings, n):
        steps = pilot_temperatures + 2 * (temperatures - 1)
        step = step_ticker(tick, len(rows), steps)
        target = AnnealedTarget(model, x[rows], start)
        try:
            exact = target.noise_of(_rows(latents, rows), _rows(noise, rows))
        except NotImplementedError as error:
            raise TightboundError(
                f"AIS cannot run back to q here, since {error}: set start to prior"
            ) from error
        schedule = pilot(target, settings, step)
        log_w, acceptance = run_chains(target, schedule, settings, step)
        lower.append(chains_estimate(settings, "lower", log_w, acceptance))
        log_w, acceptance = run_chains(target, schedule, settings, step, exact)
        upper.append(chains_estimate(settings, "upper", log_w, acceptance))
    return Bracket(x.x.cpu(), Estimate.join(lower), Estimate.join(upper))
