"""DataSpec: the description of the training data, saved with the run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tightbound.runtime.errors import TightboundError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Domain = Literal["binary", "levels", "categorical", "unit", "real", "count", "mixed"]
ColumnKind = Literal[
    "real",
    "binary",
    "categorical",
    "count",
    "positive",
    "zero-inflated",
    "zero-inflated-real",
]
# the name of a column in a DataFrame
ColumnLabel = str | int | float | tuple[int | float | str, ...]
Kind = Literal["vector", "signal", "image", "volume"]
Layout = Literal["vector", "l", "lc", "cl", "hw", "hwc", "chw", "dhw", "dhwc", "cdhw"]
KINDS: dict[Kind, tuple[Layout, ...]] = {
    "vector": ("vector",),
    "signal": ("l", "lc", "cl"),
    "image": ("hw", "hwc", "chw"),
    "volume": ("dhw", "dhwc", "cdhw"),
}


class Column(BaseModel):
    """One column of a table.

    Args:
        name: Name in the table.
        kind: Kind of its values. Times and time spans are real, in seconds. Positive columns
            are above 0 and skewed; zero-inflated ones have exact zeros beside such values,
            zero-inflated-real ones beside values of both signs.
        values: Values of a binary or categorical column, in the order of their codes 0, 1, ...
        type: The numpy or pandas type in the table, as "int64", "Int64", "str",
            "datetime64[us]", "category" or "ordered category".
        zone: Time zone of a column of times; "" for none.
        step: All values in training are multiples of it, as 1 for whole numbers and 86400
            for whole days; 0 for any number.
        constant: The number that all rows of the training data have, which comes out again; None
            where they differ.
        digits: Decimal places that all values in training have at most, as 2 for prices, to which
            draws are rounded; None for more than six, and for whole numbers.
        number: The name in the table where it is a number, as of a DataFrame without names.
        levels: The name in the table where it is a tuple, as of a MultiIndex.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind
    values: tuple[bool | int | float | str, ...] = ()
    type: str = "float64"
    zone: str = ""
    step: float = 0.0
    constant: float | None = Field(None, repr=False)
    digits: int | None = Field(None, repr=False)
    number: int | float | None = None
    levels: tuple[int | float | str, ...] = Field((), repr=False)

    @property
    def is_time(self) -> bool:
        """True for times (datetime64) and time spans (timedelta64)."""
        return self.type.startswith(("datetime64", "timedelta64"))

    @property
    def is_whole(self) -> bool:
        """True where the values are whole numbers, times and categories aside."""
        if self.values or self.is_time:
            return False
        is_integer = self.type.lower().startswith(("int", "uint"))
        return is_integer or self.step == 1 or self.kind == "count"

    @property
    def label(self) -> ColumnLabel:
        """The name as it stands in the table."""
        if self.levels:
            return self.levels
        return self.name if self.number is None else self.number

    @property
    def width(self) -> int:
        """Number of dimensions in model units: that of its values if categorical, else 1."""
        if self.kind == "categorical":
            return len(self.values)
        return 1

    def to_model(self, raw: Tensor) -> Tensor:
        """Convert numbers or codes (n,) to model units (n, width); NaN stays NaN."""
        from torch.nn.functional import one_hot

        if self.kind != "categorical":
            return raw.unsqueeze(1).float()
        hot = one_hot(raw.nan_to_num().long(), self.width).float()
        return hot.masked_fill(~raw.isfinite().unsqueeze(1), math.nan)

    def to_raw(self, x: Tensor) -> Tensor:
        """Convert model units (n, width) to numbers or codes (n,); NaN stays NaN.

        A categorical column gets the code of its largest value.
        """
        if self.kind == "categorical":
            return x.argmax(1) + 0 * x[:, 0]
        return x[:, 0]


# float32 has 24 binary digits; a mean of this many spreads leaves at least 12 of them
FAR = 2.0**12
CONDITIONS = 256  # rows of training conditions that are kept with a model


def are_far(mean: Iterable[float], std: Iterable[float]) -> bool:
    """True where float32 loses digits of numbers with these means and spreads.

    Args:
        mean: The mean of each column.
        std: The standard deviation of each column.
    """
    return any(abs(m) > FAR * s for m, s in zip(mean, std, strict=True))


class Condition(BaseModel):
    """The condition c (n, width): classes one-hot, or standardised numbers.

    Args:
        names: Names of the classes, or of the numbers. mean, std: Training mean and standard
        deviation of each number; empty for classes. examples: c of CONDITIONS training rows, a
        sample of its distribution; kept with the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    examples: Any = Field(default=None, exclude=True, repr=False)

    @property
    def width(self) -> int:
        """Number of features of c."""
        return len(self.names)

    @property
    def is_far(self) -> bool:
        """True for numbers far from 0 against their spread, as seconds since 1970."""
        return are_far(self.mean, self.std)

    def encode(self, rows: Tensor) -> Tensor:
        """Convert class numbers (n,) or raw numbers (n, width) to c, float32.

        Numbers far from 0 are standardised in float64, which keeps them apart.
        """
        import torch

        if not self.mean:
            return torch.eye(self.width, device=rows.device)[rows.long()]
        dtype = torch.float64 if self.is_far else torch.float32
        mean = torch.tensor(self.mean, device=rows.device, dtype=dtype)
        std = torch.tensor(self.std, device=rows.device, dtype=dtype)
        return ((rows.to(dtype) - mean) / std).float()

    def read(self, value: Any, n: int) -> Tensor:
        """Convert a condition that a user gives to c (n, width).

        Args:
            value: One condition for all n rows, or one for each. A class by name or number; numbers
            as
                a vector, or as text with commas.
            n: Number of rows.

        Raises:
            TightboundError: For an unknown class, and a wrong number of conditions.
        """
        import torch

        if self.mean:
            c = self.encode(torch.from_numpy(self._numbers(value)))
        else:
            several = hasattr(value, "__len__") and not isinstance(value, str)
            classes = value if several else [value]
            c = self.encode(torch.tensor([self._class(v) for v in classes]))
        if len(c) not in (1, n):
            raise TightboundError(
                f"{len(c)} conditions were given for {n} examples: give one, or one for each"
            )
        return c.expand(n, -1)

    def _class(self, value: Any) -> int:
        if hasattr(value, "item"):  # a scalar of numpy or torch
            value = value.item()
        plain = str(value).strip()
        if plain not in self.names:
            raise TightboundError(
                f"there is no class {plain!r} for a condition: {nearest(plain, self.names)}"
            )
        return self.names.index(plain)

    def _numbers(self, value: Any) -> Any:
        import numpy as np

        numbers = value.split(",") if isinstance(value, str) else value
        try:
            rows = np.array(numbers, dtype=np.float64).reshape(-1, self.width)
            if (np.abs(rows) <= np.finfo(np.float32).max).all():
                return rows
        except (TypeError, ValueError):
            pass
        raise TightboundError(
            f"a condition of this model is {self.width} finite numbers "
            f"({', '.join(self.names)}), and {value!r} is not"
        )


class DataSpec(BaseModel):
    """Description of a data set: shape, domain, units, mean and spread.

    Two kinds of units are in use. *Raw* units are those of the user (grey levels 0..16, bytes,
    metres), in the user's `layout`. *Model* units are those of likelihoods: channels first,
    float32, and equal to raw units with three exceptions. In domain `unit`, integer levels 0..L-1
    are read as real numbers x / (L-1) in [0, 1]. In domain `mixed`, raw rows have a number or code
    for each of `fields`, the columns of a table, and a categorical column becomes one-hot. Real
    numbers far from 0 against their spread, as seconds since 1970, are read less `offset`, which
    is subtracted in float64.

    Args:
        shape: Shape of one example in model units: (D,), or channels first, (C, L), (C, H, W) or
            (C, D, H, W).
        domain: Kind of the values.
        levels: L for integers 0..L-1, else None.
        layout: Order of the axes of raw examples.
        divisor: Raw units divided by it are model units.
        rows: Number of training examples; None for a stream of unknown length.
        fields: Columns of a table with names, whatever its domain.
        offset: Of each column of a table or vector, or channel of other data: a number that raw
            values are read less, 0 where float32 holds their digits; empty where all are 0.
        condition: Condition of each example, of data for a conditional model.
        missing: Whether NaN marks values that were not observed.
        labels: Names of the classes that a model learns from.
        labelled: Share of training examples that have a label.
        mean, std: Of each dimension in model units; saved with the weights of the model.

    Example:
        >>> import torch, tightbound as tb
        >>> spec = tb.DataSpec(shape=(1, 8, 8), domain="levels", levels=17, layout="hw")
        >>> x = spec.to_model(torch.full((2, 8, 8), 16))
        >>> x.shape, float(spec.as_domain("unit").to_model(torch.full((2, 8, 8), 16)).max())
        (torch.Size([2, 1, 8, 8]), 1.0)
        >>> spec.to_raw(x).shape
        torch.Size([2, 8, 8])
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    shape: tuple[Annotated[int, Field(ge=1, le=2**31)], ...] = Field(min_length=1)
    domain: Domain
    levels: int | None = None
    layout: Layout = "vector"
    divisor: float = 1.0
    rows: int | None = None
    fields: tuple[Column, ...] = ()
    offset: tuple[float, ...] = ()
    condition: Condition | None = None
    missing: bool = False
    labels: tuple[str, ...] | None = None
    labelled: float = 1.0
    mean: Any = Field(default=None, exclude=True, repr=False)
    std: Any = Field(default=None, exclude=True, repr=False)

    @property
    def dims(self) -> int:
        """Number of dimensions D of one example."""
        return math.prod(self.shape)

    @property
    def kind(self) -> Kind:
        """vector, signal, image or volume, by the number of axes beside the channels."""
        return tuple(KINDS)[len(self.shape) - 1]

    @property
    def is_image(self) -> bool:
        """True for (C, H, W)."""
        return self.kind == "image"

    @property
    def discrete(self) -> bool:
        """True where p(x) is a mass function, so that bits per dimension are defined."""
        return self.domain in ("binary", "levels", "categorical", "count")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value of the domain, in model units."""
        if self.domain in ("real", "mixed"):
            return -math.inf, math.inf
        if self.domain == "count":
            return 0.0, math.inf
        if self.domain in ("binary", "unit"):
            return 0.0, 1.0
        return 0.0, float((self.levels or 2) - 1)

    @property
    def reach(self) -> float:
        """Range in model units: that of the domain, or six spreads if unbounded."""
        low, high = self.bounds
        if math.isfinite(high - low):
            return high - low
        return 6 * float(self.spread.mean())

    @property
    def centre(self) -> Tensor:
        """Training mean in model units, *shape; zeros where not yet known."""
        import torch

        if self.mean is None:
            return torch.zeros(self.shape)
        return torch.as_tensor(self.mean).float().reshape(self.shape).clone()

    @property
    def spread(self) -> Tensor:
        """Scale of a network's input and output, *shape.

        One value for each column of a vector or channel of a signal or volume, one for all pixels
        of an image. A constant column has scale 1.
        """
        import torch

        if self.std is None:
            return torch.ones(self.shape)
        std = torch.as_tensor(self.std).float().reshape(self.shape)
        if self.kind != "vector":
            first = 0 if self.is_image else 1
            axes = tuple(range(first, std.dim()))
            std = std.square().mean(axes, keepdim=True).sqrt().expand(self.shape)
        return torch.where(std > 0, std, torch.ones_like(std)).clone()

    @property
    def places(self) -> list[slice]:
        """Dimensions of each of `fields`."""
        ends = list(itertools.accumulate((f.width for f in self.fields), initial=0))
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    @property
    def one_sided(self) -> dict[int, bool]:
        """Dimensions of columns that are not negative, and whether such a column has zeros."""
        kinds = {"positive": False, "zero-inflated": True}
        return {
            place.start: kinds[column.kind]
            for column, place in zip(self.fields, self.places, strict=True)
            if column.kind in kinds
        }

    @property
    def is_mixed(self) -> bool:
        """True for a table whose columns are of several kinds."""
        return self.domain == "mixed"

    @property
    def is_table(self) -> bool:
        """True for a table with named columns."""
        return bool(self.fields)

    def to_model(self, raw: Tensor) -> Tensor:
        """Convert raw units to model units.

        Args:
            raw: Rows (n, ...) in `layout`; of mixed columns numbers and codes (n, columns).

        Returns:
            float32 (n, *shape).
        """
        if self.is_mixed:
            import torch

            raw = self._shifted(raw, -1)
            pairs = zip(self.fields, raw.unbind(1), strict=True)
            return torch.cat([column.to_model(values) for column, values in pairs], 1)
        x = self._shifted(self.channels_first(raw), -1).float()
        if self.divisor != 1.0:
            x = x / self.divisor
        return x

    def channels_first(self, raw: Tensor) -> Tensor:
        """Move the channels of raw rows before their other axes.

        Args:
            raw: Rows (n, ...) in `layout`, not of a table.

        Returns:
            (n, *shape), in raw units and of the same dtype.
        """
        x = raw
        if "c" not in self.layout:
            x = x.unsqueeze(1)
        elif self.layout.endswith("c"):
            x = x.movedim(-1, 1)
        return x.reshape(len(x), *self.shape)

    def to_raw(self, x: Tensor) -> Tensor:
        """Convert model units to raw units, without rounding.

        Args:
            x: (n, *shape).

        Returns:
            Rows (n, ...) in `layout`, of the dtype of x; float64 where there is an `offset`.
        """
        if not self.is_mixed:
            return self.spread_to_raw(self._shifted(x, 1))
        import torch

        pairs = zip(self.fields, self.places, strict=True)
        raw = torch.stack([column.to_raw(x[:, at]) for column, at in pairs], 1)
        return self._shifted(raw, 1)

    def spread_to_raw(self, x: Tensor) -> Tensor:
        """Convert differences such as standard deviations to raw units, without `offset`.

        Args:
            x: (n, *shape), not of a table of mixed columns.

        Returns:
            (n, ...) in `layout`.
        """
        if self.divisor != 1.0:
            x = x * self.divisor
        if "c" not in self.layout:
            return x.squeeze(1)
        if self.layout.endswith("c"):
            return x.movedim(1, -1)
        return x

    def _shifted(self, x: Tensor, sign: int) -> Tensor:
        """x (n, columns or channels, ...) with `offset` added or subtracted in float64."""
        if not self.offset:
            return x
        import torch

        offset = torch.tensor(self.offset, dtype=torch.float64, device=x.device)
        return x.double() + sign * offset.reshape(-1, *[1] * (x.dim() - 2))

    def as_domain(self, domain: Domain) -> DataSpec:
        """The same data read in another domain.

        Args:
            domain: The domain; integer levels can be read as "unit", for example.

        Returns:
            A spec with mean and std in the units of that domain.
        """
        if domain == self.domain:
            return self
        divisor = 1.0
        if domain == "unit" and self.discrete:
            divisor = float((self.levels or 2) - 1)
        update: dict[str, object] = {"domain": domain, "divisor": divisor, "offset": ()}
        if domain not in ("levels", "categorical", "unit"):
            update["levels"] = None
        factor = self.divisor / divisor
        if self.mean is not None:
            update["mean"] = self.mean * factor
        if self.std is not None:
            update["std"] = self.std * factor
        return self.model_copy(update=update)
