"""Convolutional encoder and decoder for images of any height, width and channel count, 1x1 included."""

from __future__ import annotations

import itertools
import math

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.networks.mlp import MLP, perceptron
from tightbound.networks.size import SIZES


def patch_side(height: int, width: int) -> int:
    """Pixels are read in patches of this side, so that convolutions work on a grid of about 16 x 16 or less."""
    longest = max(height, width)
    return 1 if longest <= 8 else 2 if longest <= 32 else 4 * -(-longest // 128)


def pyramid(height: int, width: int) -> list[tuple[int, int]]:
    """The grid of patches, then each half of the one before, rounded up, until the longer side is at most 4."""
    side = patch_side(height, width)
    sizes = [(-(-height // side), -(-width // side))]
    while max(sizes[-1]) > 4:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


def norm(channels: int) -> nn.Module:
    """Group normalisation: no batch statistics, so that an example's figures never depend on its neighbours."""
    return nn.GroupNorm(math.gcd(channels, 8), channels)


class Residual(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), 3x3, same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _channels(first: int, stages: int) -> list[int]:
    return [first] + [2 * first] * (stages - 1)


class ConvEncoder(nn.Module):
    """Patches to channels, strided 3x3 convolutions down the pyramid with a residual block each, one dense layer."""

    def __init__(self, shape: tuple[int, ...], first: int, features: int) -> None:
        super().__init__()
        sizes, self.side = pyramid(shape[1], shape[2]), patch_side(shape[1], shape[2])
        self.pad = (0, sizes[0][1] * self.side - shape[2], 0, sizes[0][0] * self.side - shape[1])
        widths = _channels(first, len(sizes))
        layers: list[nn.Module] = [nn.Conv2d(shape[0] * self.side**2, widths[0], 3, padding=1)]
        for a, b in itertools.pairwise(widths):
            layers += [nn.SiLU(), nn.Conv2d(a, b, 3, stride=2, padding=1), Residual(b)]
        self.body = nn.Sequential(*layers, norm(widths[-1]), nn.SiLU(), nn.Flatten())
        self.dense = perceptron(widths[-1] * math.prod(sizes[-1]), features, 1)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.body(F.pixel_unshuffle(F.pad(x, self.pad), self.side)))


class Up(nn.Module):
    """Nearest-neighbour enlargement to an exact size, then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, size=self.size, mode="nearest"))


class ConvDecoder(nn.Module):
    """The encoder's pyramid upwards: (n, inputs) -> likelihood parameters (n, P, C, H, W)."""

    def __init__(self, inputs: int, out: tuple[int, ...], first: int, features: int) -> None:
        super().__init__()
        sizes, self.side = pyramid(out[2], out[3]), patch_side(out[2], out[3])
        widths = _channels(first, len(sizes))
        self.out, self.start = out, (widths[-1], *sizes[-1])
        self.dense = nn.Sequential(perceptron(inputs, features, 1), nn.Linear(features, math.prod(self.start)))
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 1, 0, -1):
            layers += [Residual(widths[i]), nn.SiLU(), Up(widths[i], widths[i - 1], sizes[i - 1])]
        last = nn.Conv2d(widths[0], out[0] * out[1] * self.side**2, 3, padding=1)
        self.body = nn.Sequential(*layers, norm(widths[0]), nn.SiLU(), last)

    def forward(self, z: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.body(self.dense(z).reshape(-1, *self.start)), self.side)
        return y[..., : self.out[2], : self.out[3]].reshape(len(z), *self.out)


class Conv(MLP):
    """Images only; the size dial sets the channels of the first stage (twice as many below) and the dense width."""

    def __init__(
        self,
        size: str,
        channels: PositiveInt | None = None,
        width: PositiveInt | None = None,
        depth: PositiveInt | None = None,
    ) -> None:
        super().__init__(size, width, depth)
        self.channels = channels or SIZES[size].channels

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return ConvEncoder(shape, self.channels, self.width)

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return ConvDecoder(inputs, out, self.channels, self.width)
