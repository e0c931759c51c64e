"""Ordered values by successive refinement: a cell of many values, then a cell within it.

A value among 1024 takes choices among 16, 16 and 4 in place of one among 1024: less work, and
less probability that the coder must keep for values which never occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tightbound.compression.coder import Stack, Uncodable, Weights, weights_below

CELLS = 16
VALUES_AT_ONCE = 4_000_000  # numbers of a distribution function computed at once
FARTHEST = 1 << 40  # of unbounded values, from where they are counted


class Law(Protocol):
    """Distributions of m ordered values, by their masses between edges."""

    @property
    def width(self) -> int:
        """Numbers computed for each edge."""

    def below(self, edges: Tensor) -> Tensor:
        """Masses (m, C), up to a factor of each row, from the first edge to each other one.

        Args:
            edges: (m, C + 1), or (1, C + 1) of all values.
        """

    def select(self, rows: Tensor | slice) -> Law:
        """The distributions of some of the values."""

    def weights(self, edges: Tensor) -> Weights:
        """Integer weights (m, C) of the cells between edges: edge <= v < next edge."""


class Computed:
    """Laws whose weights are computed from their masses."""

    def below(self, edges: Tensor) -> Tensor:
        """Masses from the first edge to each other one."""
        raise NotImplementedError

    def weights(self, edges: Tensor) -> Weights:
        """The masses as integer weights."""
        return weights_below(self.below(edges))


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


def of_logs(edges: Tensor) -> Tensor:
    """Logarithms of where the edges of the integers above 0 lie; 1 takes all below 1.5."""
    at = edges.double() - 0.5
    at = torch.where(edges <= 1, -math.inf, at.clamp(min=0.5).log())
    return torch.where(edges >= FARTHEST, math.inf, at)


def normal_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard normal e, u >= 0."""
    tail: Tensor = torch.special.erfc(u * math.sqrt(0.5)).mul_(0.5)
    return tail


def logistic_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard logistic e, u >= 0."""
    return torch.sigmoid(-u)


def laplace_tail(u: Tensor) -> Tensor:
    """P(e > u) of a standard Laplace e, u >= 0."""
    return 0.5 * torch.exp(-u)


def mass_below(u: Tensor, tail: Tensor) -> Tensor:
    """Masses from the first of edges u (..., C + 1) to each other one, (..., C).

    Each is a difference of the smaller tails, which keeps its digits far out.

    Args:
        u: Edges in standard units, in order.
        tail: P(e > |u|).
    """
    is_above = u > 0
    signed = torch.where(is_above, -tail, tail)
    crosses = is_above[..., 1:] & ~is_above[..., :1]
    return (signed[..., 1:] - signed[..., :1]).add_(crosses.to(u.dtype))


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

    def below(self, edges: Tensor) -> Tensor:
        """Masses from the first edge to each other one."""
        at = self.place(edges)
        if self.weight is not None:
            at = at.unsqueeze(1)
        u = (at - self.loc.unsqueeze(-1)).div_(self.scale.unsqueeze(-1))
        below = mass_below(u, self.tail(u.abs()))
        if self.weight is None:
            return below
        return below.mul_(self.weight.unsqueeze(-1)).sum(1)


@dataclass(frozen=True)
class ZeroOr(Computed):
    """Zero with a probability of its own, else a value of another distribution.

    Where the others can be rounded to 0, this adds to its probability.

    Args:
        share: Probability of zero, (m,).
        others: Distributions of the other values.
    """

    share: Tensor
    others: Symmetric

    @property
    def width(self) -> int:
        """Numbers computed for each edge."""
        return self.others.width

    def select(self, rows: Tensor | slice) -> ZeroOr:
        """The distributions of some of the values."""
        return ZeroOr(self.share[rows], self.others.select(rows))

    def below(self, edges: Tensor) -> Tensor:
        """Masses from the first edge to each other one."""
        share = self.share.unsqueeze(1)
        others = self.others.below(edges).mul_(1 - share)
        has_zero = (edges[:, :1] <= 0) & (edges[:, 1:] > 0)
        return others + torch.where(has_zero, share, torch.zeros_like(share))


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

    def below(self, edges: Tensor) -> Tensor:
        """Masses from the first edge to each other one."""
        below, above = self._tails(edges.double().numpy())
        low = np.diff(below, axis=1)
        high = -np.diff(above, axis=1)
        mass = np.where(above[:, :-1] < 0.5, high, low)
        return torch.from_numpy(np.maximum(mass, 0.0).cumsum(1))

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


def _weights(law: Law, count: int, edges: Tensor) -> Weights:
    """Integer weights (m, C) of the cells between edges, some rows at a time.

    Args:
        law: The distributions.
        count: Number of rows m.
        edges: (m, C + 1), or (1, C + 1) of all rows.
    """
    size = max(1, VALUES_AT_ONCE // (edges.shape[1] * law.width))
    if count <= size:
        return law.weights(edges)
    parts = []
    for i in range(0, count, size):
        rows = edges if len(edges) == 1 else edges[i : i + size]
        parts.append(law.select(slice(i, i + size)).weights(rows))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Cells:
    """The cells of one step of the refinement, at most CELLS of equal width in each row.

    Args:
        low: Where the cells of a row begin, (m,).
        width: Number of values of a row, (m,).
    """

    low: Tensor
    width: Tensor

    @cached_property
    def step(self) -> Tensor:
        """Width of a cell, the last one aside, (m,)."""
        return (self.width + CELLS - 1) // CELLS

    def edges(self) -> Tensor:
        """Edges (m, C + 1)."""
        widest = int(self.width.max())
        step = -(-widest // CELLS)
        if bool((self.width == widest).all()):
            inner = torch.arange(-(-widest // step) + 1) * step
            return self.low.unsqueeze(1) + inner.clamp_(max=widest)
        inner = torch.arange(min(CELLS, widest) + 1) * self.step.unsqueeze(1)
        return self.low.unsqueeze(1) + torch.minimum(inner, self.width.unsqueeze(1))

    def cell_of(self, values: Tensor) -> Tensor:
        """The cell that a value of each row lies in."""
        return (values - self.low) // self.step

    def within(self, cell: Tensor) -> Cells:
        """One cell of each row."""
        start = cell * self.step
        width = torch.minimum(self.step, self.width - start)
        return Cells(self.low + start, width)

    def select(self, rows: Tensor) -> Cells:
        """Some of the rows."""
        return Cells(self.low[rows], self.width[rows])


def _first_cells(first: Tensor, cell: Tensor) -> Cells:
    """Cells of given edges (C + 1,), one for each value."""
    return Cells(first[:-1][cell], first.diff()[cell])


def push_ordered(stack: Stack, values: Tensor, first: Tensor, law: Law) -> None:
    """Append ordered values.

    Args:
        stack: The message.
        values: Integers (m,).
        first: Edges of the first cells.
        law: Their distributions.

    Raises:
        Uncodable: A value lies outside all cells.
    """
    if not len(values):
        return
    if bool((values < first[0]).any() or (values >= first[-1]).any()):
        raise Uncodable
    cell = torch.searchsorted(first, values.contiguous(), right=True) - 1
    stages = [(cell, _weights(law, len(values), first.unsqueeze(0)))]
    cells = _first_cells(first, cell)
    while True:
        wide = cells.width > 1
        if not wide.all():
            if not wide.any():
                break
            law = law.select(wide)
            values = values[wide]
            cells = cells.select(wide)
        cell = cells.cell_of(values)
        stages.append((cell, _weights(law, len(values), cells.edges())))
        cells = cells.within(cell)
    for cell, weights in reversed(stages):
        stack.push(cell, weights)


def pop_ordered(stack: Stack, count: int, first: Tensor, law: Law) -> Tensor:
    """Remove `count` ordered values, the inverse of `push_ordered`."""
    if not count:
        return torch.zeros(0, dtype=torch.long)
    cells = _first_cells(first, stack.pop(_weights(law, count, first.unsqueeze(0))))
    values = cells.low.clone()
    rows: Tensor | slice = slice(None)
    while True:
        wide = cells.width > 1
        if not wide.all():
            if not wide.any():
                break
            law = law.select(wide)
            rows = torch.arange(count)[rows][wide]
            cells = cells.select(wide)
        weights = _weights(law, len(cells.low), cells.edges())
        cells = cells.within(stack.pop(weights))
        values[rows] = cells.low
    return values
