"""Metrics of a run beside log p(x), by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tightbound.data import read
from tightbound.evaluation.metrics.disentanglement import (
    Factors,
    disentanglement,
    factors_of,
    given_factors,
)
from tightbound.evaluation.metrics.example_sets import Examples, training_split
from tightbound.evaluation.metrics.novelty import novelty
from tightbound.evaluation.metrics.outside import MOST, out_of_distribution
from tightbound.evaluation.metrics.probes import check_beside, check_labels, features
from tightbound.evaluation.metrics.quality import quality
from tightbound.evaluation.metrics.request import Metric, MetricRequest, Metrics
from tightbound.evaluation.runner import Selection
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.progress import phase

FEWEST = 20  # examples of each set


@dataclass(frozen=True)
class Source:
    """What metrics are measured on.

    Args:
        run: the run.
        selection: the examples that are evaluated.
        split: their name.
        seed: seed of all draws.
        request: the request.
    """

    run: Run
    selection: Selection
    split: str
    seed: int
    request: MetricRequest

    def examples(self) -> Examples:
        """Test and training examples."""
        return Examples.of(self.run, self.selection, self.split, self.seed)

    def factors(self) -> Factors:
        """Those that were given, or those that the data set knows."""
        if self.request.factors is None:
            return factors_of(self.run)
        return given_factors(self.request.factors, self.selection)


# ---- whether a metric can be measured


def _check_samples(source: Source) -> None:
    train = training_split(source.run)
    if source.run.spec.missing:
        raise TightboundError(
            "quality and novelty compare whole examples, and these may have missing values: leave "
            "both out of --metrics"
        )
    if source.split == "train":
        raise TightboundError(
            "quality and novelty compare with examples that were not trained on: leave --split "
            "at test"
        )
    fewest = min(len(source.selection), len(train))
    if fewest < FEWEST:
        raise TightboundError(
            f"quality and novelty need {FEWEST} test and training examples, and there are "
            f"{fewest}: leave both out of --metrics, or evaluate more"
        )


def _check_outside(source: Source) -> None:
    if source.run.spec.missing:
        raise TightboundError(
            "ood compares whole examples, and these may have missing values: leave out --against"
        )
    training_split(source.run)
    if source.request.against is None:
        raise TightboundError(
            "ood compares with another data set: name it with --against DATA"
        )


def _check_factors(source: Source) -> None:
    source.factors()


def _check_features(source: Source) -> None:
    check_labels(source.run)
    if source.request.beside is not None:
        check_beside(source.run, source.request.beside)


# ---- the metrics


def _quality(source: Source) -> Metric:
    return quality(source.examples())


def _novelty(source: Source) -> Metric:
    return novelty(source.examples())


def _outside(source: Source) -> Metric:
    run = source.run
    against = source.request.against
    other = read(against, run.spec, run.config.data)
    name = cut(against) if isinstance(against, str | Path) else "the other data"
    _, few = source.selection.subset(MOST)
    outside = other.examples(other.spread(min(len(other), len(few))))
    return out_of_distribution(run, few.x(), outside, name)


def _disentanglement(source: Source) -> Metric:
    return disentanglement(source.run, source.seed, source.factors())


def _features(source: Source) -> Metric:
    return features(source.run, source.seed, source.request.beside)


Check = Callable[[Source], None]
Measure = Callable[[Source], Metric]
METRICS: Mapping[str, tuple[Check, Measure]] = {
    "quality": (_check_samples, _quality),
    "novelty": (_check_samples, _novelty),
    "ood": (_check_outside, _outside),
    "disentanglement": (_check_factors, _disentanglement),
    "features": (_check_features, _features),
}


def measure(source: Source) -> Metrics:
    """Measure the requested metrics.

    Raises:
        TightboundError: before any work, where one that was named cannot be measured.
    """
    names = source.request.names
    wanted = [name for name in METRICS if name in names or "all" in names]
    possible = []
    skipped = []
    for name in wanted:
        try:
            METRICS[name][0](source)
        except TightboundError as error:
            if name in names:
                raise
            skipped.append(str(error))
        else:
            possible.append(name)
    results = {}
    with phase("metrics", len(possible), " metrics") as count:
        for name in possible:
            with phase(f"metrics: {name}"):
                results[name] = METRICS[name][1](source)
            count.add(1)
    return Metrics(results, skipped)
