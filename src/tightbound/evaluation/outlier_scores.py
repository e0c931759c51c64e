"""How normal an example is under a model: log p(x), likelihood regret, distance of codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.amortization_gap import Search, best_bound
from tightbound.evaluation.estimators.methods import score
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, lookup

Array = np.ndarray
# A short search: the regret is compared between examples, not added to log p(x). It never
# ends early, which would depend on the other examples.
SEARCH = Search(samples=8, steps=40, rounds=2, judge=32, k=64, enough=-1.0)


@dataclass(frozen=True)
class Codes:
    """Mean (d,) and the inverse of the covariance (d, d) of the codes of inliers."""

    mean: Array
    precision: Array

    @classmethod
    def of(cls, codes: Array) -> Codes:
        """Of codes (n, d), with the covariance shrunk by Ledoit and Wolf 2004."""
        from sklearn.covariance import LedoitWolf

        fitted = LedoitWolf().fit(codes)
        return cls(fitted.location_, fitted.precision_)

    def distance(self, codes: Array) -> Array:
        """Squared Mahalanobis distance of codes (n, d) from the mean."""
        apart = codes - self.mean
        squared: Array = np.einsum("nd,de,ne->n", apart, self.precision, apart)
        return squared


@dataclass(frozen=True)
class Scorer:
    """A score of examples under a run: higher is more normal.

    Args:
        run: The run.
        name: A key of SCORES.
        k: Importance samples of log p(x).
        codes: Of the training examples, for "mahalanobis".
    """

    run: Run
    name: str
    k: int
    codes: Codes | None = None

    def __call__(self, x: Batch) -> Array:
        """The scores (n,) of examples in model units, in float64."""
        return SCORES[self.name](self, x)


def _log_px(scorer: Scorer, x: Batch) -> Array:
    values: Array = score(scorer.run, x, scorer.k, scorer.run.config.seed)[
        "log_px"
    ].numpy()
    return values


def _regret(scorer: Scorer, x: Batch) -> Array:
    bounds = best_bound(scorer.run, x, scorer.run.config.seed, SEARCH)
    regret: Array = (bounds["best"] - bounds["elbo"]).numpy()
    return -regret


def _mahalanobis(scorer: Scorer, x: Batch) -> Array:
    assert scorer.codes is not None
    codes = scorer.run.predictor.encode_mean(x).double().numpy()
    return -scorer.codes.distance(codes)


# log p(x) by importance sampling with k samples; minus the likelihood regret, the gain of
# the bound by fitting q to this example alone (Xiao, Yan and Amit 2020, arXiv:2003.02977),
# from the encoder's q; minus the squared Mahalanobis distance of the code.
SCORES: Mapping[str, Callable[[Scorer, Batch], Array]] = {
    "log_px": _log_px,
    "regret": _regret,
    "mahalanobis": _mahalanobis,
}


def scorer(run: Run, name: str, k: int, training: Batch) -> Scorer:
    """The score of a name, with what it needs of training examples.

    Args:
        run: The run.
        name: A key of SCORES.
        k: Importance samples of log p(x).
        training: Training examples in model units.

    Raises:
        TightboundError: The name is unknown, or the model has no density for it.
    """
    lookup(SCORES, name, "score")
    if name != "mahalanobis" and not run.config.recipe.has_bound:
        raise no_density(run, name)
    plain = Scorer(run, name, k)
    if name != "mahalanobis":
        return plain
    codes = run.predictor.encode_mean(training).double().numpy()
    return dataclasses.replace(plain, codes=Codes.of(codes))


def no_density(run: Run, name: str) -> TightboundError:
    """The error of a score that needs a density, of a model without one."""
    return TightboundError(
        f"recipe {run.config.recipe.name!r} has no density, so no score {name!r}: take "
        "method mahalanobis"
    )
