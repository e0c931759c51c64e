"""Values of sample quality, which compare only in one feature space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Options


@dataclass(frozen=True)
class Stamp:
    """What a value of sample quality depends on besides the samples.

    Args:
        space: the feature space, NAME@HASH.
        n: number of examples on each side.
        reference: the examples compared with, NAME@HASH.
    """

    space: str
    n: int
    reference: str

    def __str__(self) -> str:
        return f"[{self.space}, n={self.n}, {self.reference}]"


@dataclass(frozen=True, eq=False)
class SpaceValue:
    """A value with its feature space, number of examples and reference.

    `<`, `==` and `-` work between values of one metric with one stamp, and raise
    TightboundError otherwise.

    Args:
        metric: FD, KID, precision, recall, density, coverage or C2ST.
        value: the value.
        stamp: what it depends on.
        se: its standard error, where it is known.

    Example:
        >>> from tightbound.evaluation.metrics.stamp import SpaceValue, Stamp
        >>> a = SpaceValue("FD", 3.0, Stamp("pixels@12ab34cd", 500, "test@99ff00aa"))
        >>> b = SpaceValue("FD", 2.0, Stamp("pixels@12ab34cd", 500, "test@99ff00aa"))
        >>> a.label, b < a
        ('FD[pixels@12ab34cd, n=500, test@99ff00aa]', True)
    """

    metric: str
    value: float
    stamp: Stamp
    se: float | None = None

    @property
    def label(self) -> str:
        """Name of the value: metric, feature space, n and reference."""
        return f"{self.metric}{self.stamp}"

    def check(self, other: SpaceValue) -> None:
        """Raise TightboundError where another value cannot be compared with this one."""
        if (self.metric, self.stamp) == (other.metric, other.stamp):
            return
        raise TightboundError(
            f"{self.label} and {other.label} cannot be compared: their metric, feature space, "
            "number of examples and reference must be the same; evaluate both runs with "
            "--metrics quality on the same data and --limit"
        )

    def __lt__(self, other: SpaceValue) -> bool:
        self.check(other)
        return self.value < other.value

    def __le__(self, other: SpaceValue) -> bool:
        self.check(other)
        return self.value <= other.value

    def __gt__(self, other: SpaceValue) -> bool:
        self.check(other)
        return self.value > other.value

    def __ge__(self, other: SpaceValue) -> bool:
        self.check(other)
        return self.value >= other.value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpaceValue):
            return NotImplemented
        self.check(other)
        return self.value == other.value

    def __hash__(self) -> int:
        return hash((self.metric, self.value, self.stamp))

    def __sub__(self, other: SpaceValue) -> float:
        self.check(other)
        return self.value - other.value

    def to_json(self) -> dict[str, float | None]:
        """Value and standard error; the stamp stands once beside all values."""
        finite = math.isfinite(self.value)
        return {"value": self.value if finite else None, "se": self.se}

    def __str__(self) -> str:
        return f"{self.label} = {self.value:.4g}"


def from_json(metric: str, tree: Options, stamp: Stamp) -> SpaceValue:
    """A value of an evaluation file."""
    value = tree.get("value")
    number = math.nan if value is None else float(value)
    return SpaceValue(metric, number, stamp, tree.get("se"))


def stamp_of(space: Options) -> Stamp:
    """The stamp of the values of one feature space in an evaluation file."""
    return Stamp(str(space["space"]), int(space["n"]), str(space["reference"]))


def check_comparable(values: Sequence[SpaceValue]) -> None:
    """Raise TightboundError unless all values can be compared with one another."""
    for value in values[1:]:
        values[0].check(value)
