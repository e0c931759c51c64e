"""Offsets: numbers far from 0 against their spread, shifted so that float32 holds them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.core.data_spec import FAR, DataSpec
from tightbound.data.on_disk import OnDisk
from tightbound.data.prepare.infer import chunks
from tightbound.runtime.errors import TightboundError, shortened

LARGEST_SPREAD = 1e18  # squares of float32 end at 3e38
SMALLEST_SPREAD = 1e-18
LOST = 0.01  # share of the distinct values of a column
MOST_COLUMNS = 4096  # that are looked at for values that become equal
MOST_NAMED = 5
MOST_VALUES = 4_000_000


def offsets_of(
    x: Tensor | OnDisk, index: Tensor, spec: DataSpec, what: str
) -> DataSpec:
    """The spec with the offset of each column or channel of real numbers.

    A column gets one where |mean| > 4096 standard deviations: its mean, rounded so that
    the difference from a value of the column has few digits. Others keep 0, and their
    values reach the model as they are.

    Args:
        x: raw rows (N, ...).
        index: the training rows to use.
        spec: the spec of the data.
        what: the name of the data in messages.

    Raises:
        TightboundError: for a spread that float32 cannot square.
    """
    is_small = x.dtype in (torch.uint8, torch.int8, torch.int16, torch.bool)
    if spec.domain not in ("real", "mixed") or is_small:
        return spec
    mean, std = _moments(x, index, spec)
    is_real = _real_columns(spec, len(mean))
    _check_spread(std, is_real, spec, what)
    offset = [
        _offset(float(m), float(s)) if real else 0.0
        for m, s, real in zip(mean, std, is_real, strict=True)
    ]
    if not any(offset):
        return spec
    return spec.model_copy(update={"offset": tuple(offset)})


def _offset(mean: float, std: float) -> float:
    """The offset of a column with this mean and standard deviation."""
    if std == 0:
        is_exact = float(torch.tensor(mean).float()) == mean
        return 0.0 if is_exact else mean
    if abs(mean) <= FAR * std:
        return 0.0
    step = 2.0 ** math.floor(math.log2(std))
    return round(mean / step) * step


def _real_columns(spec: DataSpec, count: int) -> list[bool]:
    """Which columns or channels hold real numbers."""
    if spec.is_mixed:
        return [column.kind == "real" for column in spec.fields]
    return [True] * count


def _rows(raw: Tensor, spec: DataSpec) -> Tensor:
    """Raw rows as float64 (n, columns or channels, values)."""
    if spec.is_mixed:
        return raw.double()[:, :, None]
    x = raw.double()
    if "c" not in spec.layout:
        x = x.unsqueeze(1)
    elif spec.layout.endswith("c"):
        x = x.movedim(-1, 1)
    return x.reshape(len(x), spec.shape[0], -1)


def _moments(
    x: Tensor | OnDisk, index: Tensor, spec: DataSpec
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in float64 of each column or channel, without NaN.

    Those of a constant column are exactly its value and 0.
    """
    count = torch.zeros((), dtype=torch.float64)
    total = count
    squares = count
    shift = count
    low = torch.full((), math.inf, dtype=torch.float64)
    high = -low
    for start, raw in chunks(x, index):
        values = _rows(raw, spec)
        if start == 0:
            shift = values.nanmean((0, 2)).nan_to_num()
        low = low.minimum(values.nan_to_num(math.inf).amin((0, 2)))
        high = high.maximum(values.nan_to_num(-math.inf).amax((0, 2)))
        values = values - shift[:, None]
        count = count + values.isfinite().sum((0, 2))
        total = total + values.nansum((0, 2))
        squares = squares + values.square().nansum((0, 2))
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    is_constant = low >= high
    observed = count > 0
    return (
        torch.where(is_constant & observed, low, mean + shift),
        torch.where(is_constant, 0.0, std),
    )


def _name(spec: DataSpec, i: int) -> str:
    """The name of a column or channel in messages."""
    if spec.fields:
        return f"column {shortened(spec.fields[i].name)}"
    if spec.kind == "vector":
        return f"column {i} (counting from 0)"
    return f"channel {i} (counting from 0)"


def _check_spread(std: Tensor, is_real: list[bool], spec: DataSpec, what: str) -> None:
    """Refuse columns whose spread float32 cannot square."""
    for i, (spread, real) in enumerate(zip(std.tolist(), is_real, strict=True)):
        is_fine = spread == 0 or SMALLEST_SPREAD <= spread <= LARGEST_SPREAD
        if real and not is_fine:
            verb = "multiply" if spread < 1 else "divide"
            size = f"of {spread:.3g}" if math.isfinite(spread) else "above 1e+150"
            raise TightboundError(
                f"{what}: {_name(spec, i)} has a standard deviation {size}, which "
                f"is beyond the numbers of 32 bits that a model computes with: {verb} it "
                "by a power of ten"
            )


def lost_values(
    x: Tensor | OnDisk, index: Tensor, spec: DataSpec, what: str
) -> list[str]:
    """A notice where values of a column become equal in the float32 that models take.

    Args:
        x: raw rows (N, columns) of a table or vectors; others are not looked at.
        index: the training rows to use.
        spec: the spec with its offsets.
        what: the name of the data in messages.
    """
    is_wide = x.dtype in (torch.float64, torch.int32, torch.int64)
    reals = spec.domain in ("real", "mixed", "count")
    if not (is_wide and reals and x.ndim == 2) or x.shape[1] > MOST_COLUMNS:
        return []
    raw = x[index[: max(1000, MOST_VALUES // x.shape[1])]]
    offset = torch.tensor(spec.offset or [0.0] * x.shape[1], dtype=torch.float64)
    rounded = (raw.double() - offset).float()
    named = []
    for i in range(x.shape[1]):
        if spec.is_mixed and spec.fields[i].values:
            continue
        before = len(raw[:, i].unique())
        after = len(rounded[:, i].unique())
        if before - after > LOST * before:
            named.append(f"{_name(spec, i)} keeps {after} of {before} different values")
    if not named:
        return []
    more = f", and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return [
        f"{what}: a model computes with numbers of 32 bits, in which some values become "
        f"equal: {', '.join(named[:MOST_NAMED])}{more} (scale or split such columns)"
    ]
