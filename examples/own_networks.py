"""Your own encoder and decoder
============================

Any modules, trained, saved and evaluated like the built-in ones.

::

    python examples/own_networks.py            # trains on the embedded digits, a few seconds
    cd examples && tightbound train digits --set network=own_networks:Network network.width=32

A network is a class that is made with the size dial and its own options, and that gives two
modules. The encoder may give any shape, the decoder one value for each likelihood parameter in any
shape: the package brings both to rows.
"""

# sphinx_gallery_thumbnail_path = "images/recipes/hvae.png"

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

from torch import Tensor, nn

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "400"))


class Mixer(nn.Module):
    """x + two perceptrons, one over the pixels of a channel and one over the channels of a pixel;
    (n, P, C).
    """

    def __init__(self, places: int, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.over_places, self.over_channels = (
            nn.Linear(places, places),
            nn.Linear(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + nn.functional.gelu(self.over_places(self.norms[0](x).mT)).mT
        return x + nn.functional.gelu(self.over_channels(self.norms[1](x)))


class Tokens(nn.Module):
    """An image (n, C, H, W) as a sequence of its pixels (n, H W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mT


class Pixels(nn.Module):
    """Rows (n, P * width) as a sequence (n, P, width)."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.places, -1))


class Network(tb.Network):
    """An MLP-mixer on single pixels (Tolstikhin et al. 2021, arXiv:2105.01601)."""

    def __init__(self, size: str, width: int = 16) -> None:
        self.width = width

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """x (n, *shape), centred and scaled by the package -> anything."""
        channels, places = shape[0], math.prod(shape[1:])
        return nn.Sequential(
            Tokens(), nn.Linear(channels, self.width), Mixer(places, self.width)
        )

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        """z (n, inputs) -> out = (P, *shape), P values a pixel for the likelihood."""
        each, places = out[0] * out[1], math.prod(out[2:])
        start = nn.Sequential(nn.Linear(inputs, places * self.width), Pixels(places))
        return nn.Sequential(
            start, Mixer(places, self.width), nn.Linear(self.width, each), Turned()
        )


class Turned(nn.Module):
    """A sequence of pixels (n, P, each) with the pixels last, as an image has them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT


def main() -> None:
    """Trains with the network above and with the built-in one, and reads the first back from its
    folder.
    """
    settings = {"latent": 8, "train.steps": STEPS, "recipe.size": "s"}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("own_networks:Network", "mlp"):
            folder = Path(temporary) / name.split(":")[0]
            run = tb.train(
                "digits",
                network=name,
                out=folder,
                report=False,
                display="none",
                settings={**settings},
            )
            elbo = run.history()[-1]["valid"]["elbo"]
            count = sum(p.numel() for p in run.model.parameters())
            print(f"{name}: {count:,} weights, ELBO {elbo:.1f} nats on held-out digits")
        again = tb.load(
            Path(temporary) / "own_networks", trust=True
        )  # it runs the code above: trust says so
        print("reconstructions read back:", tuple(again.reconstruct("digits:0").shape))


if __name__ == "__main__":
    main()
