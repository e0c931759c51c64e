"""Features of a run for labels: probes, clustering and few labels, beside baselines."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.distributions.random import seed_for
from tightbound.evaluation.metrics.example_sets import (
    Array,
    raw_values,
    training_split,
)
from tightbound.evaluation.metrics.novelty import spread
from tightbound.evaluation.summary import Table
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Tree

Labels = NDArray[np.int64]
MOST_TRAIN = 10_000
MOST_TEST = 2000
MOST_LABELS = 100
NEIGHBOURS = 5
FEW = 10  # labels of each class
DRAWS = 5  # of the few labels
STARTS = 5  # of k-means


@dataclass(frozen=True)
class Probed:
    """Figures of one set of features.

    Args:
        width: number of features.
        linear: accuracy of logistic regression on test examples, and its standard error.
        neighbours: the same of the 5 nearest training examples.
        few: the same of logistic regression from 10 labels of each class; the error is
            over five draws of the labels.
        nmi: normalised mutual information of k-means clusters and labels.
        ari: adjusted Rand index of the same.
    """

    width: int
    linear: tuple[float, float]
    neighbours: tuple[float, float]
    few: tuple[float, float]
    nmi: float
    ari: float

    def to_json(self) -> Tree:
        """All fields as JSON."""
        pairs = {
            name: {"mean": mean, "se": se}
            for name, (mean, se) in (
                ("linear", self.linear),
                ("neighbours", self.neighbours),
                ("few", self.few),
            )
        }
        return {"width": self.width, **pairs, "nmi": self.nmi, "ari": self.ari}


@dataclass(frozen=True)
class Features:
    """Features of a run and of the baselines.

    Args:
        train: training examples with labels.
        test: test examples with labels.
        classes: number of classes.
        majority: accuracy of the most frequent label.
        sets: by name: those of the run, of PCA with as many components, of another run.
    """

    train: int
    test: int
    classes: int
    majority: float
    sets: Mapping[str, Probed]

    def to_json(self) -> Tree:
        """All fields as JSON."""
        return {
            "train": self.train,
            "test": self.test,
            "classes": self.classes,
            "majority": self.majority,
            "sets": {name: probed.to_json() for name, probed in self.sets.items()},
        }

    def tables(self) -> list[Table | list[str]]:
        """A row for each set of features."""
        rows = []
        for name, p in self.sets.items():
            shares = [f"{m:.3f} ± {s:.3f}" for m, s in (p.linear, p.neighbours, p.few)]
            clusters = (f"{p.nmi:.3f}", f"{p.ari:.3f}")
            rows.append((name, str(p.width), *shares, *clusters))
        header = (
            "features",
            "width",
            "linear probe",
            f"{NEIGHBOURS} nearest",
            f"{FEW} labels a class",
            "NMI",
            "ARI",
        )
        caption = (
            f"accuracy on {self.test:,} test labels of {self.classes} classes, from "
            f"{self.train:,} training labels; always the most frequent one: {self.majority:.3f}"
        )
        return [Table(header, rows, numbers=(1, 2, 3, 4, 5, 6), caption=caption)]


def check_labels(run: Run) -> None:
    """Raise TightboundError for data without usable labels."""
    train = training_split(run)
    test = run.data.test
    known = [0, 0]
    if train.y is not None and test.y is not None:
        trained = torch.unique(train.y[train.y >= 0])
        known = [len(trained), int(torch.isin(test.y, trained).sum())]
    if not 2 <= known[0] <= MOST_LABELS or not known[1]:
        raise TightboundError(
            f"features are judged by 2 to {MOST_LABELS} labels of training and test examples, and "
            f"these data have {known[0]}: leave features out of --metrics"
        )


def check_beside(run: Run, other: Run) -> None:
    """Raise TightboundError for a run whose features cannot stand beside those of a run."""
    width = sum(run.model.site_widths.values())
    of_other = sum(other.model.site_widths.values())
    if width != of_other:
        raise TightboundError(
            f"run {other.name!r} has {of_other} features and {run.name!r} {width}, so their "
            "accuracies do not compare: name a run of equal size with --beside"
        )
    if other.data.digest != run.data.digest:
        raise TightboundError(
            f"run {other.name!r} was trained on other data than {run.name!r}: name a run on the "
            "same data with --beside"
        )


def features(run: Run, seed: int, beside: Run | None = None) -> Features:
    """Probes of a run's posterior means, of PCA, and of another run.

    Args:
        run: a run on data with labels.
        seed: seed of the few labels and of k-means.
        beside: a run on the same data with as many features, such as an autoencoder.
    """
    check_labels(run)
    train, y_train = _some(training_split(run), MOST_TRAIN)
    test, y_test = _some(run.data.test, MOST_TEST)
    number = seed_for(seed, "features") % 2**32
    width = sum(run.model.site_widths.values())
    raw = (raw_values(run, train.x), raw_values(run, test.x))
    sets = {
        run.name: _probed(_encoded(run, train, test), (y_train, y_test), number),
        "PCA": _probed(_principal(raw, width, number), (y_train, y_test), number),
    }
    if beside is not None:
        check_beside(run, beside)
        others = [_some(training_split(beside), MOST_TRAIN)[0]]
        others.append(_some(beside.data.test, MOST_TEST)[0])
        name = beside.name if beside.name != run.name else f"{beside.name} (beside)"
        encoded = _encoded(beside, others[0], others[1])
        sets[name] = _probed(encoded, (y_train, y_test), number)
    values, counts = np.unique(y_train, return_counts=True)
    return Features(
        train=len(y_train),
        test=len(y_test),
        classes=len(values),
        majority=float((y_test == values[counts.argmax()]).mean()),
        sets=sets,
    )


def _some(split: Split, most: int) -> tuple[Batch, Labels]:
    """Examples that have a label, spread evenly, and their labels."""
    assert split.y is not None
    rows = torch.nonzero(split.y >= 0)[:, 0]
    rows = rows[spread(len(rows), most)]
    return split.examples(rows), split.y[rows].cpu().numpy()


def _encoded(run: Run, train: Batch, test: Batch) -> tuple[Array, Array]:
    """Posterior means of training and test examples."""
    means = [run.predictor.encode_mean(x).double().numpy() for x in (train, test)]
    return means[0], means[1]


def _principal(x: tuple[Array, Array], width: int, seed: int) -> tuple[Array, Array]:
    """As many principal components of the raw values, fitted to the training examples."""
    from sklearn.decomposition import PCA

    components = min(width, *x[0].shape)
    model = PCA(components, random_state=seed, svd_solver="randomized").fit(x[0])
    return model.transform(x[0]), model.transform(x[1])


def _probed(x: tuple[Array, Array], y: tuple[Labels, Labels], seed: int) -> Probed:
    """All figures of features of training and test examples (n, L), standardised."""
    from sklearn.neighbors import KNeighborsClassifier

    mean = x[0].mean(0)
    sd = np.maximum(x[0].std(0), 1e-12)
    train = (x[0] - mean) / sd
    test = (x[1] - mean) / sd
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(train))).fit(train, y[0])
    nmi, ari = clusters(test, y[1], seed)
    return Probed(
        width=train.shape[1],
        linear=accuracy(_linear(train, y[0], test) == y[1]),
        neighbours=accuracy(nearest.predict(test) == y[1]),
        few=_few_labels((train, test), y, seed),
        nmi=nmi,
        ari=ari,
    )


def _linear(train: Array, y: Labels, test: Array) -> Labels:
    """Labels of test rows by logistic regression."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=300).fit(train, y)
    labels: Labels = model.predict(test)
    return labels


def accuracy(right: NDArray[np.bool_]) -> tuple[float, float]:
    """The share that is right with its standard error, Agresti and Coull's, never 0."""
    n = len(right) + 4
    share = (float(right.sum()) + 2) / n
    return float(right.mean()), float(np.sqrt(share * (1 - share) / n))


def _few_labels(
    x: tuple[Array, Array], y: tuple[Labels, Labels], seed: int
) -> tuple[float, float]:
    """Accuracy from ten labels of each class: mean and standard error over five draws."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(DRAWS):
        rows = [
            rng.permutation(np.nonzero(y[0] == label)[0])[:FEW]
            for label in np.unique(y[0])
        ]
        few = np.concatenate(rows)
        guess = _linear(x[0][few], y[0][few], x[1])
        values.append(float((guess == y[1]).mean()))
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(DRAWS))


def clusters(x: Array, y: Labels, seed: int) -> tuple[float, float]:
    """NMI and ARI with labels of k-means with as many clusters as there are labels."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    count = min(len(np.unique(y)), len(x))
    groups = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(x)
    nmi = float(normalized_mutual_info_score(y, groups))
    return nmi, float(adjusted_rand_score(y, groups))
