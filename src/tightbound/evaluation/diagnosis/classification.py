"""Agreement of a model's classes with the labels of its data."""

from __future__ import annotations

import numpy as np
import torch

from tightbound.data import Split
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run


def agreement(run: Run, split: Split, rows: torch.Tensor) -> str | None:
    """One sentence on the accuracy of predicted labels, or of clusters.

    Of clusters: normalised mutual information, and the accuracy of the best one-to-one
    matching of clusters to labels.

    Returns:
        None without classes or labels.
    """
    labels = split.labels(rows)
    if not run.model.classes or labels is None or not bool((labels >= 0).any()):
        return None
    labelled = rows[labels >= 0]
    y = labels[labels >= 0].numpy()
    parts = []
    for part in labelled.split(1000):
        probabilities = run.predictor.class_probabilities(split.examples(part))
        parts.append(probabilities.argmax(1))
    predicted = torch.cat(parts).numpy()
    if run.spec.labels is not None:
        right = Mean.of(torch.from_numpy(predicted == y).double())
        share = f"{100 * right.mean:.1f} % (+- {100 * right.se:.1f})"
        return f"the predicted label is right for {share} of {len(y)} examples"
    # imported here, as the two take a second
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import normalized_mutual_info_score

    table = np.zeros((predicted.max() + 1, y.max() + 1), dtype=int)
    np.add.at(table, (predicted, y), 1)
    matched = table[linear_sum_assignment(-table)].sum() / len(y)
    information = normalized_mutual_info_score(y, predicted)
    return (
        f"clusters against the labels of {len(y)} examples: normalised mutual information "
        f"{information:.3f}, accuracy of the best matching {100 * matched:.1f} %"
    )
