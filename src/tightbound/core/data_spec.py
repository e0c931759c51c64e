"""DataSpec: all that a model needs to know of its data, resolved once on the training data and
saved with the run.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tightbound.runtime.errors import TightboundError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Domain = Literal["binary", "levels", "categorical", "unit", "real", "count", "mixed"]
ColumnKind = Literal["real", "binary", "categorical", "count"]
Kind = Literal["vector", "signal", "image", "volume"]
Layout = Literal["vector", "l", "lc", "cl", "hw", "hwc", "chw", "dhw", "dhwc", "cdhw"]
KINDS: dict[Kind, tuple[Layout, ...]] = {
    "vector": ("vector",),
    "signal": ("l", "lc", "cl"),
    "image": ("hw", "hwc", "chw"),
    "volume": ("dhw", "dhwc", "cdhw"),
}


class Column(BaseModel):
    """One column of a table of mixed columns.

    kind: what its values are.  values: of a binary or categorical column, in the order of their
    codes 0, 1, ... type: the numpy type that it had, as "int64", "bool" or "str".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind
    values: tuple[bool | int | float | str, ...] = ()
    type: str = "float64"

    @property
    def width(self) -> int:
        """Dimensions in model units: one for each value of a categorical column, else one."""
        return len(self.values) if self.kind == "categorical" else 1

    def to_model(self, raw: Tensor) -> Tensor:
        """Numbers or codes (n,) as (n, width); what is NaN stays so."""
        from torch.nn.functional import one_hot

        if self.kind != "categorical":
            return raw.unsqueeze(1).float()
        hot = one_hot(raw.nan_to_num().long(), self.width).float()
        return hot.masked_fill(~raw.isfinite().unsqueeze(1), math.nan)

    def to_raw(self, x: Tensor) -> Tensor:
        """(n, width) as numbers or codes (n,), of a categorical column the largest value's; what is
        NaN stays so.
        """
        return x.argmax(1) + 0 * x[:, 0] if self.kind == "categorical" else x[:, 0]


CONDITIONS = 256  # rows of training conditions that are kept with a model


class Condition(BaseModel):
    """What a conditional model is told of each example as c (n, width): classes one-hot, or
    standardised numbers.

    names: of the classes, or of the numbers.  mean, std: of each number in training; empty for
    classes.  examples: c of CONDITIONS training rows, which stand for its distribution; kept with
    the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    examples: Any = Field(default=None, exclude=True, repr=False)

    @property
    def width(self) -> int:
        """How many numbers c has."""
        return len(self.names)

    def encode(self, rows: Tensor) -> Tensor:
        """Class numbers (n,), or numbers in the user's units (n, width), as c, float32 (n,
        width).
        """
        import torch

        if not self.mean:
            return torch.eye(self.width, device=rows.device)[rows.long()]
        mean, std = (
            torch.tensor(values, device=rows.device) for values in (self.mean, self.std)
        )
        return (rows.float() - mean) / std

    def read(self, value: Any, n: int) -> Tensor:
        """What a user names, one condition for all n rows or one for each, as c (n, width).

        A class by name or number; numbers as a vector, or as text with commas.  TightboundError for
        anything else.
        """
        import torch

        if self.mean:
            c = self.encode(torch.from_numpy(self._numbers(value)))
        else:
            several = hasattr(value, "__len__") and not isinstance(value, str)
            c = self.encode(
                torch.tensor([self._class(v) for v in (value if several else [value])])
            )
        if len(c) not in (1, n):
            raise TightboundError(
                f"{len(c)} conditions were given for {n} examples: give one, or one for each"
            )
        return c.expand(n, -1)

    def _class(self, value: Any) -> int:
        plain = str(value.item() if hasattr(value, "item") else value).strip()
        if plain not in self.names:
            raise TightboundError(
                f"there is no class {plain!r} for a condition: {nearest(plain, self.names)}"
            )
        return self.names.index(plain)

    def _numbers(self, value: Any) -> Any:
        import numpy as np

        try:
            rows = np.array(
                value.split(",") if isinstance(value, str) else value, dtype=np.float32
            )
            rows = rows.reshape(-1, self.width)
            if np.isfinite(rows).all():
                return rows
        except (TypeError, ValueError):
            pass
        raise TightboundError(
            f"a condition of this model is {self.width} finite numbers "
            f"({', '.join(self.names)}), and {value!r} is not"
        )


class DataSpec(BaseModel):
    """What the data are: shape, domain, and the mean and spread that centre a network's input.

    Two units are in use. *Raw* is what the user has (grey levels 0..16, bytes, metres) in the
    user's `layout`.
    *Domain* is what likelihoods see: channel-first, float32, and equal to raw except for `unit`,
      where integer
    levels 0..L-1 are read as real numbers x / (L-1) in [0, 1], and `mixed`, where raw has a number
    or code for each of
    `fields`, the columns of a table, and a categorical one becomes as many 0s and a 1 as it has
    values.

    shape: of one example in model units: (D,), or channels first, (C, L), (C, H, W) or (C, D, H,
    W).  levels: L for integers 0..L-1, else None. divisor: raw / divisor = domain.  rows: training
    examples; None where a stream does not say.  condition: what else is known of each example, of
    data for a conditional model.  missing: NaN is a value that was not observed.  labels, labelled:
    names of the classes that a model learns from, and the share of training examples that have one.
    mean, std: per dimension, in model units; weights of the model, not of this page.

    Example:
        >>> import torch, tightbound as tb
        >>> spec = tb.DataSpec(shape=(1, 8, 8), domain="levels", levels=17, layout="hw")
        >>> spec.to_model(torch.zeros(5, 8, 8)).shape, spec.dims
        (torch.Size([5, 1, 8, 8]), 64)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    shape: tuple[int, ...]
    domain: Domain
    levels: int | None = None
    layout: Layout = "vector"
    divisor: float = 1.0
    rows: int | None = None
    fields: tuple[Column, ...] = ()
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
        """vector, signal, image or volume, by how many axes an example has beside the channels."""
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
        """The least and greatest value that the domain has, in model units."""
        top = (
            1.0 if self.domain in ("binary", "unit") else float((self.levels or 2) - 1)
        )
        if self.domain in ("real", "count", "mixed"):
            return (0.0 if self.domain == "count" else -math.inf), math.inf
        return 0.0, top

    @property
    def reach(self) -> float:
        """The range of the data in model units: of its domain, or six spreads where that has no
        ends.
        """
        low, high = self.bounds
        return (
            high - low if math.isfinite(high - low) else 6 * float(self.spread.mean())
        )

    @property
    def centre(self) -> Tensor:
        """The training mean of each dimension in model units, *shape; zeros until weights fill it
        in.
        """
        import torch

        if self.mean is None:
            return torch.zeros(self.shape)
        return torch.as_tensor(self.mean).float().reshape(self.shape).clone()

    @property
    def spread(self) -> Tensor:
        """The unit of a network's input and output, *shape: one for each column of a vector or
        channel of a signal or volume, one for all pixels of an image.

        A constant column has unit 1.
        """
        import torch

        if self.std is None:
            return torch.ones(self.shape)
        std = torch.as_tensor(self.std).float().reshape(self.shape)
        if self.kind != "vector":
            axes = tuple(range(0 if self.is_image else 1, std.dim()))
            std = std.square().mean(axes, keepdim=True).sqrt().expand(self.shape)
        return torch.where(std > 0, std, torch.ones_like(std)).clone()

    @property
    def places(self) -> list[slice]:
        """Which dimensions belong to each of `fields`."""
        ends = list(itertools.accumulate((f.width for f in self.fields), initial=0))
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    def to_model(self, raw: Tensor) -> Tensor:
        """Raw rows in the user's layout (n, ...) to model units, float32 (n, *shape)."""
        if self.fields:
            import torch

            return torch.cat(
                [
                    f.to_model(c)
                    for c, f in zip(raw.unbind(1), self.fields, strict=True)
                ],
                1,
            )
        x = raw
        if "c" not in self.layout:
            x = x.unsqueeze(1)
        elif self.layout.endswith("c"):
            x = x.movedim(-1, 1)
        x = x.float().reshape(len(x), *self.shape)
        return x / self.divisor if self.divisor != 1.0 else x

    def to_raw(self, x: Tensor) -> Tensor:
        """Model units (n, *shape) to raw units in the user's layout; not rounded."""
        if self.fields:
            import torch

            return torch.stack(
                [
                    f.to_raw(x[:, at])
                    for at, f in zip(self.places, self.fields, strict=True)
                ],
                1,
            )
        if self.divisor != 1.0:
            x = x * self.divisor
        if "c" not in self.layout:
            return x.squeeze(1)
        return x.movedim(1, -1) if self.layout.endswith("c") else x

    def as_domain(self, domain: Domain) -> DataSpec:
        """The same data read in another domain; mean and std follow."""
        if domain == self.domain:
            return self
        divisor = (
            float((self.levels or 2) - 1) if domain == "unit" and self.discrete else 1.0
        )
        k = self.divisor / divisor
        scaled = {
            name: None if (v := getattr(self, name)) is None else v * k
            for name in ("mean", "std")
        }
        levels = self.levels if domain in ("levels", "categorical", "unit") else None
        return self.model_copy(
            update={"domain": domain, "divisor": divisor, "levels": levels, **scaled}
        )
