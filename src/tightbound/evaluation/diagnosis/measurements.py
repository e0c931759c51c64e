"""Measurements of a diagnosis: latents, calibration, transfer, progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.data.prepare.duplicates import Overlap
from tightbound.evaluation.diagnosis.baseline import independent
from tightbound.evaluation.diagnosis.calibration import Calibration, calibration
from tightbound.evaluation.diagnosis.code_usage import CodeUsage, code_usage
from tightbound.evaluation.diagnosis.latent_usage import Latents, latents, spread
from tightbound.evaluation.diagnosis.outliers import (
    ColumnOutlier,
    RowOutlier,
    row_outliers,
    training_columns,
    training_outlier,
)
from tightbound.evaluation.diagnosis.progress import Progress, progress, was_solved
from tightbound.evaluation.diagnosis.table_distances import (
    TableDistances,
    table_distances,
)
from tightbound.evaluation.diagnosis.unusual_settings import Unusual, unusual_settings
from tightbound.evaluation.estimators.methods import score
from tightbound.evaluation.statistic import Mean
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, phase

if TYPE_CHECKING:
    from tightbound.evaluation.metrics.novelty import Novelty

T = TypeVar("T")
MOST = 1000  # examples of a split
MOST_VALUES = 10_000_000
SCORED_WITH = 8  # samples of the bound
# Samples, and decoded values, of the importance-sampled log p(x) of the inference gap
GAP_SAMPLES = 500
GAP_VALUES = 20_000_000
PARTS = 9  # measurements that take time, of a run with its training data
FEWEST = 16  # examples of a validation split that is compared with the test split


@dataclass(frozen=True)
class Transfer:
    """Transfer of the bound from training to new examples, in nats.

    Args:
        train: the bound on training examples; -distortion for an autoencoder.
        test: the same on test examples.
        baseline: log p(x) of test examples by independent dimensions.
        rate: mean rate of training examples.
        valid: the bound on validation examples, where there are enough.
    """

    train: Mean
    test: Mean
    baseline: float
    rate: float
    valid: Mean | None = None

    @property
    def lost(self) -> Mean:
        """Bound of training examples less that of test examples."""
        return Mean.difference(self.train, self.test)

    @property
    def learned(self) -> float:
        """Gain over the baseline in training, or the rate if larger."""
        return max(self.train.mean - self.baseline, self.rate)

    @property
    def share(self) -> float:
        """`lost` as a share of what was learned; 0 where that is less than a nat."""
        return self.lost.mean / self.learned if self.learned > 1 else 0.0


@dataclass(frozen=True)
class Constant:
    """The bound against a model without latents, of the same examples.

    Args:
        bound: mean bound, in nats; -distortion for an autoencoder.
        constant: mean log p(x) under independent dimensions with fitted marginals.
        above: the first less the second.
        worse: share of the examples whose bound is the lower one.
        n: number of examples.
    """

    bound: float
    constant: float
    above: Mean
    worse: float
    n: int


@dataclass(frozen=True)
class EncoderGap:
    """Inference gap of training examples, at least, by importance sampling.

    Args:
        n: number of examples.
        k: samples.
        gap: log p(x) by importance sampling less the ELBO, in nats.
        learned: that log p(x) above the baseline of independent dimensions.
    """

    n: int
    k: int
    gap: Mean
    learned: float

    @property
    def share(self) -> float:
        """The gap as a share of what was learned; 0 where that is less than a nat."""
        return self.gap.mean / self.learned if self.learned > 1 else 0.0


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
    constant: Constant | None = None
    encoder_gap: EncoderGap | None = None
    training_outlier: ColumnOutlier | None = None
    row_outliers: list[RowOutlier] = field(default_factory=list)
    unusual: list[Unusual] = field(default_factory=list)
    overlap: Overlap | None = None
    codes: list[CodeUsage] = field(default_factory=list)
    table: TableDistances | None = None
    novelty: Novelty | None = None


def measure(
    run: Run, x: Tensor | Batch, seed: int, names: Sequence[str] | None = None
) -> Measurements:
    """Measures a run on test examples, and on as many of its training examples.

    At most 1,000 of each are used, fewer where they are large. Without the training
    data or the log, the measurements that need them are skipped.

    Args:
        run: the run.
        x: test examples (n, *shape) in model units.
        seed: seed of all draws.
        names: the numbers of the test examples; "0" and so on if None.
    """
    most = _most(run)
    rows = spread(len(x), most)
    names = [names[int(i)] if names else str(int(i)) for i in rows]
    with phase("diagnosis", PARTS, " measurements") as count:
        return _measured(run, Batch.of(x)[rows], seed, names, count)


def _most(run: Run) -> int:
    """How many examples of a split are measured."""
    return int(min(MOST, max(32, MOST_VALUES // run.spec.dims)))


def _measured(
    run: Run, x: Batch, seed: int, names: Sequence[str], count: Steady
) -> Measurements:
    """The measurements of chosen test examples, each counted."""

    def counted(value: T) -> T:
        count.add(1)
        return value

    most = _most(run)
    skipped = []
    train: Batch | None = None
    try:
        train = _training_examples(run, most)
    except TightboundError as error:
        skipped.append(f"overfitting ({error})")
    test_bound, test_rate = counted(_bound(run, x, seed))
    trained = progress(run, Mean.of(test_bound).se)
    if trained is None and not was_solved(run):
        skipped.append(
            "whether it was trained enough (there is no log of its training)"
        )
    examples = x if train is None else train
    bound, rate = (test_bound, test_rate)
    if train is not None:
        bound, rate = counted(_bound(run, train, seed))
    both = x.x if train is None else torch.cat([train.x, x.x])
    both = both.flatten(1)
    constant = independent(both, examples.x.flatten(1), run.spec)
    transfer = None
    if train is not None:
        baseline = float(independent(both, x.x.flatten(1), run.spec).mean())
        valid = counted(_valid_bound(run, most, seed))
        transfer = Transfer(Mean.of(bound), Mean.of(test_bound), baseline, rate, valid)
    few = int(min(256, max(16, MOST_VALUES // (20 * run.spec.dims))))
    columns = None if train is None else training_columns(run, train.x)
    return Measurements(
        seed=seed,
        n=len(x),
        latents=counted(latents(run, examples, seed)),
        calibration=counted(
            calibration(run, examples[spread(len(examples), few)], seed)
        ),
        transfer=transfer,
        progress=trained,
        skipped=skipped,
        constant=_constant(bound, constant),
        encoder_gap=counted(_encoder_gap(run, examples, constant, seed)),
        training_outlier=counted(_training_outlier(run, train)),
        row_outliers=row_outliers(run, test_bound, x, names, columns),
        unusual=unusual_settings(run),
        overlap=None if train is None else run.data.overlap,
        codes=counted(code_usage(run, examples)),
        table=counted(_table_distances(run, train, x, seed)),
    )


def _table_distances(
    run: Run, train: Batch | None, x: Batch, seed: int
) -> TableDistances | None:
    """The distances of a table with draws of the model; None without a prior to draw from."""
    if train is None or not run.config.recipe.has_bound:
        return None
    return table_distances(run, train, x, seed)


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


def _training_outlier(run: Run, train: Batch | None) -> ColumnOutlier | None:
    """The outlier of the training split; None without its rows."""
    if train is None or not isinstance(run.data.train, Split):
        return None
    return training_outlier(run, run.data.train)


def _bound(run: Run, x: Batch, seed: int) -> tuple[Tensor, float]:
    """The ELBO of each example, (n,), and the mean rate.

    -distortion and 0 for a model without a bound.
    """
    terms = score(run, x, SCORED_WITH, seed)
    if run.config.recipe.has_bound:
        return terms["elbo"], float(terms["rate"].mean())
    return -terms["distortion"], 0.0


def _valid_bound(run: Run, most: int, seed: int) -> Mean | None:
    """The bound on validation examples; None where they are few or no split."""
    valid = run.data.valid
    if not isinstance(valid, Split) or len(valid) < FEWEST:
        return None
    return Mean.of(_bound(run, valid.examples(valid.spread(most)), seed)[0])


def _constant(bound: Tensor, constant: Tensor) -> Constant:
    above = bound - constant
    return Constant(
        bound=float(bound.mean()),
        constant=float(constant.mean()),
        above=Mean.of(above),
        worse=float((above < 0).double().mean()),
        n=len(above),
    )


def _encoder_gap(run: Run, x: Batch, constant: Tensor, seed: int) -> EncoderGap | None:
    """The inference gap of a few examples; None without a bound."""
    if not run.config.recipe.has_bound:
        return None
    few = int(min(64, max(8, GAP_VALUES // (GAP_SAMPLES * run.spec.dims))))
    rows = spread(len(x), few)
    if len(rows) < 2:
        return None
    terms = score(run, x[rows], GAP_SAMPLES, seed)
    learned = terms["log_px"] - constant[rows]
    return EncoderGap(
        n=len(rows),
        k=GAP_SAMPLES,
        gap=Mean.of(terms["log_px"] - terms["elbo"]),
        learned=float(learned.mean()),
    )
