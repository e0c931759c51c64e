"""What a diagnosis looks at: the latents, the calibration of p(x|z), what carries over to new
examples, the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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

MOST, MOST_VALUES, SCORED_WITH = 1000, 10_000_000, 8


@dataclass(frozen=True)
class Transfer:
    """What was learned of training examples, and how much of it new ones lose, in nats.

    train, test: the bound (of an autoencoder: -distortion) on examples of the two splits.
    baseline: that of a model without latents, each dimension by itself, on the test examples.
    rate: what the codes of training examples hold.
    """

    train: Mean
    test: Mean
    baseline: float
    rate: float

    @property
    def lost(self) -> Mean:
        """Nats per example that training examples have and test examples have not."""
        return Mean.difference(self.train, self.test)

    @property
    def share(self) -> float:
        """The part of what was learned that is lost: of the gain over the baseline, or of the rate,
        if that is more.

        0 where less than a nat was learned.
        """
        learned = max(self.train.mean - self.baseline, self.rate)
        return self.lost.mean / learned if learned > 1 else 0.0


@dataclass(frozen=True)
class Progress:
    """The end of training: what the validation bound still gained in the last fifth of it, and its
    error, nats.

    early: how many validations there were before that; with none, the gain is that over the
    training bound on the way.
    """

    gained: float
    error: float
    early: int
    epochs: float
    steps: int


@dataclass(frozen=True)
class Measurements:
    """All that was measured of a run; `skipped` says what could not be, and why."""

    seed: int
    n: int
    latents: Latents
    calibration: Calibration | None
    transfer: Transfer | None
    progress: Progress | None
    skipped: list[str]


def gather(run: Run, x: Tensor | Batch, seed: int) -> Measurements:
    """Measures a run on test examples x (n, *shape) in model units, and on as many of its training
    examples.

    At most 1,000 of each are used, fewer where they are large.  What needs the training data or the
    log is left out, and that is said, where they are gone.
    """
    most = int(min(MOST, max(32, MOST_VALUES // run.spec.dims)))
    x, skipped = Batch.of(x)[spread(len(x), most)], []
    try:
        train: Batch | None = _training(run, most)
    except TightboundError as error:
        train = None
        skipped.append(f"overfitting ({error})")
    progress = _progress(run, x, seed)
    if progress is None:
        skipped.append(
            "whether it was trained enough (there is no log of its training)"
        )
    seen = x if train is None else train
    some = int(min(256, max(16, MOST_VALUES // (20 * run.spec.dims))))
    return Measurements(
        seed,
        len(x),
        latents(run, seen, seed),
        calibration(run, seen[spread(len(seen), some)], seed),
        None if train is None else _transfer(run, train, x, seed),
        progress,
        skipped,
    )


def _training(run: Run, most: int) -> Batch:
    """Some training examples as they are evaluated, spread over the split; the first ones of a
    stream.
    """
    train = run.data.train
    if isinstance(train, Split):
        return train.examples(train.spread(most))
    found: list[Tensor] = []
    for _, x in train.batches(min(most, 256)):
        found.append(x)
        if sum(map(len, found)) >= most:
            break
    return Batch(torch.cat(found)[:most])


def _terms(run: Run, x: Batch, seed: int) -> tuple[Tensor, float]:
    """The bound of each example, (n,), or -distortion where there is none; and the mean rate."""
    terms = score(run, x, SCORED_WITH, seed)
    return (
        (terms["elbo"], float(terms["rate"].mean()))
        if run.has_bound
        else (-terms["distortion"], 0.0)
    )


def _transfer(run: Run, train: Batch, test: Batch, seed: int) -> Transfer:
    baseline = independent(
        torch.cat([train.x, test.x]).flatten(1), test.x.flatten(1), run.spec
    )
    (seen, rate), (new, _) = _terms(run, train, seed), _terms(run, test, seed)
    return Transfer(Mean.of(seen), Mean.of(new), baseline, rate)


def _progress(run: Run, x: Batch, seed: int) -> Progress | None:
    """From the log: the best validation of all against the best when four fifths of the steps were
    done.
    """
    name, sign = ("elbo", 1.0) if run.has_bound else ("distortion", -1.0)
    lines = [
        line
        for line in run.history()
        if (line.get("valid") or {}).get(name) is not None
    ]
    if not lines:
        return None
    last, best = lines[-1], max(lines, key=lambda line: sign * line["valid"][name])
    early = [
        sign * line["valid"][name]
        for line in lines
        if line["step"] <= 0.8 * last["step"]
    ]
    before = max(early) if early else sign * last["train"].get(name, math.nan)
    error = best["valid"].get("elbo_se") or Mean.of(_terms(run, x, seed)[0]).se
    gained = sign * best["valid"][name] - before
    return Progress(gained, error, len(early), float(last["epoch"]), int(last["step"]))
