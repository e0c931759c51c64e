"""New data for a trained model: any x, in raw units, as examples in model units."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tightbound import data as data_room
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data import Split
from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError


def read_split(x: object, spec: DataSpec, settings: DataSettings) -> Split:
    """Anything that a user may pass as x, as a Split of the spec of a model."""
    names_a_row = isinstance(x, str) and ":" in x and not Path(x).exists()
    reader = data_room.read_one if names_a_row else data_room.read
    return reader(x, spec, settings)


def read_condition(condition: object, spec: DataSpec, n: int) -> Tensor:
    """The condition of n rows as c (n, C).

    Args:
        condition: A class by name or number, or a vector of numbers; one for all rows or
            one for each.
        spec: The spec of the model.
        n: Number of rows.

    Raises:
        TightboundError: The model is not conditional, or has no such condition.
    """
    if spec.condition is None:
        raise TightboundError(
            "this run is not conditional, so it takes no condition: "
            "train --recipe conditional"
        )
    return spec.condition.read(condition, n)


def read_batch(
    x: object, spec: DataSpec, settings: DataSettings, condition: object = None
) -> Batch:
    """Any x as a Batch in model units, with its condition and labels.

    `condition` replaces the conditions that stand beside x in its source.
    """
    return batch_of(read_split(x, spec, settings), condition)


def batch_of(split: Split, condition: object = None) -> Batch:
    """All rows of a split as a Batch in model units; as `read_batch`."""
    rows = torch.arange(len(split))
    if condition is None:
        return split.examples(rows)
    c = read_condition(condition, split.spec, len(split))
    return Batch(split.batch(rows), c)
