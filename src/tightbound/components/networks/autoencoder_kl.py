"""Encoder and decoder in the block layout of diffusers' AutoencoderKL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.components.networks.mlp import MLP
from tightbound.components.networks.size import SIZES
from tightbound.core.options import Count
from tightbound.runtime.errors import TightboundError

EPS = 1e-6


class Resnet(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), a convolution of side 1 for x where widths differ.

    Args:
        inputs, outputs: Channels.
        groups: Of the group normalisation.
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut: nn.Module | None = None
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        out: Tensor = x + h
        return out


class Attention(nn.Module):
    """x + self-attention of one head over all places, on normalised x (n, channels, H, W)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        out = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([out])
        nn.init.zeros_(out.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).mT  # (n, places, channels)
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)
        weight = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        h = self.to_out[0](weight @ v)
        out: Tensor = x + h.mT.unflatten(2, x.shape[2:])
        return out


class Middle(nn.Module):
    """Two ResNet blocks with attention between them."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            [Resnet(channels, channels, groups) for _ in range(2)]
        )
        blocks = [Attention(channels, groups)] if attention else []
        self.attentions = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for block in self.attentions:
            x = block(x)
        x = self.resnets[1](x)
        return x


class Resample(nn.Module):
    """Half or twice the size: a strided convolution, or nearest neighbours and a convolution."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        stride, padding = (1, 1) if up else (2, 0)
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            doubled: Tensor = self.conv(
                F.interpolate(x, scale_factor=2.0, mode="nearest")
            )
            return doubled
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Block(nn.Module):
    """ResNet blocks of one resolution, then a change of resolution in all but the last."""

    def __init__(
        self, widths: Sequence[int], groups: int, *, up: bool, is_last: bool
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            [Resnet(a, b, groups) for a, b in itertools.pairwise(widths)]
        )
        steps = [] if is_last else [Resample(widths[-1], up=up)]
        self.downsamplers = nn.ModuleList([] if up else steps)
        self.upsamplers = nn.ModuleList(steps if up else [])

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = block(x)
        return x


def _blocks(
    start: int, widths: Sequence[int], layers: int, groups: int, *, up: bool
) -> nn.ModuleList:
    blocks = []
    before = start
    for i, width in enumerate(widths):
        channels = [before, *[width] * layers]
        is_last = i == len(widths) - 1
        blocks.append(Block(channels, groups, up=up, is_last=is_last))
        before = width
    return nn.ModuleList(blocks)


class KLEncoder(nn.Module):
    """x (n, C, H, W) in [-1, 1] -> features of the places (n, H / f, W / f, features).

    Args:
        channels: C.
        widths: Channels of each block, the first of full resolution.
        layers: ResNet blocks of each.
        groups: Of the group normalisation.
        attention: Whether the middle has self-attention.
        features: Channels of the last convolution, the moments.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        layers: int,
        groups: int,
        attention: bool,
        features: int,
    ) -> None:
        super().__init__()
        self.features = features
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = _blocks(widths[0], widths, layers, groups, up=False)
        self.mid_block = Middle(widths[-1], groups, attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)
        h = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))
        pixels: Tensor = h.movedim(1, -1)
        return pixels


class KLDecoder(nn.Module):
    """z (n, places * inputs), place by place -> y (n, P, C, H, W).

    Args:
        inputs: Features of a place.
        grid: Height and width of the grid of places.
        out: (P, C, H, W).
        widths, layers, groups, attention: As of the encoder; a block has one layer more.
    """

    def __init__(
        self,
        inputs: int,
        grid: tuple[int, ...],
        out: tuple[int, ...],
        widths: Sequence[int],
        *,
        layers: int,
        groups: int,
        attention: bool,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.out = out
        top = widths[-1]
        self.post_quant_conv = nn.Conv2d(inputs, inputs, 1)
        self.conv_in = nn.Conv2d(inputs, top, 3, padding=1)
        self.mid_block = Middle(top, groups, attention)
        self.up_blocks = _blocks(top, widths[::-1], layers + 1, groups, up=True)
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=EPS)
        self.conv_out = nn.Conv2d(widths[0], out[0] * out[1], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        places = z.unflatten(1, (*self.grid, -1)).movedim(-1, 1)
        h = self.mid_block(self.conv_in(self.post_quant_conv(places)))
        for block in self.up_blocks:
            h = block(h)
        y = self.conv_out(F.silu(self.conv_norm_out(h)))
        out: Tensor = y.unflatten(1, self.out[:2])
        return out


class AutoencoderKL(MLP):
    """Convolutional network with attention, in the block layout of diffusers' AutoencoderKL.

    Images are read in [-1, 1], and each place of a grid smaller by 2^(blocks - 1) has features of
    its own. Rombach et al. 2022 (arXiv:2112.10752), appendix G.
    """

    reads_range = True

    def __init__(
        self,
        size: str,
        widths: Annotated[
            tuple[Count, ...] | None,
            Field(
                description="channels of each block, the first of full resolution; by default "
                "from size"
            ),
        ] = None,
        layers: Annotated[
            Count, Field(description="ResNet blocks of each block of the encoder")
        ] = 1,
        groups: Annotated[
            Count, Field(description="groups of the group normalisation")
        ] = 8,
        attention: Annotated[
            bool, Field(description="self-attention over the places of the grid")
        ] = True,
        moments: Annotated[
            Count,
            Field(description="channels of the moments; twice the features of a place"),
        ] = 8,
    ) -> None:
        super().__init__(size)
        first = SIZES[size].channels // 2
        self.widths = tuple(widths) if widths else (first, 2 * first, 2 * first)
        self.layers = layers
        self.groups = groups
        self.attention = attention
        self.moments = moments
        for width in self.widths:
            if width % groups:
                raise TightboundError(
                    f"network.groups = {groups} does not divide the width {width} of a block of "
                    f"network.widths = {list(self.widths)}: choose widths that are multiples"
                )

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        factor = 2 ** (len(self.widths) - 1)
        if len(shape) != 3 or any(side % factor for side in shape[1:]):
            raise TightboundError(
                f"network 'autoencoder-kl' with {len(self.widths)} blocks is for images whose "
                f"sides are multiples of {factor}, but an example here has shape {shape}: set "
                f"data.size to a multiple, fewer network.widths, or network conv"
            )
        return tuple(side // factor for side in shape[1:])

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        self.grid(shape)
        return KLEncoder(
            shape[0],
            self.widths,
            layers=self.layers,
            groups=self.groups,
            attention=self.attention,
            features=self.moments,
        )

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return KLDecoder(
            inputs,
            self.grid(out[1:]),
            out,
            self.widths,
            layers=self.layers,
            groups=self.groups,
            attention=self.attention,
        )
