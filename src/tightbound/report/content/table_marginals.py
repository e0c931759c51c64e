"""Column-wise comparison of a table with draws of the model and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tightbound.core.batch import Batch
from tightbound.core.data_spec import Column
from tightbound.evaluation.diagnosis.table_distances import distance, in_columns
from tightbound.report.figures.display_scale import Array
from tightbound.runs.run import Run, seeded


@dataclass(frozen=True)
class Marginal:
    """The marginal distribution of one column, in the data and in draws of the model.

    real: held-out values (n,); drawn: draws (m,); both numbers or codes without the
    missing ones. distance: between the two, from 0 to 1, as of `distance`; baseline: the
    same between the held-out values and m training values, caused by chance alone.
    """

    column: Column
    real: Array
    drawn: Array
    distance: float
    baseline: float


def marginals(
    run: Run, columns: Sequence[Column], held_out: Batch, train: Batch, seed: int = 0
) -> list[Marginal]:
    """The marginals of a table, with as many draws of the model as training rows.

    Draws are z ~ p(z), x ~ p(x|z). held_out, train: rows in model units. A conditional
    model draws under the conditions of the held-out rows, in turn.
    """
    m = len(train)
    c = None if held_out.c is None else held_out.c[torch.arange(m) % len(held_out)]
    with torch.no_grad(), seeded(seed):
        x = run.predictor.decode_sample(run.predictor.sample_prior(m, c=c))
    real = in_columns(run.spec, columns, held_out.x)
    drawn = in_columns(run.spec, columns, x)
    trained = in_columns(run.spec, columns, train.x)
    return [
        _marginal(column, real[:, i], drawn[:, i], trained[:, i])
        for i, column in enumerate(columns)
    ]


def _marginal(column: Column, real: Array, drawn: Array, train: Array) -> Marginal:
    real, drawn, train = (x[np.isfinite(x)] for x in (real, drawn, train))
    ordered = not column.values
    return Marginal(
        column,
        real,
        drawn,
        distance(real, drawn, ordered=ordered),
        distance(real, train, ordered=ordered),
    )


@dataclass(frozen=True)
class ColumnFit:
    """Accuracy of the reconstructions of one column.

    value: R² of numbers, or the share of values that are right; majority: that share
    for the most frequent training value, None for numbers.
    """

    value: float
    majority: float | None = None


def column_fits(
    columns: Sequence[Column], x: Array, rebuilt: Array, train: Array
) -> list[ColumnFit]:
    """The fit of reconstructions to rows x (n, columns), over the observed values."""
    groups = zip(columns, x.T, rebuilt.T, train.T, strict=True)
    return [_column_fit(*group) for group in groups]


def _column_fit(column: Column, x: Array, rebuilt: Array, train: Array) -> ColumnFit:
    observed = np.isfinite(x)
    x = x[observed]
    rebuilt = rebuilt[observed]
    train = train[np.isfinite(train)]
    nan = float("nan")
    if not len(x) or not len(train):
        return ColumnFit(nan, nan if column.values else None)
    if column.values:
        values, counts = np.unique(train, return_counts=True)
        majority = (x == values[counts.argmax()]).mean()
        return ColumnFit(float((x == rebuilt).mean()), float(majority))
    total = float(((x - x.mean()) ** 2).sum())
    error = float(((x - rebuilt) ** 2).sum())
    return ColumnFit(1 - error / total if total > 0 else nan)
