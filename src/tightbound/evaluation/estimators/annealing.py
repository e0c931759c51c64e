"""Annealed densities from q or the prior to the posterior, and HMC on them.

The state is the start's noise u ~ N(0, I). A pass makes z = T(u) of all latents of a
hierarchy together and weighs it: f(u) = log p(x, z) - log q(z|x) where z comes from q,
f(u) = log p(x|z) where it comes from the prior. The mean of exp f is p(x) in both cases.

The target at temperature t is pi_t(u) = N(u; 0, I) exp(t f(u)), 0 <= t <= 1. In terms
of z it is the geometric path q(z|x)^(1-t) p(x, z)^t, or p(z) p(x|z)^t: the Jacobian of T
belongs to both ends and cancels, also where the distribution of a lower latent depends
on those above. So no density of q at a given z is needed, and in these coordinates the
start has unit scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import noise_form
from tightbound.distributions.random import content_keys, generator
from tightbound.distributions.reparam import to_noise
from tightbound.evaluation.estimators.estimate import is_discrete
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class State:
    """State of C chains of B examples.

    Args:
        u: position (C, B, d).
        f: log-weight (C, B).
        grad: gradient of f (C, B, d).
    """

    u: Tensor
    f: Tensor
    grad: Tensor

    def where(self, accept: Tensor, other: State) -> State:
        """This state where `accept` (C, B), the other elsewhere."""
        accept_each = accept[..., None]
        return State(
            torch.where(accept_each, self.u, other.u),
            torch.where(accept, self.f, other.f),
            torch.where(accept_each, self.grad, other.grad),
        )


class AnnealedTarget:
    """The annealed densities pi_t of B examples.

    Args:
        model: the model.
        x: examples (B, *shape) in model units.
        start: "q" or "prior".

    Raises:
        TightboundError: if a latent is discrete, so that there is no gradient.
    """

    def __init__(self, model: VAE, x: Tensor | Batch, start: str) -> None:
        self.model = model
        self.x = x = Batch.of(x)
        self.source = "q" if start == "q" else "p"
        self.sites: dict[str, tuple[int, ...]] = {}  # shape of the noise of each site
        self.uniform: set[str] = set()
        with torch.no_grad():
            self.h = model.features(x) if start == "q" else None
            model(x[:1], Draw(source=self.source, noise=self._record, enumerate=True))
        self.widths = [math.prod(event) for event in self.sites.values()]
        self.d = sum(self.widths)
        self.relative_scale = self._relative_scale()

    def _record(self, name: str, dist: Distribution) -> Tensor:
        """Noise for one forward pass, which records the shape of each site's noise."""
        if is_discrete(dist):
            raise TightboundError(
                f"latent {name!r} is discrete, so AIS cannot move it: use importance sampling"
            )
        form = noise_form(dist)
        self.sites[name] = form.event
        if form.kind == "uniform":
            self.uniform.add(name)
        return form.draw(torch.Generator().manual_seed(0), "cpu").to(form.device)

    @torch.no_grad()
    def _relative_scale(self) -> Tensor:
        """Scale of q relative to the start's, at most 1, (B, d); 1 where it is unknown."""
        one = torch.ones(
            len(self.x), self.d, dtype=self.x.x.dtype, device=self.x.x.device
        )
        if self.source == "q":
            return one
        latents = self.model(self.x, Draw(source="point")).latents
        pairs = [(latents[name].q, latents[name].p) for name in self.sites]
        try:
            ratios = [
                (q.stddev / p.stddev).flatten(1)
                for q, p in pairs
                if q is not None and p is not None
            ]
        except NotImplementedError:  # a flow
            return one
        if [ratio.shape[1] for ratio in ratios] != self.widths:
            return one
        return torch.cat(ratios, -1).clamp(1e-3, 1.0)

    def scale(self, t: Tensor) -> Tensor:
        """Approximate scale of pi_t along each axis, (B, d), at t (B,).

        That of a normal whose precision is linear in t.
        """
        precision = self.relative_scale**-2
        return (1 + t.to(self.relative_scale)[:, None] * (precision - 1)).rsqrt()

    def log_weight(self, u: Tensor) -> Tensor:
        """f at u (C, B, d), (C, B)."""
        split = u.flatten(0, 1).split(self.widths, -1)
        parts = dict(zip(self.sites, split, strict=True))

        def noise(name: str, dist: Distribution) -> Tensor:
            value: Tensor = parts[name].reshape(-1, *self.sites[name])
            if name in self.uniform:
                quantile: Tensor = torch.special.ndtr(value).clamp(1e-7, 1 - 1e-7)
                return quantile
            return value

        draw = Draw(len(u), source=self.source, noise=noise, enumerate=True)
        trace = self.model(self.x, draw, self.h)
        log_w = trace.log_w if self.source == "q" else trace.log_px
        log_weight: Tensor = trace.log_sum_over_classes(log_w)
        return log_weight

    def at(self, u: Tensor) -> State:
        """The state at u (C, B, d)."""
        with torch.enable_grad():
            u = u.detach().requires_grad_(True)
            f = self.log_weight(u)
            (grad,) = torch.autograd.grad(f.sum(), u)
        return State(u.detach(), f.detach(), grad)

    def noise_of(
        self, latents: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> Tensor:
        """The u that gives these latents, (B, d).

        Args:
            latents: z of each site; from it the noise is computed for a start from q.
            noise: the noise that gave z from the prior, used for a start from there.
        """
        by_site = noise if self.source == "p" else self._noise_of_q(latents)
        parts = []
        for name in self.sites:
            value = by_site[name].flatten(1)
            if name in self.uniform:
                value = torch.special.ndtri(value.clamp(1e-7, 1 - 1e-7))
            parts.append(value)
        return torch.cat(parts, -1)

    @torch.no_grad()
    def _noise_of_q(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sites = self.model(self.x, Draw(given=dict(latents)), self.h).latents
        noise = {}
        for name in self.sites:
            q = sites[name].q
            assert q is not None
            noise[name] = to_noise(q, sites[name].z)
        return noise


class ChainNoise:
    """Noise of C chains of each example.

    It is a function of the seed, its purpose, and the content of the example.
    """

    def __init__(self, seed: int, purpose: str, x: Tensor, chains: int, d: int) -> None:
        self.generators = [generator(seed, purpose, key) for key in content_keys(x)]
        self.shape = (chains, d)
        self.dtype = x.dtype
        self.device = x.device

    def normal(self) -> Tensor:
        """N(0, 1), (C, B, d)."""
        columns = [
            torch.randn(self.shape, generator=g, dtype=self.dtype)
            for g in self.generators
        ]
        return torch.stack(columns, 1).to(self.device)

    def uniform(self) -> Tensor:
        """Uniform on [0, 1), (C, B)."""
        columns = [
            torch.rand(self.shape[0], generator=g, dtype=torch.float64)
            for g in self.generators
        ]
        return torch.stack(columns, 1).to(self.device)


def energy(state: State, momentum: Tensor, t: Tensor) -> Tensor:
    """-log pi_t(u) + |momentum|^2 / 2 up to a constant, (C, B) in float64; t (B,)."""
    quadratic = state.u.double().square() + momentum.double().square()
    return quadratic.sum(-1) / 2 - t.double() * state.f.double()


def leapfrog(
    target: AnnealedTarget,
    state: State,
    momentum: Tensor,
    t: Tensor,
    step: Tensor,
    steps: int,
) -> tuple[State, Tensor]:
    """Leapfrog integration of Hamilton's equations at pi_t.

    Half a step of the momentum, then position and momentum in turn, half a step of the
    momentum: reversible and volume-preserving. Neal 2011 (arXiv:1206.1901), eq. 5.18.

    Args:
        target: the annealed densities.
        state: start of the trajectory.
        momentum: (C, B, d).
        t: temperature (B,).
        step: step size (B,), in scales of pi_t.
        steps: number of steps.

    Returns:
        State and momentum at the end.
    """
    size = step[:, None] * target.scale(t)
    temperature = t.to(state.u.dtype)[:, None]
    momentum = momentum + size / 2 * (temperature * state.grad - state.u)
    for i in range(steps):
        state = target.at(state.u + size * momentum)
        share = 1 if i < steps - 1 else 0.5
        momentum = momentum + share * size * (temperature * state.grad - state.u)
    return state, momentum


def move(
    target: AnnealedTarget,
    state: State,
    t: Tensor,
    step: Tensor,
    steps: int,
    noise: ChainNoise,
) -> tuple[State, Tensor]:
    """One Hamiltonian Monte Carlo transition, which leaves pi_t invariant.

    Fresh momentum, a trajectory, and a Metropolis test of its energy. Neal 2011
    (arXiv:1206.1901), section 3.

    Returns:
        The new state and the acceptance probability (C, B).
    """
    momentum = noise.normal()
    proposed, end = leapfrog(target, state, momentum, t, step, steps)
    gain = energy(state, momentum, t) - energy(proposed, end, t)
    accept = noise.uniform().log() < gain
    return proposed.where(accept, state), gain.clamp(max=0).exp().nan_to_num(0.0)
