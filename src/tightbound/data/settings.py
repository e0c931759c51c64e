"""DataSettings: every key of `[data]` in a config and of `--set data.KEY=VALUE`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from tightbound.core.data_spec import ColumnKind
from tightbound.runtime.memory import MEGABYTE

Pixels = Annotated[int, Field(ge=1, le=8192)]


class DataSettings(BaseModel):
    """The settings of a data source.

    A setting that is "auto" is resolved on the training data and saved with the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(
        "",
        description="the data: a built-in name or a path; empty for arrays given in Python",
    )
    size: Literal["auto"] | Pixels | tuple[Pixels, Pixels] = Field(
        "auto",
        description=(
            "pixels a side of image files; auto keeps equal sizes up to 64, else "
            "crops to 64 x 64"
        ),
    )
    channels: Literal["auto", 1, 3] = Field(
        "auto", description="of image files: grey (1) or colour (3)"
    )
    bits: Literal[8, 16] = Field(
        8,
        description=(
            "of 16-bit image files: 8 scales their grey values to 0..255, 16 keeps them"
        ),
    )
    white_level: Literal["auto"] | Annotated[int, Field(ge=1, le=65535)] = Field(
        "auto",
        description=(
            "grey value of 16-bit image files that becomes 255; auto: the highest of "
            "the training images"
        ),
    )
    kind: Literal["auto", "vector", "signal", "image", "volume"] = Field(
        "auto",
        description="the kind of an array's examples, where its shape is ambiguous",
    )
    layout: Literal[
        "auto", "vector", "l", "lc", "cl", "hw", "hwc", "chw", "dhw", "dhwc", "cdhw"
    ] = Field(
        "auto",
        description=(
            "the axes of an array's examples: c: channels, l: length, d, h, w: "
            "depth, height, width"
        ),
    )
    domain: Literal[
        "auto", "binary", "levels", "categorical", "unit", "real", "count"
    ] = Field(
        "auto",
        description=(
            "the values: levels: integers from 0, unit: reals in [0, 1], "
            "count: without an upper end"
        ),
    )
    levels: Annotated[int, Field(ge=2, le=65536)] | None = Field(
        None, description="number of levels of integers"
    )
    binarize: Literal["none", "static", "dynamic"] = Field(
        "none",
        description="draw 0 or 1 with P(1) = level / (L - 1): once, or training rows at each visit",
    )
    augment: tuple[Literal["flip", "shift"], ...] = Field(
        (), description="move training images: left-right, a few pixels"
    )
    shift: PositiveInt = Field(
        2, description="most pixels of the augmentation shift; edges are repeated"
    )
    limit: PositiveInt | None = Field(
        None, description="use only the first n training rows, after splitting"
    )
    valid: PositiveFloat = Field(
        0.1,
        description=(
            "the validation split, where none is published: a share (at most 50,000 "
            "rows), or from 1 on a number of rows"
        ),
    )
    test: PositiveFloat = Field(0.1, description="the test split, in the same way")
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        0, description="seed of the random splits"
    )
    duplicates: Literal["keep", "together", "drop"] = Field(
        "keep",
        description=(
            "equal rows in several splits: keep only counts them, together keeps them "
            "in one of the random splits, drop leaves them out of training; together "
            "also drops those of published splits"
        ),
    )
    skip_bad: bool = Field(
        False, description="leave out image files that cannot be read"
    )
    header: Literal["auto"] | bool = Field(
        "auto", description="whether line 1 of a CSV file names the columns"
    )
    encoding: str = Field(
        "utf-8", description="the encoding of a CSV file, as latin-1 or utf-16"
    )
    decimal: Literal["auto", "point", "comma"] = Field(
        "auto", description="the decimal sign of a CSV file, where it is not clear"
    )
    dates: Literal["auto", "day-first", "month-first"] = Field(
        "auto", description="the order in dates such as 01/02/2020 of a CSV file"
    )
    label: str | int | None = Field(
        None,
        description=(
            "the column of a table that holds labels, by name or number; none: no column; "
            "by default one called label, class, y or target whose values are classes"
        ),
    )
    label_required: bool = Field(
        True,
        description=(
            "refuse a table without the column of data.label; false for the data that a "
            "trained model reads later, set by the reader"
        ),
    )
    condition: str | tuple[str, ...] | None = Field(
        None,
        description=(
            "the condition of a conditional model: labels, columns of a CSV file, or an "
            "array of an .npz"
        ),
    )
    use_labels: bool = Field(
        False,
        description="examples come with their labels, -1 where unknown; set by recipes",
    )
    allow_missing: bool = Field(
        False,
        description="NaN, or an empty cell of a CSV file, is a missing value; set by recipes",
    )
    factors: (
        dict[Literal["shape", "scale", "orientation", "x", "y"], PositiveInt] | None
    ) = Field(None, description="of shapes: number of values of each factor")
    fields: dict[str, ColumnKind | Literal["skip"]] = Field(
        {},
        description=(
            "of a table: the kind of a column by its name, where the inferred one is wrong"
        ),
    )
    key: str | None = Field(
        None,
        description="the array of an .npz, .h5 or .zarr, or the column of a .parquet or hf:",
    )
    memory: PositiveInt = Field(
        1024,
        description="MB up to which a source is held in memory; larger ones stay on disk",
    )
    shuffle_buffer: Literal["auto"] | PositiveInt = Field(
        "auto",
        description=(
            "rows of a source on disk that are shuffled at a time; auto: as many as "
            "fit 256 MB, 8,192 of a stream"
        ),
    )
    streaming: bool = Field(
        False,
        description="of hf:NAME: read examples one by one, download nothing in advance",
    )
    shapes_n: PositiveInt | None = Field(
        None, description="of shapes: number of images, drawn by the split seed"
    )

    @property
    def pixels(self) -> tuple[int, int] | None:
        """The (height, width) that `size` fixes, or None."""
        if isinstance(self.size, int):
            return self.size, self.size
        if self.size == "auto":
            return None
        return self.size

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return self.memory * MEGABYTE

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        """Read "64" and "28x20" (height x width) as numbers."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*(?:[x,]\s*(\d+))?\s*", value)
        if match is None:
            return value
        height, width = match.groups()
        if width:
            return (int(height), int(width))
        return int(height)

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str) -> str:
        """Refuse a name that is no encoding of text."""
        try:
            "".encode(value)
        except (LookupError, ValueError):
            raise ValueError(
                f"{value!r} is no encoding of text: use utf-8, latin-1, cp1252 or utf-16"
            ) from None
        return value

    @field_validator("label", mode="before")
    @classmethod
    def _label(cls, value: object) -> object:
        """Read "", False and -1 as "none"."""
        if value is False or value in ("", -1, "-1"):
            return "none"
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _augment(cls, value: object) -> object:
        """Read "flip" and "flip,shift" as a tuple."""
        if isinstance(value, str):
            return _names(value)
        return value

    @field_validator("condition", mode="before")
    @classmethod
    def _condition(cls, value: object) -> object:
        """Read "age,sex" as two names."""
        if isinstance(value, str) and "," in value:
            return _names(value)
        return value

    @model_validator(mode="after")
    def _fractions(self) -> DataSettings:
        if sum(share for share in (self.valid, self.test) if share < 1) >= 1:
            raise ValueError(
                "data.valid + data.test must be below 1: nothing would be left to train on"
            )
        for name in ("valid", "test"):
            if getattr(self, name) > 1 and getattr(self, name) % 1:
                raise ValueError(
                    f"data.{name} is a share below 1, or a whole number of rows"
                )
        return self


def _names(text: str) -> tuple[str, ...]:
    """The names in a text, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
