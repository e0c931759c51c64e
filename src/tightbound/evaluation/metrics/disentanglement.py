"""Disentanglement of a run's codes, where the factors of the data are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from tightbound.data import DataSettings, Split
from tightbound.data.opening import open_source
from tightbound.data.tables.table import Values
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
from tightbound.evaluation.runner import Selection
from tightbound.evaluation.summary import Table
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, shortened
from tightbound.runtime.reading import Tree

MOST = 10_000  # examples of all splits together
MOST_VALUES = 40  # of a factor; numbers with more are cut into groups
GROUPS = 20
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
            f"disentanglement, {self.n:,} examples, factors {', '.join(self.factors)}"
        )
        return [Table(header, rows, numbers=(1, 2), caption=caption)]


@dataclass(frozen=True)
class Factors:
    """Known factors of examples that can be encoded.

    Args:
        names: names of the factors.
        values: a number for each value of each factor, (n, F).
        selections: the examples, in this order.
    """

    names: Sequence[str]
    values: Array
    selections: Sequence[Selection]


def factors_of(run: Run) -> Factors:
    """The factors of a run's data, of at most 10,000 examples of all splits.

    Raises:
        TightboundError: no factors are known.
    """
    names = run.data.factor_names
    if run.data.factors is None or names is None:
        raise TightboundError(
            "disentanglement needs data whose factors are known, such as shapes, or a table of "
            "them: name it with --factors F, or leave disentanglement out of --metrics"
        )
    values = []
    selections = []
    splits = [split for split in run.data.splits.values() if isinstance(split, Split)]
    splits = [split for split in splits if split.factors is not None and len(split)]
    total = sum(map(len, splits))
    for split in splits:
        assert split.factors is not None
        rows = spread(len(split), max(1, MOST * len(split) // max(total, MOST)))
        values.append(split.factors[rows])
        selections.append(Selection(split, rows))
    return Factors(names, torch.cat(values).double().numpy(), selections)


def given_factors(source: object, selection: Selection) -> Factors:
    """Factors from a table with a row for each example of the evaluated data.

    Numbers of more than 40 different values are cut into 20 groups of equal size.

    Args:
        source: a DataFrame, a dict of columns, or a file of a table.
        selection: the examples that are evaluated.

    Raises:
        TightboundError: it is no table, has another number of rows, or has gaps.
    """
    table = open_source(source, DataSettings(label="none")).table
    if table is None:
        raise TightboundError(
            "--factors is no table of named columns: give a CSV or parquet file, or a DataFrame, "
            "with a column for each factor"
        )
    n = len(selection.split)
    if len(table) != n:
        raise TightboundError(
            f"--factors has {len(table)} rows and the evaluated data {n}: give a row for each "
            "example, in the same order"
        )
    columns = [_numbered(name, column) for name, column in table.columns.items()]
    rows = selection.rows[spread(len(selection), MOST)]
    values = np.stack(columns, 1)[rows.numpy()]
    return Factors(list(table.columns), values, [Selection(selection.split, rows)])


def _numbered(name: str, column: Values) -> Array:
    """A number for each value of a column."""
    import pandas

    if pandas.isna(column).any():
        raise TightboundError(
            f"column {shortened(name)} of --factors has missing values: leave these rows out of "
            "both, or the column"
        )
    is_number = column.dtype.kind in "iufb"
    values, classes = np.unique(
        column if is_number else column.astype(str), return_inverse=True
    )
    classes = classes.reshape(-1)
    if len(values) <= MOST_VALUES:
        return classes.astype(np.float64)
    if not is_number:
        raise TightboundError(
            f"column {shortened(name)} of --factors has {len(values)} different texts: a factor "
            f"has at most {MOST_VALUES}, leave it out"
        )
    ranks = np.argsort(np.argsort(column, kind="stable"), kind="stable")
    groups: Array = (ranks * GROUPS // len(column)).astype(np.float64)
    return groups


def disentanglement(run: Run, seed: int, factors: Factors) -> Disentanglement:
    """Scores of the posterior means of a run's examples.

    Factors without variation are left out.

    Args:
        run: a run.
        seed: seed of halves, batches and forests.
        factors: the factors of examples.
    """
    classes, names = as_classes(factors.values, factors.names)
    if not names:
        raise TightboundError(
            "disentanglement needs factors that vary, but each has one value in these data: "
            "leave it out of --metrics"
        )
    means = [run.predictor.encode_mean(part.x()) for part in factors.selections]
    codes: Array = torch.cat(means).double().numpy()
    data = Labelled(codes, classes)
    number = seed_for(seed, "disentanglement") % 2**32
    table = mutual_information(codes, classes) / entropies(classes)
    order = np.argsort(-table.max(1), kind="stable")[:SHOWN]
    every = [
        f"{site}_{i + 1}" for site, n in run.model.site_widths.items() for i in range(n)
    ]
    return Disentanglement(
        n=len(codes),
        factors=names,
        scores=scores(data, number),
        chance=scores(data.shuffled(number), number),
        codes=[every[i] for i in order],
        information=table[order],
        curves=[_curves(codes[:, i], classes) for i in order],
    )


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
