"""Distributions of the rows of a table: independent columns, and a chain of columns."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from tightbound.distributions import ExtendedDistribution, log_prob_each, point
from tightbound.distributions.base import SampleShape
from tightbound.distributions.random import seeded

Dimensions = slice | Tensor
VALUES_AT_ONCE = 4_000_000


class Product(ExtendedDistribution):
    """Product of distributions over disjoint sets of dimensions, (n, D).

    parts: pairs of dimensions and their distribution.
    """

    def __init__(
        self, parts: Sequence[tuple[Dimensions, Distribution]], n: int, dims: int
    ) -> None:
        self.parts = parts
        super().__init__(torch.Size([n]), torch.Size([dims]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        terms = [dist.log_prob(value[..., at]) for at, dist in self.parts]
        return torch.stack(terms).sum(0)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """log p of each value, (..., n, D); that of a category stands at its first place."""
        terms: list[tuple[Dimensions | int, Tensor]] = []
        for at, dist in self.parts:
            if isinstance(dist, OneHotCategorical):
                assert isinstance(at, slice)
                terms.append((at.start, dist.log_prob(value[..., at])))
            else:
                terms.append((at, log_prob_each(dist, value[..., at])))
        # parameters may be float64 where the values are float32
        types = [term.dtype for _, term in terms]
        out = torch.zeros_like(
            value, dtype=functools.reduce(torch.promote_types, types)
        )
        for where, term in terms:
            out[..., where] = term.to(out.dtype)
        return out

    def _joined(self, value_of: Callable[[Distribution], Tensor]) -> Tensor:
        """Values of each part side by side, (..., n, D)."""
        values = [value_of(dist) for _, dist in self.parts]
        out = values[0].new_empty(*values[0].shape[:-1], *self.event_shape)
        for (at, _), value in zip(self.parts, values, strict=True):
            out[..., at] = value
        return out

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            return self._joined(lambda dist: dist.sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        return self._joined(lambda dist: dist.mean)

    @property
    def variance(self) -> Tensor:
        return self._joined(lambda dist: dist.variance)

    @property
    def point(self) -> Tensor:
        """The mean; of categories the most likely, one-hot."""
        return self._joined(_point)


def _point(dist: Distribution) -> Tensor:
    if isinstance(dist, OneHotCategorical):
        mode: Tensor = dist.mode
        return mode
    if isinstance(dist, Independent) and isinstance(
        dist.base_dist, ExtendedDistribution
    ):
        return dist.base_dist.point
    return point(dist)


class Shift(Protocol):
    """The dependence of columns on categories: a shift of the decoder's output."""

    @property
    def order(self) -> list[slice]:
        """Dimensions of the columns of categories that others depend on, in order."""

    def __call__(self, x: Tensor) -> Tensor:
        """The shift (m, C, D) of rows (m, D)."""


class Chain(ExtendedDistribution):
    """Distribution of rows whose columns depend on categories of columns before them.

        p(x) = prod_k p(x_k | categories of the columns before k)

    Without dependence it is a `Product`. Draws are ancestral, a column of categories after the
    other. The central value takes the most likely category of each in that order, and the
    other columns given these.

    Args:
        parts: Makes the independent distributions of rows from the decoder's output
            (m, C, D).
        y: Output of the decoder, (n, C, D).
        shift: What rows (m, D) add to that output, (m, C, D), by their categories.
    """

    MOST = 64  # combinations of categories that moments sum over
    DRAWS = 64  # of the categories where there are more

    def __init__(
        self,
        parts: Callable[[Tensor], Sequence[tuple[Dimensions, Distribution]]],
        y: Tensor,
        shift: Shift,
    ) -> None:
        self.parts = parts
        self.y = y
        self.shift = shift
        super().__init__(y.shape[:1], y.shape[2:], validate_args=False)

    def given(self, x: Tensor) -> Product:
        """The distribution of each column given the categories of rows x.

        Args:
            x: Rows (s * n, D), s for each row of the distribution in K-major order.
        """
        y = self.y
        if len(x) != len(y):
            y = y.repeat(len(x) // max(1, len(y)), 1, 1)
        y = y + self.shift(x)
        return Product(self.parts(y), len(y), y.shape[2])

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, (*self.batch_shape, 1))
        rows = value.expand(shape).reshape(-1, shape[-1])
        log_p: Tensor = self.given(rows).log_prob(rows)
        return log_p.reshape(shape[:-1])

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        size = torch.Size(sample_shape)
        x = self.y.new_zeros(size.numel() * len(self.y), *self.event_shape)
        order = self.shift.order
        with torch.no_grad():
            for place in order:
                x[:, place] = self.given(x).sample()[:, place]
            drawn = self.given(x).sample()
        for place in order:
            drawn[:, place] = x[:, place]
        return drawn.reshape(*size, *self.batch_shape, *self.event_shape)

    @property
    def central(self) -> Product:
        """The columns given the most likely category of each column before them."""
        x = self.y.new_zeros(len(self.y), *self.event_shape)
        for place in self.shift.order:
            x[:, place] = self.given(x).point[:, place].round()
        return self.given(x)

    @property
    def point(self) -> Tensor:
        """The most likely category of each column in order, and the others given these."""
        return self.central.point

    def _scenarios(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of categories (s, n, D), and the log of the weight of each, (s, n).

        All combinations where there are few, else draws; some at a time.
        """
        n, dims = len(self.y), self.event_shape[0]
        at_once = max(1, VALUES_AT_ONCE // (max(1, n) * dims))
        order = self.shift.order
        counts = [max(2, place.stop - place.start) for place in order]
        if math.prod(counts) > self.MOST:
            for start in range(0, self.DRAWS, at_once):
                size = min(at_once, self.DRAWS - start)
                weight = self.y.new_full((size, n), -math.log(self.DRAWS))
                yield self.sample((size,)), weight
            return
        codes = list(itertools.product(*(range(count) for count in counts)))
        for start in range(0, len(codes), at_once):
            x = self._rows_of(codes[start : start + at_once], order)
            rows = x.reshape(-1, dims)
            each = self.given(rows).log_prob_each(rows)
            log_w = self.y.new_zeros(len(rows))
            for place in order:
                log_w = log_w + each[:, place].sum(-1)
            yield x, log_w.reshape(-1, n)

    def _rows_of(
        self, codes: Sequence[tuple[int, ...]], order: Sequence[slice]
    ) -> Tensor:
        """Rows (s, n, D) with the categories of each of s combinations."""
        x = self.y.new_zeros(len(codes), *self.event_shape)
        for row, combination in zip(x, codes, strict=True):
            for code, place in zip(combination, order, strict=True):
                _set_category(row, place, code)
        return x.unsqueeze(1).expand(-1, len(self.y), -1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """E[x] and E[x^2], (n, D), averaged over the categories.

        The draws that this may need are the same each time.
        """
        means = self.y.new_zeros(self.y.shape[0], *self.event_shape)
        squares = means
        with seeded(0):
            for x, log_w in self._scenarios():
                weight = log_w.exp().unsqueeze(-1)
                dist = self.given(x.reshape(-1, x.shape[-1]))
                mean = dist.mean.reshape(x.shape)
                square = dist.variance.reshape(x.shape) + mean.square()
                means = means + (weight * mean).sum(0)
                squares = squares + (weight * square).sum(0)
        return means, squares

    @property
    def mean(self) -> Tensor:
        """E[x]: exact for at most MOST combinations of categories, else of DRAWS draws."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """Var[x], as exact as the mean."""
        mean, square = self._moments()
        return (square - mean.square()).clamp(min=0)


def _set_category(row: Tensor, place: slice, code: int) -> None:
    """Write a category into a row (D,): one-hot, or 0 and 1 of a truth value."""
    if place.stop - place.start == 1:
        row[place.start] = code
    else:
        row[place.start + code] = 1.0
