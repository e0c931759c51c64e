"""The sizes s, m and l of networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Width and depth of a perceptron's hidden layers; channels of the first stage."""

    width: int
    depth: int
    channels: int


SIZES = {"s": Size(256, 2, 32), "m": Size(512, 3, 64), "l": Size(1024, 3, 128)}
