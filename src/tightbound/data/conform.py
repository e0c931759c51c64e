"""Read new data for a trained model, in the layout, size and domain of its spec."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.core.data_spec import Condition, DataSpec
from tightbound.data.formats.builtin import BUILTIN
from tightbound.data.loading import load, same_ids
from tightbound.data.on_disk import OnDisk, rows_to_check
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
from tightbound.data.source import RawSource, RawSplit
from tightbound.data.tables.conditions import take_conditions
from tightbound.data.tables.matching import Matched, matched
from tightbound.runtime.errors import TightboundError, listed

Change = Callable[[Tensor], Tensor]

_OF_TRAINING = (
    "kind",
    "layout",
    "domain",
    "levels",
    "size",
    "channels",
    "augment",
    "limit",
)
# each shard has its own range of the random numbers of a binary draw
ROWS_OF_A_SHARD = 1 << 32


def read(source: object, spec: DataSpec, settings: DataSettings | None = None) -> Split:
    """Read new data for a trained model.

    Image files are resized as in training. Arrays may be in another layout where it is
    unambiguous.

    Args:
        source: a path, a built-in name (for its test split), an array or a Dataset.
        spec: the spec of the model.
        settings: the data settings of the model.

    Returns:
        The rows in order, as the evaluation view.

    Raises:
        TightboundError: for a shape or a value (with its row) that the spec excludes.
    """
    settings = settings or DataSettings()
    if isinstance(source, Split):
        return _checked(source, spec)
    plain = plain_settings(spec, settings)
    if isinstance(source, str) and source in BUILTIN:
        return _read_builtin(source, spec, settings, plain)
    raw = open_source(_with_row_axis(source, spec), plain)
    raw = take_conditions(raw, plain, optional=True)
    names = ("all", "test", "train", "valid")
    split = next(raw.splits[name] for name in names if name in raw.splits)
    if len(raw.splits) > 1:
        raw = raw.with_notices(f"{raw.where}: its test split is read")
    found = matched(
        raw,
        split,
        spec.fields,
        is_mixed=spec.is_mixed,
        masked=spec.missing,
        skipped=[name for name, kind in settings.fields.items() if kind == "skip"],
    )
    return _conform(found, raw, spec, settings)


def _read_builtin(
    name: str, spec: DataSpec, settings: DataSettings, plain: DataSettings
) -> Split:
    """The test split of a built-in set."""
    of_files = ("fields", "size", "channels", "bits", "white_level", "duplicates")
    defaults = {key: DataSettings.model_fields[key].default for key in of_files}
    data = load(name, plain.model_copy(update=defaults))
    test = data.test
    assert isinstance(test.x, Tensor)
    x = test.x
    if isinstance(test.index, Tensor):
        x = x[test.index]
    split = RawSplit(x, test.y, test.names, test.factors)
    raw = RawSource(
        name,
        name,
        {"test": split},
        data.digest,
        layout=data.spec.layout,
        label_names=data.label_names,
    )
    return _conform(Matched(split, data.digest), raw, spec, settings)


def plain_settings(spec: DataSpec, settings: DataSettings) -> DataSettings:
    """The settings to read new data by, without those that training resolved.

    Image files get the size and channels of the spec.
    """
    fields = DataSettings.model_fields
    plain = settings.model_copy(
        update={name: fields[name].default for name in _OF_TRAINING}
    )
    if spec.is_image and spec.shape[0] in (1, 3):
        plain = plain.model_copy(
            update={"size": spec.shape[1:], "channels": spec.shape[0]}
        )
    return plain


def read_one(
    source: object, spec: DataSpec, settings: DataSettings | None = None
) -> Split:
    """Read one example for a trained model.

    Args:
        source: an image file, an array of one example, or "DATA:ROW" with rows from 0.
        spec: the spec of the model.
        settings: the data settings of the model.

    Returns:
        A split of one row.
    """
    match = None
    if isinstance(source, str) and not Path(source).exists():
        match = re.fullmatch(r"(.+):(-?\d+)", source)
    if match is None:
        split = read(source, spec, settings)
        if len(split) != 1:
            raise TightboundError(
                f"{source} has {len(split)} examples: name one of them as {source}:ROW, rows from 0"
            )
        return split
    name = match.group(1)
    row = int(match.group(2))
    split = read(name, spec, settings)
    if not -len(split) <= row < len(split):
        raise TightboundError(f"{name}:{row}: there are rows 0 to {len(split) - 1}")
    return split.select(torch.tensor([row % len(split)]))


def _checked(split: Split, spec: DataSpec) -> Split:
    same = ("shape", "domain", "levels", "layout", "divisor", "fields", "offset")
    if any(getattr(split.spec, key) != getattr(spec, key) for key in same):
        raise TightboundError(
            f"the split has {split.spec!r}, but the model was trained on "
            f"{spec!r}: pass data of that kind"
        )
    return split


def raw_shape(spec: DataSpec) -> tuple[int, ...]:
    """The shape of one example in the user's layout."""
    if spec.is_mixed:
        return (len(spec.fields),)
    if "c" not in spec.layout:
        return spec.shape[1:]
    if spec.layout.endswith("c"):
        return (*spec.shape[1:], spec.shape[0])
    return spec.shape


def _with_row_axis(source: Any, spec: DataSpec) -> object:
    """A single example as an array of one; any other source unchanged."""
    if hasattr(source, "to_frame") and spec.is_table:  # a row of a DataFrame
        if [f.label for f in spec.fields] == [source.name]:
            return source.to_frame()
        return source.to_frame().T.infer_objects()
    if isinstance(source, Tensor) and source.is_nested:
        return source  # refused when it is read
    shape = getattr(source, "shape", None)
    if shape is None or tuple(shape) not in (raw_shape(spec), spec.shape):
        return source
    if hasattr(source, "to_frame"):
        return source.to_numpy()[None]
    return source[None]


def _conform(
    found: Matched, source: RawSource, spec: DataSpec, settings: DataSettings
) -> Split:
    """Rows in the layout and domain of the spec, with a fixed draw of greys."""
    split = found.split
    notices = [*source.notices, *found.notices]
    change = _change(source, spec, settings, notices)
    x = split.x.map(change) if isinstance(split.x, OnDisk) else change(split.x)
    grey = _grey(x, source, spec, settings, notices)
    if grey is not None:
        x = _fixed_draw(x, grey.levels or 256)
    if not isinstance(x, OnDisk):
        check_values(x, spec, source.where)
    return Split(
        x,
        spec,
        y=split.y,
        names=split.names,
        factors=split.factors,
        c=_condition(split, source, spec),
        notices=tuple(notices),
        checks=spec if isinstance(x, OnDisk) else None,
        digest=found.digest,
        label_names=source.label_names,
        table=found.table,
    )


def _fixed_draw(x: Tensor | OnDisk, levels: int) -> Tensor | OnDisk:
    """A fixed binarisation of grey rows."""
    if isinstance(x, OnDisk):
        return drawn_on_disk(x, levels)
    return FixedDraws(levels).draw(x, None)


def _condition(split: RawSplit, source: RawSource, spec: DataSpec) -> Tensor | None:
    """The conditions of these rows as the model encodes them, or None."""
    condition = spec.condition
    if condition is None:
        return None
    if not condition.mean:
        if split.c is None:
            return _class_ids(split.y, source.label_names, source, condition)
        if split.c.dim() == 1:
            return _class_ids(split.c, source.condition_names, source, condition)
        return None
    if split.c is not None and split.c.dim() == 1:
        raise TightboundError(
            f"{source.where} has classes as conditions, the model was trained on the "
            f"numbers {listed(condition.names)}"
        )
    if split.c is not None and split.c.shape[1] != condition.width:
        raise TightboundError(
            f"{source.where} has conditions of {split.c.shape[1]} numbers, "
            f"the model was trained on {condition.width}"
        )
    return split.c


def _class_ids(
    ids: Tensor | None,
    names: tuple[str, ...] | None,
    source: RawSource,
    condition: Condition,
) -> Tensor | None:
    """Class ids of these rows by the class names of the model."""
    if ids is None:
        return None
    y = same_ids(ids, names or condition.names, condition.names)
    if bool((y < 0).any()):
        row = int((y < 0).nonzero()[0])
        raise TightboundError(
            f"{source.where}: the label of row {row} (counting from 0) is none that the "
            f"model was trained on: {listed(condition.names)}"
        )
    return y


def conform_stream(
    few: Tensor,
    source: RawSource,
    spec: DataSpec,
    settings: DataSettings,
    notices: list[str],
) -> Callable[[Tensor, str, int, int], Tensor]:
    """A function that converts rows of a stream to model units.

    Args:
        few: the first rows, by which it is known whether they are grey.
        source: the properties of the stream.
        spec: the spec of the model.
        settings: the data settings of the model.
        notices: receives the messages about conversions.

    Returns:
        A function of raw rows, their name in messages, the shard, and the number of the
        first row in it.
    """
    change = _change(source, spec, settings, notices)
    grey = _grey(change(few), source, spec, settings, notices)

    def conform(raw: Tensor, where: str, shard: int, row: int) -> Tensor:
        x = change(raw)
        check_read(x, grey or spec, where, torch.arange(row, row + len(raw)))
        if grey:
            x = draw_from(x, shard * ROWS_OF_A_SHARD + row, grey.levels or 256)
        return spec.to_model(x)

    return conform


def _change(
    source: RawSource, spec: DataSpec, settings: DataSettings, notices: list[str]
) -> Change:
    """A function that converts raw rows to the layout and levels of the spec."""
    top = _top(spec, settings) if source.levels == 256 else None
    if top is None or top == 255:
        return lambda rows: _in_layout(rows, source.layout, spec, source.where)
    scale = top / 255
    notices.append(
        f"{source.where}: bytes 0 to 255 are read as levels 0 to {top}, as in the "
        "training data"
    )

    def change(rows: Tensor) -> Tensor:
        x = _in_layout(rows, source.layout, spec, source.where)
        return (x.float() * scale).round().to(x.dtype)

    return change


def _grey(
    x: Tensor | OnDisk,
    source: RawSource,
    spec: DataSpec,
    settings: DataSettings,
    notices: list[str],
) -> DataSpec | None:
    """The spec of grey rows that are to be binarised; None for other rows."""
    if settings.binarize == "none":
        return None
    sample, numbers = rows_to_check(x)
    facts = survey(sample, source.where, numbers)
    is_binary = facts.whole and facts.low >= 0 and facts.high <= 1
    if is_binary and source.levels != 256:
        return None
    grey = spec.model_copy(
        update={"domain": "levels", "levels": settings.levels or 256}
    )
    check_values(sample, grey, source.where, facts, numbers)
    notices.append(
        f"{source.where}: grey levels are binarised once, by the fixed draw (seed {FIXED_SEED})"
    )
    return grey


def _top(spec: DataSpec, settings: DataSettings) -> int | None:
    """The highest grey level of the training data; None where they have no levels."""
    levels = spec.levels
    if settings.binarize != "none":
        levels = settings.levels or 256
    if levels is None or spec.domain == "categorical":
        return None
    return levels - 1


def _in_layout(x: Tensor, layout: str | None, spec: DataSpec, what: str) -> Tensor:
    """Rows (n, ...) in the layout of the spec.

    Args:
        x: rows in the same layout, in another one of its kind, or flattened.
        layout: the layout of x, where it is known.
        spec: the spec.
        what: the name of the data in messages.
    """
    shape = tuple(x.shape[1:])
    wanted = raw_shape(spec)
    is_vector = spec.kind == "vector"
    if shape == wanted and (layout in (None, spec.layout) or is_vector):
        return x
    if not is_vector:
        channel_first = _channel_first(x, layout, spec)
        if channel_first is not None:
            return _from_channel_first(channel_first, spec)
    if shape == (spec.dims,) or (is_vector and math.prod(shape) == spec.dims):
        return x.reshape(len(x), *wanted)
    raise TightboundError(
        f"{what} has examples of shape {shape}, the model was trained on "
        f"{wanted} ({spec.layout}): make them equal"
    )


def _from_channel_first(x: Tensor, spec: DataSpec) -> Tensor:
    """Rows (n, C, ...) in the layout of the spec."""
    if "c" not in spec.layout:
        return x[:, 0]
    if spec.layout.endswith("c"):
        return x.movedim(1, -1)
    return x


def _channel_first(x: Tensor, layout: str | None, spec: DataSpec) -> Tensor | None:
    """Rows as (n, C, ...) of the spec, or None where they have another shape."""
    shape = tuple(x.shape[1:])
    if shape == spec.shape and (layout is None or layout.startswith("c")):
        return x
    channel_last = (*spec.shape[1:], spec.shape[0])
    if shape == channel_last and (layout is None or layout.endswith("c")):
        return x.movedim(-1, 1)
    is_single = shape == spec.shape[1:] and spec.shape[0] == 1
    if is_single:
        return x[:, None]
    return None
