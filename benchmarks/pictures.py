"""The data of the speed benchmarks, as files of bytes that every variant maps: MNIST where it is
found, else blobs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def blobs(n: int, side: int = 28, seed: int = 0) -> np.ndarray:
    """Grey blobs on black, about a fifth of the pixels lit, as in MNIST; uint8 (n, side, side)."""
    chance = np.random.default_rng(seed)
    grid = np.arange(side)
    made = np.zeros((n, side, side), np.float32)
    for _ in range(3):
        x, y = chance.uniform(0.2, 0.8, (2, n, 1)) * side
        wide = chance.uniform(0.04, 0.1, (n, 1)) * side
        made += (
            np.exp(-(((grid - x) / wide) ** 2))[:, None, :]
            * np.exp(-(((grid - y) / wide) ** 2))[:, :, None]
        )
    return (255 * made.clip(0, 1)).astype(np.uint8)


def mnist(n: int) -> np.ndarray | None:
    """The first n training images of MNIST, uint8 (n, 28, 28), or None where it is not at hand."""
    from tightbound.data import load
    from tightbound.runtime.errors import TightboundError

    try:
        found = load("mnist").train
    except TightboundError:
        return None
    return found.x[:n].numpy()  # type: ignore[union-attr]


def write(folder: Path, n: int, real: bool = True) -> tuple[dict[str, str], str]:
    """Files by likelihood, {"bernoulli": 0 and 1, "gaussian": bytes}, and what is in them."""
    greys = mnist(n) if real else None
    name = "blobs" if greys is None else "MNIST"
    greys = blobs(n) if greys is None else greys
    np.save(folder / "gaussian.npy", greys)
    np.save(folder / "bernoulli.npy", (greys > 127).astype(np.uint8))
    return {
        kind: str(folder / f"{kind}.npy") for kind in ("gaussian", "bernoulli")
    }, f"{len(greys)} of {name}"
