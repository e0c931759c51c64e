"""Measurements of a diagnosis: latents, calibration, transfer, progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.evaluation.diagnosis.baseline import independent
from tightbound.evaluation.diagnosis.calibration import Calibration, calibration
from tightbound.evaluation.diagnosis.latent_usage import Latents, latents, spread
from tightbound.evaluation.estimators.methods import score
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

MOST = 1000  # examples of a split
MOST_VALUES = 10_000_000
SCORED_WITH = 8  # samples of the bound
Line = Mapping[str, Any]  # of the training log


@dataclass(frozen=True)
class Transfer:
    """Transfer of the bound from training to new examples, in nats.

    Args:
        train: the bound on training examples; -distortion for an autoencoder.
        test: the same on test examples.
        baseline: log p(x) of test examples by independent dimensions.
        rate: mean rate of training examples.
    """

    train: Mean
    test: Mean
    baseline: float
    rate: float

    @property
    def lost(self) -> Mean:
        """Bound of training examples less that of test examples."""
        return Mean.difference(self.train, self.test)

    @property
    def share(self) -> float:
        """`lost` as a share of the gain over the baseline, or of the rate if larger.

        0 where less than a nat was learned.
        """
        learned = max(self.train.mean - self.baseline, self.rate)
        return self.lost.mean / learned if learned > 1 else 0.0


@dataclass(frozen=True)
class Progress:
    """Progress at the end of training.

    Args:
        gained: gain of the validation bound in the last fifth of training, nats; where
            there was no earlier validation, over the training bound.
        error: standard error of the validation bound, nats.
        early: number of validations before the last fifth.
        epochs: epochs of training.
        steps: steps of training.
    """

    gained: float
    error: float
    early: int
    epochs: float
    steps: int


@dataclass(frozen=True)
class Measurements:
    """All measurements of a run; skipped: those that were not possible, with reasons."""

    seed: int
    n: int
    latents: Latents
    calibration: Calibration | None
    transfer: Transfer | None
    progress: Progress | None
    skipped: list[str]


def measure(run: Run, x: Tensor | Batch, seed: int) -> Measurements:
    """Measures a run on test examples, and on as many of its training examples.

    At most 1,000 of each are used, fewer where they are large. Without the training
    data or the log, the measurements that need them are skipped.

    Args:
        run: the run.
        x: test examples (n, *shape) in model units.
        seed: seed of all draws.
    """
    most = int(min(MOST, max(32, MOST_VALUES // run.spec.dims)))
    x = Batch.of(x)[spread(len(x), most)]
    skipped = []
    train: Batch | None = None
    try:
        train = _training_examples(run, most)
    except TightboundError as error:
        skipped.append(f"overfitting ({error})")
    progress = _progress(run, x, seed)
    if progress is None:
        skipped.append(
            "whether it was trained enough (there is no log of its training)"
        )
    examples = x if train is None else train
    few = int(min(256, max(16, MOST_VALUES // (20 * run.spec.dims))))
    return Measurements(
        seed=seed,
        n=len(x),
        latents=latents(run, examples, seed),
        calibration=calibration(run, examples[spread(len(examples), few)], seed),
        transfer=None if train is None else _transfer(run, train, x, seed),
        progress=progress,
        skipped=skipped,
    )


def _training_examples(run: Run, most: int) -> Batch:
    """Training examples, spread evenly over the split; the first ones of a stream."""
    train = run.data.train
    if isinstance(train, Split):
        return train.examples(train.spread(most))
    parts: list[Tensor] = []
    for _, x in train.batches(min(most, 256)):
        parts.append(x)
        if sum(map(len, parts)) >= most:
            break
    return Batch(torch.cat(parts)[:most])


def _bound(run: Run, x: Batch, seed: int) -> tuple[Tensor, float]:
    """The ELBO of each example, (n,), and the mean rate.

    -distortion and 0 for a model without a bound.
    """
    terms = score(run, x, SCORED_WITH, seed)
    if run.has_bound:
        return terms["elbo"], float(terms["rate"].mean())
    return -terms["distortion"], 0.0


def _transfer(run: Run, train: Batch, test: Batch, seed: int) -> Transfer:
    both = torch.cat([train.x, test.x]).flatten(1)
    baseline = independent(both, test.x.flatten(1), run.spec)
    train_bound, rate = _bound(run, train, seed)
    test_bound, _ = _bound(run, test, seed)
    return Transfer(Mean.of(train_bound), Mean.of(test_bound), baseline, rate)


def _progress(run: Run, x: Batch, seed: int) -> Progress | None:
    """The best validation of all against the best in four fifths of training."""
    name = "elbo" if run.has_bound else "distortion"
    sign = 1.0 if run.has_bound else -1.0
    lines = [line for line in run.history() if _validation(line).get(name) is not None]
    if not lines:
        return None
    last = lines[-1]
    best = max(lines, key=lambda line: sign * line["valid"][name])
    early = [
        sign * line["valid"][name]
        for line in lines
        if line["step"] <= 0.8 * last["step"]
    ]
    before = max(early) if early else sign * last["train"].get(name, math.nan)
    error = best["valid"].get("elbo_se") or Mean.of(_bound(run, x, seed)[0]).se
    return Progress(
        gained=sign * best["valid"][name] - before,
        error=error,
        early=len(early),
        epochs=float(last["epoch"]),
        steps=int(last["step"]),
    )


def _validation(line: Line) -> Line:
    return line.get("valid") or {}
