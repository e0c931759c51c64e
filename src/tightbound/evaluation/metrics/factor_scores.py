"""Scores of disentanglement from codes and known factors of variation.

Definitions as in Locatello et al. 2019 (arXiv:1811.12359), with differences where they are named.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 20
LEAST_SD = 0.05  # of the largest standard deviation: codes below it are idle
IDLE = 0.05  # of the largest information: codes below it are idle
VOTES = 800
BATCH = 64
PAIRS = 600  # batches of pairs of the beta-VAE score
TREES = 20
DEPTH = 12


@dataclass(frozen=True)
class Labelled:
    """Codes with the factors that made each example.

    Args:
        codes: (n, L).
        factors: class of each factor, (n, F), from 0.
    """

    codes: Array
    factors: Indices

    def halves(self, seed: int) -> tuple[Labelled, Labelled]:
        """Two halves at random: one to fit on and one to test on."""
        order = np.random.default_rng(seed).permutation(len(self.codes))
        cut = (len(order) + 1) // 2
        first = order[:cut]
        second = order[cut:]
        return (
            Labelled(self.codes[first], self.factors[first]),
            Labelled(self.codes[second], self.factors[second]),
        )

    def shuffled(self, seed: int) -> Labelled:
        """The same codes with the factors of other examples."""
        order = np.random.default_rng(seed).permutation(len(self.codes))
        return Labelled(self.codes, self.factors[order])


# ---- mutual information


def mutual_information(codes: Array, factors: Indices) -> Array:
    """I(code; factor) in nats, (L, F), codes in 20 bins of equal width."""
    binned = np.stack([_bins(column) for column in codes.T], 1)
    table = np.empty((codes.shape[1], factors.shape[1]))
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            table[i, j] = information(binned[:, i], factors[:, j])
    return table


def _bins(column: Array) -> Indices:
    edges = np.linspace(column.min(), column.max(), BINS + 1)[1:-1]
    bins: Indices = np.digitize(column, edges)
    return bins


def information(a: Indices, b: Indices) -> float:
    """Mutual information of two columns of classes, nats."""
    counts = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(counts, (a, b), 1)
    joint = counts / counts.sum()
    product = joint.sum(1)[:, None] * joint.sum(0)
    known = joint > 0
    return float((joint[known] * np.log(joint[known] / product[known])).sum())


def entropies(factors: Indices) -> Array:
    """Entropy of each factor, nats."""
    return np.array([information(column, column) for column in factors.T])


def mig(table: Array, entropy: Array) -> float:
    """Mutual information gap. Chen et al. 2018 (arXiv:1802.04942).

    The mean over factors of the difference of the two largest I(code; factor), over the
    entropy of the factor.
    """
    if len(table) < 2:
        return float((table[0] / entropy).mean())
    ordered = np.sort(table, axis=0)[::-1]
    return float(((ordered[0] - ordered[1]) / entropy).mean())


def modularity(table: Array) -> float:
    """Modularity. Ridgeway and Mozer 2018 (arXiv:1802.05312).

    One minus the squared I with other factors than the best one, over (F - 1) times the
    squared best one; the mean over codes that have a twentieth or more of the largest
    information, as that of idle codes is chance.
    """
    squared = np.square(table)
    best = squared.max(1)
    used = best > max(IDLE**2 * float(best.max()), 1e-12)
    if not used.any() or table.shape[1] < 2:
        return 0.0
    others = squared.sum(1) - best
    scores = 1 - others[used] / (best[used] * (table.shape[1] - 1))
    return float(scores.mean())


# ---- predictors


def sap(data: Labelled, seed: int) -> float:
    """Separated attribute predictability. Kumar et al. 2018 (arXiv:1711.00848).

    The mean over factors of the difference of the two best accuracies of predicting the
    factor from one code alone, on the other half of the examples. The classifier is linear
    discriminant analysis, where Locatello et al. take a support vector machine.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    train, test = data.halves(seed)
    table = np.zeros((data.codes.shape[1], data.factors.shape[1]))
    for i in range(table.shape[0]):
        if train.codes[:, i].std() < 1e-9:
            continue
        for j in range(table.shape[1]):
            model = LinearDiscriminantAnalysis()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a class whose codes are equal
                model.fit(train.codes[:, [i]], train.factors[:, j])
                guess = model.predict(test.codes[:, [i]])
            table[i, j] = float((guess == test.factors[:, j]).mean())
    if len(table) < 2:
        return float(table.mean())
    ordered = np.sort(table, axis=0)[::-1]
    return float((ordered[0] - ordered[1]).mean())


@dataclass(frozen=True)
class Dci:
    """Disentanglement, completeness and informativeness.

    Eastwood and Williams 2018.

    Args:
        disentanglement: how few factors each code is important for, weighted by importance.
        completeness: how few codes are important for each factor.
        informativeness: accuracy of the factors on other examples.
        importance: importance of each code for each factor, (L, F).
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Array


def dci(data: Labelled, seed: int) -> Dci:
    """Disentanglement, completeness and informativeness by forests of 20 trees.

    Random forests as in the paper; Locatello et al. take boosted trees. Each split may use
    any code: with a random choice of codes, forests give importance to idle ones.
    """
    from sklearn.ensemble import RandomForestClassifier

    train, test = data.halves(seed)
    columns = []
    right = []
    for j in range(data.factors.shape[1]):
        forest = RandomForestClassifier(
            TREES, max_depth=DEPTH, max_features=None, random_state=seed
        )
        forest.fit(train.codes, train.factors[:, j])
        columns.append(forest.feature_importances_)
        right.append(forest.score(test.codes, test.factors[:, j]))
    importance = np.stack(columns, 1)
    return Dci(
        disentanglement=_concentration(importance),
        completeness=_concentration(importance.T),
        informativeness=float(np.mean(right)),
        importance=importance,
    )


def _concentration(importance: Array) -> float:
    """One minus the entropy of each row, base its length, weighted by the rows' sums."""
    total = importance.sum()
    if total <= 0 or importance.shape[1] < 2:
        return 0.0
    sums = importance.sum(1, keepdims=True)
    shares = importance / np.maximum(sums, 1e-12)
    logs = np.log(np.maximum(shares, 1e-12))
    entropy = -(shares * logs).sum(1) / np.log(importance.shape[1])
    return float(((1 - entropy) * sums[:, 0]).sum() / total)


# ---- examples that share a factor


def _sharing(factors: Indices, rng: np.random.Generator) -> tuple[int, Indices]:
    """A random factor, and the examples that have a random value of it in common."""
    factor = int(rng.integers(factors.shape[1]))
    value = factors[int(rng.integers(len(factors))), factor]
    rows: Indices = np.nonzero(factors[:, factor] == value)[0]
    return factor, rows


def factor_vae_score(data: Labelled, seed: int) -> float:
    """FactorVAE score. Kim and Mnih 2018 (arXiv:1802.05983).

    Accuracy of telling which factor is fixed from the code of least relative variance, by
    the majority of 800 votes, on 800 others. Batches are of examples of the data.
    """
    sd = data.codes.std(0)
    used = sd > LEAST_SD * max(float(sd.max()), 1e-12)
    scaled = data.codes[:, used] / sd[used]
    rng = np.random.default_rng(seed)
    counts = np.zeros((2, scaled.shape[1], data.factors.shape[1]))
    for half in range(2):
        for _ in range(VOTES):
            factor, rows = _sharing(data.factors, rng)
            batch = scaled[rng.choice(rows, BATCH)]
            counts[half, int(batch.var(0).argmin()), factor] += 1
    guess = counts[0].argmax(1)
    return float(counts[1][np.arange(len(guess)), guess].sum() / VOTES)


def beta_vae_score(data: Labelled, seed: int) -> float:
    """beta-VAE score. Higgins et al. 2017.

    Accuracy of a linear classifier that finds the factor that 64 pairs of examples have in
    common, from the mean absolute difference of their codes, on other batches.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    sd = data.codes.std(0)
    scaled = data.codes / np.maximum(sd, 1e-12)
    differences = []
    labels = []
    for _ in range(PAIRS):
        factor, rows = _sharing(data.factors, rng)
        left = rng.choice(rows, BATCH)
        right = rng.choice(rows, BATCH)
        differences.append(abs(scaled[left] - scaled[right]).mean(0))
        labels.append(factor)
    x = np.stack(differences)
    y = np.array(labels)
    cut = 2 * PAIRS // 3
    if len(np.unique(y[:cut])) < 2:
        return 1.0
    scaler = StandardScaler().fit(x[:cut])
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(x[:cut]), y[:cut])
    return float(model.score(scaler.transform(x[cut:]), y[cut:]))


SCORES = (
    "MIG",
    "SAP",
    "DCI disentanglement",
    "DCI completeness",
    "DCI informativeness",
    "FactorVAE score",
    "beta-VAE score",
    "modularity",
)


def scores(data: Labelled, seed: int) -> dict[str, float]:
    """All scores by name, each from 0 to 1."""
    table = mutual_information(data.codes, data.factors)
    importance = dci(data, seed)
    values = (
        mig(table, entropies(data.factors)),
        sap(data, seed),
        importance.disentanglement,
        importance.completeness,
        importance.informativeness,
        factor_vae_score(data, seed),
        beta_vae_score(data, seed),
        modularity(table),
    )
    return dict(zip(SCORES, values, strict=True))


def as_classes(factors: Array, names: Sequence[str]) -> tuple[Indices, list[str]]:
    """Factors as classes from 0, and their names; factors with one value are left out."""
    columns = [np.zeros((len(factors), 0), np.int64)]
    varying = []
    for name, column in zip(names, factors.T, strict=True):
        values, classes = np.unique(column, return_inverse=True)
        if len(values) > 1:
            columns.append(classes.reshape(-1, 1))
            varying.append(name)
    return np.concatenate(columns, 1), varying
