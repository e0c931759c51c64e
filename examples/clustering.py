"""Clusters without labels, and a classifier from a few
====================================================

A class as an enumerated latent.

::

    python examples/clustering.py         # writes clustering.png, under a minute

On the command line, where the codes have the cluster of each row::

    tightbound train x.csv --recipe gm-vae --set classes=10
    tightbound encode RUN x.csv --out z.csv

With some labels in a column, the rest empty, `--recipe m2` predicts them.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "300"))


SETTINGS = {
    "recipe.network": "mlp",
    "recipe.network.width": 64,
    "recipe.network.depth": 1,
    "train.lr": 5e-3,
    "train.batch": 64,
    "train.validate_n": 32,
    "train.steps": STEPS,
    "latent": 8,
}


def clusters(x: np.ndarray, truth: np.ndarray, folder: str) -> None:
    """Clusters the digits, and draws the centre of each with some of its digits."""
    run = tb.train(
        x,
        "gm-vae",
        out=folder,
        report=False,
        display="none",
        settings=SETTINGS | {"classes": 10},
    )
    cluster = run.predict(x).argmax(1).numpy()
    used = np.unique(cluster)
    purity = sum(np.bincount(truth[cluster == k]).max() for k in used) / len(x)
    agreement = normalized_mutual_info_score(truth, cluster)
    print(
        f"{len(used)} clusters of {len(x)} digits, labels unseen: "
        f"normalised mutual information {agreement:.2f},"
    )
    print(
        f"  and {100 * purity:.0f} % of the digits are of the class that "
        "is most common in their cluster"
    )
    _, axes = plt.subplots(len(used), 9, figsize=(5.5, 0.6 * len(used)), squeeze=False)
    for line, k in enumerate(used):
        made = run.sample(1, condition=int(k), temperature=0.0)
        members = x[cluster == k][:8]
        for column, image in enumerate([made[0].numpy(), *members]):
            axes[line, column].imshow(image, cmap="gray_r" if column else "Blues")
    for ax in axes.flat:
        ax.axis("off")
    plt.savefig("clustering.png", dpi=120, bbox_inches="tight")


def from_few_labels(x: np.ndarray, truth: np.ndarray, folder: str) -> None:
    """Learns the classes from 100 labels and all images."""
    known = np.random.default_rng(0).permutation(len(x))[:100]
    y = np.full(len(x), -1)
    y[known] = truth[known]
    m2 = tb.train(
        (x, y),
        "m2",
        out=folder,
        report=False,
        display="none",
        settings=SETTINGS,
    )
    right = m2.predict(x).argmax(1).numpy() == truth
    print(
        f"m2, 100 labels: right for {100 * right[y < 0].mean():.0f} % of "
        f"the {np.sum(y < 0)} digits without one"
    )


def main() -> None:
    bunch = load_digits()
    x, truth = bunch.images.astype(np.uint8), bunch.target
    with tempfile.TemporaryDirectory() as folder:
        clusters(x, truth, f"{folder}/gm")
        from_few_labels(x, truth, f"{folder}/m2")
    print("the centre of each cluster (blue) and some of its digits: clustering.png")


if __name__ == "__main__":
    main()
