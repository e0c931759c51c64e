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
    """Searches 60,000 rows of the training split at most for each query (q, *shape), on the display scale."""
    flat = queries.reshape(len(queries), -1)
    dims = flat.shape[1]
    limit = int(min(MOST, max(1000, WORK / (dims * max(1, len(flat))))))
    best = np.full(len(flat), np.inf, np.float32)
    found = np.zeros_like(flat)
    squares, searched = (flat**2).sum(1), 0
    for _, x in walk(split, limit, int(min(4096, max(64, 8_000_000 // dims)))):
        rows = view.unit(x.cpu().numpy()).reshape(len(x), -1)
        gap = squares[:, None] + (rows**2).sum(1)[None] - 2 * flat @ rows.T
        at = gap.argmin(1)
        closest = gap[np.arange(len(flat)), at]
        nearer = closest < best
        best[nearer], found[nearer] = closest[nearer], rows[at[nearer]]
        searched += len(rows)
    exact = np.sqrt(((flat - found) ** 2).sum(1))  # the expansion above loses digits where two rows are alike
    return Neighbours(exact, found.reshape(queries.shape), searched)
