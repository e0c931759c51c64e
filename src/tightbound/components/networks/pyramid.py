"""Networks for latents on grids from coarse to fine: features by scale, and blocks that lead from
scale to scale.
"""

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
    """Each channel times a gate in (0, 1) that all channels' means decide.

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
    """x + body(x) on (n, C, *grid), the body's last weights scaled by 1/sqrt(depth), so that deep
    stacks start calm.

    bottleneck: 1x1 to half the channels, two of side 3, 1x1 back (Child 2021, arXiv:2011.10650,
    figure 3). depthwise: 1x1 to thrice the channels, side 5 for each channel by itself, 1x1 back,
    squeeze and excitation (Vahdat and Kautz 2020, arXiv:2007.03898, figure 3), with group instead
    of batch normalisation.
    """

    def __init__(self, channels: int, grid: Grid, kind: Kind, depth: int) -> None:
        super().__init__()
        conv = CONV[len(grid) - 1]
        inner = channels // 2 if kind == "bottleneck" else 3 * channels
        side = 1 if max(grid) == 1 else 3 if kind == "bottleneck" else 5
        last: nn.Module = conv(inner, channels, 1)
        for parameter, scale in zip(
            last.parameters(), ((inner * depth) ** -0.5, 0.0), strict=True
        ):
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
                norm(channels),
                first,
                norm(inner),
                nn.SiLU(),
                between,
                norm(inner),
                nn.SiLU(),
            ]
            self.body = nn.Sequential(*mix, last, Squeeze(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Scales(nn.Module):
    """x to features by scale, the finest first, each (n, *grid, F): cells, and strided convolutions
    between.
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
        found = []
        for stage in self.stages:
            h = stage(h)
            found.append(h.movedim(1, -1))
        return found


class Places(nn.Module):
    """Modules that want channels first, between features at places: (n, *grid, inputs) -> (n,
    *grid, outputs).
    """

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.movedim(-1, 1)).movedim(1, -1)


class Link(nn.Module):
    """[state, z] (n, *grid, F + latent) to the next state (n, *below, F): z is added in, then a
    cell; then enlarged.

    Where the grid grows, each new place adds what it has learned, so that places may differ.
    first: there is no state.
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
        self.place = (
            None if below == grid else nn.Parameter(torch.zeros(features, *below))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x[..., self.split :])
        if self.split:
            y = y + x[..., : self.split]
        y = self.cell(y.movedim(-1, 1))
        if self.place is not None:
            y = F.interpolate(y, size=self.below, mode="nearest") + self.place
        return y.movedim(1, -1)


class Shown(nn.Module):
    """The state of the finest grid (n, *grid, F) to likelihood parameters (n, P, *shape)."""

    def __init__(self, body: nn.Module, side: int, out: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.side = side
        self.out = out

    def forward(self, state: Tensor) -> Tensor:
        y = from_patches(self.body(state.movedim(-1, 1)), self.side, self.out[2:])
        return y.reshape(len(state), *self.out)


class Pyramid(MultiscaleNetwork):
    """Features by scale for a top-down path: grids from that of patches down to a single place, one
    width for all.

    channels: at every scale.  cells: per scale in the encoder, and per latent in reader and link.
    kind: of the cells. coarsest: the longest side of the last grid.  sites: the scale of each
    latent from the bottom, 0 the finest; else they are spread evenly. Raises TightboundError where
    sites do not fit the data or the latents.
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
            return tuple(
                round(i * (most - 1) / max(1, latents - 1)) for i in range(latents)
            )
        if (
            len(self.sites) != latents
            or list(self.sites) != sorted(self.sites)
            or self.sites[-1] >= most
        ):
            raise TightboundError(
                f"network.sites = {list(self.sites)} does not fit {latents} "
                f"latents and scales 0 to {most - 1}: "
                "give one scale for each latent, in rising order"
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
            stages.append(
                nn.Sequential(
                    conv(c, c, 3, stride=2, padding=1), *self._cells(grid, depth)
                )
            )
        return Scales(
            conv(shape[0] * side ** (len(shape) - 1), c, 3, padding=1),
            stages,
            side,
            grids,
            c,
        )

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
        body = nn.Sequential(cells, norm(self.channels), nn.SiLU(), last)
        return Shown(body, side, out)
