"""The bridge from a start, q or the prior, to the posterior, and Hamiltonian moves along it, in the
start's noise.

A pass with noise u ~ N(0, I) makes z = T(u), of all latents of a hierarchy together, and weighs it:
f(u) = log p(x, z) - log q(z|x) where z comes from q, f(u) = log p(x|z) where it comes from the
prior; the mean of exp f is p(x) in both.  The bridge is pi_t(u) = N(u; 0, I) exp(t f(u)), 0 <= t <=
1.  In terms of z it is the geometric path q(z|x)^(1-t) p(x, z)^t, or p(z) p(x|z)^t: the Jacobian of
T belongs to both ends and cancels, also where a lower latent's distribution depends on the ones
above.  So no density of q at a given z is needed, and in these coordinates the start's widths are
1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import noise_form
from tightbound.distributions.random import content_keys, generator
from tightbound.distributions.reparam import to_noise
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError


@dataclass
class State:
    """Where C chains of B examples stand: u (C, B, d), f (C, B) and its gradient (C, B, d)."""

    u: Tensor
    f: Tensor
    grad: Tensor

    def where(self, accept: Tensor, other: State) -> State:
        """This state where `accept` (C, B), the other elsewhere."""
        wide = accept[..., None]
        pairs = (
            (wide, self.u, other.u),
            (accept, self.f, other.f),
            (wide, self.grad, other.grad),
        )
        return State(*(torch.where(*pair) for pair in pairs))


class AnnealedTarget:
    """The bridge of B examples x (B, *shape); start: "q" or "prior".

    Raises TightboundError where a latent is discrete: there is no gradient to move it by.
    """

    def __init__(self, model: VAE, x: Tensor | Batch, start: str) -> None:
        self.model, self.x = model, (x := Batch.of(x))
        self.source = "q" if start == "q" else "p"
        with torch.no_grad():
            self.h = model.features(x) if start == "q" else None
            self.sites: dict[str, tuple[int, ...]] = {}
            self.uniform: set[str] = set()
            model(x[:1], Draw(source=self.source, noise=self._record, enumerate=True))
        self.widths = [math.prod(event) for event in self.sites.values()]
        self.d = sum(self.widths)
        self.relative_scale = self._relative_scale()

    def _record(self, name: str, dist: Distribution) -> Tensor:
        if getattr(dist.support, "is_discrete", False):
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
        """How wide q is, as a share of the start's width, at most 1, (B, d); 1 where that is not
        known.
        """
        one = torch.ones(
            len(self.x), self.d, dtype=self.x.x.dtype, device=self.x.x.device
        )
        if self.source == "q":
            return one
        latents = self.model(self.x, Draw(source="point")).latents
        pairs = [(latents[name].q, latents[name].p) for name in self.sites]
        try:
            spreads = [
                (q.stddev / p.stddev).flatten(1)
                for q, p in pairs
                if q is not None and p is not None
            ]
        except NotImplementedError:  # a flow
            return one
        known = [s.shape[1] for s in spreads] == self.widths
        return torch.cat(spreads, -1).clamp(1e-3, 1.0) if known else one

    def scale(self, t: Tensor) -> Tensor:
        """The width of pi_t along each axis as far as q tells, (B, d): a normal's, its precision
        linear in t (B,).
        """
        return (
            1 + t.to(self.relative_scale)[:, None] * (self.relative_scale**-2 - 1)
        ).rsqrt()

    def log_weight(self, u: Tensor) -> Tensor:
        """f at u (C, B, d), (C, B)."""
        parts = dict(
            zip(self.sites, u.flatten(0, 1).split(self.widths, -1), strict=True)
        )

        def noise(name: str, dist: Distribution) -> Tensor:
            value = parts[name].reshape(-1, *self.sites[name])
            return (
                torch.special.ndtr(value).clamp(1e-7, 1 - 1e-7)
                if name in self.uniform
                else value
            )

        trace = self.model(
            self.x,
            Draw(len(u), source=self.source, noise=noise, enumerate=True),
            self.h,
        )
        return trace.log_sum_over_classes(
            trace.log_w if self.source == "q" else trace.log_px
        )

    def at(self, u: Tensor) -> State:
        """The state at u (C, B, d)."""
        with torch.enable_grad():
            u = u.detach().requires_grad_(True)
            f = self.log_weight(u)
            (grad,) = torch.autograd.grad(f.sum(), u)
        return State(u.detach(), f.detach(), grad)

    def noise_of(self, latents: dict[str, Tensor], noise: dict[str, Tensor]) -> Tensor:
        """The u that makes these latents, (B, d): found from q at z, or for the prior the noise
        that made them.
        """
        if self.source == "p":
            found = noise
        else:
            with torch.no_grad():
                sites = self.model(self.x, Draw(given=dict(latents)), self.h).latents
            found = {}
            for name in self.sites:
                q = sites[name].q
                assert q is not None
                found[name] = to_noise(q, sites[name].z)
        parts = []
        for name in self.sites:
            value = found[name].flatten(1)
            parts.append(
                torch.special.ndtri(value.clamp(1e-7, 1 - 1e-7))
                if name in self.uniform
                else value
            )
        return torch.cat(parts, -1)


class ChainNoise:
    """Noise of C chains of each example: a function of seed, what it is for, and the example's own
    bytes.
    """

    def __init__(self, seed: int, what: str, x: Tensor, chains: int, d: int) -> None:
        self.generators = [generator(seed, what, key) for key in content_keys(x)]
        self.shape, self.dtype, self.device = (chains, d), x.dtype, x.device

    def normal(self) -> Tensor:
        """N(0, 1), (C, B, d)."""
        each = [
            torch.randn(self.shape, generator=g, dtype=self.dtype)
            for g in self.generators
        ]
        return torch.stack(each, 1).to(self.device)

    def uniform(self) -> Tensor:
        """Uniform on [0, 1), (C, B)."""
        each = [
            torch.rand(self.shape[0], generator=g, dtype=torch.float64)
            for g in self.generators
        ]
        return torch.stack(each, 1).to(self.device)


def energy(state: State, momentum: Tensor, t: Tensor) -> Tensor:
    """-log pi_t(u) + |momentum|^2 / 2 up to a constant, (C, B) in float64; t (B,)."""
    still = (state.u.double().square() + momentum.double().square()).sum(-1) / 2
    return still - t.double() * state.f.double()


def leapfrog(
    target: AnnealedTarget,
    state: State,
    momentum: Tensor,
    t: Tensor,
    step: Tensor,
    steps: int,
) -> tuple[State, Tensor]:
    """`steps` leapfrog steps of size `step` (B,), in widths of pi_t: reversible, and volume is
    preserved.

    Half a step of the momentum, then position and momentum in turn, half a step of the momentum.
    Neal 2011, eq. 5.18.
    """
    wide = step[:, None] * target.scale(t)
    heat = t.to(state.u.dtype)[:, None]
    momentum = momentum + wide / 2 * (heat * state.grad - state.u)
    for i in range(steps):
        state = target.at(state.u + wide * momentum)
        share = 1 if i < steps - 1 else 0.5
        momentum = momentum + share * wide * (heat * state.grad - state.u)
    return state, momentum


def move(
    target: AnnealedTarget,
    state: State,
    t: Tensor,
    step: Tensor,
    steps: int,
    noise: ChainNoise,
) -> tuple[State, Tensor]:
    """One Hamiltonian transition that leaves pi_t unchanged; returns the state and the acceptance
    probability (C, B).

    Fresh momentum, a trajectory, and a Metropolis test of its energy.  Neal 2011 (arXiv:1206.1901),
    section 3.
    """
    momentum = noise.normal()
    proposed, end = leapfrog(target, state, momentum, t, step, steps)
    gain = energy(state, momentum, t) - energy(proposed, end, t)
    accept = noise.uniform().log() < gain
    return proposed.where(accept, state), gain.clamp(max=0).exp().nan_to_num(0.0)
