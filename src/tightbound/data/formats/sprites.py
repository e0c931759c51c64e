"""Binary 64 x 64 sprites rendered from five factors.

After dSprites (Matthey et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from tightbound.data.cache import Notes, cached_rows
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, sha256_text
from tightbound.runtime.errors import TightboundError

SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES = ("square", "ellipse", "heart")
_SIDE = 64
_REACH = 16
_RADIUS = 15.5
_DEFAULT_N = 10_000
_BLOCK = 4096


def templates() -> np.ndarray:
    """All sprites at the origin, bool (3, 6, 40, 33, 33).

    A pixel is on where its centre is inside an outline of radius 15.5 pixels. Scales 0.5
    to 1, angles 2 pi k / 40. Square: max(|u|, |v|) <= 0.7; ellipse:
    u^2 + (v / 0.55)^2 <= 1; heart: (a^2 + b^2 - 1)^3 <= a^2 b^3.
    """
    offset = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    scale = np.linspace(0.5, 1.0, SIZES["scale"])[:, None, None, None]
    angles = 2 * np.pi * np.arange(SIZES["orientation"]) / SIZES["orientation"]
    angle = angles[None, :, None, None]
    x = offset[None, None, None, :] / (_RADIUS * scale)
    y = -offset[None, None, :, None] / (_RADIUS * scale)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    a = 1.35 * u
    b = 1.35 * v + 0.1
    square = np.maximum(abs(u), abs(v)) <= 0.7
    ellipse = u**2 + (v / 0.55) ** 2 <= 1
    heart = (a**2 + b**2 - 1) ** 3 <= a**2 * b**3
    return np.stack([square, ellipse, heart])


def render(factors: np.ndarray) -> np.ndarray:
    """uint8 images of 0 and 1 (n, 64, 64) from factor indices (n, 5).

    The factors are shape, scale, orientation, x and y (down the image).
    """
    sprites = templates()
    out = np.zeros((len(factors), _SIDE, _SIDE), np.uint8)
    window = np.arange(2 * _REACH + 1)
    shape, scale, angle, x, y = factors.T
    rows = y[:, None] + window
    cols = x[:, None] + window
    out[np.arange(len(factors))[:, None, None], rows[:, :, None], cols[:, None, :]] = (
        sprites[shape, scale, angle]
    )
    return out


def _chosen(settings: DataSettings) -> np.ndarray:
    """Factor indices (n, 5): the grid of `factors`, or a sample of `shapes_n` of it."""
    counts: dict[str, int] = {**SIZES}
    for factor, count in (settings.factors or {}).items():
        counts[factor] = count
    for name, count in counts.items():
        if count > SIZES[name]:
            raise TightboundError(
                f"data.factors.{name}={count}: {name} has {SIZES[name]} values"
            )
    values = [_values(name, counts[name]) for name in SIZES]
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
    chosen = [v[i] for v, i in zip(values, index, strict=True)]
    return np.stack(chosen, 1).astype(np.int64)


def _values(name: str, count: int) -> np.ndarray:
    """`count` evenly spaced indices of a factor; orientation is periodic."""
    size = SIZES[name]
    if name == "orientation":
        return np.arange(count) * size // count
    return np.round(np.linspace(0, size - 1, count)).astype(np.int64)


def _blocks(factors: np.ndarray, notes: Notes) -> Iterator[np.ndarray]:
    for start in range(0, len(factors), _BLOCK):
        yield render(factors[start : start + _BLOCK])


def load_shapes(settings: DataSettings) -> RawSource:
    """The chosen sprites, rendered once into the cache, labelled by their shape."""
    factors = _chosen(settings)
    key = sha256_text("shapes-1", factors.shape, factors.tobytes().hex())
    rows, _ = cached_rows(key, partial(_blocks, factors))
    indices = torch.from_numpy(factors)
    x = torch.from_numpy(rows)
    return RawSource(
        "shapes",
        "shapes",
        {"all": RawSplit(x, indices[:, 0].clone(), factors=indices)},
        key,
        layout="hw",
        domain="binary",
        levels=2,
        label_names=SHAPES,
        factor_names=tuple(SIZES),
        factor_sizes=tuple(SIZES.values()),
    )
