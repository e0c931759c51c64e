"""Remedies of the verdicts on draws of a table: each changes the figure it is about.

One seed of each; TIGHTBOUND_LONG=1 takes three.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.small import trained

from tightbound.evaluation.diagnosis import rules
from tightbound.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tightbound.evaluation.diagnosis.rules import Verdict
from tightbound.evaluation.diagnosis.table_distances import TableDistances
from tightbound.runs.run import Run

Settings = dict[str, object]
SEEDS = (1, 2, 3) if os.environ.get("TIGHTBOUND_LONG") else (1,)
SHARE = "category out of proportion"
COLUMN = "column unlike the data"
PAIR = "columns related otherwise"
RULES = {COLUMN: rules.column_distance, PAIR: rules.pair_distance}
AT_REST = ("number and category", "column")
DRAWS = 1600  # at least, of a model


def rare(seed: int) -> pd.DataFrame:
    """A category of 2 % whose numbers differ, and which alone relates x and w."""
    r = np.random.default_rng(seed)
    n = 6000
    is_rare = r.random(n) < 0.02
    x = np.where(is_rare, r.normal(8, 1, n), r.normal(0, 1, n))
    status = np.where(is_rare, "fraud", "ok")
    return pd.DataFrame({"x": x, "w": r.normal(size=n) + 0.8 * x, "status": status})


def four_pairs(seed: int) -> pd.DataFrame:
    """Four truth values, each with a number that follows it, for a single latent."""
    r = np.random.default_rng(seed)
    n = 2000
    columns: dict[str, object] = {}
    for k in range(4):
        is_one = r.random(n) < 0.5
        columns[f"x{k}"] = r.normal(size=n) + 10.0 * is_one
        columns[f"g{k}"] = np.where(is_one, "yes", "no")
    return pd.DataFrame(columns)


def clusters(seed: int) -> pd.DataFrame:
    """Three clusters in four numbers."""
    r = np.random.default_rng(seed)
    n = 3000
    centres = np.array([[0.0, 8, 1, -3], [8, 0, -2, 5], [-7, -6, 4, 0]])
    values = centres[r.integers(0, 3, n)] + r.normal(size=(n, 4))
    return pd.DataFrame(values, columns=list("abcd"))


ALONE: Settings = {"likelihood.depends": "none", "prior": "standard"}
CASES: dict[str, tuple[Callable[[int], pd.DataFrame], Settings, str, Settings]] = {
    "category": (rare, ALONE, SHARE, {"likelihood.depends": "all"}),
    "numbers": (
        rare,
        {"likelihood.depends": "all", "prior": "standard"},
        PAIR,
        {"likelihood.scale": "predicted"},
    ),
    "number and category": (
        four_pairs,
        {"latent": 1},
        PAIR,
        {"likelihood.depends": "all"},
    ),
    "column": (four_pairs, {"latent": 1}, COLUMN, {"likelihood.depends": "all"}),
    "steps": (
        clusters,
        {"prior": "standard", "train.steps": 200, "validate_every": 100},
        PAIR,
        {"train.steps": 1000},
    ),
}


def judged(
    folder: Path, frame: pd.DataFrame, seed: int, settings: Settings
) -> tuple[Run, Diagnosis]:
    values = {"train.steps": 400, "validate_every": 200, "seed": seed, **settings}
    run = trained(folder, "vae", frame, save_seconds=1000, **values)
    test = run.data.test
    return run, diagnose(run, test.examples(test.spread(1000)), 0)


def table(diagnosis: Diagnosis) -> TableDistances:
    distances = diagnosis.measurements.table
    assert distances is not None
    return distances


def gain(before: TableDistances, after: TableDistances, name: str) -> float:
    """By how many standard errors the worst figure of a verdict comes nearer the data."""
    if name == SHARE:
        worst = max(before.shares, key=lambda share: share.deviation)
        new = next(share for share in after.shares if share.value == worst.value)
        variances = [share.drawn * (1 - share.drawn) for share in (worst, new)]
        error = math.sqrt(sum(variances) / worst.m)
        return (abs(worst.drawn - worst.data) - abs(new.drawn - new.data)) / error
    error = math.sqrt(2 / DRAWS)  # at most, of a correlation and of a share
    if name == COLUMN:
        column = max(before.columns, key=lambda each: each.excess)
        again = next(each for each in after.columns if each.name == column.name)
        # where the distributions differ most, each is a share of variance 1 / 4 at most
        return (column.distance - again.distance) / (error / math.sqrt(2))
    pair = max(before.pairs, key=lambda each: each.excess)
    other = next(each for each in after.pairs if each.names == pair.names)
    return (abs(pair.drawn - pair.data) - abs(other.drawn - other.data)) / error


def change(folder: Path, case: str, seed: int, at_rest: bool) -> tuple[Verdict, float]:
    """The verdict of a case, and by how much its remedy brings the figure nearer.

    Args:
        folder: Folder of the runs.
        case: Name of the case.
        seed: Seed of the data and of the runs.
        at_rest: Whether the rule is asked as if the bound no longer rose.
    """
    make, settings, name, _ = CASES[case]
    frame = make(seed)
    run, before = judged(folder / "before", frame, seed, settings)
    verdicts = before.verdicts
    if at_rest:
        verdicts = RULES[name](run, replace(before.measurements, progress=None))
    verdict = next(each for each in verdicts if each.name == name)
    remedied = {**settings, **verdict.settings}
    _, after = judged(folder / "after", frame, seed, remedied)
    return verdict, gain(table(before), table(after), name)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES)
def test_what_a_verdict_names_brings_its_figure_nearer_the_data(
    case: str, seed: int, tmp_path: Path
) -> None:
    at_rest = case in AT_REST
    verdict, gained = change(tmp_path, case, seed, at_rest)
    assert verdict.settings == CASES[case][3]
    assert gained > 2
