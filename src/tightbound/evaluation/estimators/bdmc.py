"""The error of AIS: bidirectional Monte Carlo on examples that the model itself made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.trace import Batch, Draw
from tightbound.distributions.random import StepNoise
from tightbound.evaluation.estimators.ais import (
    Settings,
    chains_estimate,
    groups,
    pilot,
    run_chains,
    ticker,
)
from tightbound.evaluation.estimators.annealing import AnnealedTarget
from tightbound.evaluation.estimators.estimate import Estimate, Tick
from tightbound.models.vae import VAE
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class Bracket:
    """log p(x) of n simulated examples x between bounds; gap (n,) is what the settings of AIS are
    off by, or more.
    """

    x: Tensor
    lower: Estimate
    upper: Estimate

    @property
    def gap(self) -> Tensor:
        """upper - lower of each example, (n,): its expectation is not negative, single values may
        be.
        """
        return self.upper.values - self.lower.values

    @property
    def mean(self) -> float:
        """The mean gap, nats."""
        return float(self.gap.mean())

    @property
    def se(self) -> float:
        """Its standard error over examples and chains."""
        return float(self.gap.std() / len(self.gap) ** 0.5)


def simulate(
    model: VAE, n: int, seed: int = 0
) -> tuple[Batch, dict[str, Tensor], dict[str, Tensor]]:
    """n examples of the model's own, with their conditions, the latents z of each site and the
    noise that made them.
    """
    draw_noise, noise = StepNoise(seed, "simulate"), {}

    def kept(name: str, dist: Distribution) -> Tensor:
        noise[name] = draw_noise(name, dist)
        return noise[name]

    with torch.no_grad(), seeded(seed):
        trace = model.generate(n, Draw(source="p", noise=kept))
        x = trace.px.sample().to(model.get_buffer("centre"))
    return (
        Batch(x, trace.c),
        {name: site.z for name, site in trace.latents.items()},
        noise,
    )


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
    """Bidirectional Monte Carlo: log p(x) of n simulated x, from below by AIS and from above by AIS
    run backwards.

    The z that made x is an exact draw from p(z|x); chains that go back from it to the start bound
    log p(x) from above in expectation.  Pilot and settings are those of `ais`, so the gap bounds
    its error on data like the model's own. Raises TightboundError where q cannot say which noise
    leads to a given z.  Grosse et al. 2015 (arXiv:1511.02543).

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> bracket = tb.bdmc(model.eval(), 4, seed=0, temperatures=20, chains=2)
        >>> bool(bracket.lower.values.mean() <= bracket.upper.values.mean())
        True
    """
    settings = Settings(start, chains, temperatures, leapfrog, pilot_temperatures, seed)
    x, z, noise = simulate(model, n, seed)
    lower, upper = [], []
    for rows in groups(model, settings, n):
        step = ticker(tick, len(rows), pilot_temperatures + 2 * (temperatures - 1))
        target = AnnealedTarget(model, x[rows], start)
        try:
            exact = target.noise_of(
                *({k: v[rows] for k, v in values.items()} for values in (z, noise))
            )
        except NotImplementedError as error:
            raise TightboundError(
                f"AIS cannot run back to q here, since {error}: set start to prior"
            ) from error
        plan = pilot(target, settings, step)
        lower.append(
            chains_estimate(
                settings, "lower", *run_chains(target, plan, settings, step)
            )
        )
        upper.append(
            chains_estimate(
                settings, "upper", *run_chains(target, plan, settings, step, exact)
            )
        )
    return Bracket(x.x.cpu(), Estimate.join(lower), Estimate.join(upper))
