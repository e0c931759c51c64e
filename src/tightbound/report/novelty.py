"""Nearest training examples, found in one pass over the training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tightbound.report.scene import walk
from tightbound.report.view import Floats, View

MOST, WORK = 60_000, 4e10


@dataclass(frozen=True)
class Neighbours:
    """For each query: the distance to its nearest training example (q,), and that example (q, *shape)."""

    distance: Floats
    example: Floats
    searched: int


def nearest(split: Any, view: View, queries: Floats) -> Neighbours:
    """Searches 60,000 rows of the training split at most for each query (q, *shape), on the display scale.

    Of a training row with gaps the distance is that of what is known, times the root of all values by the known ones.
    """
    flat = queries.reshape(len(queries), -1)
    dims = flat.shape[1]
    limit = int(min(MOST, max(1000, WORK / (dims * max(1, len(flat))))))
    best = np.full(len(flat), np.inf, np.float32)
    found = np.zeros_like(flat)
    squares, searched = flat**2, 0
    for _, x in walk(split, limit, int(min(4096, max(64, 8_000_000 // dims)))):
        rows = view.unit(x.cpu().numpy()).reshape(len(x), -1)
        known, whole = ~np.isnan(rows), np.nan_to_num(rows)
        own = squares.sum(1)[:, None] if known.all() else squares @ known.T.astype(np.float32)
        gap = own + (whole**2).sum(1) - 2 * flat @ whole.T
        gap *= dims / np.maximum(1, known.sum(1))
        gap[:, ~known.any(1)] = np.inf
        at = gap.argmin(1)
        closest = gap[np.arange(len(flat)), at]
        nearer = closest < best
        best[nearer], found[nearer] = closest[nearer], rows[at[nearer]]
        searched += len(rows)
    square = np.nanmean((flat - found) ** 2, 1)  # the expansion above loses digits where two rows are alike
    return Neighbours(np.sqrt(dims * square), found.reshape(queries.shape), searched)
