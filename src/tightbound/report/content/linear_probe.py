"""A linear probe: how well labels are read off features by logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_LABELS = 100


@dataclass(frozen=True)
class Accuracy:
    """A share of the test examples, with its standard error."""

    value: float
    se: float

    @classmethod
    def of(cls, right: Array) -> Accuracy:
        """From a flag per test example; two successes and two failures are added for the error, so
        it is never 0.

        Agresti and Coull 1998, doi:10.1080/00031305.1998.10480550.
        """
        n = len(right) + 4
        share = (float(right.sum()) + 2) / n
        return cls(float(right.mean()), float(np.sqrt(share * (1 - share) / n)))


def probeable(train: Array | None, test: Array | None) -> bool:
    """True where a probe means something: two labels or more, not too many, and examples of them on
    both sides.
    """
    if train is None or test is None:
        return False
    seen = np.unique(train[train >= 0])
    return (
        2 <= len(seen) <= MOST_LABELS
        and len(train) >= 2 * len(seen)
        and bool(np.isin(test, seen).any())
    )


def probe(train: Array, train_y: Array, test: Array, test_y: Array) -> Accuracy:
    """Logistic regression on standardised features (n, L) with labels (n,); accuracy on the test
    features.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, asked = train_y >= 0, test_y >= 0
    steps = 300 if train.shape[1] <= 256 else 100
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=steps))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train[known], train_y[known])
    return Accuracy.of(model.predict(test[asked]) == test_y[asked])


def majority(train_y: Array, test_y: Array) -> Accuracy:
    """The accuracy of always naming the training data's most frequent label."""
    values, counts = np.unique(train_y[train_y >= 0], return_counts=True)
    return Accuracy.of(test_y[test_y >= 0] == values[counts.argmax()])
