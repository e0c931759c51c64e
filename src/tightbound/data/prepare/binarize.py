"""Binarise grey levels: fresh draws for training, fixed draws for evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tightbound.data.on_disk import OnDisk
from tightbound.runtime.launch_context import WHOLE, Share

FIXED_SEED = 777
_CHUNK = 1 << 22


def bernoulli(
    grey: Tensor, levels: int, generator: torch.Generator, share: Share = WHOLE
) -> Tensor:
    """Draw 0 or 1 with P(1) = grey / (levels - 1).

    The draw is grey > r for a uniform integer r in 0..levels-2.

    Args:
        grey: integers 0..levels-1 (n, ...).
        levels: number of grey levels.
        generator: source of the random numbers of the batch of all processes.
        share: (rank, world size): which part of that batch `grey` is.

    Returns:
        uint8 (n, ...).
    """
    rank, world = share
    n = len(grey)
    r = _uniform(levels - 1, torch.Size((world * n, *grey.shape[1:])), generator)
    return (grey > r[rank * n : (rank + 1) * n].to(grey.device)).view(torch.uint8)


def _uniform(m: int, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform integers 0..m-1; on the CPU, by bytes of 64-bit draws with rejection."""
    if generator.device.type != "cpu" or m > 256:
        return torch.randint(
            0, m, shape, generator=generator, device=generator.device, dtype=torch.int32
        )
    n = shape.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(
        -(2**63), None, generator=generator
    )
    r = words.view(torch.uint8)[:n]
    accepted = 256 // m * m
    if accepted < 256:
        rejected = np.flatnonzero(r.numpy() >= np.uint8(accepted))
        r.numpy()[rejected] = torch.randint(
            0, accepted, rejected.shape, generator=generator, dtype=torch.uint8
        ).numpy()
    return (r if accepted == m else r % m).view(shape)


class FixedDraws:
    """The fixed binarisation that papers report on, by `RandomState(777)`.

    Equal to `RandomState(777).binomial(1, grey / (levels - 1))` in float32, validation
    rows first, then test rows. numpy draws a Bernoulli by inversion of one uniform u:
    u > 1 - p for p <= 1/2, else u <= p. numpy's global state is not used.
    """

    def __init__(self, levels: int) -> None:
        self._random = np.random.RandomState(FIXED_SEED)
        self._top = np.float32(levels - 1)

    def draw(self, grey: Tensor, index: Tensor | None) -> Tensor:
        """Binary uint8 rows in the order of the split, drawn a few MB at a time."""
        n = len(grey) if index is None else len(index)
        out = torch.empty((n, *grey.shape[1:]), dtype=torch.uint8)
        for rows in torch.arange(n).split(max(1, _CHUNK // max(1, grey[0].numel()))):
            values = grey[rows] if index is None else grey[index[rows]]
            p = values.numpy().astype(np.float32) / self._top
            p = p.astype(np.float64)
            u = self._random.random_sample(p.shape)
            drawn = np.where(p <= 0.5, u > 1 - p, u <= p)
            out[rows] = torch.from_numpy(drawn.astype(np.uint8))
        return out


def draw_from(grey: Tensor, start: int, levels: int) -> Tensor:
    """A fixed binarisation of the rows from `start` on, by a counter-based generator."""
    p = grey.flatten(1).numpy() / (levels - 1)
    width = -(-p.shape[1] // 4) * 4  # a step of the counter gives four numbers
    random = np.random.Generator(
        np.random.Philox(key=FIXED_SEED, counter=start * width // 4)
    )
    u = random.random((len(p), width))[:, : p.shape[1]]
    return torch.from_numpy((u < p).astype(np.uint8)).reshape(grey.shape)


def drawn_on_disk(grey: OnDisk, levels: int) -> OnDisk:
    """A fixed binarisation of rows on the disk, which may be read in any order.

    Its draws are those of `draw_from`, not of `FixedDraws`, which draws in order.
    """
    return OnDisk(
        grey.shape,
        torch.uint8,
        lambda start, stop: draw_from(grey.read(start, stop), start, levels),
    )
