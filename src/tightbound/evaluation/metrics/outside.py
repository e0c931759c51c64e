"""Out-of-distribution detection: scores of test examples against another data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tightbound.core.batch import Batch
from tightbound.evaluation.metrics.example_sets import Array, training_split
from tightbound.evaluation.metrics.novelty import probability_below, rounded, spread
from tightbound.evaluation.outlier_scores import scorer
from tightbound.evaluation.summary import Table
from tightbound.runs.run import Run
from tightbound.runtime.reading import Tree

MOST = 500  # examples of each side
MOST_TRAINING = 2000  # examples whose codes give the mean code
K = 100  # importance samples of log p(x)
SURE = 3.0  # standard errors below 0.5 of an AUROC that is on the wrong side
SCORES = {
    "log_px": "log p(x): low is outside",
    "typicality": "distance of log p(x) from its mean over training examples",
    "regret": "likelihood regret: gain of the bound by fitting q to the example",
    "mahalanobis": "distance of the code from those of training examples",
}


@dataclass(frozen=True)
class Separation:
    """Separation of test examples from those of another data set by one score.

    Args:
        inside: scores of test examples, higher is more normal, (n,).
        outside: of the other data, (m,).
        auroc: probability that a test example has the higher score; 0.5 is chance, and
            below it the score calls the other data more normal.
        se: its standard error.
    """

    inside: Array
    outside: Array
    auroc: float
    se: float

    @classmethod
    def of(cls, inside: Array, outside: Array) -> Separation:
        """From the scores of both sides."""
        return cls(inside, outside, *probability_below(outside, inside))

    @property
    def fails(self) -> bool:
        """Whether the other data are more normal than the test examples, beyond chance."""
        return self.auroc < 0.5 - SURE * self.se


@dataclass(frozen=True)
class OutOfDistribution:
    """Separation of test examples from another data set, by score.

    Args:
        against: name of the other data.
        n: test examples.
        m: examples of the other data.
        k: importance samples of log p(x).
        scores: by name of the score.
    """

    against: str
    n: int
    m: int
    k: int
    scores: Mapping[str, Separation]

    @property
    def likelihood_fails(self) -> bool:
        """Whether log p(x) is higher on the other data."""
        plain = self.scores.get("log_px")
        return plain is not None and plain.fails

    def to_json(self) -> Tree:
        """AUROC of each score, and scores rounded to five digits for pictures."""
        scores = {
            name: {
                "auroc": {"mean": s.auroc, "se": s.se},
                "fails": s.fails,
                "inside": rounded(s.inside),
                "outside": rounded(s.outside),
            }
            for name, s in self.scores.items()
        }
        return {
            "against": self.against,
            "n": self.n,
            "m": self.m,
            "k": self.k,
            "likelihood_fails": self.likelihood_fails,
            "scores": scores,
        }

    def tables(self) -> list[Table | list[str]]:
        """AUROC of each score, and a sentence where log p(x) fails."""
        rows = [
            (name, f"{s.auroc:.3f} ± {s.se:.3f}", SCORES[name])
            for name, s in self.scores.items()
        ]
        caption = (
            f"out of distribution, {self.n} test examples against {self.m} of "
            f"{self.against}, K = {self.k}"
        )
        table = Table(("score", "AUROC", "definition"), rows, caption=caption)
        if not self.likelihood_fails:
            return [table]
        return [
            table,
            [
                f"plain likelihood fails: the model gives {self.against} a higher log p(x) than "
                "its own test examples"
            ],
        ]


def out_of_distribution(
    run: Run, test: Batch, other: Batch, against: str, k: int = K
) -> OutOfDistribution:
    """Scores of test examples and of other data under a run.

    Args:
        run: the run.
        test: test examples in model units.
        other: examples of the other data.
        against: name of the other data.
        k: importance samples of log p(x).
    """
    split = training_split(run)
    training = split.examples(split.spread(min(len(split), MOST_TRAINING)))
    names = (
        ("log_px", "regret", "mahalanobis")
        if run.config.recipe.has_bound
        else ("mahalanobis",)
    )
    scores = {}
    for name in names:
        judge = scorer(run, name, k, training)
        inside = judge(test)
        outside = judge(other)
        scores[name] = Separation.of(inside, outside)
        if name == "log_px":
            usual = float(np.mean(judge(training[spread(len(training), MOST)])))
            typical = Separation.of(-abs(inside - usual), -abs(outside - usual))
            scores["typicality"] = typical
    return OutOfDistribution(against, len(test), len(other), k, scores)
