"""DataSettings: every key of `[data]` in a config and of `--set data.KEY=VALUE`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

Pixels = Annotated[int, Field(ge=1, le=8192)]


class DataSettings(BaseModel):
    """How a source is read; what is "auto" is resolved on the training data and saved with the run.

    size, channels: of image files, pixels; "auto" keeps equal sizes up to 64 and otherwise crops to 64 x 64.
    layout, domain, levels: how an array is read where the automatic rule (`domain.py`) is not what is meant.
    binarize: "static" draws every split once, "dynamic" the training rows at each visit; P(1) = level / (L - 1).
    augment: "flip" (left-right), "shift" (up to `shift` pixels, edges repeated); training rows only.
    limit: the first n training rows, after splitting.  valid, test: fractions, where the source has no such split.
    split_seed: of the random splits; None follows the seed of the run.  skip_bad: leave out unreadable image files.
    header, label: of a CSV file: whether line 1 names the columns, and the column (name or number) that holds labels.
    factors: of `shapes`: how many values of each factor; shapes_n: how many images, drawn by the split seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Literal["auto"] | Pixels | tuple[Pixels, Pixels] = "auto"
    channels: Literal["auto", 1, 3] = "auto"
    layout: Literal["auto", "vector", "hw", "hwc", "chw"] = "auto"
    domain: Literal["auto", "binary", "levels", "categorical", "unit", "real"] = "auto"
    levels: Annotated[int, Field(ge=2, le=65536)] | None = None
    binarize: Literal["none", "static", "dynamic"] = "none"
    augment: tuple[Literal["flip", "shift"], ...] = ()
    shift: PositiveInt = 2
    limit: PositiveInt | None = None
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = 0
    skip_bad: bool = False
    header: Literal["auto"] | bool = "auto"
    label: str | int | None = None
    factors: dict[Literal["shape", "scale", "orientation", "x", "y"], PositiveInt] | None = None
    shapes_n: PositiveInt | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        """Reads "64" and "28x20" (height x width) as numbers."""
        if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*(?:[x,]\s*(\d+))?\s*", value)):
            height, width = found.groups()
            return (int(height), int(width)) if width else int(height)
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _augment(cls, value: Any) -> Any:
        """Reads "flip" and "flip,shift" as a tuple."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fractions(self) -> DataSettings:
        if self.valid + self.test >= 1:
            raise ValueError("data.valid + data.test must be below 1: nothing would be left to train on")
        return self
