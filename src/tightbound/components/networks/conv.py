"""Convolutional encoder and decoder for signals, images and volumes of any size."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.components.networks.mlp import MLP, perceptron
from tightbound.components.networks.size import SIZES
from tightbound.core.options import Count

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Grid = tuple[int, ...]


def patch_side(*size: int) -> int:
    """Side of the patches in which values are read.

    Convolutions then work on a grid of about 256 places or fewer.
    """
    longest = max(size) * (0.25, 1, 2)[len(size) - 1]
    if longest <= 8:
        return 1
    if longest <= 32:
        return 2
    return 4 * math.ceil(longest / 128)


def pyramid(*size: int, last: int = 4) -> list[Grid]:
    """Grids of a pyramid: that of patches, then each half of the one before.

    Rounded up, until the longest side is at most `last`.
    """
    side = patch_side(*size)
    sizes = [tuple(-(-s // side) for s in size)]
    while max(sizes[-1]) > last:
        sizes.append(tuple((s + 1) // 2 for s in sizes[-1]))
    return sizes


def to_patches(x: Tensor, side: int) -> Tensor:
    """(n, C, *size) to (n, C * side^d, *grid), zero-padded to multiples of the side."""
    x = F.pad(x, [v for s in reversed(x.shape[2:]) for v in (0, -s % side)])
    grid = [s // side for s in x.shape[2:]]
    d = x.dim() - 2
    x = x.reshape(*x.shape[:2], *(v for s in grid for v in (s, side)))
    x = x.permute(0, 1, *range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2))
    return x.reshape(len(x), -1, *grid)


def from_patches(x: Tensor, side: int, size: Grid) -> Tensor:
    """Inverse of `to_patches`, cut to size: (n, C * side^d, *grid) to (n, C, *size)."""
    grid = x.shape[2:]
    d = x.dim() - 2
    x = x.reshape(len(x), -1, *[side] * d, *grid)
    x = x.permute(0, 1, *(axis for i in range(2, 2 + d) for axis in (i + d, i)))
    x = x.reshape(*x.shape[:2], *(s * side for s in grid))
    for axis, length in enumerate(size, 2):
        x = x.narrow(axis, 0, length)
    return x


def norm(channels: int, grid: Grid) -> nn.Module:
    """Group normalisation on (n, channels, *grid).

    No batch statistics: the figures of an example do not depend on its neighbours. A group has
    two values at least, since one value would become 0.
    """
    groups = math.gcd(channels, 8)
    if groups < channels or math.prod(grid) > 1:
        return nn.GroupNorm(groups, channels)
    return nn.GroupNorm(1, channels) if channels > 1 else nn.Identity()


class Residual(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), kernels of side 3, same shape."""

    def __init__(self, channels: int, grid: Grid) -> None:
        super().__init__()
        conv = CONV[len(grid) - 1]
        first = conv(channels, channels, 3, padding=1)
        last = conv(channels, channels, 3, padding=1)
        before, between = (norm(channels, grid) for _ in range(2))
        self.body = nn.Sequential(before, nn.SiLU(), first, between, nn.SiLU(), last)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _channels(first: int, stages: int) -> list[int]:
    return [first] + [2 * first] * (stages - 1)


def last_side(size: Grid, shrink: int | None) -> int:
    """Longest side of the last grid: that of the data divided by `shrink`, else 4."""
    if shrink is None:
        return 4
    return math.ceil(max(size) / shrink)


class ConvEncoder(nn.Module):
    """Convolutional encoder: patches, strided convolutions, a dense layer.

    A residual block follows each convolution. shrink: the pyramid ends at a grid smaller than the
    data by this factor, whose places keep their own features, h (n, *grid, F), without a dense
    layer.
    """

    def __init__(
        self, shape: tuple[int, ...], first: int, features: int, shrink: int | None
    ) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], last=last_side(shape[1:], shrink))
        self.side = patch_side(*shape[1:])
        d = len(shape) - 1
        self.grid = sizes[-1] if shrink else ()
        widths = _channels(first, len(sizes))
        conv = CONV[d - 1]
        layers: list[nn.Module] = [
            conv(shape[0] * self.side**d, widths[0], 3, padding=1)
        ]
        for (a, b), grid in zip(itertools.pairwise(widths), sizes[1:], strict=True):
            down = conv(a, b, 3, stride=2, padding=1)
            layers += [nn.SiLU(), down, Residual(b, grid)]
        self.body = nn.Sequential(*layers, norm(widths[-1], sizes[-1]), nn.SiLU())
        self.dense: nn.Module | None = None
        self.features = widths[-1]
        if not shrink:
            self.dense = perceptron(widths[-1] * math.prod(sizes[-1]), features, 1)
            self.features = features

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(to_patches(x, self.side))
        if self.dense is None:
            pixels: Tensor = h.movedim(1, -1)
            return pixels
        features: Tensor = self.dense(h.flatten(1))
        return features


class Up(nn.Module):
    """Nearest-neighbour enlargement to an exact size, then a convolution of side 3."""

    def __init__(self, inputs: int, outputs: int, size: Grid) -> None:
        super().__init__()
        self.size = size
        self.conv = CONV[len(size) - 1](inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        resized: Tensor = self.conv(F.interpolate(x, size=self.size, mode="nearest"))
        return resized


class ConvDecoder(nn.Module):
    """Convolutional decoder: (n, inputs) -> likelihood parameters (n, P, C, *size).

    shrink: as in the encoder; z is then (n, places * inputs), place by place.
    """

    def __init__(
        self,
        inputs: int,
        out: tuple[int, ...],
        first: int,
        features: int,
        shrink: int | None,
    ) -> None:
        super().__init__()
        sizes = pyramid(*out[2:], last=last_side(out[2:], shrink))
        self.side = patch_side(*out[2:])
        d = len(out) - 2
        self.grid = sizes[-1] if shrink else ()
        widths = _channels(first, len(sizes))
        self.out = out
        self.start = (widths[-1], *sizes[-1])
        start = widths[-1] if shrink else math.prod(self.start)
        self.dense = nn.Sequential(
            perceptron(inputs, features, 1), nn.Linear(features, start)
        )
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 1, 0, -1):
            layers += [
                Residual(widths[i], sizes[i]),
                nn.SiLU(),
                Up(widths[i], widths[i - 1], sizes[i - 1]),
            ]
        last = CONV[d - 1](widths[0], out[0] * out[1] * self.side**d, 3, padding=1)
        self.body = nn.Sequential(*layers, norm(widths[0], sizes[0]), nn.SiLU(), last)

    def forward(self, z: Tensor) -> Tensor:
        if self.grid:
            start = self.dense(z.unflatten(1, (*self.grid, -1))).movedim(-1, 1)
        else:
            start = self.dense(z).reshape(-1, *self.start)
        y = from_patches(self.body(start), self.side, self.out[2:])
        return y.reshape(len(z), *self.out)


class Conv(MLP):
    """Convolutional network for signals, images and volumes.

    size sets the channels of the first stage (twice as many below) and the dense width.
    """

    def __init__(
        self,
        size: str,
        channels: Annotated[
            Count | None,
            Field(description="channels of the first stage; by default from size"),
        ] = None,
        width: Annotated[
            Count | None,
            Field(description="units of the dense layer; by default from size"),
        ] = None,
        depth: Annotated[
            Count | None,
            Field(description="hidden layers between the latents of a hierarchy"),
        ] = None,
        shrink: Annotated[
            Count | None,
            Field(
                description="keep a grid of places, smaller than the data by this factor"
            ),
        ] = None,
        decoder: Annotated[
            Literal["conv", "mlp"],
            Field(
                description="kind of the decoder: convolutions, or a perceptron of width and depth"
            ),
        ] = "conv",
    ) -> None:
        super().__init__(size, width, depth)
        self.channels = channels or SIZES[size].channels
        self.shrink = shrink
        self.decoder_kind = decoder

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.shrink is None:
            return ()
        return pyramid(*shape[1:], last=last_side(shape[1:], self.shrink))[-1]

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return ConvEncoder(shape, self.channels, self.width, self.shrink)

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        if self.decoder_kind == "mlp":
            return super().decoder(inputs, out)
        return ConvDecoder(inputs, out, self.channels, self.width, self.shrink)
