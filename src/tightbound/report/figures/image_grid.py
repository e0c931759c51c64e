"""Examples as pictures: a strip of images, or of small line plots where the data are vectors or
signals.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tightbound.report.figures import line_grid as profiles
from tightbound.report.figures.display_scale import Floats, View

CELL = 96  # a cell's least width in the file: at least twice its width on the page


@dataclass(frozen=True)
class Picture:
    """An encoded picture, and its size in pixels of the page's layout."""

    data: bytes
    mime: str
    width: int
    height: int

    @property
    def src(self) -> str:
        """The picture as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


def columns(view: View, shape: tuple[int, ...], most: int = 10) -> int:
    """How many examples go side by side: fewer where they are wide or are plots."""
    if not view.image:
        return min(most, 5)
    ratio = shape[-1] / max(1, shape[-2])
    return max(2, min(most, round(most / max(1.0, ratio))))


def strip(x: Floats, view: View, cols: int, under: Floats | None = None) -> Picture:
    """Examples x (n, *shape) on the display scale, `cols` to a row; under: drawn beneath curves,
    for comparison.
    """
    if view.image:
        return _mosaic(view.pixels(x), cols)
    svg, width, height = profiles.draw(x, cols, under)
    return Picture(svg.encode(), "image/svg+xml", width, height)


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=image.ndim == 2)
    return out.getvalue()


def _fit(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles of about CELL pixels: small ones repeat their pixels, so that each is a crisp square;
    big ones shrink.
    """
    side = max(tiles.shape[1:3])
    if side <= 2 * CELL:
        factor = max(1, math.ceil(CELL / side)) if side < 0.75 * CELL else 1
        return tiles.repeat(factor, 1).repeat(factor, 2)
    from PIL import Image

    scale = 1.5 * CELL / side
    size = (
        max(1, round(tiles.shape[2] * scale)),
        max(1, round(tiles.shape[1] * scale)),
    )
    return np.stack(
        [
            np.asarray(Image.fromarray(t).resize(size, Image.Resampling.LANCZOS))
            for t in tiles
        ]
    )


def _mosaic(tiles: NDArray[np.uint8], cols: int) -> Picture:
    tiles = _fit(tiles)
    n, h, w = tiles.shape[:3]
    rows, gap = -(-n // cols), max(3, min(h, w) // 11)
    page = np.full(
        (rows * (h + gap) - gap, cols * (w + gap) - gap, *tiles.shape[3:]),
        255,
        np.uint8,
    )
    for i, tile in enumerate(tiles):
        top, left = (i // cols) * (h + gap), (i % cols) * (w + gap)
        page[top : top + h, left : left + w] = tile
    return Picture(_png(page), "image/png", page.shape[1], page.shape[0])
