"""Novelty: distance of samples to the nearest training example, and memorisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.evaluation.metrics.example_sets import (
    Array,
    Examples,
    training_split,
)
from tightbound.evaluation.metrics.sample_distances import squared_distances
from tightbound.evaluation.metrics.spaces import PixelScale
from tightbound.evaluation.summary import Table
from tightbound.runtime.progress import Steady
from tightbound.runtime.reading import Tree

QUERIES = 500  # examples of each set, at most
FEWEST = 50  # the same of very large ones, at least
VALUES = 20_000_000  # of the candidates of one set
SEARCHED = 60_000  # training examples
AT_ONCE = 4_000_000  # values of training examples of a pass
NEAREST = 8  # candidates for the second nearest example
COPY = 1 / 3  # of the distance to the second nearest example
SAME = 1e-3  # of the typical distance: training examples that are nearer are one
MORE = 0.05  # share of copies above that of test examples
SURE = 3.0  # by more than so many standard errors


@dataclass(frozen=True)
class Nearest:
    """Distances to training examples.

    Args:
        first: to the nearest one, (n,).
        second: to the nearest one that differs from that, (n,).
    """

    first: Array
    second: Array

    @property
    def copies(self) -> NDArray[np.bool_]:
        """True where the nearest is at less than a third of the distance of the second.

        Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to
        memorize".
        """
        copies: NDArray[np.bool_] = self.first < COPY * self.second
        return copies


@dataclass(frozen=True)
class SetNovelty:
    """Distances of one set of samples, beside those of test examples.

    Args:
        distances: to the nearest training example, (n,).
        closer: probability that a sample is closer to a training example than a test
            example is, ties by half; 0.5 for samples like new data.
        closer_se: its standard error.
        copies: share of samples that are copies of a training example.
        copies_se: standard error of this share less that of test examples.
    """

    distances: Array
    closer: float
    closer_se: float
    copies: float
    copies_se: float


@dataclass(frozen=True)
class SpaceNovelty:
    """Distances in one space; `typical` are those of test examples.

    Args:
        space: pixels, or the run's encoder.
        searched: number of training examples.
        typical: of test examples to the nearest training example, (n,).
        typical_copies: share of test examples that are copies.
        sets: by name of the set.
    """

    space: str
    searched: int
    typical: Array
    typical_copies: float
    sets: Mapping[str, SetNovelty]

    @property
    def memorised(self) -> str:
        """The set with copies beyond those of test examples; "" for none."""
        beyond = {
            name: s.copies - self.typical_copies
            for name, s in self.sets.items()
            if s.copies - self.typical_copies > max(MORE, SURE * s.copies_se)
        }
        return max(beyond, key=lambda name: beyond[name]) if beyond else ""

    @property
    def has_near_copies(self) -> bool:
        """Whether more test examples are copies than rows by chance are."""
        return self.typical_copies > MORE

    def to_json(self) -> Tree:
        """Distances rounded to five digits, for pictures, and the scores."""
        sets = {
            name: {
                "distances": rounded(s.distances),
                "median": float(np.median(s.distances)),
                "closer": {"mean": s.closer, "se": s.closer_se},
                "copies": {"mean": s.copies, "se": s.copies_se},
            }
            for name, s in self.sets.items()
        }
        return {
            "space": self.space,
            "searched": self.searched,
            "typical": rounded(self.typical),
            "typical_copies": self.typical_copies,
            "sets": sets,
        }

    def table(self) -> Table:
        """A row for the test examples and for each set."""
        rows = [
            (
                "test",
                f"{np.median(self.typical):.4g}",
                "0.50",
                f"{self.typical_copies:.1%}",
            )
        ]
        for name, s in self.sets.items():
            median = f"{np.median(s.distances):.4g}"
            closer = f"{s.closer:.2f} ± {s.closer_se:.2f}"
            rows.append((name, median, closer, f"{s.copies:.1%}"))
        header = ("examples", "distance, median", "closer than test", "copies")
        caption = (
            f"novelty, nearest of {self.searched:,} training examples in {self.space}"
        )
        return Table(header, rows, numbers=(1, 2, 3), caption=caption)


@dataclass(frozen=True)
class Novelty:
    """Novelty of the samples of a run, in pixels and in the features of its encoder."""

    spaces: Sequence[SpaceNovelty]

    @property
    def pixels(self) -> SpaceNovelty:
        """Distances in pixels, by which copies are judged."""
        return self.spaces[0]

    def to_json(self) -> Tree:
        """The distances of each space."""
        return {"spaces": [space.to_json() for space in self.spaces]}

    def tables(self) -> list[Table | list[str]]:
        """A table for each space."""
        return [space.table() for space in self.spaces]


def rounded(values: Array) -> list[float]:
    """Values with five digits, for pictures in a file."""
    return [float(f"{value:.5g}") for value in values]


def novelty(examples: Examples) -> Novelty:
    """Distances of draws, of means and of test examples to the training split.

    Args:
        examples: test and training examples of the run.
    """
    run = examples.run
    scale = PixelScale.of(examples)

    def encoded(x: Batch) -> Array:
        means: Array = run.predictor.encode_mean(x).double().numpy()
        return means

    most = int(np.clip(VALUES // (NEAREST * run.spec.dims), FEWEST, QUERIES))
    sets = {name: x[:most] for name, x in examples.drawn().items()}
    sets["test"] = examples.test[spread(examples.n, most)]
    split = training_split(run)
    rows = split.spread(min(len(split), SEARCHED))
    measured = []
    for name, features in (("pixels", scale), ("encoder", encoded)):
        queries = {key: features(x) for key, x in sets.items()}
        nearest = _search(queries, split, rows, features)
        measured.append(judge(name, len(rows), nearest.pop("test"), nearest))
    return Novelty(measured)


def _search(
    queries: Mapping[str, Array],
    split: Split,
    rows: Tensor,
    features: Callable[[Batch], Array],
) -> dict[str, Nearest]:
    """The nearest of some rows of the training split to each query of several sets."""

    def look_up(places: NDArray[np.int64]) -> Array:
        return features(split.examples(rows[torch.from_numpy(places)]))

    search = Search(np.concatenate(list(queries.values())))
    progress = Steady("metrics: nearest training examples", len(rows), " examples")
    for part in rows.split(max(1, min(4096, AT_ONCE // split.spec.dims))):
        search.add(features(split.examples(part)))
        progress.add(len(part))
    nearest = search.nearest(look_up)
    ends = np.cumsum([len(x) for x in queries.values()])[:-1]
    firsts = np.split(nearest.first, ends)
    seconds = np.split(nearest.second, ends)
    pairs = zip(queries, firsts, seconds, strict=True)
    return {name: Nearest(first, second) for name, first, second in pairs}


class Search:
    """Nearest rows of each query among rows that are added in parts.

    Args:
        queries: (q, d).
    """

    def __init__(self, queries: Array) -> None:
        self.queries = queries
        self.squared = np.full((len(queries), NEAREST), np.inf)
        self.places = np.zeros((len(queries), NEAREST), np.int64)
        self.searched = 0

    def add(self, rows: Array) -> None:
        """Search further rows (n, d)."""
        squared = squared_distances(self.queries, rows)
        count = min(NEAREST, len(rows))
        index = np.argpartition(squared, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(squared, index, 1)
        both = np.concatenate([self.squared, near], axis=1)
        places = np.concatenate([self.places, index + self.searched], axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, :NEAREST]
        self.squared = np.take_along_axis(both, order, 1)
        self.places = np.take_along_axis(places, order, 1)
        self.searched += len(rows)

    def nearest(self, look_up: Callable[[NDArray[np.int64]], Array]) -> Nearest:
        """Distance to the nearest row, and to the nearest one that differs from it.

        Rows that are nearer to the nearest one than a thousandth of the median distance
        count as the same. Distances are taken from differences, which keep the digits of
        small ones.

        Args:
            look_up: the rows of some numbers, counted in the order in which they were added.
        """
        candidates = min(NEAREST, self.searched)
        places, inverse = np.unique(self.places[:, :candidates], return_inverse=True)
        rows = look_up(places)
        inverse = inverse.reshape(len(self.queries), candidates)
        distances = np.empty((len(self.queries), candidates))
        between = np.empty_like(distances)
        for j in range(candidates):
            apart = rows[inverse[:, j]] - self.queries
            distances[:, j] = np.sqrt(np.square(apart).sum(1))
            apart = rows[inverse[:, j]] - rows[inverse[:, 0]]
            between[:, j] = np.sqrt(np.square(apart).sum(1))
        differs = between > SAME * float(np.median(distances))
        second = np.where(differs, distances, np.inf).min(1)
        second = np.where(np.isfinite(second), second, distances.max(1))
        return Nearest(distances[:, 0], second)


def spread(n: int, most: int) -> Tensor:
    """Numbers of at most `most` of n rows, evenly spaced."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def judge(
    space: str, searched: int, test: Nearest, sets: Mapping[str, Nearest]
) -> SpaceNovelty:
    """Scores of sets of samples from their distances and those of test examples."""
    typical_copies = float(test.copies.mean())
    judged = {}
    for name, nearest in sets.items():
        closer, error = probability_below(nearest.first, test.first)
        share = float(nearest.copies.mean())
        n = len(nearest.first)
        m = len(test.first)
        pooled = (share * n + typical_copies * m) / (n + m)
        copies_se = float(np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)))
        judged[name] = SetNovelty(nearest.first, closer, error, share, copies_se)
    return SpaceNovelty(space, searched, test.first, typical_copies, judged)


def probability_below(a: Array, b: Array) -> tuple[float, float]:
    """P(a < b) + P(a = b) / 2 over pairs of values, and its standard error.

    The Mann-Whitney statistic over n m, the area under the ROC curve of -a against -b;
    the error is that of DeLong et al. 1988.
    """
    order = np.sort(b)
    above = len(b) - np.searchsorted(order, a, side="right")
    ties = np.searchsorted(order, a, side="right") - np.searchsorted(order, a)
    of_a = (above + ties / 2) / len(b)
    order = np.sort(a)
    below = np.searchsorted(order, b)
    ties = np.searchsorted(order, b, side="right") - below
    of_b = (below + ties / 2) / len(a)
    if min(len(a), len(b)) < 2:
        return float(of_a.mean()), float("nan")
    variance = of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b)
    return float(of_a.mean()), float(np.sqrt(variance))
