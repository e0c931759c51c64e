"""Bins of latents: a grid of 1024 values of each dimension that both sides know."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightbound.compression.coder import Weights, weights_below
from tightbound.compression.ordered import (
    CELLS,
    Symmetric,
    level_edges,
    mass_below,
    normal_tail,
)

BINS = 1024
FIRST = level_edges(BINS)
#: The grid's density is that of Student's t of two degrees of freedom with this scale, in
#: standard deviations of p(z): bins are 0.002 wide at the centre, and reach to 18.
SPREAD = 0.8


def quantile(u: Tensor) -> Tensor:
    """Quantiles of the grid's density, by arithmetic that is exact to the bit everywhere."""
    return SPREAD * (2 * u - 1) / (2 * u * (1 - u)).sqrt()


def _edges() -> Tensor:
    """Edges 0..BINS of the bins as real numbers; the bins at the ends take the tails."""
    inner = quantile(torch.arange(1, BINS).double() / BINS)
    ends = inner.new_full((1,), math.inf)
    return torch.cat([-ends, inner, ends])


EDGES = _edges()
MIDDLES = quantile((torch.arange(BINS).double() + 0.5) / BINS)
TAILS = normal_tail(EDGES.abs())


def place(edges: Tensor) -> Tensor:
    """Edges by their numbers as real numbers."""
    return EDGES[edges]


@dataclass(frozen=True)
class Standard:
    """Standard normals as distributions over the bins, from a table.

    Args:
        count: Number of values.
    """

    count: int
    width: int = field(default=1, init=False)

    def select(self, rows: Tensor | slice) -> Standard:
        """The distributions of some of the values, which are all the same."""
        return self

    def below(self, edges: Tensor) -> Tensor:
        """Masses from the first edge to each other one."""
        return mass_below(EDGES[edges], TAILS[edges])

    def weights(self, edges: Tensor) -> Weights:
        """The masses as integer weights, from a table of each step."""
        width = int(edges[0, 1] - edges[0, 0])
        table = TABLES[width]
        places = edges[:, 0].numpy() // (width * table.shape[1])
        if len(places) == 1:
            places = places.repeat(self.count)
        weights: Weights = table[places]
        return weights


def _tables() -> dict[int, Weights]:
    """Weights of a standard normal by the width of the cells: those of each step."""
    tables = {}
    whole = BINS
    while whole > 1:
        width = -(-whole // CELLS)
        edges = torch.arange(0, BINS, whole)[:, None] + torch.arange(
            0, whole + 1, width
        )
        tables[width] = weights_below(mass_below(EDGES[edges], TAILS[edges]))
        whole = width
    return tables


TABLES = _tables()


@dataclass(frozen=True)
class Grid:
    """The bins of n latents: those of a standard variable, moved and stretched.

    Args:
        loc, scale: Mean and standard deviation of p(z), or what stands for them, (n, d).
    """

    loc: Tensor
    scale: Tensor

    def values(self, numbers: Tensor) -> Tensor:
        """The middle (n, d) of bins (n, d), by their share of the density."""
        return self.loc + self.scale * MIDDLES[numbers]

    def law(self, loc: Tensor, scale: Tensor, count: int) -> Symmetric | Standard:
        """Normals (n, d) of the first `count` rows as distributions over the bins."""
        if loc is self.loc and scale is self.scale:
            return Standard(loc[:count].numel())
        centre = ((loc - self.loc) / self.scale)[:count]
        width = (scale / self.scale)[:count]
        return Symmetric(centre.flatten(), width.flatten(), normal_tail, place)
