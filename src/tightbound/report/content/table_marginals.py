"""A table column by column: held-out values beside draws of the model, and what reconstructions
keep of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.data_spec import Column, DataSpec
from tightbound.core.trace import Batch
from tightbound.runs.run import Run, seeded

Array = NDArray[Any]


@dataclass(frozen=True)
class Marginal:
    """One column: held-out values (n,) and draws of the model (m,), numbers or codes, without those
    that are missing.

    distance: between their shares, 0..1: total variation of values without an order, else sup |F -
    G| (Kolmogorov and Smirnov).  usual: the same between the held-out values and m of training,
    which is what chance leaves.
    """

    column: Column
    real: Array
    drawn: Array
    distance: float
    usual: float


def marginals(
    run: Run, columns: Sequence[Column], held: Batch, train: Batch, seed: int = 0
) -> list[Marginal]:
    """Each column of a table, held out and as the model draws it: z ~ p(z), x ~ p(x|z), as many as
    training rows.

    held, train: rows in domain units.  A conditional model draws with the conditions of the
    held-out rows, in turn.
    """
    m = len(train)
    c = None if held.c is None else held.c[torch.arange(m) % len(held)]
    with torch.no_grad(), seeded(seed):
        drawn = run.predictor.decode_sample(run.predictor.sample_prior(m, c=c))
    real, ours, known = (
        in_columns(run.spec, columns, x) for x in (held.x, drawn, train.x)
    )
    found = []
    for i, column in enumerate(columns):
        a, b, usual = (x[:, i][np.isfinite(x[:, i])] for x in (real, ours, known))
        distance, chance = (
            apart(a, other, ordered=not column.values) for other in (b, usual)
        )
        found.append(Marginal(column, a, b, distance, chance))
    return found


def in_columns(spec: DataSpec, columns: Sequence[Column], x: Tensor) -> Array:
    """Rows in domain units as a number or code for each column, (n, columns), whole where the
    column's values are.
    """
    raw: Array = spec.to_raw(x.cpu()).double().numpy().reshape(len(x), -1)
    for i, column in enumerate(columns):
        if (
            column.values
            or column.kind == "count"
            or np.dtype(_plain(column.type)).kind in "iub"
        ):
            raw[:, i] = np.rint(raw[:, i])
        if column.values:
            raw[:, i] = raw[:, i].clip(0, len(column.values) - 1)
    return raw


def _plain(name: str) -> str:
    return "object" if name in ("category", "str") else name


def apart(a: Array, b: Array, ordered: bool) -> float:
    """How far the shares of values a (n,) and b (m,) are apart, 0..1; NaN where one of them is
    empty.
    """
    if not len(a) or not len(b):
        return float("nan")
    every = np.unique(np.concatenate([a, b]))
    if ordered:
        below = [
            np.searchsorted(np.sort(x), every, side="right") / len(x) for x in (a, b)
        ]
        return float(np.abs(below[0] - below[1]).max())
    shares = [np.array([(x == value).mean() for value in every]) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


@dataclass(frozen=True)
class Kept:
    """What reconstructions keep of a column: of numbers 1 - squared error / variance; of values the
    share that is right, and the share that the most frequent value of training would get right
    (base).
    """

    value: float
    base: float | None = None


def kept(
    columns: Sequence[Column], x: Array, rebuilt: Array, train: Array
) -> list[Kept]:
    """Each column of rows x (n, columns) and of their reconstructions; missing values count
    nothing.
    """
    found = []
    for column, a, b, t in zip(columns, x.T, rebuilt.T, train.T, strict=True):
        seen, known = np.isfinite(a), t[np.isfinite(t)]
        a, b = a[seen], b[seen]
        if not len(a) or not len(known):
            found.append(Kept(float("nan"), float("nan") if column.values else None))
        elif column.values:
            values, counts = np.unique(known, return_counts=True)
            found.append(
                Kept(
                    float((a == b).mean()), float((a == values[counts.argmax()]).mean())
                )
            )
        else:
            total = float(((a - a.mean()) ** 2).sum())
            found.append(
                Kept(
                    1 - float(((a - b) ** 2).sum()) / total
                    if total > 0
                    else float("nan")
                )
            )
    return found
