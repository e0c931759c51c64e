"""What the classes of a model have to do with the labels of its data."""

from __future__ import annotations

import numpy as np
import torch

from tightbound.data import Split
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run


def agreement(run: Run, split: Split, rows: torch.Tensor) -> str | None:
    """One sentence: how often a predicted label is right, or how well clusters agree with labels;
    None without labels.

    Of clusters: normalised mutual information, and the accuracy of the best one-to-one matching of
    clusters to labels.
    """
    labels = split.labels(rows)
    if not run.model.classes or labels is None or not bool((labels >= 0).any()):
        return None
    known = rows[labels >= 0]
    y = labels[labels >= 0].numpy()
    found = torch.cat(
        [
            run.predictor.class_probabilities(split.examples(some)).argmax(1)
            for some in known.split(1000)
        ]
    ).numpy()
    if run.spec.labels is not None:
        right = Mean.of(torch.from_numpy(found == y).double())
        share = f"{100 * right.mean:.1f} % (+- {100 * right.se:.1f})"
        return f"the predicted label is right for {share} of {len(y)} examples"
    from scipy.optimize import (
        linear_sum_assignment,
    )  # only now: importing the two takes a second
    from sklearn.metrics import normalized_mutual_info_score

    table = np.zeros((found.max() + 1, y.max() + 1), dtype=int)
    np.add.at(table, (found, y), 1)
    matched = table[linear_sum_assignment(-table)].sum() / len(y)
    return (
        f"clusters against the labels of {len(y)} examples: normalised mutual information "
        f"{normalized_mutual_info_score(y, found):.3f}, accuracy of the best "
        f"matching {100 * matched:.1f} %"
    )
