"""log p(x) exactly, by adaptive quadrature over one to three latents, and Bayes' rule on a grid for
pictures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import moments
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators.estimate import (
    Estimate,
    Tick,
    in_double,
    rows_at_once,
)
from tightbound.models.vae import VAE
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError

NODES = {1: 8, 2: 6, 3: 4}  # Gauss-Legendre nodes of a cell along each axis
CELLS = {1: 32, 2: 8, 3: 5}  # cells of the first grid along each axis
DRAWS, WIDER = (
    2048,
    2.4,
)  # the box: the range of that many prior draws, widened; of a normal, 8 standard deviations
ROUNDS, MOST = (
    24,
    4_000_000,
)  # halvings of a cell, and nodes of an example, after which the error says the rest
PARTS, BOX_CELLS = 64, 100


class Space:
    """The latents of a model in float64 as one vector z (n, d), sites side by side, with a box
    around the prior.
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
        low, high = z.amin(0), z.amax(0)
        self.condition = (
            self.model.get_buffer("conditions")[:1]
            if self.model.condition_encoder is not None
            else None
        )
        self.low, self.high = (
            (low + high) / 2 + s * WIDER * (high - low) / 2 for s in (-1, 1)
        )

    def _check(self, latents: Mapping[str, object]) -> None:
        for name in self.sites:
            p = getattr(latents[name], "p", None)
            support = getattr(p, "support", None)
            if (
                getattr(support, "is_discrete", False)
                or p is None
                or len(p.event_shape) != 1
            ):
                raise TightboundError(
                    f"quadrature is for real latents, and {name!r} is not one: use ais-prior"
                )

    def examples(self, x: Tensor | Batch) -> Batch:
        """Examples as this model takes them, in float64."""
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

    @torch.no_grad()
    def log_prior(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(z), (n,); given the condition c (1, C) in a conditional model."""
        found = []
        for part in z.split(rows_at_once(self.model)):
            c = None if c is None else c[:1].expand(len(part), -1)
            latents = self.model.generate(
                len(part), Draw(source="p", given=self.at(part)), c
            ).latents
            found.append(
                torch.stack([latents[name].log_p[0] for name in self.sites]).sum(0)
            )
        return torch.cat(found)

    @torch.no_grad()
    def posterior(self, x: Batch) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x) at its centre, (n, d) each."""
        latents = self.model(x, Draw(source="point")).latents
        with seeded(0):  # of a q that does not know its own, over some draws
            known = [
                moments(q) for name in self.sites if (q := latents[name].q) is not None
            ]
        return torch.cat([mean for mean, _ in known], -1), torch.cat(
            [variance.sqrt() for _, variance in known], -1
        )

    @torch.no_grad()
    def log_q(self, x: Batch, z: Tensor) -> Tensor:
        """log q(z|x) of one example x (1, *shape) at z (n, d); TightboundError where q knows none
        at a given z.
        """
        found = []
        for part in z.split(rows_at_once(self.model)):
            sites = self.model(x, Draw(len(part), given=self.at(part))).latents.values()
            try:
                found.append(
                    torch.stack(
                        [s.q.log_prob(s.z) for s in sites if s.q is not None]
                    ).sum(0)
                )
            except ValueError as error:
                raise TightboundError(
                    f"q cannot be drawn beside p(z|x), since {error}: look at a normal q"
                ) from error
        return torch.cat(found)


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
    """log of the integral of p(x, z) over z, for 1 to 3 real latent features in all, in float64.

    A box around the prior is cut into cells, each with a Gauss-Legendre rule.  A cell is halved
    along every axis while that changes the integral by more than its part of `tolerance`
    (relative), and where q is narrower than the cell: so posteriors with several modes are found
    wherever they are, and narrow ones too.  Nothing is random. se: the sum of the last changes and
    of the mass in cells at the box's edge, nats.  diagnostic: quadrature_error (the same), nodes
    (how often p(x, z) was computed).
    """
    space, found = Space(model), []
    _check_prior(space)
    for one in Batch.of(x).split(1):
        row = space.examples(one)
        found.append(
            _refined(
                _Cells(space, space.joint_of(row)), space.posterior(row), tolerance
            )
        )
        if tick:
            tick(1)
    value, error, nodes = (
        torch.tensor(found, dtype=torch.float64).reshape(-1, 3).unbind(-1)
    )
    diagnostic = {"quadrature_error": error, "nodes": nodes}
    return Estimate(
        "quadrature",
        "exact",
        value,
        error.clone(),
        diagnostic,
        {"tolerance": tolerance},
    )


class _Cells:
    """A box in cells: middle and half width (c, d), log of each one's integral and of its last
    change (c,).

    log_density: of rows z (n, d), what is integrated.
    """

    def __init__(self, space: Space, log_density: Callable[[Tensor], Tensor]) -> None:
        self.space, self.log_density, self.spent = space, log_density, 0
        self.nodes, self.log_weights = gauss_legendre(space.d)
        side = (space.high - space.low) / CELLS[space.d]
        axis = torch.arange(CELLS[space.d], dtype=torch.float64) + 0.5
        self.middle = space.low + side * torch.cartesian_prod(
            *[axis] * space.d
        ).reshape(-1, space.d)
        self.half = (side / 2).expand_as(self.middle)
        self.log_mass = self.integrate(self.middle, self.half)
        self.change = self.log_mass

    def integrate(self, middle: Tensor, half: Tensor) -> Tensor:
        """log of the integral over each cell, (c,)."""
        z = (middle[:, None] + half[:, None] * self.nodes).flatten(0, 1)
        self.spent += len(z)
        log_p = self.log_density(z).reshape(len(middle), -1)
        return (log_p + self.log_weights).logsumexp(1) + half.log().sum(-1)

    def halve(self, split: Tensor) -> None:
        """Cuts the chosen cells in two along every axis, and notes by how much that changed the
        integral.
        """
        corners = torch.tensor(
            list(itertools.product((-0.5, 0.5), repeat=self.space.d)),
            dtype=torch.float64,
        )
        half = self.half[split, None]
        middle = (self.middle[split, None] + half * corners).flatten(0, 1)
        half = (half / 2).expand(-1, len(corners), -1).flatten(0, 1)
        log_mass = self.integrate(middle, half)
        parent, children = (
            self.log_mass[split],
            log_mass.reshape(-1, len(corners)).logsumexp(1),
        )
        change = torch.maximum(parent, children) + torch.log(
            -torch.expm1(-(parent - children).abs())
        )
        change = (change - math.log(len(corners))).repeat_interleave(len(corners))
        for name, new in {
            "middle": middle,
            "half": half,
            "log_mass": log_mass,
            "change": change,
        }.items():
            setattr(self, name, torch.cat([getattr(self, name)[~split], new]))

    def coarse(self, mean: Tensor, sd: Tensor) -> Tensor:
        """Which cells lie within a standard deviation of q and are wider than q."""
        near = ((self.middle - mean).abs() < self.half + sd).all(-1)
        return near & (self.half > 2 * sd).any(-1)

    def at_edge(self) -> Tensor:
        """Which cells touch the box's edge, where the integral is cut off."""
        gap = torch.minimum(
            self.middle - self.half - self.space.low,
            self.space.high - self.middle - self.half,
        )
        return (gap < self.half / 2).any(-1)


def _refined(
    cells: _Cells, near: tuple[Tensor, Tensor] | None, tolerance: float
) -> tuple[float, float, int]:
    """log of the integral over the box, its error in nats, and how many nodes it took; near: mean
    and sd of q.
    """
    for _ in range(ROUNDS):
        total = cells.log_mass.logsumexp(0)
        split = cells.change - total > math.log(tolerance / PARTS)
        if near is not None:
            split |= cells.coarse(*near)
        if not split.any() or cells.spent > MOST:
            break
        cells.halve(split)
    total = cells.log_mass.logsumexp(0)
    error = (cells.change.logsumexp(0) - total).exp() + (
        cells.log_mass[cells.at_edge()].logsumexp(0) - total
    ).exp()
    return float(total), float(error), cells.spent


def _check_prior(space: Space) -> None:
    """Raises TightboundError where p(z) is no density over all real z: its integral is not 1, as on
    a sphere.
    """
    total, _, _ = _refined(
        _Cells(space, lambda z: space.log_prior(z, space.condition)), None, 1e-3
    )
    if abs(total) > 0.02:
        raise TightboundError(
            f"p(z) integrates to {math.exp(total):.3g} and not to 1 over real "
            "z, so this latent is not made of free "
            "numbers (a sphere, a disc): quadrature cannot integrate over it, "
            "use importance or ais-prior"
        )


@dataclass(frozen=True)
class Grid:
    """Bayes' rule for one example on a grid over 1 or 2 latents: axes (d of them, each (m,)),
    log-densities (m,) * d.

    log_posterior = log_prior + log_likelihood - log_px, where log_px is the log of the product's
    sum over this very grid times cell, the volume of a grid cell; log_q is q(z|x), which stands in
    for the posterior in training.
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
    """p(z), p(x|z), p(z|x) and q(z|x) of one example x (1, *shape) on one grid, float64, for 1 or 2
    latent features.

    box: the corners (low, high), each (d,); where None, the prior's middle 99.9 % or so;
    `posterior_box` gives one around the true posterior and q.  space: a `Space(model)` made before,
    which saves copying the model each time.
    """
    space = space or Space(model)
    if space.d > 2:
        raise TightboundError(
            f"a grid can be drawn for 1 or 2 latent features, but this model has {space.d}"
        )
    low, high = box or (
        (space.low + space.high) / 2 + s * (space.high - space.low) * 0.22
        for s in (-1, 1)
    )
    axes = [
        torch.linspace(float(a), float(b), points, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    ]
    z = torch.cartesian_prod(*axes).reshape(-1, space.d)
    x = space.examples(x)
    log_joint = space.joint_of(x)(z)
    log_prior, log_q = space.log_prior(z, x.c), space.log_q(x, z)
    cell = math.prod(float(a[1] - a[0]) for a in axes)
    log_px = float(log_joint.logsumexp(0)) + math.log(cell)
    terms = (log_prior, log_joint - log_prior, log_joint - log_px, log_q)
    prior, likelihood, posterior, q = (t.reshape([points] * space.d) for t in terms)
    return Grid(axes, prior, likelihood, posterior, q, log_px, cell)


def posterior_box(
    model: VAE, x: Tensor | Batch, *, width: float = 4.0, space: Space | None = None
) -> tuple[Tensor, Tensor]:
    """Corners (low, high), each (d,), that hold the true posterior of x (1, *shape) and q out to
    `width` of its sd.
    """
    space = space or Space(model)
    x = space.examples(x)
    cells, (mean, sd) = _Cells(space, space.joint_of(x)), space.posterior(x)
    for _ in range(ROUNDS):
        share = cells.log_mass - cells.log_mass.logsumexp(0)
        inside = share > math.log(1e-4)
        split = cells.coarse(mean, sd) | (inside & (inside.sum() < BOX_CELLS))
        if not split.any() or cells.spent > MOST:
            break
        cells.halve(split)
    low = torch.minimum(
        (cells.middle - cells.half)[inside].amin(0), mean[0] - width * sd[0]
    )
    high = torch.maximum(
        (cells.middle + cells.half)[inside].amax(0), mean[0] + width * sd[0]
    )
    return low, high
