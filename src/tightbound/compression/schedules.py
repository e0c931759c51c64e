"""The order in which a batch is coded: what is popped and pushed when.

Flat and top-down models draw all latents from the top downwards, send x, and send the latents
from the bottom upwards. Models that infer from the bottom up do so latent by latent (Bit-Swap,
Kingma et al. 2019, arXiv:1905.06845), which needs the bits of one latent at the start, not of
all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.compression.bins import Grid
from tightbound.compression.coder import Stack
from tightbound.compression.masses import Steps, log_widths, mass_of
from tightbound.compression.sites import (
    Filled,
    grid_of,
    log_ratio,
    pop_posterior,
    pop_prior,
    push_posterior,
    push_prior,
    value_of,
)
from tightbound.compression.values import Values
from tightbound.core.batch import Batch
from tightbound.core.draw import Context, Draw, scale_of
from tightbound.models.hierarchy import BottomUp, beside
from tightbound.models.vae import VAE

SIZES = (8, 32, 128)  # rows of passes over fewer examples, as at the start of a message
Take = Callable[[str, Distribution | None, Distribution | None], Tensor]


class CodingDraw(Draw):
    """A draw whose latents come from the stack, site by site.

    Args:
        source: "q" where the encoder runs, else "p".
        take: Gives z (n, *event) of a site from its name, p and q.
    """

    def __init__(self, source: str, take: Take) -> None:
        super().__init__(source=source)
        self._take = take

    def __call__(
        self, name: str, p: Distribution | None = None, q: Distribution | None = None
    ) -> Tensor | None:
        if name not in self.latents:
            self.given[name] = self._take(name, p, q)
        return super().__call__(name, p, q)


@dataclass(frozen=True)
class Job:
    """What both sides share.

    Args:
        model: The model in float64.
        values: Conversions between raw units, integers and model units.
        rows: Most rows of a pass; fewer examples are filled up with zeros.
        grids: Bins of sites that are drawn before their prior is known, by name.
    """

    model: VAE
    values: Values
    rows: int
    grids: dict[str, Grid]

    def sized(self, count: int) -> Job:
        """The job for a batch of `count` examples: passes have one of four sizes."""
        for size in SIZES:
            if count <= size < self.rows:
                return replace(self, rows=size)
        return self

    @property
    def steps(self) -> Steps:
        """Stated precision of real numbers in model units."""
        return self.values.model_steps()

    def inputs(self, numbers: Tensor, c: Tensor | None) -> Batch:
        """A full batch in model units of integers (b, *shape) and conditions (b, C)."""
        x = self.values.to_model(numbers)
        if len(x) < self.rows:
            full = x.new_zeros(self.rows, *x.shape[1:])
            full[: len(x)] = x
            x = full
        return Batch(x, self.condition(c))

    def condition(self, c: Tensor | None) -> Tensor | None:
        """Conditions of all rows, zeros where there is no example."""
        if c is None:
            return None
        full = torch.zeros(self.rows, c.shape[1], dtype=torch.float64)
        full[: len(c)] = c.double()
        return full


@dataclass(frozen=True)
class Measured:
    """Examples by the densities themselves, summed, in nats.

    Attributes:
        elbo: log p(x, z) - log q(z|x), a density of x times the width of its steps.
        widths: The logarithm of those widths.
    """

    elbo: float = 0.0
    widths: float = 0.0


class Schedule(Protocol):
    """The order of one kind of hierarchy."""

    def encode(
        self, stack: Stack, numbers: Tensor, c: Tensor | None, measure: bool = False
    ) -> Measured:
        """Push examples (b, *shape).

        Returns:
            Their measured ELBO; zeros where `measure` is False.
        """

    def decode(self, stack: Stack, count: int, c: Tensor | None) -> Tensor:
        """Pop `count` examples, the inverse of `encode`."""


def _measured(
    job: Job, px: Distribution, batch: Batch, sites: list[Filled], count: int
) -> Measured:
    widths = log_widths(px, batch.x, job.steps, count)
    total = px.log_prob(batch.x)[:count] + widths
    for site in sites:
        total = total + log_ratio(site, count)
    return Measured(float(total.sum()), float(widths.sum()))


@dataclass(frozen=True)
class AllAtOnce:
    """All latents are drawn before x is sent: flat, top-down and labelled models."""

    job: Job

    def encode(
        self, stack: Stack, numbers: Tensor, c: Tensor | None, measure: bool = False
    ) -> Measured:
        """Push examples."""
        count = len(numbers)
        job = self.job.sized(count)
        sites: list[Filled] = []

        def take(name: str, p: Distribution | None, q: Distribution | None) -> Tensor:
            assert p is not None
            assert q is not None
            grid = grid_of(p)
            drawn = pop_posterior(stack, q, grid, count)
            z = value_of(drawn, p, grid, job.rows)
            sites.append(Filled(name, drawn, z, p, q, grid))
            return z

        batch = job.inputs(numbers, c)
        trace = job.model(batch, CodingDraw("q", take))
        mass_of(trace.px, job.steps, count).push(stack, numbers)
        for site in reversed(sites):
            assert site.p is not None
            push_prior(stack, site.p, site.numbers, site.grid)
        if not measure:
            return Measured()
        return _measured(job, trace.px, batch, sites, count)

    def decode(self, stack: Stack, count: int, c: Tensor | None) -> Tensor:
        """Pop examples."""
        job = self.job.sized(count)
        sites: list[Filled] = []

        def take(name: str, p: Distribution | None, q: Distribution | None) -> Tensor:
            assert p is not None
            grid = grid_of(p)
            received = pop_prior(stack, p, grid, count)
            z = value_of(received, p, grid, job.rows)
            sites.append(Filled(name, received, z, p, None, grid))
            return z

        model = job.model
        given = job.condition(c)
        trace = model.generate(job.rows, CodingDraw("p", take), given)
        numbers = mass_of(trace.px, job.steps, count).pop(stack)
        latents = model.visit(
            job.inputs(numbers, c),
            Draw(given={site.name: site.z for site in sites}),
        )
        for site in reversed(sites):
            q = latents[site.name].q
            assert q is not None
            push_posterior(stack, q, site.numbers, site.grid)
        return numbers


@dataclass(frozen=True)
class BitSwap:
    """Latent by latent from the bottom up: z1 | x, x | z1, z2 | z1, z1 | z2, and so on."""

    job: Job
    hierarchy: BottomUp

    def _prior(
        self, level: int, above: Tensor | None, c: Tensor | None
    ) -> Distribution:
        """p(z_level | z above); the top is level L."""
        i = len(self.hierarchy.priors) - level
        state = c
        if above is not None:
            state = self.hierarchy.links[i - 1](beside(c, above))
        ctx = Context(self.job.rows, c=c)
        p: Distribution = self.hierarchy.priors[i](ctx, Draw(source="p"), state)
        return p

    def _posterior(self, level: int, h: Tensor, c: Tensor | None) -> Distribution:
        ctx = Context(self.job.rows, h, c=c)
        q: Distribution = self.hierarchy.posteriors[level - 1](h, ctx, None)
        return q

    def _features(self, batch: Batch) -> Tensor:
        return scale_of(self.job.model.features(batch), 0)

    def _px(self, z: Tensor, c: Tensor | None) -> Distribution:
        y = self.hierarchy.decoder(beside(c, z))
        ctx = Context(self.job.rows, c=c)
        px: Distribution = self.job.model.likelihood(y, ctx, None)
        return px

    def _grid(self, level: int) -> Grid:
        grid = self.job.grids[f"z{level}"]
        shape = (self.job.rows, grid.loc.shape[-1])
        return Grid(grid.loc.expand(shape), grid.scale.expand(shape))

    def _climb(self, level: int, z: Tensor, c: Tensor | None) -> Tensor:
        h: Tensor = self.hierarchy.climbs[level - 1](beside(c, z))
        return h

    def encode(
        self, stack: Stack, numbers: Tensor, c: Tensor | None, measure: bool = False
    ) -> Measured:
        """Push examples."""
        count = len(numbers)
        small = self.job.sized(count)
        if small is not self.job:
            return BitSwap(small, self.hierarchy).encode(stack, numbers, c, measure)
        batch = self.job.inputs(numbers, c)
        h = self._features(batch)
        px: Distribution | None = None
        below: Filled | None = None
        sites: list[Filled] = []
        last = len(self.hierarchy.posteriors)
        for level in range(1, last + 1):
            q = self._posterior(level, h, batch.c)
            grid = self._grid(level)
            drawn = pop_posterior(stack, q, grid, count)
            z = grid.values(_filled_up(drawn, self.job.rows))
            if below is None:
                px = self._px(z, batch.c)
                mass_of(px, self.job.steps, count).push(stack, numbers)
            else:
                p = self._prior(level - 1, z, batch.c)
                push_prior(stack, p, below.numbers, below.grid)
                sites.append(
                    Filled(below.name, below.numbers, below.z, p, below.q, below.grid)
                )
            below = Filled(f"z{level}", drawn, z, None, q, grid)
            if level < last:
                h = self._climb(level, z, batch.c)
        assert below is not None
        assert px is not None
        p = self._prior(last, None, batch.c)
        push_prior(stack, p, below.numbers, below.grid)
        sites.append(Filled(below.name, below.numbers, below.z, p, below.q, below.grid))
        if not measure:
            return Measured()
        return _measured(self.job, px, batch, sites, count)

    def decode(self, stack: Stack, count: int, c: Tensor | None) -> Tensor:
        """Pop examples."""
        small = self.job.sized(count)
        if small is not self.job:
            return BitSwap(small, self.hierarchy).decode(stack, count, c)
        given = self.job.condition(c)
        above: Tensor | None = None
        upper: Tensor | None = None
        last = len(self.hierarchy.posteriors)
        for level in range(last, 0, -1):
            p = self._prior(level, above, given)
            grid = self._grid(level)
            received = pop_prior(stack, p, grid, count)
            z = grid.values(_filled_up(received, self.job.rows))
            if upper is not None:
                q = self._posterior(level + 1, self._climb(level, z, given), given)
                push_posterior(stack, q, upper, self._grid(level + 1))
            above = z
            upper = received
        assert above is not None
        assert upper is not None
        numbers = mass_of(self._px(above, given), self.job.steps, count).pop(stack)
        h = self._features(self.job.inputs(numbers, c))
        push_posterior(stack, self._posterior(1, h, given), upper, self._grid(1))
        return numbers


def _filled_up(numbers: Tensor, rows: int) -> Tensor:
    full = numbers.new_zeros(rows, numbers.shape[1])
    full[: len(numbers)] = numbers
    return full


def schedule_of(job: Job) -> Schedule:
    """The order for a model."""
    hierarchy = job.model.hierarchy
    if isinstance(hierarchy, BottomUp):
        return BitSwap(job, hierarchy)
    return AllAtOnce(job)
