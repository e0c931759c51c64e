"""Linear probe: accuracy of a logistic regression from features to labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tightbound.report.figures.display_scale import Array

MOST_LABELS = 100


@dataclass(frozen=True)
class Accuracy:
    """The share of test examples that are classified right, with its standard error."""

    value: float
    se: float

    @classmethod
    def of(cls, right: Array) -> Accuracy:
        """The accuracy from a flag per test example, (n,).

        The standard error is that of Agresti and Coull 1998,
        doi:10.1080/00031305.1998.10480550: two successes and two failures are added,
        so it is never 0.
        """
        n = len(right) + 4
        share = (float(right.sum()) + 2) / n
        return cls(float(right.mean()), float(np.sqrt(share * (1 - share) / n)))


def probeable(train: Array | None, test: Array | None) -> bool:
    """True for 2 to 100 labels with training and test examples of them."""
    if train is None or test is None:
        return False
    labels = np.unique(train[train >= 0])
    return (
        2 <= len(labels) <= MOST_LABELS
        and len(train) >= 2 * len(labels)
        and bool(np.isin(test, labels).any())
    )


def probe(train: Array, train_y: Array, test: Array, test_y: Array) -> Accuracy:
    """Test accuracy of logistic regression on standardised features.

    train, test: features (n, L); train_y, test_y: labels (n,), -1 where unknown, which
    are left out.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labelled = train_y >= 0
    scored = test_y >= 0
    steps = 300 if train.shape[1] <= 256 else 100
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=steps))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train[labelled], train_y[labelled])
    return Accuracy.of(model.predict(test[scored]) == test_y[scored])


def majority(train_y: Array, test_y: Array) -> Accuracy:
    """Test accuracy of always predicting the most frequent training label."""
    values, counts = np.unique(train_y[train_y >= 0], return_counts=True)
    return Accuracy.of(test_y[test_y >= 0] == values[counts.argmax()])
