"""Conversion of examples from model units to the scale on which they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tightbound.core.data_spec import DataSpec

Array = np.ndarray
Floats = NDArray[np.float32]

SLICES = 9  # of a volume


@dataclass(frozen=True)
class DisplayScale:
    """The scale on which the examples of one data set are drawn and compared.

    Images (n, C, H, W) and volumes (n, C, D, H, W) are mapped linearly, `low` to 0
    and `high` to 1. Vectors (n, D) and signals (n, C, L) are standardised with
    `centre` and `span` per dimension or channel, or left as they are where all
    dimensions have similar locations and spreads. Distances between examples are
    measured on this scale.
    """

    image: bool
    low: float
    high: float
    centre: Floats | None = None
    span: Floats | None = None

    @classmethod
    def of(cls, spec: DataSpec, train: Floats, table: bool = False) -> DisplayScale:
        """The scale for training examples `train` (n, *shape), in model units.

        The columns of a `table` are always standardised.
        """
        if spec.kind in ("vector", "signal"):
            return cls._of_curves(train, table)
        if spec.domain in ("real", "count"):
            low, high = (float(q) for q in np.quantile(train, (0.002, 0.998)))
            return cls(True, low, high if high > low else low + 1.0)
        if spec.domain in ("binary", "unit"):
            return cls(True, 0.0, 1.0)
        return cls(True, 0.0, float((spec.levels or 2) - 1))

    @classmethod
    def _of_curves(cls, train: Floats, table: bool) -> DisplayScale:
        axes = (0, *range(2, train.ndim))
        spread = np.std(train, axis=axes, keepdims=True)[0]
        centre = np.mean(train, axis=axes, keepdims=True)[0]
        if _similar(centre, spread[spread > 0]) and not table:
            return cls(False, 0.0, 1.0)
        span = np.where(spread > 0, spread, 1.0).astype(np.float32)
        return cls(False, 0.0, 1.0, centre, span)

    @property
    def standardised(self) -> bool:
        """True where values are shown in standard deviations from the training mean."""
        return self.span is not None

    def unit(self, x: Floats) -> Floats:
        """Model units (n, *shape) to the display scale, without clipping."""
        if self.image:
            return ((x - self.low) / (self.high - self.low)).astype(np.float32)
        if self.span is None or self.centre is None:
            return x.astype(np.float32)
        return ((x - self.centre) / self.span).astype(np.float32)

    def back(self, x: Floats) -> Floats:
        """The display scale (n, *shape) to model units: the inverse of `unit`."""
        if self.image:
            return x * (self.high - self.low) + self.low
        if self.span is None or self.centre is None:
            return x
        return x * self.span + self.centre

    def pixels(self, x: Floats) -> NDArray[np.uint8]:
        """Images or volumes on the display scale as bytes.

        Returns (n, H, W, 3) for 3 or 4 channels. For any other number of channels
        their mean is returned, (n, H, W).
        """
        y = np.clip(np.nan_to_num(slice_grid(x)), 0.0, 1.0)
        colour = x.shape[1] in (3, 4)
        y = y[:, :3].transpose(0, 2, 3, 1) if colour else y.mean(1)
        return np.round(y * 255).astype(np.uint8)


def _similar(centre: Floats, spread: Floats) -> bool:
    """True where all dimensions can share one axis; spread: those above zero."""
    if len(spread) == 0:
        return True
    return bool(
        spread.max() < 10 * spread.min() and np.ptp(centre) < 10 * np.median(spread)
    )


def slice_grid(x: Floats) -> Floats:
    """Volumes (n, C, D, H, W) as images: up to 9 slices in a grid, row by row.

    The slices are evenly spaced over the depth, with white lines between them and
    white cells where the grid is not full. Images (n, C, H, W) are returned as they
    are.
    """
    if x.ndim == 4:
        return x
    depth = np.linspace(0, x.shape[2] - 1, min(SLICES, x.shape[2])).round().astype(int)
    cols = int(np.ceil(np.sqrt(len(depth))))
    rows = -(-len(depth) // cols)
    n, c, _, h, w = x.shape
    cells = np.ones((n, c, cols * rows, h + 1, w + 1), x.dtype)
    cells[:, :, : len(depth), :h, :w] = x[:, :, depth]
    grid = cells.reshape(n, c, rows, cols, h + 1, w + 1).swapaxes(3, 4)
    grid = grid.reshape(n, c, rows * (h + 1), cols * (w + 1))
    return grid[:, :, :-1, :-1]
