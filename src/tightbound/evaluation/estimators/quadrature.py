"""log p(x) by adaptive quadrature over 1 to 3 latents; Bayes' rule on a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.core.latent import Latent
from tightbound.distributions import moments
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators.estimate import (
    Estimate,
    Tick,
    in_double,
    is_discrete,
    rows_at_once,
)
from tightbound.evaluation.estimators.modes import Modes, find_modes
from tightbound.models.vae import VAE
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError

NODES = {1: 8, 2: 6, 3: 4}  # Gauss-Legendre nodes of a cell along each axis
CELLS = {1: 32, 2: 8, 3: 5}  # cells of the first grid along each axis
DRAWS = 2048  # of the prior, whose range is the box
FARTHEST = 3.3  # standard deviations of the farthest of so many draws of a normal
WIDER = 2.4  # factor on that range; of a normal, the box is then 8 standard deviations
ROUNDS = 24  # halvings of a cell at the most
MOST = 4_000_000  # nodes of an example at the most
PARTS = 64  # in which the tolerance is divided
BOX_CELLS = 100
LATTICE = {1: 256, 2: 40, 3: 16}  # points of a lattice from which modes are looked for
STARTS = 16  # of its peaks that are used, at the most
NEAR = 4.0  # widths of a mode around it in which cells are as narrow as the mode
BEYOND = 10.0  # standard deviations of a mode that the box covers
AGREEMENTS = 3  # comparisons with a finer grid at the most
SIGNIFICANT = 1e-3  # share of the integral of a cell that the finer grid divides


class Space:
    """The latents of a model in float64 as one vector, with a box around the prior.

    z is (n, d), with the sites side by side.

    Raises:
        TightboundError: if the latents are not real, or are more than three.
    """

    def __init__(self, model: VAE) -> None:
        self.model = in_double(model)
        with torch.no_grad():
            noise = ContentNoise(0, torch.zeros(1, 1), 0, DRAWS)
            trace = self.model.generate(DRAWS, Draw(source="p", noise=noise))
        self.sites = list(model.sites)
        self._check(trace.latents)
        self.widths = [
            math.prod(trace.latents[name].z.shape[1:]) for name in self.sites
        ]
        self.d = sum(self.widths)
        if self.d not in NODES:
            raise TightboundError(
                "quadrature is for 1 to 3 latent features, but this model has "
                f"{self.d}: use importance sampling or AIS"
            )
        z = torch.cat([trace.latents[name].z for name in self.sites], -1)
        middle, half = _box(z)
        self.low = middle - half
        self.high = middle + half
        self.spread = half / (
            WIDER * FARTHEST
        )  # about a standard deviation of the prior
        self.condition = (
            self.model.get_buffer("conditions")[:1]
            if self.model.condition_encoder is not None
            else None
        )

    def _check(self, latents: Mapping[str, Latent]) -> None:
        for name in self.sites:
            p = latents[name].p
            if p is None or is_discrete(p) or len(p.event_shape) != 1:
                raise TightboundError(
                    f"quadrature is for real latents, and {name!r} is not one: use ais-prior"
                )

    def examples(self, x: Tensor | Batch) -> Batch:
        """Examples in float64, as this model takes them."""
        return Batch.of(x).map(lambda part: part.to(self.low))

    def at(self, z: Tensor) -> dict[str, Tensor]:
        """The value of each site."""
        return dict(zip(self.sites, z.split(self.widths, -1), strict=True))

    @torch.no_grad()
    def log_joint(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x, z) of each row, n examples x and z (n, d)."""
        step = rows_at_once(self.model)
        pairs = zip(x.split(step), z.split(step), strict=True)
        return torch.cat([self.model.joint(a, self.at(b)) for a, b in pairs])

    def joint_of(self, x: Batch) -> Callable[[Tensor], Tensor]:
        """log p(x, z) of one example x (1, *shape) as a function of z (n, d)."""
        return lambda z: self.log_joint(x.expand(len(z)), z)

    def lattice_peaks(self, x: Batch) -> Tensor:
        """Points of a lattice over the box with higher p(x, z) than those around, (r, d).

        At most `STARTS` of them, the highest.
        """
        points = LATTICE[self.d]
        axes = [
            torch.linspace(float(low), float(high), points, dtype=torch.float64)
            for low, high in zip(self.low, self.high, strict=True)
        ]
        z = torch.cartesian_prod(*axes).reshape(-1, self.d)
        value = self.joint_of(x)(z)
        grid = value.reshape(1, 1, *[points] * self.d)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.d - 1]
        around = pool(grid, 3, stride=1, padding=1)
        peaks = ((grid == around).flatten() & value.isfinite()).nonzero().flatten()
        return z[peaks[value[peaks].argsort(descending=True)[:STARTS]]]

    def modes_of(self, x: Batch) -> Modes:
        """Modes of p(z|x) of one example x (1, *shape), from q and the peaks of a lattice.

        Each once, though several starts may lead to it.
        """
        starts = torch.cat([self.posterior(x)[0], self.lattice_peaks(x)])

        def density(z: Tensor) -> Tensor:
            return self.model.joint(x.expand(len(z)), self.at(z))

        modes = find_modes(density, starts, self.spread)
        keep: list[int] = []
        for i in range(len(starts)):
            apart = ((modes.at[keep] - modes.at[i]).abs() > modes.width[i]).any(-1)
            if apart.all():
                keep.append(i)
        return Modes(modes.at[keep], modes.width[keep], modes.reach[keep])

    @torch.no_grad()
    def log_prior(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(z), (n,); given the condition c (1, C) in a conditional model."""
        values = []
        for part in z.split(rows_at_once(self.model)):
            condition = None if c is None else c[:1].expand(len(part), -1)
            draw = Draw(source="p", given=self.at(part))
            latents = self.model.generate(len(part), draw, condition).latents
            log_p = torch.stack([latents[name].log_p[0] for name in self.sites])
            values.append(log_p.sum(0))
        return torch.cat(values)

    @torch.no_grad()
    def posterior(self, x: Batch) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x) at its centre, (n, d) each."""
        latents = self.model(x, Draw(source="point")).latents
        qs = [latents[name].q for name in self.sites]
        with seeded(0):  # where q has no closed form, from draws
            pairs = [moments(q) for q in qs if q is not None]
        mean = torch.cat([mean for mean, _ in pairs], -1)
        sd = torch.cat([variance.sqrt() for _, variance in pairs], -1)
        return mean, sd

    @torch.no_grad()
    def log_q(self, x: Batch, z: Tensor) -> Tensor:
        """log q(z|x) of one example x (1, *shape) at z (n, d), (n,).

        Raises:
            TightboundError: if q has no density at a given z.
        """
        values = []
        for part in z.split(rows_at_once(self.model)):
            sites = self.model(x, Draw(len(part), given=self.at(part))).latents.values()
            try:
                log_q = [s.q.log_prob(s.z) for s in sites if s.q is not None]
            except ValueError as error:
                raise TightboundError(
                    f"q cannot be drawn beside p(z|x), since {error}: look at a normal q"
                ) from error
            values.append(torch.stack(log_q).sum(0))
        return torch.cat(values)


def _box(z: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width (d,) of a box around draws z (n, d), wider by WIDER."""
    low = z.amin(0)
    high = z.amax(0)
    return (low + high) / 2, WIDER * (high - low) / 2


def gauss_legendre(d: int) -> tuple[Tensor, Tensor]:
    """Nodes (m^d, d) in [-1, 1] and their log-weights (m^d,)."""
    x, w = np.polynomial.legendre.leggauss(NODES[d])
    nodes = torch.tensor(list(itertools.product(x, repeat=d)), dtype=torch.float64)
    weights = torch.tensor(list(itertools.product(w, repeat=d)), dtype=torch.float64)
    return nodes, weights.log().sum(-1)


def quadrature(
    model: VAE,
    x: Tensor | Batch,
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
    tick: Tick | None = None,
) -> Estimate:
    """log p(x), the log of the integral of p(x, z) over z, by adaptive quadrature.

    For 1 to 3 real latent dimensions in all, in float64. A box around the prior is cut
    into cells, each with a Gauss-Legendre rule. Modes of the posterior are searched for by
    Newton's method from q and from the peaks of a lattice; the box is widened to hold them, and a
    cell at a mode is halved until it is as narrow as the mode. Then a cell is halved along
    every axis while that changes the integral by more than its part of `tolerance`, until
    two grids agree, of which one halves all cells that matter. So posteriors with several
    modes, narrow posteriors and posteriors far from q are found. Nothing is random.

    Args:
        model: the model.
        x: examples (n, *shape) in model units.
        tolerance: relative error of the integral.
        seed: not used.
        tick: called with the number of examples finished since the last call.

    Returns:
        The estimate; se is the sum of the last changes, of the mass in cells at the edge
        of the box, and of the difference of the last two grids, nats. Diagnostic:
        quadrature_error, the same; nodes, the number of evaluations of p(x, z).
    """
    space = Space(model)
    _check_prior(space)
    results = []
    for part in Batch.of(x).split(1):
        row = space.examples(part)
        results.append(_integrate(space, row, tolerance))
        if tick:
            tick(1)
    table = torch.tensor(results, dtype=torch.float64).reshape(-1, 3)
    value, error, nodes = table.unbind(-1)
    diagnostic = {"quadrature_error": error, "nodes": nodes}
    return Estimate(
        "quadrature",
        "exact",
        value,
        error.clone(),
        diagnostic,
        {"tolerance": tolerance},
    )


def _integrate(space: Space, x: Batch, tolerance: float) -> tuple[float, float, int]:
    """log p(x) of one example, its error in nats, and the number of nodes."""
    q = space.posterior(x)
    modes = space.modes_of(x)
    low = torch.minimum(space.low, (modes.at - BEYOND * modes.reach).amin(0))
    high = torch.maximum(space.high, (modes.at + BEYOND * modes.reach).amax(0))
    cells = _Cells(space, space.joint_of(x), (low, high))
    mean = torch.cat([q[0], modes.at])
    width = torch.cat([q[1], modes.width])
    total, error, _ = _refine(cells, (mean, width), tolerance)
    for _ in range(AGREEMENTS):
        if cells.evaluations > MOST:
            break
        before = total
        share = cells.log_mass - cells.log_mass.logsumexp(0)
        cells.halve(share > math.log(SIGNIFICANT))
        total, error, _ = _refine(cells, (mean, width), tolerance)
        error += abs(total - before)
        if abs(total - before) < tolerance:
            break
    return total, error, cells.evaluations


class _Cells:
    """A box divided into c cells for adaptive quadrature.

    middle, half: centre and half width of each cell, (c, d). log_mass: log of the
    integral over each cell, (c,). change: log of its last change, (c,).

    Args:
        space: the latents.
        log_density: log of the integrand at rows z (n, d).
        box: corners (low, high) of the box, each (d,); that of the space if None.
    """

    def __init__(
        self,
        space: Space,
        log_density: Callable[[Tensor], Tensor],
        box: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.space = space
        self.log_density = log_density
        self.low, self.high = box or (space.low, space.high)
        self.evaluations = 0
        self.nodes, self.log_weights = gauss_legendre(space.d)
        side = (self.high - self.low) / CELLS[space.d]
        axis = torch.arange(CELLS[space.d], dtype=torch.float64) + 0.5
        places = torch.cartesian_prod(*[axis] * space.d).reshape(-1, space.d)
        self.middle = self.low + side * places
        self.half = (side / 2).expand_as(self.middle)
        self.log_mass = self.integrate(self.middle, self.half)
        self.change = self.log_mass

    def integrate(self, middle: Tensor, half: Tensor) -> Tensor:
        """log of the integral over each cell, (c,)."""
        z = (middle[:, None] + half[:, None] * self.nodes).flatten(0, 1)
        self.evaluations += len(z)
        log_p = self.log_density(z).reshape(len(middle), -1)
        return (log_p + self.log_weights).logsumexp(1) + half.log().sum(-1)

    def halve(self, split: Tensor) -> None:
        """Halves the chosen cells along every axis."""
        corners = torch.tensor(
            list(itertools.product((-0.5, 0.5), repeat=self.space.d)),
            dtype=torch.float64,
        )
        half = self.half[split, None]
        middle = (self.middle[split, None] + half * corners).flatten(0, 1)
        half = (half / 2).expand(-1, len(corners), -1).flatten(0, 1)
        log_mass = self.integrate(middle, half)
        parent = self.log_mass[split]
        children = log_mass.reshape(-1, len(corners)).logsumexp(1)
        difference = torch.log(-torch.expm1(-(parent - children).abs()))
        change = torch.maximum(parent, children) + difference
        change = (change - math.log(len(corners))).repeat_interleave(len(corners))
        self.middle = torch.cat([self.middle[~split], middle])
        self.half = torch.cat([self.half[~split], half])
        self.log_mass = torch.cat([self.log_mass[~split], log_mass])
        self.change = torch.cat([self.change[~split], change])

    def coarse(self, mean: Tensor, sd: Tensor) -> Tensor:
        """Mask of cells near one of r normals (r, d) that are wider than it, (c,)."""
        mask = torch.zeros_like(self.log_mass, dtype=torch.bool)
        for middle, width in zip(mean, sd, strict=True):
            near = ((self.middle - middle).abs() < self.half + NEAR * width).all(-1)
            mask |= near & (self.half > 2 * width).any(-1)
        return mask

    def at_edge(self) -> Tensor:
        """Mask of cells at the edge of the box, where the integral is cut off, (c,)."""
        below = self.middle - self.half - self.low
        above = self.high - self.middle - self.half
        return (torch.minimum(below, above) < self.half / 2).any(-1)


def _refine(
    cells: _Cells, q: tuple[Tensor, Tensor] | None, tolerance: float
) -> tuple[float, float, int]:
    """Halves cells until the integral has the tolerance.

    Args:
        cells: the cells.
        q: places (r, d) and widths (r, d), near which cells have to be as narrow as these.
        tolerance: relative error of the integral.

    Returns:
        log of the integral over the box, its error in nats, and the number of nodes.
    """
    for _ in range(ROUNDS):
        total = cells.log_mass.logsumexp(0)
        split = cells.change - total > math.log(tolerance / PARTS)
        if q is not None:
            split |= cells.coarse(*q)
        if not split.any() or cells.evaluations > MOST:
            break
        cells.halve(split)
    total = cells.log_mass.logsumexp(0)
    unresolved = (cells.change.logsumexp(0) - total).exp()
    cut_off = (cells.log_mass[cells.at_edge()].logsumexp(0) - total).exp()
    return float(total), float(unresolved + cut_off), cells.evaluations


def _check_prior(space: Space) -> None:
    """Checks that p(z) is a density over all real z.

    Raises:
        TightboundError: if its integral is not 1, as on a sphere.
    """
    cells = _Cells(space, lambda z: space.log_prior(z, space.condition))
    total, _, _ = _refine(cells, None, 1e-3)
    if abs(total) > 0.02:
        raise TightboundError(
            f"p(z) integrates to {math.exp(total):.3g} and not to 1 over real z, so this "
            "latent is not made of free numbers (a sphere, a disc): quadrature cannot "
            "integrate over it, use importance or ais-prior"
        )


@dataclass(frozen=True)
class Grid:
    """Bayes' rule for one example on a grid over 1 or 2 latents.

    log_posterior = log_prior + log_likelihood - log_px. Each log-density is (m,) * d.

    Args:
        axes: d of them, each (m,).
        log_prior: log p(z).
        log_likelihood: log p(x|z).
        log_posterior: log p(z|x).
        log_q: log q(z|x).
        log_px: log of the sum of p(x, z) over the grid, times `cell`.
        cell: volume of a grid cell.
    """

    axes: list[Tensor]
    log_prior: Tensor
    log_likelihood: Tensor
    log_posterior: Tensor
    log_q: Tensor
    log_px: float
    cell: float


def posterior_grid(
    model: VAE,
    x: Tensor | Batch,
    *,
    points: int = 200,
    box: tuple[Tensor, Tensor] | None = None,
    space: Space | None = None,
) -> Grid:
    """p(z), p(x|z), p(z|x) and q(z|x) of one example on a grid, in float64.

    Args:
        model: a model with 1 or 2 latent dimensions.
        x: one example (1, *shape) in model units.
        points: points along each axis.
        box: corners (low, high) of the grid, each (d,); if None, about the middle 99.9 %
            of the prior. `posterior_box` gives one around the true posterior and q.
        space: `Space(model)`, which saves a copy of the model.
    """
    space = space or Space(model)
    if space.d > 2:
        raise TightboundError(
            f"a grid can be drawn for 1 or 2 latent features, but this model has {space.d}"
        )
    if box is None:
        middle = (space.low + space.high) / 2
        reach = (space.high - space.low) * 0.22
        box = (middle - reach, middle + reach)
    low, high = box
    axes = [
        torch.linspace(float(a), float(b), points, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    ]
    z = torch.cartesian_prod(*axes).reshape(-1, space.d)
    x = space.examples(x)
    log_joint = space.joint_of(x)(z)
    log_prior = space.log_prior(z, x.c)
    log_q = space.log_q(x, z)
    cell = math.prod(float(a[1] - a[0]) for a in axes)
    log_px = float(log_joint.logsumexp(0)) + math.log(cell)
    terms = (log_prior, log_joint - log_prior, log_joint - log_px, log_q)
    prior, likelihood, posterior, q = (t.reshape([points] * space.d) for t in terms)
    return Grid(axes, prior, likelihood, posterior, q, log_px, cell)


def posterior_box(
    model: VAE, x: Tensor | Batch, *, width: float = 4.0, space: Space | None = None
) -> tuple[Tensor, Tensor]:
    """Corners (low, high), each (d,), of a box around the true posterior and q.

    Args:
        model: the model.
        x: one example (1, *shape) in model units.
        width: standard deviations of q on each side.
        space: `Space(model)`, which saves a copy of the model.
    """
    space = space or Space(model)
    x = space.examples(x)
    cells = _Cells(space, space.joint_of(x))
    mean, sd = space.posterior(x)
    modes = space.modes_of(x)
    places = torch.cat([mean, modes.at])
    widths = torch.cat([sd, modes.width])
    for _ in range(ROUNDS):
        share = cells.log_mass - cells.log_mass.logsumexp(0)
        inside = share > math.log(1e-4)
        split = cells.coarse(places, widths) | (inside & (inside.sum() < BOX_CELLS))
        if not split.any() or cells.evaluations > MOST:
            break
        cells.halve(split)
    low = (cells.middle - cells.half)[inside].amin(0)
    high = (cells.middle + cells.half)[inside].amax(0)
    low = torch.minimum(low, mean[0] - width * sd[0])
    high = torch.maximum(high, mean[0] + width * sd[0])
    return low, high
