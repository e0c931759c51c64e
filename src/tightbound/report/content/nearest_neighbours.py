"""Nearest training example of each query, by brute force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tightbound.report.content.data_samples import read_batches
from tightbound.report.figures.display_scale import Array, DisplayScale, Floats

if TYPE_CHECKING:
    from tightbound.report.content.data_samples import AnySplit

MOST = 60_000  # training rows that are searched
WORK = 4e10  # multiplications


@dataclass(frozen=True)
class Neighbours:
    """The nearest training example of each query.

    distance: (q,); example: (q, *shape); searched: number of training rows compared.
    """

    distance: Floats
    example: Floats
    searched: int


class _MissingValues:
    """Mean and variance of each dimension, (dims,), in place of missing values.

    They are those of the first batch of rows with missing values.
    """

    def __init__(self, dims: int) -> None:
        self.mean: Array = np.zeros(dims, np.float32)
        self.variance: Array = np.zeros(dims, np.float32)

    def fit(self, rows: Floats, missing: Array) -> None:
        """Take the moments of the observed values of rows (n, dims), once."""
        if missing.any() and not self.variance.any():
            observed = np.ma.masked_array(rows, missing)
            self.mean = observed.mean(0).filled(0)
            self.variance = observed.var(0).filled(0)


def nearest(split: AnySplit, scale: DisplayScale, queries: Floats) -> Neighbours:
    """Search the training split for the nearest row of each query (q, *shape).

    Distances are Euclidean on the display scale. A missing value of a training row adds
    its expected squared distance: that to the mean of the column, plus its variance. At
    most 60,000 rows are searched.
    """
    flat = queries.reshape(len(queries), -1)
    dims = flat.shape[1]
    limit = int(min(MOST, max(1000, WORK / (dims * max(1, len(flat))))))
    batch = int(min(4096, max(64, 8_000_000 // dims)))
    best = np.full(len(flat), np.inf, np.float32)
    example = np.zeros_like(flat)
    filled = _MissingValues(dims)
    searched = 0
    for _, x in read_batches(split, limit, batch):
        rows = scale.unit(x.cpu().numpy()).reshape(len(x), -1)
        missing = np.isnan(rows)
        filled.fit(rows, missing)
        squared = _squared_distances(flat, rows, missing, filled)
        index = squared.argmin(1)
        closest = squared[np.arange(len(flat)), index]
        nearer = closest < best
        best[nearer] = closest[nearer]
        example[nearer] = rows[index[nearer]]
        searched += len(rows)
    distance = _exact_distances(flat, example, filled)
    return Neighbours(distance, example.reshape(queries.shape), searched)


def _squared_distances(
    queries: Floats, rows: Floats, missing: Array, filled: _MissingValues
) -> Floats:
    """Squared distances (q, n) by expanding the square, as one matrix product."""
    gaps = missing.any()
    complete = np.where(missing, filled.mean, rows) if gaps else rows
    squares = (queries**2).sum(1)
    squared: Floats = squares[:, None] + (complete**2).sum(1) - 2 * queries @ complete.T
    if gaps:
        squared += missing @ filled.variance
    return squared


def _exact_distances(
    queries: Floats, example: Floats, filled: _MissingValues
) -> Floats:
    """Distances (q,) from differences, which keep the digits of small distances."""
    missing = np.isnan(example)
    difference = queries - np.where(missing, filled.mean, example)
    distance: Floats = np.sqrt((difference**2).sum(1) + missing @ filled.variance)
    return distance
