"""Infer the layout of an array and the domain of its values, and check these."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.data_spec import KINDS, DataSpec, Domain, Kind, Layout
from tightbound.data.on_disk import OnDisk
from tightbound.data.settings import DataSettings
from tightbound.data.tables.encoding import check_codes
from tightbound.runtime.errors import TightboundError

_CHUNK_NUMBERS = 1 << 19
_MAX_LEVELS = 65536
_IMAGE_CHANNELS = (1, 3, 4)
_COUNTS = " (--set data.domain=count if they are counts)"


@dataclass(frozen=True)
class Facts:
    """Range of the values of a data set, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool


def merge_facts(all_facts: list[Facts]) -> Facts:
    """The facts of several splits together."""
    return Facts(
        min(facts.low for facts in all_facts),
        max(facts.high for facts in all_facts),
        all(facts.whole for facts in all_facts),
    )


def chunks(
    x: Tensor | OnDisk, index: Tensor | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(number of the first row, rows), a few MB at a time, of all rows or an index."""
    n = len(x) if index is None else len(index)
    step = max(1, _CHUNK_NUMBERS // max(1, x[:1].numel()))
    for start in range(0, n, step):
        if index is None:
            yield start, x[start : start + step]
        else:
            yield start, x[index[start : start + step]]


def first_row(bad: Tensor) -> int:
    """The first example of a boolean (n, ...) that has a True anywhere."""
    return int(bad.flatten(1).any(1).nonzero()[0])


def _row_name(row: int, numbers: Tensor | None) -> int:
    if numbers is None:
        return row
    return int(numbers[row])


def survey(
    x: Tensor, what: str, numbers: Tensor | None = None, missing: bool = False
) -> Facts:
    """Smallest and largest value, and whether all values are whole numbers.

    Args:
        x: raw rows (n, ...).
        what: the name of the data in messages.
        numbers: the row numbers for messages, where they are not 0..n-1.
        missing: NaN is a missing value and left out.

    Raises:
        TightboundError: for NaN and infinity, with the row.
    """
    if x.dtype == torch.bool:
        return Facts(0.0, 1.0, True)
    low = math.inf
    high = -math.inf
    whole = True
    for start, rows in chunks(x):
        values = rows[~rows.isnan()] if missing else rows
        if missing and not len(values):
            continue
        # torch.aminmax has no float16 kernel on the CPU
        is_half = values.dtype == torch.float16
        smallest, largest = torch.aminmax(values.float() if is_half else values)
        if not (math.isfinite(float(smallest)) and math.isfinite(float(largest))):
            raise _not_finite(rows, start, what, numbers, missing)
        low = min(low, float(smallest))
        high = max(high, float(largest))
        whole = whole and _all_whole(values)
    if low > high:
        raise TightboundError(
            f"{what} holds no value that was observed: nothing can be learned from it"
        )
    return Facts(low, high, whole)


def _all_whole(values: Tensor) -> bool:
    return not values.is_floating_point() or bool((values == values.round()).all())


def _not_finite(
    rows: Tensor, start: int, what: str, numbers: Tensor | None, missing: bool
) -> TightboundError:
    """The error for the first value of some rows that is NaN or infinite."""
    finite = torch.isfinite(rows)
    if missing:
        finite |= rows.isnan()
    row = first_row(~finite)
    position = int((~finite[row]).flatten().nonzero()[0])
    return TightboundError(
        f"{what}: row {_row_name(start + row, numbers)} (counting from 0) holds "
        f"{float(rows[row].flatten()[position])} at position {position}: remove or "
        "fill such rows, or train a recipe that takes missing values, missing-data"
    )


def find_layout(
    x: Tensor, settings: DataSettings, fixed: str | None, what: str, notices: list[str]
) -> Layout:
    """The layout of an array, from the settings, the file format or its shape.

    (N, A) is a vector; (N, A, B) an image, but a signal where one side is at least 8
    times the other; (N, A, B, C) an image, but a volume where no side is a usual number
    of channels and all are alike; (N, A, B, C, D) a volume. A guess that may be wrong
    is reported in `notices`.

    Args:
        x: the array.
        settings: `layout` and `kind` fix what they name.
        fixed: the layout that the file format fixes, which goes first.
        what: the name of the data in messages.
        notices: receives the messages.

    Raises:
        TightboundError: where the shape does not fit the settings.
    """
    shape = tuple(x.shape)
    _check_shape(shape, what)
    wanted = fixed or settings.layout
    kind = _find_kind(x, wanted, settings, what, notices)
    fits = [
        name
        for name in KINDS[kind]
        if len(_axes(name)) == len(shape) and wanted in ("auto", name)
    ]
    if not fits:
        raise _unfit_layout(shape, wanted, kind, settings, what)
    if len(fits) == 1:
        return fits[0]
    return _channel_place(shape, fits, what, notices)


def _check_shape(shape: tuple[int, ...], what: str) -> None:
    """Refuse arrays without examples, and with too few or too many axes."""
    if not shape:
        raise TightboundError(
            f"{what} holds a single number, not one row for each example: save an array (N, D)"
        )
    if 0 in shape:
        raise TightboundError(
            f"{what} of shape {shape} is empty: nothing can be learned from it"
        )
    if not 2 <= len(shape) <= 5:
        message = (
            f"{what} has shape {shape}: use (N, D), (N, H, W), (N, H, W, C) or "
            "(N, D, H, W, C), channels first or last"
        )
        if len(shape) == 1:
            message += ", so add an axis with x[:, None] if each number is an example"
        raise TightboundError(message)


def _find_kind(
    x: Tensor,
    layout: str,
    settings: DataSettings,
    what: str,
    notices: list[str],
) -> Kind:
    """The kind that the settings fix, or that of the layout, or a guess by shape."""
    shape = tuple(x.shape)
    if settings.kind != "auto":
        return settings.kind
    for kind, layouts in KINDS.items():
        if layout in layouts:
            return kind
    is_bytes = x.dtype in (torch.uint8, torch.bool)
    return _guess_kind(shape, is_bytes, what, notices)


def _unfit_layout(
    shape: tuple[int, ...], layout: str, kind: Kind, settings: DataSettings, what: str
) -> TightboundError:
    """The error for a shape that does not fit the wanted layout or kind."""
    is_given = settings.kind != "auto"
    setting = f"data.kind={kind}" if is_given else f"data.layout={layout}"
    detail = f", layout {layout}" if layout != "auto" else ""
    wanted = " or ".join(f"({', '.join(_axes(name))})" for name in KINDS[kind])
    return TightboundError(
        f"{setting} does not fit {what} of shape {shape}{detail}: {kind}s are {wanted}"
    )


def _axes(layout: str) -> str:
    """The axes of rows in a layout: NLC, NHW, ..."""
    if layout == "vector":
        return "ND"
    return f"N{layout.upper()}"


def _guess_kind(
    shape: tuple[int, ...], is_bytes: bool, what: str, notices: list[str]
) -> Kind:
    """The kind of examples by the sides of the array; an uncertain guess is reported.

    Images are certain where they are square, or bytes.
    """
    sides = shape[1:]
    if len(sides) == 1:
        return "vector"
    if len(sides) == 4:
        return "volume"
    guess: Kind = "image"
    if len(sides) == 2 and max(sides) >= max(32, 8 * min(sides)):
        guess = "signal"
    if len(sides) == 3 and min(sides) > 4 and max(sides) <= 2 * min(sides):
        guess = "volume"
    if guess != "image":
        notices.append(
            f"{what}: shape {shape} is read as {guess}s (--set data.kind=image if they are images)"
        )
    elif len(sides) == 2 and sides[0] != sides[1] and not is_bytes:
        notices.append(
            f"{what}: shape {shape} is read as images of {sides[0]} x {sides[1]} pixels "
            "(--set data.layout=lc for signals of time x channels, cl for channels x time)"
        )
    return guess


def _channel_place(
    shape: tuple[int, ...], fits: list[Layout], what: str, notices: list[str]
) -> Layout:
    """Channels first or last, by which of the two axes has 1, 3 or 4 entries.

    Where both or neither have, channels first if both have, else the smaller axis; this
    guess is reported.
    """
    last, first = sorted(fits, key=lambda name: name.startswith("c"))
    at_first = shape[1] in _IMAGE_CHANNELS
    at_last = shape[-1] in _IMAGE_CHANNELS
    if at_first != at_last:
        if at_first:
            return first
        return last
    layout = first if at_first or shape[1] <= shape[-1] else last
    notices.append(
        f"{what}: shape {shape} is read as {layout} (--set data.layout={last} or {first} to choose)"
    )
    return layout


def example_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The channel-first shape of one example, from the shape of one raw example."""
    if "c" not in layout:
        return (1, *shape)
    if layout.endswith("c"):
        return (shape[-1], *shape[:-1])
    return shape


def find_domain(
    facts: Facts,
    x: Tensor,
    picture: bool,
    settings: DataSettings,
    what: str,
    notices: list[str],
) -> tuple[Domain, int | None, float]:
    """Domain, number of levels and divisor of values.

    The settings fix what they name.

    By default 0/1 are binary; bytes have 256 levels; other whole numbers 0..255 have
    their maximum + 1 levels; images and volumes of reals in [0, 1] are unit; all others
    are real. Counts are never guessed: whole numbers above 255 are read as reals, with
    a notice.
    """
    if settings.domain == "auto":
        domain = _guess_domain(facts, picture, settings, what, notices)
    else:
        domain = settings.domain
    if domain in ("real", "count"):
        return domain, None, 1.0
    if domain == "unit" and facts.high <= 1:
        return "unit", None, 1.0
    levels = settings.levels or max(2, _count_levels(facts, x))
    if domain == "binary":
        levels = 2
    if levels > _MAX_LEVELS:
        raise TightboundError(
            f"{what}: {levels} levels are too many for domain {domain!r}: use data.domain=real"
        )
    if domain == "unit":
        return domain, levels, float(levels - 1)
    return domain, levels, 1.0


def _count_levels(facts: Facts, x: Tensor) -> int:
    """256 for bytes, the maximum + 1 of other whole numbers from 0, and 0 otherwise."""
    if x.dtype == torch.uint8:
        return 256
    if facts.whole and facts.low >= 0:
        return int(facts.high) + 1
    return 0


def _guess_domain(
    facts: Facts, picture: bool, settings: DataSettings, what: str, notices: list[str]
) -> Domain:
    """The first domain that fits the range of the values."""
    if settings.levels is not None:
        return "levels"
    counted = facts.whole and facts.low >= 0
    if counted and facts.high <= 1:
        return "binary"
    if counted and facts.high <= 255:
        return "levels"
    if picture and facts.low >= 0 and facts.high <= 1:
        return "unit"
    if facts.whole:
        notices.append(
            f"{what}: whole numbers from {facts.low:g} to {facts.high:g} are read as "
            f"real numbers{_hint_of_whole(facts, picture)}"
        )
    return "real"


def _hint_of_whole(facts: Facts, picture: bool) -> str:
    """How whole numbers are read as counts or grey levels instead."""
    if facts.low < 0:
        return ""
    if picture and facts.high < _MAX_LEVELS:
        bits = (int(facts.high).bit_length() + 1) // 2 * 2
        return f" (--set data.levels={1 << bits} if they are grey levels)"
    return _COUNTS


def check_values(
    x: Tensor,
    spec: DataSpec,
    what: str,
    facts: Facts | None = None,
    numbers: Tensor | None = None,
) -> None:
    """Refuse raw values outside the domain of a spec.

    Args:
        x: raw rows (n, ...).
        spec: the spec.
        what: the name of the data in messages.
        facts: the range of x, where it is known.
        numbers: the row numbers for messages, where they are not 0..n-1.

    Raises:
        TightboundError: for the first value outside the domain, with its row.
    """
    if not len(x):
        raise TightboundError(f"{what} is empty: give one example or more")
    if spec.missing and bool(x.isnan().all()):
        return
    facts = facts or survey(x, what, numbers, spec.missing)
    if spec.is_mixed:
        check_codes(x, spec, what)
    if spec.domain in ("real", "mixed"):
        return
    _check_range(x, spec, what, facts, numbers)


def _check_range(
    x: Tensor, spec: DataSpec, what: str, facts: Facts, numbers: Tensor | None
) -> None:
    """Refuse values outside the range of a domain, and fractions among levels."""
    top = spec.bounds[1] * spec.divisor
    in_range = facts.low >= 0 and facts.high <= top
    if in_range and (facts.whole or not spec.discrete):
        return
    for start, rows in chunks(x):
        bad = (rows < 0) | (rows > top)
        if spec.discrete and rows.is_floating_point():
            bad |= (rows != rows.round()) & ~rows.isnan()
        if bad.any():
            row = first_row(bad)
            value = float(rows[row][bad[row]].flatten()[0])
            number = _row_name(start + row, numbers)
            raise TightboundError(
                f"{what}: row {number} (counting from 0) holds {value:g}, but domain "
                f"{spec.domain!r} has {_values_of(spec, top)}: convert the data, or "
                "choose another data.domain or data.levels"
            )


def _values_of(spec: DataSpec, top: float) -> str:
    """The values of a domain, for a message."""
    if not spec.discrete:
        return f"numbers from 0 to {top:g}"
    if top < math.inf:
        return f"whole numbers 0 to {top:g}"
    return "whole numbers from 0 up"


def check_read(
    x: Tensor, spec: DataSpec, what: str, numbers: Tensor | None = None
) -> None:
    """Check raw rows just read; bytes in a domain of 256 levels need no check."""
    is_free = (
        x.dtype == torch.uint8
        and spec.domain != "binary"
        and spec.levels in (None, 256)
    )
    if len(x) and not is_free:
        check_values(x, spec, what, numbers=numbers)


def moments(x: Tensor | OnDisk, index: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension, in model units.

    Sums are taken in float64 over chunks, of the differences from the first chunk's
    mean.

    Args:
        x: raw rows (N, ...).
        index: the rows to use.
        spec: the spec that defines the model units.
    """
    total = torch.zeros(spec.shape, dtype=torch.float64)
    squares = total
    shift = total
    count = torch.full(
        spec.shape, 0.0 if spec.missing else len(index), dtype=torch.float64
    )
    for start, rows in chunks(x, index):
        values = spec.to_model(rows)
        if start == 0:
            shift = _mean(values, spec.missing)
        values = values - shift.float()
        if spec.missing:
            count = count + (~values.isnan()).sum(0)
            values = values.nan_to_num()
        total = total + values.sum(0)
        squares = squares + values.square().sum(0)
    count = count.clamp(min=1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return (mean + shift.float()).float(), std.float()


def _mean(values: Tensor, missing: bool) -> Tensor:
    """Mean over the rows in float64, without the missing values."""
    if missing:
        return values.double().nanmean(0).nan_to_num()
    return values.mean(0, dtype=torch.float64)
