"""Distances between tables: marginals of columns, associations of pairs, rare categories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import Column, DataSpec
from tightbound.data.tables.table import ONE_SIDED, guess
from tightbound.runs.run import Run, seeded

Array = NDArray[np.float64]

COLUMNS = 40  # of which pairs are compared
SAMPLES = 4000  # drawn from the model
VALUES = 4_000_000  # at most, over all columns
# Two samples of one continuous distribution differ by more once in 1,000 columns, in units
# of sqrt(1 / n + 1 / m)
KS_999 = 1.95


@dataclass(frozen=True)
class ColumnDistance:
    """Distance of one column between data and draws of the model.

    Args:
        name: name of the column.
        distance: Kolmogorov-Smirnov distance of numbers, or total variation of categories,
            from 0 to 1, between training rows and draws.
        floor: what chance makes of it: the larger of the distance between training and test
            rows, and the 99.9 % quantile for samples of these sizes.
        better: the kind that the training values look like, where a column of reals is
            another one: "positive" or "zero-inflated".
    """

    name: str
    distance: float
    floor: float
    better: str = ""

    @property
    def excess(self) -> float:
        """The distance above its floor."""
        return self.distance - self.floor


@dataclass(frozen=True)
class PairDistance:
    """Difference of the association of two columns between data and draws of the model.

    Args:
        names: names of the columns.
        data: association in training rows, from 0 to 1: Cramer's V of two categories, the
            correlation ratio of a category and a number, rank correlation of two numbers.
        drawn: the same in draws of the model.
        floor: what chance makes of their difference: the larger of the difference between
            training and test rows, and three standard errors of a correlation of 0.
    """

    names: tuple[str, str]
    data: float
    drawn: float
    floor: float

    @property
    def excess(self) -> float:
        """The difference above its floor."""
        return abs(self.data - self.drawn) - self.floor


@dataclass(frozen=True)
class CategoryShare:
    """Share of one category in training rows and in draws of the model.

    Args:
        name: name of the column.
        value: the category.
        data: share of training rows, of which there are n.
        drawn: share of draws, of which there are m.
    """

    name: str
    value: str
    data: float
    drawn: float
    n: int
    m: int

    @property
    def deviation(self) -> float:
        """Difference of the shares in standard errors of both."""
        pooled = (self.data * self.n + self.drawn * self.m) / (self.n + self.m)
        variance = pooled * (1 - pooled) * (1 / self.n + 1 / self.m)
        return abs(self.data - self.drawn) / variance**0.5 if variance > 0 else 0.0


@dataclass(frozen=True)
class TableDistances:
    """Distances of a table between training rows and draws of the model.

    Args:
        columns: of each column.
        pairs: of each pair of columns.
        shares: of each category.
    """

    columns: list[ColumnDistance]
    pairs: list[PairDistance]
    shares: list[CategoryShare]

    @property
    def marginal(self) -> float:
        """Mean distance of the columns."""
        return float(np.mean([c.distance for c in self.columns]))

    @property
    def pairwise(self) -> float:
        """Mean difference of the associations; 0 for a single column."""
        differences = [abs(p.data - p.drawn) for p in self.pairs]
        return float(np.mean(differences)) if differences else 0.0


def table_distances(
    run: Run, train: Batch, test: Batch, seed: int
) -> TableDistances | None:
    """The distances of a run on a table with named columns; None for other data.

    A conditional model draws under the conditions of the training rows, in turn.

    Args:
        run: the run.
        train: training rows in model units.
        test: test rows.
        seed: seed of the draws.
    """
    columns = run.spec.fields
    if not columns or min(len(train), len(test)) < 2:
        return None
    m = int(min(SAMPLES, max(len(train), VALUES // run.spec.dims)))
    c = None if train.c is None else train.c[torch.arange(m) % len(train)]
    with torch.no_grad(), seeded(seed):
        drawn = run.predictor.decode_sample(run.predictor.sample_prior(m, c=c))
    rows = [in_columns(run.spec, columns, x) for x in (train.x, test.x, drawn)]
    return compare(columns, *rows)


def compare(
    columns: Sequence[Column], train: Array, test: Array, drawn: Array
) -> TableDistances:
    """The distances between rows (n, columns) of numbers and codes, NaN where missing.

    Args:
        columns: the columns.
        train: training rows.
        test: test rows, which show what chance makes of the distances.
        drawn: draws of the model.
    """
    each = [
        _column(column, train[:, i], test[:, i], drawn[:, i])
        for i, column in enumerate(columns)
    ]
    few = columns[:COLUMNS]
    data, held_out, made = (associations(few, x) for x in (train, test, drawn))
    chance = 3 * (1 / len(train) + 1 / len(test)) ** 0.5
    pairs = [
        PairDistance(
            (few[i].name, few[j].name),
            float(data[i, j]),
            float(made[i, j]),
            max(chance, float(abs(data[i, j] - held_out[i, j]))),
        )
        for i, j in itertools.combinations(range(len(few)), 2)
        if np.isfinite([data[i, j], held_out[i, j], made[i, j]]).all()
    ]
    shares = [
        share
        for i, column in enumerate(columns)
        for share in _shares(column, train[:, i], drawn[:, i])
    ]
    return TableDistances([c for c in each if np.isfinite(c.distance)], pairs, shares)


def _column(column: Column, train: Array, test: Array, drawn: Array) -> ColumnDistance:
    train, test, drawn = (x[np.isfinite(x)] for x in (train, test, drawn))
    ordered = not column.values
    sizes = [max(1, len(x)) for x in (train, test, drawn)]
    floor = KS_999 * (1 / sizes[0] + 1 / sizes[2]) ** 0.5
    if not ordered:
        floor = floor * max(1.0, len(column.values) ** 0.5 / 2)
    chance = distance(test, train, ordered=ordered)
    floor = max(floor, chance) if np.isfinite(chance) else floor
    better = ""
    if column.kind == "real" and not column.is_time and len(train):
        looks = guess(train)
        better = looks if looks in ONE_SIDED else ""
    apart = distance(train, drawn, ordered=ordered)
    return ColumnDistance(column.name, apart, floor, better)


def _shares(column: Column, train: Array, drawn: Array) -> list[CategoryShare]:
    """The share of each value of a column of categories; none of other columns."""
    train, drawn = (x[np.isfinite(x)] for x in (train, drawn))
    if not column.values or not len(train) or not len(drawn):
        return []
    return [
        CategoryShare(
            column.name,
            str(value),
            float((train == code).mean()),
            float((drawn == code).mean()),
            len(train),
            len(drawn),
        )
        for code, value in enumerate(column.values)
    ]


def in_columns(spec: DataSpec, columns: Sequence[Column], x: Tensor) -> Array:
    """Rows in model units as a number or code per column, (n, columns).

    Rounded where the column has whole numbers or categories.
    """
    raw: Array = spec.to_raw(x.cpu()).double().numpy().reshape(len(x), -1)
    for i, column in enumerate(columns):
        if column.values or column.is_whole:
            raw[:, i] = np.rint(raw[:, i])
        if column.values:
            raw[:, i] = raw[:, i].clip(0, len(column.values) - 1)
    return raw


def distance(a: Array, b: Array, ordered: bool) -> float:
    """Distance from 0 to 1 between the distributions of values a (n,) and b (m,).

    Kolmogorov-Smirnov, sup |F - G|, for ordered values, otherwise total variation. NaN
    where one of them is empty.
    """
    if not len(a) or not len(b):
        return float("nan")
    every = np.unique(np.concatenate([a, b]))
    if ordered:
        f = np.searchsorted(np.sort(a), every, side="right") / len(a)
        g = np.searchsorted(np.sort(b), every, side="right") / len(b)
        return float(np.abs(f - g).max())
    p = np.array([(a == value).mean() for value in every])
    q = np.array([(b == value).mean() for value in every])
    return float(np.abs(p - q).sum() / 2)


# ---- associations


def associations(columns: Sequence[Column], x: Array) -> Array:
    """Association of each pair of columns of rows x (n, columns), from -1 to 1.

    Cramer's V of two categories, the correlation ratio eta of a category and a number, and
    the rank correlation of two numbers, over the rows that have both. NaN where one of them
    is constant.
    """
    observed = np.isfinite(x)
    x = x.copy()
    for i, column in enumerate(columns):
        if not column.values and observed[:, i].any():
            x[observed[:, i], i] = _ranks(x[observed[:, i], i])
    out = np.eye(len(columns))
    for i, j in itertools.combinations(range(len(columns)), 2):
        both = observed[:, i] & observed[:, j]
        a, b = x[both, i], x[both, j]
        if not both.all():  # ranks are those among the rows that have both
            a = a if columns[i].values else _ranks(a)
            b = b if columns[j].values else _ranks(b)
        out[i, j] = _association(columns[i], columns[j], a, b)
        out[j, i] = out[i, j]
    return out


def _association(first: Column, second: Column, a: Array, b: Array) -> float:
    """The association of two columns of codes or ranks."""
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return float("nan")
    if first.values and second.values:
        return cramers_v(a, b)
    if first.values:
        return correlation_ratio(a, b)
    if second.values:
        return correlation_ratio(b, a)
    return float(np.corrcoef(a, b)[0, 1])


def cramers_v(a: Array, b: Array) -> float:
    """Cramer's V of two columns of codes, without its bias in few rows.

    Bergsma 2013 (doi:10.1016/j.jkss.2012.10.002).
    """
    _, rows = np.unique(a, return_inverse=True)
    _, places = np.unique(b, return_inverse=True)
    counts = np.zeros((rows.max() + 1, places.max() + 1))
    np.add.at(counts, (rows, places), 1)
    n = len(a)
    expected = np.outer(counts.sum(1), counts.sum(0)) / n
    phi = float(((counts - expected) ** 2 / expected).sum()) / n
    r, k = counts.shape
    phi = max(0.0, phi - (r - 1) * (k - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, (phi / least) ** 0.5)) if least > 0 else float("nan")


def correlation_ratio(codes: Array, ranks: Array) -> float:
    """eta of ranks in groups by codes: sqrt(variance between / variance).

    Without its bias in few rows (omega squared).
    """
    _, groups = np.unique(codes, return_inverse=True)
    counts = np.bincount(groups)
    means = np.bincount(groups, ranks) / counts
    between = float((counts * (means - ranks.mean()) ** 2).sum())
    total = float(((ranks - ranks.mean()) ** 2).sum())
    free = len(counts) - 1
    left = len(ranks) - len(counts)
    if left < 1 or total <= 0:
        return float("nan")
    within = (total - between) / left
    return float(max(0.0, (between - free * within) / (total + within)) ** 0.5)


def _ranks(x: Array) -> Array:
    """Ranks of values (n,), ties by their mean."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks: Array = (ends - (counts - 1) / 2)[place]
    return ranks
