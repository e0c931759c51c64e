"""Examples in raw units as integers that are coded, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

from tightbound.compression.masses import Steps
from tightbound.core.data_spec import Column, DataSpec
from tightbound.runtime.errors import TightboundError, cut, finite_number, nearest

FARTHEST = 2.0**52
REAL = ("real", "positive", "zero-inflated", "zero-inflated-real")  # kinds of columns


@dataclass(frozen=True)
class Decoded:
    """Examples as they came out of a file.

    Attributes:
        x: Raw rows (n, ...) with the values, layout and dtype that went in.
        c: Conditions of a conditional model, class numbers (n,) or numbers (n, C).
    """

    x: Tensor
    c: Tensor | None = None


@dataclass(frozen=True)
class Values:
    """The conversions of a model's data.

    Args:
        spec: The spec of the model.
        steps: Stated precision of the real numbers of each column, or one for data without
            columns; 0 where none is stated.
    """

    spec: DataSpec
    steps: tuple[float, ...]

    @classmethod
    def of(cls, spec: DataSpec, precision: Mapping[str, float]) -> Values:
        """The conversions of a spec; `precision` by column is used where training saw no step.

        Raises:
            TightboundError: For an unknown column, and a precision that is not positive.
        """
        names = {column.name for column in spec.fields if column.kind in REAL}
        for name, step in precision.items():
            if name not in names:
                raise TightboundError(
                    f"there is no column {name!r} of real numbers for a precision: "
                    f"{nearest(name, names) if names else 'the data have none'}"
                )
            if finite_number(f"precision of {name!r}", step, 0) == 0:
                raise TightboundError(
                    f"precision of {name!r} = 0 cannot be used: give a number above 0"
                )
        if spec.fields:
            steps = tuple(
                float(precision.get(column.name, column.step)) for column in spec.fields
            )
        elif spec.domain == "unit" and spec.divisor != 1.0:
            steps = (1.0,)
        else:
            steps = (0.0,)
        return cls(spec, steps)

    @property
    def are_numbers(self) -> bool:
        """Whether values in model units are the integers that are coded."""
        spec = self.spec
        return not spec.fields and spec.divisor == 1.0 and not spec.offset

    def to_model(self, numbers: Tensor) -> Tensor:
        """Integers (n, *shape) in model units, float64."""
        if self.are_numbers:
            return numbers.double()
        raw = self.to_raw(numbers, torch.float64)
        return self.spec.to_model(raw).double()

    def unstated(self) -> list[str]:
        """Columns of real numbers whose precision is not stated."""
        pairs = zip(self.spec.fields, self.steps, strict=False)
        return [c.name for c, step in pairs if c.kind in REAL and not step]

    def model_steps(self) -> Steps:
        """The stated precision in model units, by dimension."""
        spec = self.spec
        step = torch.full(spec.shape, math.nan, dtype=torch.float64)
        start = torch.zeros(spec.shape, dtype=torch.float64)
        if not spec.fields:
            if self.steps[0]:
                step[:] = self.steps[0] / spec.divisor
            return Steps(step, start)
        for i, (width, place) in enumerate(zip(self.steps, spec.places, strict=True)):
            if width:
                step[place] = width / spec.divisor
            if spec.offset:
                start[place] = -spec.offset[i] / spec.divisor
        return Steps(step, start)

    def to_numbers(self, raw: Tensor) -> Tensor:
        """Integers (n, *shape) of raw rows.

        Raises:
            TightboundError: For a real number that is not a multiple of its precision, or more
                than 2**52 of them.
        """
        spec = self.spec
        if spec.fields:
            columns = [
                self._column(i, column, raw[:, i])
                for i, column in enumerate(spec.fields)
            ]
            return torch.cat(columns, 1)
        if self.are_numbers and not raw.is_floating_point():
            return spec.channels_first(raw).long()
        levels = spec.to_model(raw).double() * spec.divisor
        return levels.nan_to_num().round().long()

    def _column(self, i: int, column: Column, raw: Tensor) -> Tensor:
        """Integers (n, width) of one column."""
        if column.kind == "categorical":
            return column.to_model(raw).nan_to_num().long()
        if column.kind not in REAL:
            return raw.double().nan_to_num().round().long().unsqueeze(1)
        steps = raw.double() / self.steps[i]
        far = steps.abs() > FARTHEST
        if bool(far.any()):
            row = int(far.nonzero()[0])
            raise TightboundError(
                f"column {cut(column.name)}: {raw[row].item()!r} is more than 2**52 steps of "
                f"{self.steps[i]:g} from 0, which float64 cannot tell apart: state a coarser "
                "precision, --precision NAME=STEP"
            )
        numbers = steps.nan_to_num().round().long()
        wrong = _multiples(numbers, self.steps[i]) != raw.double()
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise TightboundError(
                f"column {cut(column.name)}: {raw[row].item()!r} is not a multiple of "
                f"{self.steps[i]:g}, the precision that is stated: state a finer one, "
                f"--precision NAME=STEP"
            )
        return numbers.unsqueeze(1)

    def to_raw(self, numbers: Tensor, dtype: torch.dtype) -> Tensor:
        """Raw rows of integers (n, *shape)."""
        spec = self.spec
        if self.are_numbers:
            return spec.to_raw(numbers).to(dtype)
        if not spec.fields:
            return spec.to_raw(numbers.double() / spec.divisor).round().to(dtype)
        columns = []
        pairs = zip(spec.fields, spec.places, strict=True)
        for i, (column, place) in enumerate(pairs):
            part = numbers[:, place]
            if column.kind == "categorical":
                columns.append(part.argmax(1).double())
            elif column.kind in REAL:
                columns.append(_multiples(part[:, 0], self.steps[i]))
            else:
                columns.append(part[:, 0].double())
        return torch.stack(columns, 1).to(dtype)


def _multiples(numbers: Tensor, step: float) -> Tensor:
    """number * step as decimals are written: 3 steps of 0.1 are 0.3."""
    if step == round(step):
        return numbers.double() * step
    ratio = Decimal(repr(step))
    inverse = 1 / ratio
    if inverse == inverse.to_integral_value():
        return numbers.double() / float(inverse)
    values = [float(int(number) * ratio) for number in numbers.flatten().tolist()]
    return torch.from_numpy(np.asarray(values)).reshape(numbers.shape)
