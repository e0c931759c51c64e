"""Binary draws of grey levels: fresh ones for training, and the fixed ones on which figures are
compared.
"""

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
    """uint8 ones with P(1) = grey / (levels - 1), for integers 0..levels-1: uniform r in
    0..levels-2, then grey > r.
    """
    part, of = share
    below = _below(levels - 1, torch.Size((of * len(grey), *grey.shape[1:])), generator)
    return (
        grey > below[part * len(grey) : (part + 1) * len(grey)].to(grey.device)
    ).view(torch.uint8)


def _below(m: int, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform integers 0..m-1.

    On CPU one draw gives eight bytes; bytes that would favour some values are redrawn.
    """
    if generator.device.type != "cpu" or m > 256:
        return torch.randint(
            0, m, shape, generator=generator, device=generator.device, dtype=torch.int32
        )
    n = shape.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(
        -(2**63), None, generator=generator
    )
    r = words.view(torch.uint8)[:n]
    fair = 256 // m * m
    if fair < 256:
        again = np.flatnonzero(r.numpy() >= np.uint8(fair))
        r.numpy()[again] = torch.randint(
            0, fair, again.shape, generator=generator, dtype=torch.uint8
        ).numpy()
    return (r if fair == m else r % m).view(shape)


class FixedDraws:
    """The one draw of a data set that papers report on: RandomState(777), validation rows first,
    then test rows.

    Equal to `RandomState(777).binomial(1, grey / (levels - 1))` in float32, split after split;
    numpy draws a single Bernoulli by inversion, one uniform u each: u > 1 - p for p <= 1/2, else u
    <= p. The global state is not touched.
    """

    def __init__(self, levels: int) -> None:
        self._random = np.random.RandomState(FIXED_SEED)
        self._top = np.float32(levels - 1)

    def draw(self, grey: Tensor, index: Tensor | None) -> Tensor:
        """Binary uint8 rows in the order of the split; memory beyond the result is bounded."""
        n = len(grey) if index is None else len(index)
        out = torch.empty((n, *grey.shape[1:]), dtype=torch.uint8)
        for rows in torch.arange(n).split(max(1, _CHUNK // max(1, grey[0].numel()))):
            p = (grey[rows] if index is None else grey[index[rows]]).numpy().astype(
                np.float32
            ) / self._top
            p = p.astype(np.float64)
            u = self._random.random_sample(p.shape)
            out[rows] = torch.from_numpy(
                np.where(p <= 0.5, u > 1 - p, u <= p).astype(np.uint8)
            )
        return out


def draw_from(grey: Tensor, start: int, levels: int) -> Tensor:
    """A fixed binary draw of rows, the first of which is row number `start` of its source."""
    p = grey.flatten(1).numpy() / (levels - 1)
    width = -(-p.shape[1] // 4) * 4  # a step of the counter gives four numbers
    random = np.random.Generator(
        np.random.Philox(key=FIXED_SEED, counter=start * width // 4)
    )
    u = random.random((len(p), width))[:, : p.shape[1]]
    return torch.from_numpy((u < p).astype(np.uint8)).reshape(grey.shape)


def drawn_on_disk(grey: OnDisk, levels: int) -> OnDisk:
    """The same of rows on a disk, any of which may be read first, which `FixedDraws` cannot
    give.
    """
    return OnDisk(
        grey.shape,
        torch.uint8,
        lambda start, stop: draw_from(grey.read(start, stop), start, levels),
    )
