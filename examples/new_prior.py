"""A new prior
===========

Features that are mostly near zero, Laplace instead of normal.

::

    python examples/new_prior.py               # trains on the embedded digits, a few seconds
    cd examples && tightbound train digits --set prior=new_prior:Sparse prior.scale=0.5

A prior is a subclass of tb.Prior. It is made with the number of features and its own options, and
`forward` returns p(z) of n rows. A distribution other than the normal is a subclass of
ReparameterisedDistribution and defines `from_noise`; sampling and annealing use it.
"""

# sphinx_gallery_thumbnail_path = "images/recipes/vamp.png"

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

import tightbound as tb
from tightbound.distributions import ReparameterisedDistribution

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "200"))


class Peaked(Independent, ReparameterisedDistribution):
    """prod_j Laplace(z_j; 0, scale), (n, d)."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__(
            Laplace(torch.zeros_like(scale), scale, validate_args=False),
            1,
            validate_args=False,
        )

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        """Normal noise to z with the same share of the distribution below it."""
        # twice the share beyond |noise|
        tail = torch.erfc(noise.abs() / math.sqrt(2)).clamp(min=1e-30)
        return -self.base_dist.scale * noise.sign() * tail.log(), None


class Sparse(tb.Prior):
    """p(z) = prod_j Laplace(z_j; 0, scale)."""

    def __init__(
        self,
        latent: int,
        scale: Annotated[
            float, Field(gt=0, description="mean distance from zero")
        ] = 0.7,
    ) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((latent,), scale))

    def forward(
        self, ctx: tb.Context, draw: tb.Draw, state: Tensor | None
    ) -> Distribution:
        return Peaked(self.get_buffer("scale").expand(ctx.n, -1))


def main() -> None:
    """Trains with both priors and compares their bounds and how many samples are near zero."""
    settings = {"latent": 8, "train.steps": STEPS, "recipe.size": "s", "seed": 0}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("standard", "new_prior:Sparse"):
            folder = Path(temporary) / name.split(":")[0]
            run = tb.train(
                "digits",
                prior=name,
                out=folder,
                report=False,
                display="none",
                settings={**settings},
            )
            near = (run.encode("digits").abs() < 0.2).float().mean()
            elbo = run.history()[-1]["valid"]["elbo"]
            print(
                f"{name}: ELBO {elbo:.1f} nats on held-out digits, {near:.0%} "
                "of codes within 0.2 of zero"
            )
        print("new digits:", tuple(run.sample(4).shape))


if __name__ == "__main__":
    main()
