"""Multiscale networks for latents on grids from coarse to fine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.components.networks.conv import (
    CONV,
    Grid,
    from_patches,
    norm,
    patch_side,
    pyramid,
    to_patches,
)
from tightbound.components.networks.size import SIZES
from tightbound.core.component import Level, MultiscaleNetwork
from tightbound.core.options import Count
from tightbound.runtime.errors import TightboundError

Kind = Literal["bottleneck", "depthwise"]


class Squeeze(nn.Module):
    """Squeeze and excitation: channels times gates in (0, 1) from all channel means.

    Hu et al. 2018 (arXiv:1709.01507), eq. 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(4, channels // 16)
        self.gate = nn.Sequential(
            nn.Linear(channels, inner),
            nn.SiLU(),
            nn.Linear(inner, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x.flatten(2).mean(2))
        return x * gate.reshape(*gate.shape, *[1] * (x.dim() - 2))


class Cell(nn.Module):
    """Residual cell: x + body(x) on (n, C, *grid).

    The last weights of the body are scaled by 1/sqrt(depth), so that deep stacks are stable at the
    start. bottleneck: 1x1 to half the channels, two of side 3, 1x1 back (Child 2021,
    arXiv:2011.10650, figure 3). depthwise: 1x1 to three times the channels, side 5 for each channel
    by itself, 1x1 back, squeeze and excitation (Vahdat and Kautz 2020, arXiv:2007.03898, figure 3),
    with group instead of batch normalisation.
    """

    def __init__(self, channels: int, grid: Grid, kind: Kind, depth: int) -> None:
        super().__init__()
        conv = CONV[len(grid) - 1]
        inner = 3 * channels
        side = 5
        if kind == "bottleneck":
            inner = channels // 2
            side = 3
        if max(grid) == 1:
            side = 1
        last: nn.Module = conv(inner, channels, 1)
        scales = ((inner * depth) ** -0.5, 0.0)  # of weight and bias
        for parameter, scale in zip(last.parameters(), scales, strict=True):
            nn.init.normal_(parameter, std=scale)
        first = conv(channels, inner, 1)
        between = conv(inner, inner, side, padding=side // 2)
        if kind == "bottleneck":
            again = conv(inner, inner, side, padding=side // 2)
            self.body = nn.Sequential(
                nn.SiLU(), first, nn.SiLU(), between, nn.SiLU(), again, nn.SiLU(), last
            )
        else:
            between = conv(inner, inner, side, padding=side // 2, groups=inner)
            mix = [
                norm(channels, grid),
                first,
                norm(inner, grid),
                nn.SiLU(),
                between,
                norm(inner, grid),
                nn.SiLU(),
            ]
            self.body = nn.Sequential(*mix, last, Squeeze(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Scales(nn.Module):
    """Multiscale encoder: x to features by scale, (n, *grid, F), the finest first.

    Cells, with strided convolutions between the scales.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        side: int,
        grids: list[Grid],
        features: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.side = side
        self.grids = grids
        self.features = features

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.stem(to_patches(x, self.side))
        features = []
        for stage in self.stages:
            h = stage(h)
            features.append(h.movedim(1, -1))
        return features


class Places(nn.Module):
    """Channels-first modules applied to features (n, *grid, inputs)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        pixels: Tensor = self.body(x.movedim(-1, 1)).movedim(1, -1)
        return pixels


class Link(nn.Module):
    """[state, z] (n, *grid, F + latent) to the next state (n, *below, F).

    z is added to the state, then a cell, then enlargement. Where the grid grows, each new place
    adds a learned vector, so that places may differ. first: there is no state.
    """

    def __init__(
        self,
        features: int,
        latent: int,
        cell: nn.Module,
        grid: Grid,
        below: Grid,
        first: bool,
    ) -> None:
        super().__init__()
        self.split = 0 if first else features
        self.cell = cell
        self.mix = nn.Linear(latent, features)
        self.below = below
        self.place: nn.Parameter | None = None
        if below != grid:
            self.place = nn.Parameter(torch.zeros(features, *below))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x[..., self.split :])
        if self.split:
            y = y + x[..., : self.split]
        y = self.cell(y.movedim(-1, 1))
        if self.place is not None:
            y = F.interpolate(y, size=self.below, mode="nearest") + self.place
        pixels: Tensor = y.movedim(1, -1)
        return pixels


class Outputs(nn.Module):
    """The state of the finest grid to likelihood parameters (n, P, *shape)."""

    def __init__(self, body: nn.Module, side: int, out: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.side = side
        self.out = out

    def forward(self, state: Tensor) -> Tensor:
        y = from_patches(self.body(state.movedim(-1, 1)), self.side, self.out[2:])
        return y.reshape(len(state), *self.out)


class Pyramid(MultiscaleNetwork):
    """Multiscale network of a top-down hierarchy, on grids from patches to one place.

    All scales have one width. Raises TightboundError where `sites` does not fit the data or the
    latents.
    """

    def __init__(
        self,
        size: str,
        channels: Annotated[
            Count | None,
            Field(description="channels at every scale; by default from size"),
        ] = None,
        cells: Annotated[
            Count,
            Field(
                description="cells per scale in the encoder, and per latent in reader and link"
            ),
        ] = 1,
        kind: Annotated[Kind, Field(description="kind of the cells")] = "bottleneck",
        coarsest: Annotated[
            Count, Field(description="longest side of the last grid")
        ] = 1,
        sites: Annotated[
            tuple[int, ...] | None,
            Field(
                description="scale of each latent from the bottom, 0 the finest; else spread evenly"
            ),
        ] = None,
    ) -> None:
        self.channels = channels or SIZES[size].channels
        self.cells = cells
        self.kind = kind
        self.coarsest = coarsest
        self.sites = sites

    def _cells(self, grid: Grid, depth: int) -> nn.Sequential:
        return nn.Sequential(
            *(Cell(self.channels, grid, self.kind, depth) for _ in range(self.cells))
        )

    def scales(self, shape: tuple[int, ...], latents: int) -> tuple[int, ...]:
        """The scale of each latent from the bottom."""
        most = len(pyramid(*shape[1:], last=self.coarsest))
        if self.sites is None:
            step = max(1, latents - 1)
            return tuple(round(i * (most - 1) / step) for i in range(latents))
        is_rising = list(self.sites) == sorted(self.sites)
        if len(self.sites) != latents or not is_rising or self.sites[-1] >= most:
            raise TightboundError(
                f"network.sites = {list(self.sites)} does not fit {latents} latents and "
                f"scales 0 to {most - 1}: give one scale for each latent, in rising order"
            )
        return self.sites

    def encoder(self, shape: tuple[int, ...], deepest: int) -> nn.Module:
        """x to features of scales 0 to `deepest`."""
        grids = pyramid(*shape[1:], last=1)[: deepest + 1]
        side = patch_side(*shape[1:])
        c = self.channels
        conv = CONV[len(shape) - 2]
        depth = len(grids) * self.cells
        stages = [self._cells(grids[0], depth)]
        for _, grid in itertools.pairwise(grids):
            down = conv(c, c, 3, stride=2, padding=1)
            stages.append(nn.Sequential(down, *self._cells(grid, depth)))
        stem = conv(shape[0] * side ** (len(shape) - 1), c, 3, padding=1)
        return Scales(stem, stages, side, grids, c)

    def reader(self, inputs: int, level: Level) -> nn.Module:
        first = CONV[len(level.grid) - 1](inputs, self.channels, 1)
        return Places(first, self._cells(level.grid, level.depth))

    def link(self, latent: int, level: Level) -> nn.Module:
        cells = self._cells(level.grid, level.depth)
        return Link(self.channels, latent, cells, level.grid, level.below, level.first)

    def decoder(self, level: Level, out: tuple[int, ...]) -> nn.Module:
        side = patch_side(*out[2:])
        dims = len(level.grid)
        last = CONV[dims - 1](self.channels, out[0] * out[1] * side**dims, 1)
        cells = self._cells(level.grid, level.depth)
        body = nn.Sequential(cells, norm(self.channels, level.grid), nn.SiLU(), last)
        return Outputs(body, side, out)
