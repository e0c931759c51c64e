"""Single rows that move the mean of a split, or the spread of a training column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.runs.run import Run

MOST = 3  # rows; more are a tail of the data and no outliers
INFLATED = 10.0  # times that a column's spread is larger with these rows than without
CARRIED = 3.0  # standard errors by which one row moves the mean of a split
FAR = 30.0  # spreads of a column, from its median
VALUES_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class ColumnOutlier:
    """A training value that makes the spread of its column many times larger.

    A network reads each column in units of its spread, so the other values of the
    column become all but equal.

    Args:
        row: number of the row, with its row in the data if known.
        column: name or position of the column.
        value: the value, in raw units.
        usual: median of the column.
        times: the spread with such values, over that without them.
    """

    row: str
    column: str
    value: float
    usual: float
    times: float


@dataclass(frozen=True)
class RowOutlier:
    """A row whose bound alone moves the mean of its split by several standard errors.

    Args:
        row: number of the row, with its row in the data if known.
        column: the column that is farthest from its median, "" where none is far.
        bound: the bound of the row, in nats.
        mean: mean bound of all rows.
        without: mean bound of all rows but such ones.
    """

    row: str
    column: str
    bound: float
    mean: float
    without: float


@dataclass(frozen=True)
class Columns:
    """Median and spread of each column of the training rows, without extreme rows.

    Args:
        median: (d,).
        spread: standard deviation without the values farthest from the median, (d,).
        full: standard deviation of all values, (d,).
    """

    median: Tensor
    spread: Tensor
    full: Tensor


def unbounded(run: Run) -> Tensor:
    """The raw columns whose values have no upper end, (d,)."""
    spec = run.spec
    if spec.is_mixed:
        kinds = [column.kind in ("real", "count") for column in spec.fields]
        return torch.tensor(kinds).nonzero()[:, 0]
    if spec.domain in ("real", "count"):
        return torch.arange(spec.dims)
    return torch.zeros(0, dtype=torch.long)


def _raw(run: Run, x: Tensor) -> Tensor:
    """Columns in raw units, float64 (n, columns), in the order of model units."""
    spec = run.spec
    if spec.is_mixed:
        return spec.to_raw(x).double()
    raw = x.double()
    if spec.offset:
        offset = torch.tensor(spec.offset, dtype=torch.float64)
        raw = raw + offset.reshape(-1, *[1] * (x.dim() - 2))
    return raw.flatten(1) * spec.divisor


def column_name(run: Run, j: int) -> str:
    """The name of a column of a table, else its position, from 0."""
    spec = run.spec
    if spec.fields:
        return repr(spec.fields[j].name)
    if spec.kind == "vector":
        return str(j)
    place = torch.unravel_index(torch.tensor(j), spec.shape)
    return str(tuple(int(i) for i in place))


def columns_of(raw: Tensor) -> Columns:
    """Median and spreads of columns (n, d), NaN left out."""
    median = raw.nanmedian(0).values
    distance = (raw - median).abs()
    full = distance.square().nanmean(0).sqrt()
    if len(raw) <= 4 * MOST:
        return Columns(median, full, full)
    kept = distance.nan_to_num(-1.0).sort(0).values[:-MOST]
    observed = kept >= 0
    squares = kept.square() * observed
    spread = (squares.sum(0) / observed.sum(0).clamp(min=1)).sqrt()
    return Columns(median, spread, full)


def training_outlier(run: Run, train: Split) -> ColumnOutlier | None:
    """The value that inflates the spread of its column most; None where none does.

    All training rows are looked at, unless they are very many: then as many, spread
    evenly, as fit.
    """
    at = unbounded(run)
    if not len(at):
        return None
    rows = train.spread(min(len(train), max(1000, VALUES_AT_ONCE // run.spec.dims)))
    parts = [_raw(run, train.batch(part))[:, at] for part in rows.split(1000)]
    raw = torch.cat(parts)
    columns = columns_of(raw)
    ratio = columns.full / columns.spread
    ratio = torch.where(columns.spread > 0, ratio, torch.ones_like(ratio))
    worst = int(ratio.nan_to_num(1.0).argmax())
    if not float(ratio[worst]) > INFLATED:
        return None
    distance = (raw[:, worst] - columns.median[worst]).abs().nan_to_num(-1.0)
    row = int(rows[int(distance.argmax())])
    return ColumnOutlier(
        row=row_name(train, row),
        column=column_name(run, int(at[worst])),
        value=float(raw[int(distance.argmax()), worst]),
        usual=float(columns.median[worst]),
        times=float(ratio[worst]),
    )


def row_name(split: Split, row: int) -> str:
    """The number of a row of a split, with its file or its row in the data, if known."""
    if split.names is not None:
        return f"{row} ({split.names[row]})"
    if isinstance(split.index, Tensor):
        return f"{row} (row {int(split.index[row])} of the data)"
    return str(row)


def row_outliers(
    run: Run,
    bound: Tensor,
    x: Batch,
    names: Sequence[str],
    columns: Columns | None,
) -> list[RowOutlier]:
    """The rows, at most three, that carry the mean of the bound.

    A row is one where its bound alone lies as far below the median as would move the
    mean by three standard errors of the others, taken from their median absolute
    deviation.

    Args:
        run: the run.
        bound: the bound of each row, (n,).
        x: the rows, in model units.
        names: the numbers of the rows.
        columns: medians and spreads of the unbounded columns in training.
    """
    n = len(bound)
    if n < 20:
        return []
    median = bound.median()
    spread = 1.4826 * (bound - median).abs().median()
    below = (median - bound) / spread.clamp(min=1e-6)
    flagged = (below > CARRIED * n**0.5).nonzero()[:, 0]
    if not 1 <= len(flagged) <= MOST:
        return []
    rest = torch.ones(n, dtype=torch.bool)
    rest[flagged] = False
    flagged = flagged[bound[flagged].argsort()]
    return [
        RowOutlier(
            row=names[i],
            column=_farthest(run, x.x[i : i + 1], columns),
            bound=float(bound[i]),
            mean=float(bound.mean()),
            without=float(bound[rest].mean()),
        )
        for i in flagged.tolist()
    ]


def _farthest(run: Run, x: Tensor, columns: Columns | None) -> str:
    """The column in which a row is farthest from the median; "" where none is far."""
    at = unbounded(run)
    if columns is None or not len(at):
        return ""
    distance = (_raw(run, x)[0, at] - columns.median).abs() / columns.spread
    distance = torch.where(columns.spread > 0, distance, 0.0).nan_to_num(0.0)
    if not float(distance.max()) > FAR:
        return ""
    return column_name(run, int(at[int(distance.argmax())]))


def training_columns(run: Run, train: Tensor) -> Columns | None:
    """Medians and spreads of the unbounded columns of training rows in model units."""
    at = unbounded(run)
    return columns_of(_raw(run, train)[:, at]) if len(at) else None
