"""Conditional generation
======================

Digits of a class that you name, and one handwriting for all classes.

::

    python examples/conditional.py        # writes conditional.png, under a minute

On the command line::

    tightbound train digits --recipe conditional
    tightbound sample RUN --condition 7 --out 7.png
"""

from __future__ import annotations

import os
import tempfile

import torch
from matplotlib import pyplot as plt

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "400"))
CLASSES = [str(k) for k in range(10)]


def main() -> None:
    """Trains, and draws a grid: a class in each column, a z from the prior in each row."""
    settings = {"latent": 6, "train.steps": STEPS, "recipe.size": "s", "train.lr": 3e-3}
    with tempfile.TemporaryDirectory() as folder:
        run = tb.train(
            "digits",
            "conditional",
            out=f"{folder}/run",
            report=False,
            display="none",
            settings=settings,
        )
        z = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
        grid = [
            run.decode(z, condition=name).numpy() for name in CLASSES
        ]  # what z says, for each class
        _, axes = plt.subplots(len(z), len(CLASSES), figsize=(6, 3.8))
        for row in range(len(z)):
            for column, images in enumerate(grid):
                axes[row, column].imshow(images[row], cmap="gray_r")
                axes[row, column].axis("off")
        plt.savefig("conditional.png", dpi=120, bbox_inches="tight")

        x, y = (
            run.data.test.raw(torch.arange(100)),
            run.data.test.labels(torch.arange(100)),
        )
        told = tb.evaluate(run, k=50, limit=100, diagnosis=False).terms["log_px"]
        print(
            f"log p(x | class) = {told.mean:.1f} +- {told.se:.1f} nats on {len(x)} held-out digits"
        )
        means = torch.stack(
            [x[y == label].double().mean(0) for label in range(10)]
        )  # what each class looks like
        as_three = run.reconstruct(x[y != 3], condition="3")
        nearest = (as_three[:, None].double() - means).flatten(2).norm(dim=-1).argmin(1)
        share = (nearest == 3).double().mean()
        print(
            f"of {len(as_three)} other digits that are told to be a 3, "
            f"{share:.0%} are rebuilt nearest to the mean 3"
        )
        print("one handwriting a row, one class a column: conditional.png")


if __name__ == "__main__":
    main()
