"""Plain fully connected networks, as in the papers on likelihoods of VAEs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tightbound.components.networks.mlp import Flattened, Shaped
from tightbound.components.networks.size import SIZES
from tightbound.core.component import Network
from tightbound.core.options import Count

Activation = Literal["tanh", "relu", "silu", "softplus", "gated"]
FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


class Gated(nn.Module):
    """Gated linear unit: (W x + b) * sigmoid(V x + c), (n, inputs) -> (n, width).

    Dauphin et al. 2017 (arXiv:1612.08083), eq. 1; Tomczak and Welling 2018 (arXiv:1705.07120),
    section 4.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(inputs, width)
        self.gate = nn.Linear(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.value(x) * torch.sigmoid(self.gate(x))
        return gated


def layer(inputs: int, width: int, activation: str) -> nn.Module:
    """A linear map and its activation; both in one where it is gated."""
    if activation == "gated":
        return Gated(inputs, width)
    return nn.Sequential(nn.Linear(inputs, width), FUNCTIONS[activation]())


def layers(inputs: int, widths: tuple[int, ...], activation: str) -> nn.Sequential:
    """Hidden layers of these widths: (n, inputs) -> (n, widths[-1])."""
    pairs = itertools.pairwise((inputs, *widths))
    return nn.Sequential(*(layer(a, b, activation) for a, b in pairs))


class Dense(Network):
    """Plain multi-layer perceptron: hidden layers without norms or residuals.

    The decoder has the encoder's widths in reverse order. Burda et al. 2016 (arXiv:1509.00519) use
    two of 200 with tanh, Tomczak and Welling 2018 (arXiv:1705.07120) two of 300 that are gated. By
    default size sets width and number.
    """

    def __init__(
        self,
        size: str,
        widths: Annotated[
            tuple[Count, ...] | None,
            Field(
                min_length=1,
                description="units of the hidden layers, from x on; by default from size",
            ),
        ] = None,
        link_widths: Annotated[
            tuple[Count, ...] | None,
            Field(
                min_length=1,
                description="those between the latents of a hierarchy; by default as widths",
            ),
        ] = None,
        activation: Annotated[
            Activation, Field(description="non-linearity of the hidden layers")
        ] = "tanh",
    ) -> None:
        self.widths = widths or (SIZES[size].width,) * SIZES[size].depth
        self.link_widths = link_widths or self.widths
        self.activation = activation

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        inputs = torch.Size(shape).numel()
        return Flattened(layers(inputs, self.widths, self.activation), self.widths[-1])

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        widths = self.widths[::-1]
        return Shaped(layers(inputs, widths, self.activation), widths[-1], out)

    def link(self, inputs: int) -> nn.Module:
        """Between the latents of a hierarchy: (n, inputs) -> (n, link_widths[-1])."""
        body = layers(inputs, self.link_widths, self.activation)
        return Flattened(body, self.link_widths[-1])
