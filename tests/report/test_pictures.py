"""tb.grid: images of any layout as one picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tightbound as tb
from tightbound.runtime.errors import TightboundError


def test_a_grid_shows_each_image_where_it_belongs() -> None:
    """Four images of one grey level each, two in a row, enlarged alike."""
    x = np.stack([np.full((8, 8), level, np.uint8) for level in (10, 60, 120, 200)])
    page = np.asarray(tb.grid(x, columns=2))
    h, w = page.shape
    quarters = [page[h // 4, w // 4], page[h // 4, -w // 4]]
    quarters += [page[-h // 4, w // 4], page[-h // 4, -w // 4]]
    assert quarters == [10, 60, 120, 200]


@pytest.mark.parametrize("shape", [(5, 8, 9), (5, 8, 9, 3), (5, 3, 8, 9), (5, 1, 8, 9)])
def test_layouts_are_recognised(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    page = tb.grid(x, columns=5)
    assert page.mode == ("RGB" if 3 in shape else "L")
    assert page.width / page.height == pytest.approx(5 * 9 / 8, rel=0.1)
    low, high = np.asarray(page).min(), np.asarray(page).max()
    assert (low, high) == (0, 255)


@pytest.mark.parametrize("x", [np.zeros(5), np.zeros((2, 2, 2, 2, 2)), ["a"], []])
def test_what_is_no_image_is_refused(x: object) -> None:
    with pytest.raises(TightboundError, match=r"image|shape"):
        tb.grid(x)
    with pytest.raises(TightboundError, match="columns"):
        tb.grid(np.zeros((2, 8, 8)), columns=0)
