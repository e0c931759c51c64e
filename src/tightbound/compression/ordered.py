"""Ordered values by successive refinement: a cell of many values, then a cell within it.

A value among 1024 takes choices among 16, 16 and 4 in place of one among 1024: less work, and
less probability that the coder must keep for values which never occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tightbound.compression.coder import Stack, Weights, whole_weights

CELLS = 16
VALUES_AT_ONCE = 4_000_000  # numbers of a distribution function computed at once
FARTHEST = 1 << 40  # of unbounded values, from where they are counted


class Law(Protocol):
    """Distributions of m ordered values, by their masses between edges."""

    @property
    def width(self) -> int:
        """Numbers computed for each edge."""

    def masses(self, edges: Tensor) -> Tensor:
        """Masses (m, C), up to a factor of each row, between edges (m, C + 1).

        Values v lie in a cell where edge <= v < next edge.
        """

    def select(self, rows: Tensor | slice) -> Law:
        """The distributions of some of the values."""

    def weights(self, edges: Tensor) -> Weights:
        """The masses as integer weights."""


class Computed:
    """Laws whose weights are computed from their masses."""

    def masses(self, edges: Tensor) -> Tensor:
        """Masses between edges."""
        raise NotImplementedError

    def weights(self, edges: Tensor) -> Weights:
        """The masses as integer weights."""
        return whole_weights(self.masses(edges))


Place = Callable[[Tensor], Tensor]


def of_levels(count: int) -> Place:
    """Where the edges of integers 0..count-1 lie; the ends take the tails."""

    def place(edges: Tensor) -> Tensor:
        at = edges.double() - 0.5
        at = torch.where(edges <= 0, -math.inf, at)
        return torch.where(edges >= count, math.inf, at)

    return place


def of_integers(edges: Tensor) -> Tensor:
    """Where the edges of integers without bounds lie."""
    at = edges.double() - 0.5
    at = torch.where(edges <= -FARTHEST, -math.inf, at)
    return torch.where(edges >= FARTHEST, math.inf, at)


def normal_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard normal e, u >= 0."""
    return 0.5 * torch.special.erfc(u * math.sqrt(0.5))


def logistic_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard logistic e, u >= 0."""
    return torch.sigmoid(-u)


def laplace_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard Laplace e, u >= 0."""
    return 0.5 * torch.exp(-u)


def mass_between(u: Tensor, tail: Tensor) -> Tensor:
    """Masses between edges u (..., C + 1), from whichever tail is the smaller one.

    Args:
        u: Edges in standard units, in order.
        tail: P(e > |u|).
    """
    low = tail[..., :-1]
    high = tail[..., 1:]
    difference = (low - high).abs()
    astride = (u[..., :-1] < 0) & (u[..., 1:] > 0)
    return torch.where(astride, 1 - low - high, difference)


@dataclass(frozen=True)
class Symmetric(Computed):
    """Symmetric distributions of a location and a scale.

    Args:
        loc, scale: (m,), or (m, K) of mixtures.
        tail: P(e > u) of the standard distribution, u >= 0.
        place: Edges of values as real numbers.
        weight: Weights (m, K) of mixtures.
    """

    loc: Tensor
    scale: Tensor
    tail: Callable[[Tensor], Tensor]
    place: Place
    weight: Tensor | None = None

    @property
    def width(self) -> int:
        """Components of a mixture."""
        return 1 if self.weight is None else self.weight.shape[1]

    def select(self, rows: Tensor | slice) -> Symmetric:
        """The distributions of some of the values."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, loc=self.loc[rows], scale=self.scale[rows], weight=weight)

    def masses(self, edges: Tensor) -> Tensor:
        """Masses between edges, from whichever tail is the smaller one."""
        at = self.place(edges)
        if self.weight is not None:
            at = at.unsqueeze(1)
        u = (at - self.loc.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        tail = self.tail(u.abs())
        mass = mass_between(u, tail)
        if self.weight is None:
            return mass
        return (mass * self.weight.unsqueeze(-1)).sum(1)


@dataclass(frozen=True)
class Counts(Computed):
    """Poisson distributions, or negative binomial ones where `total` is given.

    Args:
        rate: Mean (m,) of a Poisson; p of a negative binomial, mean total * p / (1 - p).
        total: r of a negative binomial (m,).
    """

    rate: Tensor
    total: Tensor | None = None
    width: int = field(default=8, init=False)

    def select(self, rows: Tensor | slice) -> Counts:
        """The distributions of some of the values."""
        total = None if self.total is None else self.total[rows]
        return Counts(self.rate[rows], total)

    def masses(self, edges: Tensor) -> Tensor:
        """Masses between edges, from whichever tail is the smaller one."""
        below, above = self._tails(edges.double().numpy())
        low = np.diff(below, axis=1)
        high = -np.diff(above, axis=1)
        mass = np.where(above[:, :-1] < 0.5, high, low)
        return torch.from_numpy(np.maximum(mass, 0.0))

    def _tails(self, edges: Weights) -> tuple[Weights, Weights]:
        """P(x < edge) and P(x >= edge)."""
        from scipy import special

        rate = self.rate.numpy()[:, None]
        at = np.maximum(edges, 1.0)
        if self.total is None:
            below = special.gammaincc(at, rate)
            above = special.gammainc(at, rate)
        else:
            total = self.total.numpy()[:, None]
            below = special.betaincc(at, total, rate)
            above = special.betainc(at, total, rate)
        first = edges <= 0
        last = edges >= FARTHEST
        below = np.where(first, 0.0, np.where(last, 1.0, below))
        above = np.where(first, 1.0, np.where(last, 0.0, above))
        return below, above


def level_edges(count: int) -> Tensor:
    """Edges of the first cells of 0..count-1."""
    step = -(-count // CELLS)
    return torch.tensor([*range(0, count, step), count])


def count_edges() -> Tensor:
    """Edges of the first cells of 0, 1, ...: single values, then cells of twice the width."""
    edges = list(range(17))
    while edges[-1] < FARTHEST:
        edges.append(2 * edges[-1])
    return torch.tensor(edges)


def integer_edges() -> Tensor:
    """Edges of the first cells of all integers, widest far from 0."""
    out = [1]
    while out[-1] < FARTHEST:
        out.append(4 * out[-1])
    return torch.tensor([*[-edge for edge in reversed(out)], 0, *out])


def _weights(law: Law, edges: Tensor) -> Weights:
    """Integer weights (m, C) of the cells between edges (m, C + 1), some rows at a time."""
    size = max(1, VALUES_AT_ONCE // (edges.shape[1] * law.width))
    parts = [
        law.select(slice(i, i + size)).weights(edges[i : i + size])
        for i in range(0, len(edges), size)
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts)


def _within(low: Tensor, width: Tensor) -> Tensor:
    """Edges (m, C + 1) that divide the cells [low, low + width), C being at most CELLS."""
    if not len(low):
        return low.new_zeros(0, 1)
    step = (width + CELLS - 1) // CELLS
    count = min(CELLS, int(width.max()))
    inner = torch.arange(count + 1) * step.unsqueeze(1)
    return low.unsqueeze(1) + torch.minimum(inner, width.unsqueeze(1))


def push_ordered(stack: Stack, values: Tensor, first: Tensor, law: Law) -> None:
    """Append ordered values.

    Args:
        stack: The message.
        values: Integers (m,), at least the first of `first` and less than its last.
        first: Edges of the first cells.
        law: Their distributions.
    """
    stages: list[tuple[Tensor, Weights]] = []
    edges = first.expand(len(values), -1)
    while len(values):
        place = values.unsqueeze(1).contiguous()
        after = torch.searchsorted(edges.contiguous(), place, right=True)
        cell = after.squeeze(1) - 1
        stages.append((cell, _weights(law, edges)))
        low, width = _cell(edges, cell)
        wide = width > 1
        if not wide.all():
            law = law.select(wide)
        values = values[wide]
        edges = _within(low[wide], width[wide])
    for cell, weights in reversed(stages):
        stack.push(cell, weights)


def pop_ordered(stack: Stack, count: int, first: Tensor, law: Law) -> Tensor:
    """Remove `count` ordered values, the inverse of `push_ordered`."""
    values = torch.zeros(count, dtype=torch.long)
    rows = torch.arange(count)
    edges = first.expand(count, -1)
    while len(rows):
        cell = stack.pop(_weights(law, edges))
        low, width = _cell(edges, cell)
        values[rows] = low
        wide = width > 1
        if not wide.all():
            law = law.select(wide)
        rows = rows[wide]
        edges = _within(low[wide], width[wide])
    return values


def _cell(edges: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Lower edge and width of one cell of each row."""
    low = edges.gather(1, cell.unsqueeze(1)).squeeze(1)
    high = edges.gather(1, cell.unsqueeze(1) + 1).squeeze(1)
    return low, high - low
