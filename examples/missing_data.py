"""Missing values
==============

Learn from digits of which half the pixels are gone, and fill them in.

::

    python examples/missing_data.py       # writes missing_data.png, under a minute

NaN, or an empty cell of a CSV file, is a missing value. On the command line::

    tightbound train gaps.csv --recipe missing-data
    tightbound reconstruct RUN gaps.csv --draws 5 --out filled.npz
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "400"))


def main() -> None:
    """Trains on the gaps alone, imputes them, and compares with the mean of each pixel."""
    truth = load_digits().images
    rng = np.random.default_rng(0)
    gone = rng.random(truth.shape) < 0.5
    x = np.where(gone, np.nan, truth)
    settings = {
        "latent": 8,
        "train.steps": STEPS,
        "recipe.size": "s",
        "recipe.k": 5,
        "train.lr": 3e-3,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = tb.train(
            x,
            "missing-data",
            out=f"{folder}/run",
            report=False,
            display="none",
            settings=settings,
        )
        some = slice(0, 200)
        found = run.impute(x[some], k=200, draws=3)
    error = np.sqrt(np.mean((found.x.numpy() - truth[some])[gone[some]] ** 2))
    plain = np.sqrt(np.mean((np.nanmean(x, 0) - truth[some])[gone[some]] ** 2))
    inside = np.mean(
        np.abs(found.x.numpy() - truth[some])[gone[some]]
        < 2 * found.sd.numpy()[gone[some]]
    )
    print(
        f"root mean square error of imputed pixels: {error:.2f} of 16 levels; "
        f"by the mean of each pixel {plain:.2f}"
    )
    print(
        f"{100 * inside:.0f} % of the true values lie within two of the "
        "standard deviations that it gives"
    )

    rows = [
        np.nan_to_num(x[some], nan=8.0),
        found.x.numpy(),
        *found.draws.numpy(),
        truth[some],
    ]
    names = ["seen (grey: missing)", "mean", "draw 1", "draw 2", "draw 3", "truth"]
    _, axes = plt.subplots(len(rows), 8, figsize=(7, 5.2))
    for line, (images, name) in enumerate(zip(rows, names, strict=True)):
        for column in range(8):
            axes[line, column].imshow(images[column], cmap="gray_r", vmin=0, vmax=16)
            axes[line, column].set(xticks=[], yticks=[])
        axes[line, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    plt.savefig("missing_data.png", dpi=120, bbox_inches="tight")
    print("what was seen, imputations and the truth: missing_data.png")


if __name__ == "__main__":
    main()
