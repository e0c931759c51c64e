"""Sample quality: how far examples of a model are from test examples, by several measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tightbound.evaluation.diagnosis.latent_usage import c2st_auc
from tightbound.evaluation.metrics.example_sets import Array, Examples
from tightbound.evaluation.metrics.sample_distances import (
    NEIGHBOURS,
    frechet,
    kernel_distance,
    kernel_distance_error,
    manifolds,
)
from tightbound.evaluation.metrics.spaces import spaces
from tightbound.evaluation.metrics.stamp import SpaceValue, Stamp
from tightbound.evaluation.summary import Table
from tightbound.runtime.reading import Tree

METRICS = ("FD", "KID", "precision", "recall", "density", "coverage", "C2ST")
JUDGED = 1000  # examples of each side of the classifier
SETS = {
    "train": "training examples: the floor",
    "draws": "draws of p(x|z), z from the prior",
    "means": "means of the same p(x|z)",
    "independent": "training values permuted in each dimension: noise",
}


@dataclass(frozen=True)
class SpaceQuality:
    """Values of one feature space.

    Args:
        stamp: feature space, number of examples, reference.
        axes: dimensions of the space.
        sets: values by metric, of each set of examples against the reference.
    """

    stamp: Stamp
    axes: int
    sets: Mapping[str, Mapping[str, SpaceValue]]

    def to_json(self) -> Tree:
        """Stamp and values."""
        sets: Tree = {}
        for name, values in self.sets.items():
            sets[name] = {metric: value.to_json() for metric, value in values.items()}
        return {
            "space": self.stamp.space,
            "n": self.stamp.n,
            "reference": self.stamp.reference,
            "axes": self.axes,
            "sets": sets,
        }

    def table(self) -> Table:
        """A row for each set of examples."""
        rows = []
        for name, values in self.sets.items():
            cells = [_printed(values[metric].value) for metric in METRICS]
            rows.append((name, *cells, SETS[name]))
        return Table(
            ("examples", *METRICS, "what they are"),
            rows,
            numbers=tuple(range(1, len(METRICS) + 1)),
            caption=f"sample quality, FD{self.stamp}, {self.axes} dimensions, k = {NEIGHBOURS}",
        )


@dataclass(frozen=True)
class Quality:
    """Sample quality in each feature space."""

    spaces: Sequence[SpaceQuality]

    def to_json(self) -> Tree:
        """The values of each space."""
        return {"spaces": [space.to_json() for space in self.spaces]}

    def tables(self) -> list[Table | list[str]]:
        """A table for each space."""
        return [space.table() for space in self.spaces]


def _printed(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def quality(examples: Examples) -> Quality:
    """Sample quality of a run in pixels, scattering coefficients and its own features.

    Args:
        examples: test and training examples of the run.
    """
    sets = {"train": examples.train, **examples.drawn()}
    sets["independent"] = examples.shuffled()
    measured = []
    for space in spaces(examples):
        stamp = Stamp(space.stamp, examples.n, examples.reference)
        reference = space(examples.test)
        values = {
            name: compare_sets(reference, space(x), stamp) for name, x in sets.items()
        }
        measured.append(SpaceQuality(stamp, reference.shape[1], values))
    return Quality(measured)


def compare_sets(reference: Array, drawn: Array, stamp: Stamp) -> dict[str, SpaceValue]:
    """All metrics of rows against the rows of the reference, in one feature space."""
    judged = c2st_auc(drawn[:JUDGED], reference[:JUDGED])
    numbers = {
        "FD": frechet(reference, drawn),
        "KID": kernel_distance(reference, drawn),
        **manifolds(reference, drawn),
        "C2ST": judged,
    }
    errors = {"KID": kernel_distance_error(reference, drawn)}
    return {
        name: SpaceValue(name, value, stamp, errors.get(name))
        for name, value in numbers.items()
    }
