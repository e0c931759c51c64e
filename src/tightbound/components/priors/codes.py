"""Priors over discrete codes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.core.component import ModelAware, Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.options import Count
from tightbound.distributions import CodeChain, UniformCodes


class UniformCodesPrior(ModelAware, Prior):
    """Uniform prior over codes: log P = -N log K.

    van den Oord et al. 2017 (arXiv:1711.00937), section 3.1.
    """

    latent_space = "codes"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return UniformCodes(
            ctx.n, self.model.hierarchy.posterior.codebook, self.get_buffer("zero")
        )


class Masked(nn.Module):
    """Masked convolution: each place reads the places before it, row after row.

    own_place: whether it also reads the place itself.
    """

    def __init__(
        self, axes: int, inputs: int, outputs: int, kernel: int, own_place: bool
    ) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.conv = conv(inputs, outputs, kernel, padding=kernel // 2)
        last = kernel**axes // 2
        if own_place:
            last += 1
        mask = (torch.arange(kernel**axes) < last).reshape([kernel] * axes)
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv._conv_forward(
            x, self.conv.weight * self.get_buffer("mask"), self.conv.bias
        )
        return out


class PixelCNN(nn.Module):
    """PixelCNN: logits (n, N, K) of each code given those before it.

    Masked convolutions over entry numbers (n, N) on a grid of `shape`. van den Oord et al. 2016
    (arXiv:1601.06759), section 3.4.
    """

    def __init__(
        self, shape: tuple[int, ...], codes: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.shape = shape
        axes = len(shape)
        self.vectors = nn.Embedding(codes, width)
        self.place = nn.Parameter(0.1 * torch.randn(width, *shape))
        self.first = Masked(axes, width, width, 7, own_place=False)
        self.blocks = nn.ModuleList(
            Masked(axes, width, 2 * width, 5, own_place=True) for _ in range(depth)
        )
        self.head = nn.Linear(width, codes)

    def forward(self, index: Tensor) -> Tensor:
        x = self.vectors(index).unflatten(1, self.shape).movedim(-1, 1)
        x = self.first(x) + self.place
        for block in self.blocks:
            x = x + F.glu(block(F.silu(x)), 1)
        logits: Tensor = self.head(F.silu(x).flatten(2).mT)
        return logits


class PixelCNNPrior(ModelAware, Prior):
    """PixelCNN prior: P(codes) = prod_i P(code_i | codes before it), on their grid.

    The grid is one row of codes where the encoder keeps none. Codes of one place are neighbours in
    the row, residual levels from coarse to fine. van den Oord et al. 2016 (arXiv:1601.06759),
    section 3.4; over codes, 2017 (arXiv:1711.00937), section 3.3.
    """

    latent_space = "codes"
    fits_by_gradient = True
    reads_code_indices = True

    def __init__(
        self,
        latent: int,
        width: Annotated[Count, Field(description="channels")] = 64,
        depth: Annotated[Count, Field(description="blocks")] = 5,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth

    def attach(self, model: Any) -> None:
        """Make the network for the codebook of the posterior and the grid of the encoder."""
        super().attach(model)
        codebook = model.hierarchy.posterior.codebook
        grid = model.hierarchy.grid or (1,)
        per_place = codebook.groups // math.prod(grid)
        shape = (*grid[:-1], grid[-1] * per_place)
        self.net = PixelCNN(shape, codebook.size, self.width, self.depth)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return CodeChain(
            ctx.n, self.model.hierarchy.posterior.codebook, self.net, self.net.place
        )
