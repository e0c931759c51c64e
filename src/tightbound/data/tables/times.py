"""Times and time spans as seconds, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# units of datetime64 that are a power of ten of a second
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}
# seconds of which all values of a column may be multiples, the longest first
_STEPS = (86400.0, 3600.0, 60.0, 1.0)
_LARGEST = float(2**62)


def seconds(
    values: NDArray[np.datetime64] | NDArray[np.timedelta64],
) -> NDArray[np.float64]:
    """Times as seconds since 1970, or spans as seconds, in float64; NaN for NaT."""
    missing = np.isnat(values)
    unit, count = np.datetime_data(values.dtype)
    if unit not in _DIGITS or count != 1:
        values = values.astype(f"{values.dtype.kind}8[s]")
        unit = "s"
    scale = 10 ** _DIGITS[unit]
    ticks = np.where(missing, 0, values.astype(np.int64))
    whole, rest = np.divmod(ticks, scale)
    out = whole + rest / scale
    out[missing] = np.nan
    return np.asarray(out, dtype=np.float64)


def times(numbers: NDArray[np.float64], type_: str) -> NDArray[np.datetime64]:
    """Seconds (n,) as datetime64 or timedelta64 of this type; NaT for NaN.

    What lies beyond the range of the type becomes its end.
    """
    dtype = np.dtype(type_)
    unit, count = np.datetime_data(dtype)
    plain = unit if unit in _DIGITS and count == 1 else "s"
    scale = 10 ** _DIGITS[plain]
    missing = np.isnan(numbers)
    limit = _LARGEST / scale
    inside = np.where(missing, 0, numbers).clip(-limit, limit)
    whole = np.floor(inside)
    rest = np.rint((inside - whole) * scale)
    ticks = whole.astype(np.int64) * scale + rest.astype(np.int64)
    out: NDArray[np.datetime64] = ticks.astype(f"{dtype.kind}8[{plain}]").astype(dtype)
    out[missing] = np.array("NaT", dtype)
    return out


def step_of(numbers: NDArray[np.float64]) -> float:
    """The longest of a day, an hour, a minute and a second that divides all; else 0."""
    for step in _STEPS:
        if (numbers % step == 0).all():
            return step
    return 0.0
