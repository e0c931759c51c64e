"""Linear maps and multi-layer perceptrons, of vectors or flattened images."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from tightbound.components.networks.size import SIZES
from tightbound.core.component import Network
from tightbound.core.options import Count


class Residual(nn.Module):
    """x + SiLU(linear(norm(x))), (n, width) -> (n, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def perceptron(inputs: int, width: int, depth: int) -> nn.Sequential:
    """A hidden layer, then `depth` - 1 residual ones: (n, inputs) -> (n, width)."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.SiLU(),
        *(Residual(width) for _ in range(depth - 1)),
    )


class Flattened(nn.Module):
    """Encoder of the flattened input: x (n, *shape) -> h (n, features)."""

    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body = body
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x.flatten(1))
        return features


class Shaped(nn.Module):
    """Decoder with a linear last layer: (n, inputs) -> parameters (n, P, *shape)."""

    def __init__(self, body: nn.Module, width: int, out: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.out = out
        self.head = nn.Linear(width, math.prod(out))

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(z)).reshape(len(z), *self.out)
        return out


class Linear(Network):
    """Linear network: h is x itself, and the decoder is affine."""

    def __init__(self, size: str) -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return Flattened(nn.Identity(), math.prod(shape))

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return Shaped(nn.Identity(), inputs, out)

    def link(self, inputs: int) -> nn.Module:
        """The identity between the latents of a hierarchy, (n, inputs) -> (n, inputs)."""
        return Flattened(nn.Identity(), inputs)


class MLP(Network):
    """Multi-layer perceptron: hidden layers of equal width.

    size sets width and depth.
    """

    def __init__(
        self,
        size: str,
        width: Annotated[
            Count | None,
            Field(description="units of a hidden layer; by default from size"),
        ] = None,
        depth: Annotated[
            Count | None, Field(description="hidden layers; by default from size")
        ] = None,
    ) -> None:
        self.width = width or SIZES[size].width
        self.depth = depth or SIZES[size].depth

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return Flattened(
            perceptron(math.prod(shape), self.width, self.depth), self.width
        )

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return Shaped(perceptron(inputs, self.width, self.depth), self.width, out)

    def link(self, inputs: int) -> nn.Module:
        """Between the latents of a hierarchy: (n, inputs) -> (n, width)."""
        return Flattened(perceptron(inputs, self.width, self.depth), self.width)
