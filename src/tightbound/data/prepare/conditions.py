"""What a conditional model is told of each example: the labels of its data, or numbers that stand
beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.core.data_spec import CONDITIONS, Condition
from tightbound.data.on_disk import OnDisk
from tightbound.data.prepare.partition import Rows
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source
from tightbound.runtime.errors import TightboundError


def condition_of(
    found: Source, rows: dict[str, Rows], settings: DataSettings
) -> Condition:
    """The condition that `data.condition` names, with its statistics on the training rows.

    Raises TightboundError where the data have none, some rows lack it, or they do not fit into
    memory.
    """
    part = rows["train"].part
    if isinstance(part.x, OnDisk):
        raise TightboundError(
            f"a conditional model needs its data in memory, and {found.where} "
            "stays on the disk: raise data.memory"
        )
    named = settings.condition != "labels"
    if any(r.part.c is None if named else _told(r.part) is None for r in rows.values()):
        raise TightboundError(
            f"{found.where} has no "
            f"{f'column or array {settings.condition!r}' if named else 'labels'} "
            "that a "
            "conditional model could be told: give (x, y), name columns of a "
            "CSV file by data.condition or data.label, "
            "or train recipe vae"
        )
    values = _rows(rows["train"])
    if part.c is not None:
        std = values.std(0) if len(values) > 1 else torch.ones_like(values[0])
        names = found.condition_names or tuple(
            f"c{i + 1}" for i in range(values.shape[1])
        )
        told = Condition(
            names=names,
            mean=values.mean(0).tolist(),
            std=torch.where(std > 0, std, torch.ones_like(std)).tolist(),
        )
    else:
        if any(bool((_rows(own) < 0).any()) for own in rows.values()):
            raise TightboundError(
                f"{found.where} has examples without a label, which a "
                "conditional model cannot be told: drop "
                "them, or train recipe vae, which needs no labels"
            )
        top = max(int(_rows(own).max()) for own in rows.values()) + 1
        told = Condition(names=found.label_names or tuple(map(str, range(top))))
    some = (
        torch.linspace(0, len(values) - 1, CONDITIONS, dtype=torch.float64)
        .round()
        .long()
    )
    some = some[torch.randperm(CONDITIONS, generator=torch.Generator().manual_seed(0))]
    return told.model_copy(update={"examples": told.encode(values[some])})


def _told(part: Part) -> Tensor | None:
    return part.y if part.c is None else part.c


def _rows(rows: Rows) -> Tensor:
    return _own(rows, _told(rows.part))


def _own(rows: Rows, values: Tensor | None) -> Tensor:
    """Those of a part's values that are of its rows."""
    assert values is not None
    return values if rows.index is None else values[rows.index[torch.arange(len(rows))]]


def labels_of(found: Source, rows: dict[str, Rows]) -> tuple[tuple[str, ...], float]:
    """Names of the classes that a model learns from, and the share of training examples that have a
    label, above 0.
    """
    part = rows["train"].part
    if isinstance(part.x, OnDisk):
        raise TightboundError(
            f"a model with labels needs its data in memory, but {found.where} "
            "is not: raise data.memory"
        )
    known = (
        0.0
        if part.y is None
        else float((_own(rows["train"], part.y) >= 0).double().mean())
    )
    if part.y is None or not known:
        raise TightboundError(
            f"{found.where} has no labels to learn from: give (x, y) with -1 "
            "where y is unknown, name the column with "
            "data.label, or train recipe gm-vae, which needs none"
        )
    return found.label_names or tuple(map(str, range(int(part.y.max()) + 1))), known
