"""Grids of examples: images as PNG; vectors and signals as small line plots."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tightbound.report.figures import line_grid
from tightbound.report.figures.display_scale import DisplayScale, Floats

CELL = 96  # pixels: least width of a cell in the file, twice its width on the page


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its size in pixels of the page's layout."""

    data: bytes
    mime: str
    width: int
    height: int

    @property
    def src(self) -> str:
        """The picture as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


def columns(scale: DisplayScale, shape: tuple[int, ...], most: int = 10) -> int:
    """Number of examples in one row: fewer for wide images and for line plots."""
    if not scale.image:
        return min(most, 5)
    ratio = shape[-1] / max(1, shape[-2])
    return max(2, min(most, round(most / max(1.0, ratio))))


def strip(
    x: Floats, scale: DisplayScale, cols: int, under: Floats | None = None
) -> Picture:
    """Examples x (n, *shape) on the display scale, in rows of `cols`.

    under: (n, *shape), drawn in grey beneath line plots for comparison.
    """
    if scale.image:
        return _mosaic(scale.pixels(x), cols)
    svg, width, height = line_grid.draw(x, cols, under)
    return Picture(svg.encode(), "image/svg+xml", width, height)


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=image.ndim == 2)
    return out.getvalue()


def _fit(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles resized to about CELL pixels.

    Small tiles are enlarged by repeating pixels, so that their edges stay sharp, and
    large ones are shrunk by resampling.
    """
    side = max(tiles.shape[1:3])
    if side <= 2 * CELL:
        factor = max(1, math.ceil(CELL / side)) if side < 0.75 * CELL else 1
        return tiles.repeat(factor, 1).repeat(factor, 2)
    from PIL import Image

    scale = 1.5 * CELL / side
    height = max(1, round(tiles.shape[1] * scale))
    width = max(1, round(tiles.shape[2] * scale))
    resized = [
        Image.fromarray(tile).resize((width, height), Image.Resampling.LANCZOS)
        for tile in tiles
    ]
    return np.stack([np.asarray(image) for image in resized])


def _mosaic(tiles: NDArray[np.uint8], cols: int) -> Picture:
    """Tiles (n, h, w[, 3]) on a white page, in rows of `cols`."""
    tiles = _fit(tiles)
    n, h, w = tiles.shape[:3]
    rows = -(-n // cols)
    gap = max(3, min(h, w) // 11)
    size = (rows * (h + gap) - gap, cols * (w + gap) - gap, *tiles.shape[3:])
    page = np.full(size, 255, np.uint8)
    for i, tile in enumerate(tiles):
        top = (i // cols) * (h + gap)
        left = (i % cols) * (w + gap)
        page[top : top + h, left : left + w] = tile
    return Picture(_png(page), "image/png", page.shape[1], page.shape[0])
