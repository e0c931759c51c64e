"""Conditions and labels of a data set, for conditional and labelled models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tightbound.core.data_spec import CONDITIONS, Condition, are_far
from tightbound.data.on_disk import OnDisk
from tightbound.data.prepare.rows import SplitRows
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit
from tightbound.runtime.errors import TightboundError, shortened


def condition_of(
    source: RawSource, rows: Mapping[str, SplitRows], settings: DataSettings
) -> Condition:
    """The condition that `data.condition` names, with its training statistics.

    Raises:
        TightboundError: where the data have no such condition, some rows lack it, or
            the data stay on the disk.
    """
    train = rows["train"].split
    if isinstance(train.x, OnDisk):
        raise TightboundError(
            f"a conditional model needs its data in memory, and {source.where} "
            "stays on the disk: raise data.memory"
        )
    _check_present(source, rows, settings)
    if train.c is None:
        condition = _class_condition(source, rows, source.label_names)
    elif train.c.dim() == 1:
        condition = _class_condition(source, rows, source.condition_names)
    else:
        condition = _numeric_condition(source, _values(rows["train"]))
    values = _values(rows["train"])
    spread = torch.linspace(0, len(values) - 1, CONDITIONS, dtype=torch.float64)
    order = torch.randperm(CONDITIONS, generator=torch.Generator().manual_seed(0))
    examples = condition.encode(values[spread.round().long()[order]])
    return condition.model_copy(update={"examples": examples})


def _check_present(
    source: RawSource, rows: Mapping[str, SplitRows], settings: DataSettings
) -> None:
    """Refuse data in which a split has no condition."""
    is_named = settings.condition != "labels"
    for part in rows.values():
        values = part.split.c if is_named else _condition(part.split)
        if values is None:
            what = (
                f"column or array {shortened(settings.condition)}"
                if is_named
                else "labels"
            )
            raise TightboundError(
                f"{source.where} has no {what} to condition the model on: give (x, y), "
                "name columns of a table by data.condition or data.label, or train "
                "recipe vae"
            )


def _numeric_condition(source: RawSource, values: Tensor) -> Condition:
    """A condition on numbers (n, C), standardised."""
    if not are_far(*_moments(values.double())):
        values = values.float()
    mean, std = _moments(values)
    numbered = tuple(f"c{i + 1}" for i in range(values.shape[1]))
    return Condition(
        names=source.condition_names or numbered,
        mean=mean,
        std=std,
    )


def _moments(values: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column; 1 for that of a constant one."""
    std = values.std(0) if len(values) > 1 else torch.ones_like(values[0])
    is_constant = values.amin(0) == values.amax(0)
    std = torch.where((std > 0) & ~is_constant, std, torch.ones_like(std))
    return values.mean(0).tolist(), std.tolist()


def _class_condition(
    source: RawSource, rows: Mapping[str, SplitRows], names: tuple[str, ...] | None
) -> Condition:
    """A condition on the class, which every example must have."""
    ids = [_values(part) for part in rows.values()]
    if any(bool((y < 0).any()) for y in ids):
        raise TightboundError(
            f"{source.where} has examples without a label, which a conditional model "
            "needs: drop them, or train recipe vae, which needs no labels"
        )
    classes = max(int(y.max()) for y in ids) + 1
    return Condition(names=names or tuple(map(str, range(classes))))


def _condition(split: RawSplit) -> Tensor | None:
    if split.c is None:
        return split.y
    return split.c


def _values(rows: SplitRows) -> Tensor:
    """The conditions of the rows of a split."""
    values = _condition(rows.split)
    assert values is not None
    return rows.take(values)


def labels_of(
    source: RawSource, rows: Mapping[str, SplitRows]
) -> tuple[tuple[str, ...], float]:
    """Names of the classes, and the share of training examples that have a label.

    Raises:
        TightboundError: where no training example has a label, or the data stay on
            the disk.
    """
    train = rows["train"]
    if isinstance(train.split.x, OnDisk):
        raise TightboundError(
            f"a model with labels needs its data in memory, but {source.where} "
            "is not: raise data.memory"
        )
    y = train.split.y
    share = 0.0 if y is None else float((train.take(y) >= 0).double().mean())
    if y is None or not share:
        raise TightboundError(
            f"{source.where} has no labels to learn from: give (x, y) with -1 where y "
            "is unknown, name the column with data.label, or train recipe gm-vae, "
            "which needs none"
        )
    return source.label_names or tuple(map(str, range(int(y.max()) + 1))), share
