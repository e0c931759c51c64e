"""Outliers among new data, by p-values against the test split of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tightbound import data as data_room
from tightbound.config import MOST_SAMPLES
from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.distributions.random import seed_for
from tightbound.evaluation.conformal import (
    Array,
    benjamini_hochberg,
    check_level,
    conformal_p_values,
)
from tightbound.evaluation.outlier_scores import SCORES, Scorer, no_density, scorer
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, lookup, whole_number

MOST_TRAINING = 10_000  # training examples whose codes are looked at


@dataclass(frozen=True)
class Detected:
    """Scores and p-values of examples.

    Args:
        scores: (n,), higher is more normal.
        p_values: (n,), uniform for examples of the kind of the run's data.
        rejected: (n,), True for outliers at a false discovery rate.
        held_out: Number of examples that the p-values compare with.
    """

    scores: Array
    p_values: Array
    rejected: Array
    held_out: int


def detect(
    run: Run,
    data: Split,
    *,
    method: str = "log_px",
    k: int = 100,
    level: float = 0.1,
    seed: int = 0,
    calibration: str | None = None,
) -> Detected:
    """Scores of examples, and their conformal p-values against held-out data.

    Args:
        run: The run.
        data: The examples.
        method: "log_px", "regret" or "mahalanobis".
        k: Importance samples of log p(x).
        level: The false discovery rate of Benjamini and Hochberg's procedure over all of them.
        seed: Of the ranks of ties.
        calibration: Data of inliers to compare with; the run's test split where None.

    Raises:
        TightboundError: There are no held-out data, the model has no such score, or a number is
            out of range.
    """
    lookup(SCORES, method, "method")
    whole_number("k", k, 1, MOST_SAMPLES)
    whole_number("seed", seed, 0)
    check_level(level)
    held_out = _held_out(run, calibration)
    judge = Scorer(run, method, k)
    if method == "mahalanobis":
        judge = scorer(run, method, k, _training(run))
    elif not run.config.recipe.has_bound:
        raise no_density(run, method)
    reference = _scores(judge, held_out)
    scores = _scores(judge, data)
    p_values = conformal_p_values(reference, scores, seed_for(seed, "ties"))
    rejected = benjamini_hochberg(p_values, level)
    return Detected(scores, p_values, rejected, len(held_out))


def _held_out(run: Run, calibration: str | None) -> Split:
    """The inliers that p-values compare with: not the validation split, which chose weights."""
    if calibration is not None:
        return data_room.read(calibration, run.spec, run.config.data)
    if not len(run.data.test):
        raise TightboundError(
            f"run {run.name!r} has no test examples to compare with: name inliers that it was "
            "not trained on, with --calibration F"
        )
    return run.data.test


def _training(run: Run) -> Batch:
    """Training examples, whose codes are looked at."""
    train = run.data.train
    if not isinstance(train, Split):
        raise TightboundError(
            f"run {run.name!r} was trained on a stream, whose codes are not looked at: take "
            "method log_px or regret"
        )
    return train.examples(train.spread(min(len(train), MOST_TRAINING)))


def _scores(judge: Scorer, split: Split) -> Array:
    return judge(split.examples(torch.arange(len(split))))
