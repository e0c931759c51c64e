"""Nearest training examples, found in one pass over the training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tightbound.report.content.data_samples import walk
from tightbound.report.figures.display_scale import Floats, View

MOST, WORK = 60_000, 4e10


@dataclass(frozen=True)
class Neighbours:
    """For each query: the distance to its nearest training example (q,), and that example (q,
    *shape).
    """

    distance: Floats
    example: Floats
    searched: int


def nearest(split: Any, view: View, queries: Floats) -> Neighbours:
    """Searches 60,000 rows of the training split at most for each query (q, *shape), on the display
    scale.

    What is missing in a training row adds its expected square: that to the mean of the column, and
    its variance.
    """
    flat = queries.reshape(len(queries), -1)
    dims = flat.shape[1]
    limit = int(min(MOST, max(1000, WORK / (dims * max(1, len(flat))))))
    best = np.full(len(flat), np.inf, np.float32)
    found = np.zeros_like(flat)
    squares, searched, mean, variance = (
        (flat**2).sum(1),
        0,
        np.zeros(dims, np.float32),
        np.zeros(dims, np.float32),
    )
    for _, x in walk(split, limit, int(min(4096, max(64, 8_000_000 // dims)))):
        rows = view.unit(x.cpu().numpy()).reshape(len(x), -1)
        gone = np.isnan(rows)
        gaps = gone.any()
        if gaps and not variance.any():
            some = np.ma.masked_array(rows, gone)
            mean, variance = some.mean(0).filled(0), some.var(0).filled(0)
        whole = np.where(gone, mean, rows) if gaps else rows
        gap = squares[:, None] + (whole**2).sum(1) - 2 * flat @ whole.T
        if gaps:
            gap += gone @ variance
        at = gap.argmin(1)
        closest = gap[np.arange(len(flat)), at]
        nearer = closest < best
        best[nearer], found[nearer] = closest[nearer], rows[at[nearer]]
        searched += len(rows)
    gone = np.isnan(
        found
    )  # anew, since the expansion above loses digits where two rows are alike
    exact = np.sqrt(
        ((flat - np.where(gone, mean, found)) ** 2).sum(1) + gone @ variance
    )
    return Neighbours(exact, found.reshape(queries.shape), searched)
