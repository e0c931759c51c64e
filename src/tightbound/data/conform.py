"""read: new data for a trained model, brought to the layout, size and domain of its spec or
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.core.data_spec import DataSpec
from tightbound.data.formats.builtin import BUILTIN
from tightbound.data.loading import load, same_ids
from tightbound.data.on_disk import OnDisk, looked_at
from tightbound.data.opening import open_source
from tightbound.data.prepare.binarize import (
    FIXED_SEED,
    FixedDraws,
    draw_from,
    drawn_on_disk,
)
from tightbound.data.prepare.infer import check_read, check_values, survey
from tightbound.data.prepare.split import Split
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source
from tightbound.data.tables.encoding import coded
from tightbound.runtime.errors import TightboundError

_OF_TRAINING = (
    "fields",
    "kind",
    "layout",
    "domain",
    "levels",
    "size",
    "channels",
    "augment",
    "limit",
)
ROWS_OF_A_SHARD = (
    1 << 32
)  # each shard has its own range of the random numbers of a binary draw


def read(source: Any, spec: DataSpec, settings: DataSettings | None = None) -> Split:
    """New data as a Split of the trained spec: a path, a built-in name (its test split), an array
    or a Dataset.

    Image files are resized as in training; arrays may be in another layout where there is one way
    to read them. Rows in order, evaluation view. Raises TightboundError on a shape or a value (row
    named) that the spec does not have.
    """
    settings = settings or DataSettings()
    if isinstance(source, Split):
        return _checked(source, spec)
    plain = plain_settings(spec, settings)
    if isinstance(source, str) and source in BUILTIN:
        data = load(
            source, plain.model_copy(update={"size": "auto", "channels": "auto"})
        )
        test = data.test
        x = test.x if test.index is None else test.x[test.index]  # type: ignore[index]
        part = Part(x, test.y, test.names, test.factors)
        found = Source(
            source,
            source,
            {"test": part},
            data.digest,
            data.spec.layout,
            label_names=data.label_names,
        )
        return _conform(part, found, spec, settings)
    found = open_source(_one_more_axis(source, spec), plain)
    part = found.parts.get("all") or found.parts.get("test") or found.parts["train"]
    if len(found.parts) > 1:
        found.notices.append(f"{found.where}: its test split is read")
    part = coded(found, spec, part)
    return _conform(part, found, spec, settings)


def plain_settings(spec: DataSpec, settings: DataSettings) -> DataSettings:
    """The settings by which new data are read: those of the training alone are left out, images get
    the spec's size.
    """
    plain = settings.model_copy(
        update={k: DataSettings.model_fields[k].default for k in _OF_TRAINING}
    )
    if spec.is_image and spec.shape[0] in (1, 3):
        plain = plain.model_copy(
            update={"size": spec.shape[1:], "channels": spec.shape[0]}
        )
    return plain


def read_one(
    source: Any, spec: DataSpec, settings: DataSettings | None = None
) -> Split:
    """One example as a Split of length 1: an image file, an array of one example, or "DATA:ROW"
    (rows from 0).
    """
    row = None
    if (
        isinstance(source, str)
        and not Path(source).exists()
        and (found := re.fullmatch(r"(.+):(-?\d+)", source))
    ):
        source, row = found.group(1), int(found.group(2))
    split = read(source, spec, settings)
    if row is None:
        if len(split) != 1:
            raise TightboundError(
                f"{source} has {len(split)} examples: name one of them as {source}:ROW, rows from 0"
            )
        return split
    if not -len(split) <= row < len(split):
        raise TightboundError(f"{source}:{row}: there are rows 0 to {len(split) - 1}")
    return split.select(torch.tensor([row % len(split)]))


def _checked(split: Split, spec: DataSpec) -> Split:
    same = ("shape", "domain", "levels", "layout", "divisor", "fields")
    if any(getattr(split.spec, key) != getattr(spec, key) for key in same):
        raise TightboundError(
            f"the split has {split.spec!r}, but the model was trained on "
            f"{spec!r}: pass data of that kind"
        )
    return split


def raw_shape(spec: DataSpec) -> tuple[int, ...]:
    """The shape of one example in the user's layout."""
    if spec.fields:
        return (len(spec.fields),)
    if "c" not in spec.layout:
        return spec.shape[1:]
    return (*spec.shape[1:], spec.shape[0]) if spec.layout.endswith("c") else spec.shape


def _one_more_axis(source: Any, spec: DataSpec) -> Any:
    """A single example, given without its first axis, as an array of one."""
    shape = getattr(source, "shape", None)
    single = shape is not None and tuple(shape) in (raw_shape(spec), spec.shape)
    if single and hasattr(source, "to_frame"):  # a row of a DataFrame
        return source.to_frame().T
    return source[None] if single else source


def _conform(
    part: Part, found: Source, spec: DataSpec, settings: DataSettings
) -> Split:
    """The rows in the layout and domain of the spec; greys of a binarised model are drawn once,
    with the fixed seed.
    """
    x = _each(part.x, _change(found, spec, settings))
    if grey := _grey(x, found, spec, settings):
        levels = grey.levels or 256
        x = (
            drawn_on_disk(x, levels)
            if isinstance(x, OnDisk)
            else FixedDraws(levels).draw(x, None)
        )
    checks = spec if isinstance(x, OnDisk) else None
    if checks is None:
        check_values(x, spec, found.where)
    c = _condition(part, found, spec)
    made = Split(
        x,
        spec,
        y=part.y,
        names=part.names,
        factors=part.factors,
        c=c,
        notices=found.notices,
        checks=checks,
    )
    made.digest, made.label_names = found.digest, found.label_names
    return made


def _condition(part: Part, found: Source, spec: DataSpec) -> Tensor | None:
    """What the model is told of these rows, classes by their names; None where they come
    without.
    """
    told = spec.condition
    if told is None or (part.c is None) == bool(told.mean):
        return None
    if told.mean:
        assert part.c is not None
        if part.c.shape[1] != told.width:
            raise TightboundError(
                f"{found.where} has conditions of {part.c.shape[1]} numbers, "
                f"the model was trained on {told.width}"
            )
        return part.c
    if part.y is None:
        return None
    y = same_ids(part.y, found.label_names or told.names, told.names)
    if bool((y < 0).any()):
        row = int((y < 0).nonzero()[0])
        raise TightboundError(
            f"{found.where}: the label of row {row} (counting from 0) is none "
            "that the model was trained on: "
            f"{', '.join(told.names[:20])}"
        )
    return y


def conform_stream(
    few: Tensor, found: Source, spec: DataSpec, settings: DataSettings
) -> Callable[[Tensor, str, int, int], Tensor]:
    """The same for rows that come some at a time, known by a few of them: (raw, where, shard, row
    in it) -> domain.
    """
    change = _change(found, spec, settings)
    grey = _grey(change(few), found, spec, settings)

    def conform(raw: Tensor, where: str, shard: int, row: int) -> Tensor:
        x, numbers = change(raw), torch.arange(row, row + len(raw))
        check_read(x, grey or spec, where, numbers)
        if grey:
            x = draw_from(x, shard * ROWS_OF_A_SHARD + row, grey.levels or 256)
        return spec.to_domain(x)

    return conform


def _each(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A change of rows, in memory now, or on a disk when they are read."""
    return x.map(change) if isinstance(x, OnDisk) else change(x)


def _change(
    found: Source, spec: DataSpec, settings: DataSettings
) -> Callable[[Tensor], Tensor]:
    """Raw rows to the layout of the spec, bytes to its levels."""
    top = _top(spec, settings) if found.levels == 256 else None
    if top not in (None, 255):
        found.notices.append(
            f"{found.where}: bytes 0 to 255 are read as levels 0 to {top}, as the model knows them"
        )

    def change(rows: Tensor) -> Tensor:
        x = _in_layout(rows, found.layout, spec, found.where)
        return (
            x if top in (None, 255) else (x.float() * (top / 255)).round().to(x.dtype)
        )

    return change


def _grey(
    x: Tensor | OnDisk, found: Source, spec: DataSpec, settings: DataSettings
) -> DataSpec | None:
    """What grey rows of a model of binary draws are, by all or some of them; None where nothing is
    to be drawn.
    """
    if settings.binarize == "none":
        return None
    seen, numbers = looked_at(x)
    facts = survey(seen, found.where, numbers)
    if facts.whole and facts.low >= 0 and facts.high <= 1 and found.levels != 256:
        return None
    grey = spec.model_copy(
        update={"domain": "levels", "levels": settings.levels or 256}
    )
    check_values(seen, grey, found.where, facts, numbers)
    found.notices.append(
        f"{found.where}: grey levels are binarised once, by the fixed draw (seed {FIXED_SEED})"
    )
    return grey


def _top(spec: DataSpec, settings: DataSettings) -> int | None:
    """The highest grey level of the data that the model was trained on; None where they have no
    levels.
    """
    levels = (settings.levels or 256) if settings.binarize != "none" else spec.levels
    return None if levels is None or spec.domain == "categorical" else levels - 1


def _in_layout(x: Tensor, layout: str | None, spec: DataSpec, what: str) -> Tensor:
    """Rows (n, ...) in the layout of the spec, from the same, another of its kind, or flattened
    rows.
    """
    own = tuple(x.shape[1:])
    wanted = raw_shape(spec)
    if own == wanted and (layout in (None, spec.layout) or spec.kind == "vector"):
        return x
    if spec.kind != "vector":
        channel_first = _channel_first(x, layout, spec)
        if channel_first is not None:
            if "c" not in spec.layout:
                return channel_first[:, 0]
            return (
                channel_first.movedim(1, -1)
                if spec.layout.endswith("c")
                else channel_first
            )
    if len(own) == 1 and own[0] == spec.dims:
        return x.reshape(len(x), *wanted)
    if spec.kind == "vector" and x[0].numel() == spec.dims:
        return x.reshape(len(x), *wanted)
    raise TightboundError(
        f"{what} has examples of shape {own}, the model was trained on "
        f"{wanted} ({spec.layout}): make them equal"
    )


def _channel_first(x: Tensor, layout: str | None, spec: DataSpec) -> Tensor | None:
    """Rows as (n, C, ...) of the spec, or None where they are not such examples."""
    own = tuple(x.shape[1:])
    if own == spec.shape and (layout is None or layout.startswith("c")):
        return x
    if own == (*spec.shape[1:], spec.shape[0]) and (
        layout is None or layout.endswith("c")
    ):
        return x.movedim(-1, 1)
    return x[:, None] if own == spec.shape[1:] and spec.shape[0] == 1 else None
