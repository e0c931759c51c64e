"""View: how examples are shown.

Images and slices of volumes become grey or RGB, vectors and signals stay numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tightbound.core.data_spec import DataSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """The display scale of one data set.

    Images (n, C, H, W) in domain units become (n, H, W) or (n, H, W, 3) in 0..1, and distances are
    measured on that scale. Volumes (n, C, D, H, W) become a sheet of slices. Vectors (n, D) and
    signals (n, C, L) are centred and divided by `span`, of each dimension or channel, which is 1
    where all have like spreads.
    """

    image: bool
    low: float
    high: float
    centre: Floats | None = None
    span: Floats | None = None

    @classmethod
    def of(cls, spec: DataSpec, train: Floats, table: bool = False) -> View:
        """Reads the scale off the training examples `train` (n, *shape), in domain units; a table's
        columns differ.
        """
        if spec.kind in ("vector", "signal"):
            return cls._curve(train, table)
        if spec.domain in ("real", "count"):
            low, high = (float(q) for q in np.quantile(train, (0.002, 0.998)))
            return cls(True, low, high if high > low else low + 1.0)
        return cls(
            True,
            0.0,
            1.0 if spec.domain in ("binary", "unit") else float((spec.levels or 2) - 1),
        )

    @classmethod
    def _curve(cls, train: Floats, table: bool) -> View:
        axes = (0, *range(2, train.ndim))
        spread, middle = (
            f(train, axis=axes, keepdims=True)[0] for f in (np.std, np.mean)
        )
        known = spread[spread > 0]
        alike = len(known) == 0 or (
            known.max() < 10 * known.min() and np.ptp(middle) < 10 * np.median(known)
        )
        if alike and not table:
            return cls(False, 0.0, 1.0)
        return cls(
            False,
            0.0,
            1.0,
            middle,
            np.where(spread > 0, spread, 1.0).astype(np.float32),
        )

    @property
    def standardised(self) -> bool:
        """True where vectors are shown in standard deviations from the training mean."""
        return self.span is not None

    def unit(self, x: Floats) -> Floats:
        """Domain units (n, *shape) to the display scale, of the same shape; images are not
        clipped.
        """
        if self.image:
            return ((x - self.low) / (self.high - self.low)).astype(np.float32)
        if self.span is None or self.centre is None:
            return x.astype(np.float32)
        return ((x - self.centre) / self.span).astype(np.float32)

    def back(self, x: Floats) -> Floats:
        """The display scale (n, *shape) to domain units; what `unit` undoes."""
        if self.image:
            return x * (self.high - self.low) + self.low
        return (
            x
            if self.span is None or self.centre is None
            else x * self.span + self.centre
        )

    def pixels(self, x: Floats) -> NDArray[np.uint8]:
        """Images on the display scale (n, C, H, W) to bytes, (n, H, W, 3) for colour, (n, H, W) for
        all else.

        Channels other than 1, 3 or 4 have no colours of their own: their mean is shown.
        """
        y = np.clip(np.nan_to_num(sheet(x)), 0.0, 1.0)
        y = y[:, :3].transpose(0, 2, 3, 1) if x.shape[1] in (3, 4) else y.mean(1)
        return np.round(y * 255).astype(np.uint8)


SLICES = 9


def sheet(x: Floats) -> Floats:
    """Volumes (n, C, D, H, W) as images: up to 9 slices, evenly spaced over the depth, row by row;
    images as they are.

    A place without a slice is white, and so is a line between slices.
    """
    if x.ndim == 4:
        return x
    depth = np.linspace(0, x.shape[2] - 1, min(SLICES, x.shape[2])).round().astype(int)
    wide = int(np.ceil(np.sqrt(len(depth))))
    tall = -(-len(depth) // wide)
    n, c, _, h, w = x.shape
    room = np.ones((n, c, wide * tall, h + 1, w + 1), x.dtype)
    room[:, :, : len(depth), :h, :w] = x[:, :, depth]
    page = (
        room.reshape(n, c, tall, wide, h + 1, w + 1)
        .swapaxes(3, 4)
        .reshape(n, c, tall * (h + 1), wide * (w + 1))
    )
    return page[:, :, :-1, :-1]
