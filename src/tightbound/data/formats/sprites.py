"""shapes: binary 64 x 64 sprites rendered from five known factors, after dSprites (Matthey et al.
2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from tightbound.data.cache import cached_rows
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, sha256_text
from tightbound.runtime.errors import TightboundError

SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES = ("square", "ellipse", "heart")
_SIDE, _REACH, _RADIUS = 64, 16, 15.5
_DEFAULT_N = 10_000
_BLOCK = 4096


def templates() -> np.ndarray:
    """All sprites at the origin, (3, 6, 40, 33, 33) bool: pixel centres inside an outline of radius
    15.5 pixels.

    Scales 0.5 to 1, angles 2 pi k / 40. Square: max(|u|, |v|) <= 0.7; ellipse: u^2 + (v / 0.55)^2
    <= 1; heart: (a^2 + b^2 - 1)^3 <= a^2 b^3.
    """
    offset = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    scale = np.linspace(0.5, 1.0, SIZES["scale"])[:, None, None, None]
    angle = (2 * np.pi * np.arange(SIZES["orientation"]) / SIZES["orientation"])[
        None, :, None, None
    ]
    x, y = (
        offset[None, None, None, :] / (_RADIUS * scale),
        -offset[None, None, :, None] / (_RADIUS * scale),
    )
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    a, b = 1.35 * u, 1.35 * v + 0.1
    square = np.maximum(abs(u), abs(v)) <= 0.7
    return np.stack(
        [square, u**2 + (v / 0.55) ** 2 <= 1, (a**2 + b**2 - 1) ** 3 <= a**2 * b**3]
    )


def render(factors: np.ndarray) -> np.ndarray:
    """uint8 0/1 images (n, 64, 64) from factor indices (n, 5): shape, scale, orientation, x, y
    (down the image).
    """
    sprites = templates()
    out = np.zeros((len(factors), _SIDE, _SIDE), np.uint8)
    window = np.arange(2 * _REACH + 1)
    shape, scale, angle, x, y = factors.T
    rows, cols = y[:, None] + window, x[:, None] + window
    out[np.arange(len(factors))[:, None, None], rows[:, :, None], cols[:, None, :]] = (
        sprites[shape, scale, angle]
    )
    return out


def _chosen(settings: DataSettings) -> np.ndarray:
    """Factor indices (n, 5): the grid of `factors`, evenly spaced, or `shapes_n` of it by the split
    seed.
    """
    counts: dict[str, int] = dict(SIZES)
    counts.update((name, count) for name, count in (settings.factors or {}).items())
    for name, count in counts.items():
        if count > SIZES[name]:
            raise TightboundError(
                f"data.factors.{name}={count}: {name} has {SIZES[name]} values"
            )
    values = [
        np.arange(counts[name]) * size // counts[name]
        if name == "orientation"
        else np.round(np.linspace(0, size - 1, counts[name])).astype(np.int64)
        for name, size in SIZES.items()
    ]
    total = int(np.prod(list(counts.values())))
    n = settings.shapes_n or (total if settings.factors else _DEFAULT_N)
    if n > total:
        raise TightboundError(
            f"data.shapes_n={n}, but these factors make only {total} images"
        )
    flat = np.arange(total)
    if n < total:
        flat = np.random.RandomState(settings.split_seed or 0).permutation(total)[:n]
    index = np.unravel_index(flat, tuple(counts.values()))
    return np.stack([v[i] for v, i in zip(values, index, strict=True)], 1).astype(
        np.int64
    )


def _blocks(factors: np.ndarray, notes: dict[str, Any]) -> Iterator[np.ndarray]:
    for start in range(0, len(factors), _BLOCK):
        yield render(factors[start : start + _BLOCK])


def load_shapes(settings: DataSettings) -> Source:
    """The chosen sprites, rendered once into the cache; labels are their shapes, factors their
    indices.
    """
    factors = _chosen(settings)
    key = sha256_text("shapes-1", factors.shape, factors.tobytes().hex())
    rows, _ = cached_rows(key, partial(_blocks, factors))
    known = torch.from_numpy(factors)
    part = Part(torch.from_numpy(rows), known[:, 0].clone(), factors=known)
    return Source(
        "shapes",
        "shapes",
        {"all": part},
        key,
        "hw",
        "binary",
        2,
        SHAPES,
        tuple(SIZES),
        tuple(SIZES.values()),
    )
