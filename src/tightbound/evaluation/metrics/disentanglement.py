"""Disentanglement of a run's codes, where the factors of the data are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from tightbound.data import Split
from tightbound.distributions.random import seed_for
from tightbound.evaluation.metrics.factor_scores import (
    Array,
    Indices,
    Labelled,
    as_classes,
    entropies,
    mutual_information,
    scores,
)
from tightbound.evaluation.metrics.novelty import spread
from tightbound.evaluation.summary import Table
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Tree

MOST = 10_000  # examples of all splits together
SHOWN = 10  # codes in the picture
DEFINITIONS = {
    "MIG": "gap of the two codes with most information on a factor",
    "SAP": "gap of the two codes that predict a factor best",
    "DCI disentanglement": "each code is important for one factor",
    "DCI completeness": "each factor needs one code",
    "DCI informativeness": "accuracy of all factors from all codes",
    "FactorVAE score": "the code of least variance names the fixed factor",
    "beta-VAE score": "differences of pairs name the factor they share",
    "modularity": "each code has information on one factor",
}


@dataclass(frozen=True)
class FactorCurve:
    """Mean and standard deviation of one code at each value of one factor."""

    mean: list[float]
    sd: list[float]


@dataclass(frozen=True)
class Disentanglement:
    """Scores of disentanglement, and codes against factors.

    Args:
        n: number of examples.
        factors: names of the factors.
        scores: each from 0 to 1.
        chance: the same for factors that were permuted over the examples.
        codes: names of the codes of the picture, those with most information first.
        information: I(code; factor) over the entropy of the factor, for these codes.
        curves: of these codes, a curve for each factor.
    """

    n: int
    factors: Sequence[str]
    scores: Mapping[str, float]
    chance: Mapping[str, float]
    codes: Sequence[str]
    information: Array
    curves: Sequence[Sequence[FactorCurve]]

    def to_json(self) -> Tree:
        """All fields, numbers of pictures rounded to five digits."""
        return {
            "n": self.n,
            "factors": list(self.factors),
            "scores": dict(self.scores),
            "chance": dict(self.chance),
            "codes": list(self.codes),
            "information": self.information.round(5).tolist(),
            "curves": [list(map(asdict, row)) for row in self.curves],
        }

    def tables(self) -> list[Table | list[str]]:
        """A row for each score."""
        rows = [
            (name, f"{value:.3f}", f"{self.chance[name]:.3f}", DEFINITIONS[name])
            for name, value in self.scores.items()
        ]
        header = ("score", "value", "by chance", "what is 1 if perfect")
        caption = (
            f"disentanglement, {self.n:,} examples of all splits, factors "
            f"{', '.join(self.factors)}"
        )
        return [Table(header, rows, numbers=(1, 2), caption=caption)]


def factors_of(run: Run) -> tuple[str, ...]:
    """Names of the factors of a run's data.

    Raises:
        TightboundError: no factors are known.
    """
    if run.data.factors is None or run.data.factor_names is None:
        raise TightboundError(
            "disentanglement needs data whose factors are known, such as shapes: leave it out of "
            "--metrics"
        )
    return run.data.factor_names


def disentanglement(run: Run, seed: int) -> Disentanglement:
    """Scores of the posterior means of a run's examples, of all three splits.

    At most 10,000 examples are used; factors without variation are left out.

    Args:
        run: a run on data with factors.
        seed: seed of halves, batches and forests.
    """
    names = factors_of(run)
    codes, factors = _labelled(run)
    classes, names_left = as_classes(factors, names)
    if not names_left:
        raise TightboundError(
            "disentanglement needs factors that vary, but each has one value in these data: "
            "leave it out of --metrics"
        )
    data = Labelled(codes, classes)
    number = seed_for(seed, "disentanglement") % 2**32
    table = mutual_information(codes, classes) / entropies(classes)
    order = np.argsort(-table.max(1), kind="stable")[:SHOWN]
    every = [f"{site}_{i + 1}" for site, n in run.sites.items() for i in range(n)]
    return Disentanglement(
        n=len(codes),
        factors=names_left,
        scores=scores(data, number),
        chance=scores(data.shuffled(number), number),
        codes=[every[i] for i in order],
        information=table[order],
        curves=[_curves(codes[:, i], classes) for i in order],
    )


def _labelled(run: Run) -> tuple[Array, Array]:
    """Codes and factors of the examples of all splits, spread evenly."""
    codes = []
    factors = []
    splits = [split for split in run.data.splits.values() if isinstance(split, Split)]
    splits = [split for split in splits if split.factors is not None and len(split)]
    total = sum(map(len, splits))
    for split in splits:
        assert split.factors is not None
        rows = spread(len(split), max(1, MOST * len(split) // max(total, MOST)))
        means = run.predictor.encode_mean(split.examples(rows))
        codes.append(means)
        factors.append(split.factors[rows])
    return torch.cat(codes).double().numpy(), torch.cat(factors).double().numpy()


def _curves(code: Array, classes: Indices) -> list[FactorCurve]:
    """A code at each value of each factor, in units of its standard deviation."""
    code = (code - code.mean()) / max(float(code.std()), 1e-12)
    curves = []
    for column in classes.T:
        groups = [code[column == value] for value in range(int(column.max()) + 1)]
        curves.append(
            FactorCurve(
                [float(f"{group.mean():.5g}") for group in groups],
                [float(f"{group.std():.5g}") for group in groups],
            )
        )
    return curves
