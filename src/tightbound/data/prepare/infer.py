"""How numbers are read: the layout of an array, the domain of its values, and what is refused with
its row named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.data_spec import KINDS, DataSpec, Domain, Kind, Layout
from tightbound.data.settings import DataSettings
from tightbound.data.tables.encoding import check_codes
from tightbound.runtime.errors import TightboundError

_CHUNK_NUMBERS = 1 << 19
_MAX_LEVELS = 65536
_IMAGE_CHANNELS = (1, 3, 4)
_COUNTS = " (--set data.domain=count if they are counts)"


@dataclass(frozen=True)
class Facts:
    """What one pass over all rows found."""

    low: float
    high: float
    whole: bool


def chunks(x: Tensor, index: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows), a few MB at a time; with an index, its rows in its order."""
    n = len(x) if index is None else len(index)
    step = max(1, _CHUNK_NUMBERS // max(1, x[:1].numel()))
    for start in range(0, n, step):
        yield (
            start,
            x[start : start + step]
            if index is None
            else x[index[start : start + step]],
        )


def first_row(bad: Tensor) -> int:
    """The first example of a boolean (n, ...) that has a True anywhere."""
    return int(bad.flatten(1).any(1).nonzero()[0])


def _called(row: int, numbers: Tensor | None) -> int:
    return row if numbers is None else int(numbers[row])


def survey(
    x: Tensor, what: str, numbers: Tensor | None = None, missing: bool = False
) -> Facts:
    """Smallest and largest value and whether all are whole; refuses NaN and infinity, naming the
    row.

    numbers: what each row is called in messages, where not by its place.  missing: NaN is left out
    instead.
    """
    if x.dtype == torch.bool:
        return Facts(0.0, 1.0, True)
    low, high, whole = float("inf"), float("-inf"), True
    for start, some in chunks(x):
        rows = some[~some.isnan()] if missing else some
        if missing and not len(rows):
            continue
        lo, hi = (
            float(v)
            for v in torch.aminmax(
                rows.float() if rows.dtype == torch.float16 else rows
            )
        )
        if not (abs(lo) < float("inf") and abs(hi) < float("inf")):
            finite = torch.isfinite(some) | (some.isnan() if missing else False)
            row = start + first_row(~finite)
            column = int((~finite[row - start]).flatten().nonzero()[0])
            raise TightboundError(
                f"{what}: row {_called(row, numbers)} (counting from 0) holds "
                f"{float(some[row - start].flatten()[column])} at position "
                f"{column}: remove or fill such rows, or train a recipe that "
                "takes missing values, missing-data"
            )
        low, high = min(low, lo), max(high, hi)
        whole = whole and (
            not rows.is_floating_point() or bool((rows == rows.round()).all())
        )
    if low > high:
        raise TightboundError(
            f"{what} holds no value that was observed: nothing can be learned from it"
        )
    return Facts(low, high, whole)


def find_layout(
    x: Tensor, settings: DataSettings, known: str | None, what: str, notices: list[str]
) -> Layout:
    """The layout of (N, ...), as `layout` or `kind` say or the reader knows; a guess that may be
    wrong is said.

    (N, A) is a vector; (N, A, B) an image, but a signal where one side is at least 8 times the
    other; (N, A, B, C) an image, but a volume where no side is a usual number of channels and all
    are alike; (N, A, B, C, D) a volume.
    """
    shape = tuple(x.shape)
    if not shape:
        raise TightboundError(
            f"{what} holds a single number, not one row for each example: save an array (N, D)"
        )
    if 0 in shape:
        raise TightboundError(
            f"{what} of shape {shape} is empty: nothing can be learned from it"
        )
    if not 2 <= len(shape) <= 5:
        raise TightboundError(
            (
                f"{what} has shape {shape}: use (N, D), (N, H, W), (N, H, W, C) or "
                "(N, D, H, W, C), channels first or last"
            )
            + (
                ", so add an axis with x[:, None] if each number is an example"
                if len(shape) == 1
                else ""
            )
        )
    setting, kind = known or settings.layout, settings.kind
    if kind == "auto":
        found = [name for name, layouts in KINDS.items() if setting in layouts]
        kind = found[0] if found else _guess_kind(shape, what, notices)
    fits = [
        name
        for name in KINDS[kind]
        if len(_axes(name)) == len(shape) and setting in ("auto", name)
    ]
    if not fits:
        asked = (
            f"data.layout={setting}" if settings.kind == "auto" else f"data.kind={kind}"
        )
        wanted = " or ".join(f"({', '.join(_axes(name))})" for name in KINDS[kind])
        raise TightboundError(
            f"{asked} does not fit {what} of shape "
            f"{shape}{f', layout {setting}' * (setting not in ('auto', asked))}: "
            f"{kind}s are {wanted}"
        )
    return fits[0] if len(fits) == 1 else _channel_place(shape, fits, what, notices)


def _axes(layout: str) -> str:
    """The axes of rows in a layout: NLC, NHW, ..."""
    return "ND" if layout == "vector" else f"N{layout.upper()}"


def _guess_kind(shape: tuple[int, ...], what: str, notices: list[str]) -> Kind:
    sides = shape[1:]
    slender = len(sides) == 2 and max(sides) >= max(32, 8 * min(sides))
    alike = len(sides) == 3 and min(sides) > 4 and max(sides) <= 2 * min(sides)
    if slender or alike:
        kind: Kind = "signal" if slender else "volume"
        notices.append(
            f"{what}: shape {shape} is read as {kind}s (--set data.kind=image if they are images)"
        )
        return kind
    return "vector" if len(sides) == 1 else "volume" if len(sides) == 4 else "image"


def _channel_place(
    shape: tuple[int, ...], fits: list[Layout], what: str, notices: list[str]
) -> Layout:
    """Channels last where only the last axis has 1, 3 or 4 entries, first where only the first has,
    or both.

    Where neither has, the smaller of the two; this guess, and that of both, is announced.
    """
    last, first = sorted(fits, key=lambda name: name.startswith("c"))
    at_first, at_last = shape[1] in _IMAGE_CHANNELS, shape[-1] in _IMAGE_CHANNELS
    if at_first != at_last:
        return first if at_first else last
    layout = first if at_first or shape[1] <= shape[-1] else last
    notices.append(
        f"{what}: shape {shape} is read as {layout} (--set data.layout={last} or {first} to choose)"
    )
    return layout


def example_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The channel-first shape of one example, from the shape of one raw example in its layout."""
    if "c" not in layout:
        return (1, *shape)
    return (shape[-1], *shape[:-1]) if layout.endswith("c") else shape


def find_domain(
    facts: Facts,
    x: Tensor,
    picture: bool,
    settings: DataSettings,
    what: str,
    notices: list[str],
) -> tuple[Domain, int | None, float]:
    """(domain, levels, divisor) of values, by the first rule that fits, or as `domain` and `levels`
    say.

    Counts are never guessed: whole numbers above 255 are read as reals, and that is said. 0/1 ->
    binary; bytes -> 256 levels; other whole numbers 0..255 -> their maximum + 1 levels; images and
    volumes of reals in [0, 1] -> unit; all else -> real.
    """
    counted = facts.whole and facts.low >= 0
    auto_levels = (
        256 if x.dtype == torch.uint8 else int(facts.high) + 1 if counted else 0
    )
    domain = settings.domain
    if domain == "auto" and settings.levels is not None:
        domain = "levels"
    if domain == "auto":
        if counted and facts.high <= 1:
            domain = "binary"
        elif counted and facts.high <= 255:
            domain = "levels"
        else:
            domain = (
                "unit" if picture and facts.low >= 0 and facts.high <= 1 else "real"
            )
        if domain == "real" and facts.whole:
            notices.append(
                (
                    f"{what}: whole numbers from {facts.low:g} to {facts.high:g} "
                    "are read as real numbers"
                )
                + _COUNTS * counted
            )
    if domain in ("real", "count"):
        return domain, None, 1.0
    if domain == "binary":
        levels = 2
    elif domain == "unit" and facts.high <= 1:
        return "unit", None, 1.0
    else:
        levels = settings.levels or max(2, auto_levels)
    if levels > _MAX_LEVELS:
        raise TightboundError(
            f"{what}: {levels} levels are too many for domain {domain!r}: use data.domain=real"
        )
    return domain, levels, float(levels - 1) if domain == "unit" else 1.0


def check_values(
    x: Tensor,
    spec: DataSpec,
    what: str,
    facts: Facts | None = None,
    numbers: Tensor | None = None,
) -> None:
    """Refuses raw values that the domain does not have, naming the row, by `numbers` where they are
    given.
    """
    facts = facts or survey(x, what, numbers, spec.missing)
    if spec.fields:
        check_codes(x, spec, what)
    if spec.domain in ("real", "mixed"):
        return
    top, whole = spec.bounds[1] * spec.divisor, spec.discrete
    if facts.low >= 0 and facts.high <= top and (facts.whole or not whole):
        return
    for start, rows in chunks(x):
        bad = (rows < 0) | (rows > top)
        if whole and rows.is_floating_point():
            bad |= (rows != rows.round()) & ~rows.isnan()
        if bad.any():
            row = first_row(bad)
            value = float(rows[row][bad[row]].flatten()[0])
            kind = (
                f"whole numbers {f'0 to {top:g}' if top < math.inf else 'from 0 up'}"
                if whole
                else f"numbers from 0 to {top:g}"
            )
            raise TightboundError(
                f"{what}: row {_called(start + row, numbers)} (counting from 0) holds {value:g}, "
                f"but domain {spec.domain!r} has {kind}: "
                "convert the data, or choose another data.domain or data.levels"
            )


def check_read(
    x: Tensor, spec: DataSpec, what: str, numbers: Tensor | None = None
) -> None:
    """Checks raw rows that were read just now; bytes that may be any byte need none."""
    if len(x) and not (
        x.dtype == torch.uint8
        and spec.domain != "binary"
        and spec.levels in (None, 256)
    ):
        check_values(x, spec, what, numbers=numbers)


def moments(x: Tensor, index: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension over some rows, in domain units; chunks are
    added in float64.
    """
    total = square = shift = torch.zeros(spec.shape, dtype=torch.float64)
    seen = torch.full(
        spec.shape, 0.0 if spec.missing else len(index), dtype=torch.float64
    )
    for start, rows in chunks(x, index):
        values = spec.to_domain(rows)
        if start == 0:
            shift = (
                values.double().nanmean(0).nan_to_num()
                if spec.missing
                else values.mean(0, dtype=torch.float64)
            )
        values = values - shift.float()
        if spec.missing:
            seen, values = seen + (~values.isnan()).sum(0), values.nan_to_num()
        total, square = total + values.sum(0), square + values.square().sum(0)
    seen = seen.clamp(min=1)
    mean = total / seen
    std = (square / seen - mean.square()).clamp_min(0).sqrt()
    return (mean + shift.float()).float(), std.float()
