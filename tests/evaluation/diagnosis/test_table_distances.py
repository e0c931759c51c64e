"""Distances of tables: known answers, what chance makes of them, and the verdicts on draws."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.small import trained

from tightbound.core.batch import Batch
from tightbound.core.data_spec import Column
from tightbound.evaluation.diagnosis import rules
from tightbound.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tightbound.evaluation.diagnosis.table_distances import (
    Array,
    CategoryShare,
    TableDistances,
    associations,
    compare,
    correlation_ratio,
    cramers_v,
    table_distances,
)
from tightbound.runs.run import Run

pd = pytest.importorskip("pandas")
COLUMNS = (
    Column(name="group", kind="categorical", values=("a", "b", "c")),
    Column(name="sex", kind="binary", values=("f", "m")),
    Column(name="x", kind="real"),
    Column(name="y", kind="real"),
)


def rows(n: int, seed: int) -> Array:
    """Sex follows the group, x the group, and y follows x."""
    r = np.random.default_rng(seed)
    group = r.choice(3, n, p=[0.2, 0.3, 0.5])
    sex = (r.random(n) < np.array([0.1, 0.5, 0.9])[group]).astype(float)
    x = r.normal(size=n) + 2 * group
    y = x**3 + 0.1 * r.normal(size=n)
    return np.stack([group, sex, x, y], 1).astype(float)


# ---- known answers


def test_associations_of_equal_and_of_unrelated_columns() -> None:
    r = np.random.default_rng(0)
    a, b = r.integers(0, 4, (2, 4000)).astype(float)
    x, y = r.normal(size=(2, 4000))
    assert cramers_v(a, (a + 1) % 4) == pytest.approx(1, abs=1e-3)
    assert cramers_v(a, b) < 0.03
    assert correlation_ratio(a, x) < 0.05
    assert correlation_ratio(a, 100 * a + 0.01 * x) > 0.99
    matrix = associations(COLUMNS[2:], np.stack([x, np.exp(x)], 1))
    assert matrix[0, 1] == pytest.approx(1)
    matrix = associations(COLUMNS[2:], np.stack([x, -x + 0 * y], 1))
    assert matrix[0, 1] == pytest.approx(-1)


def test_the_correlation_ratio_of_two_groups_is_their_rank_correlation() -> None:
    r = np.random.default_rng(0)
    group = r.integers(0, 2, 5000).astype(float)
    x = r.normal(size=5000) + group
    known = abs(associations(COLUMNS[2:], np.stack([group, x], 1))[0, 1])
    assert correlation_ratio(group, x) == pytest.approx(known, abs=0.01)


def test_constants_and_gaps_have_no_association() -> None:
    x = rows(200, 0)
    x[:, 1] = 0
    x[::2, 2] = np.nan
    matrix = associations(COLUMNS, x)
    assert np.isnan(matrix[1, [0, 2, 3]]).all()
    whole = associations(COLUMNS, x[1::2])
    assert matrix[2, 3] == pytest.approx(whole[2, 3])


# ---- the floor


def excess(drawn: Array) -> tuple[TableDistances, float, float]:
    result = compare(COLUMNS, rows(800, 0), rows(200, 1), drawn)
    return (
        result,
        max(column.excess for column in result.columns),
        max(pair.excess for pair in result.pairs),
    )


def test_draws_of_the_truth_lie_below_the_floor() -> None:
    for seed in range(2, 12):
        result, column, pair = excess(rows(3000, seed))
        assert column < 0 and pair < 0
        assert max(share.deviation for share in result.shares) < rules.SURE_OF_SHARE


def test_another_column_and_a_lost_relation_lie_above_it() -> None:
    drawn = rows(3000, 2)
    shifted = drawn.copy()
    shifted[:, 2] += 1
    result, column, _ = excess(shifted)
    assert column > rules.COLUMN_APART
    assert max(result.columns, key=lambda c: c.excess).name == "x"
    shuffled = drawn.copy()
    shuffled[:, 3] = np.random.default_rng(0).permutation(drawn[:, 3])
    result, column, pair = excess(shuffled)
    assert column < 0 and pair > rules.PAIR_APART
    assert "y" in max(result.pairs, key=lambda p: p.excess).names


def test_a_rare_category_that_is_lost_stands_out() -> None:
    share = CategoryShare("status", "fraud", 0.01, 0.002, 2000, 4000)
    assert share.deviation > rules.SURE_OF_SHARE
    assert replace(share, drawn=0.009).deviation < 1


# ---- verdicts


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A table whose numbers follow a category, and a column with nine zeros in ten."""
    r = np.random.default_rng(0)
    n = 1500
    group = r.choice(3, n, p=[0.03, 0.4, 0.57])
    frame = pd.DataFrame(
        {
            "x": r.normal(size=n) + np.array([8.0, -2.0, 2.0])[group],
            "spent": np.where(r.random(n) < 0.9, 0.0, r.lognormal(2, 0.5, n)),
            "group": np.array(["rare", "b", "c"])[group],
        }
    )
    root = tmp_path_factory.mktemp("tables")

    def train(name: str, **settings: Any) -> Run:
        values = {"save_seconds": 1000, "validate_every": 100, **settings}
        return trained(root / name, "vae", frame, steps=400, **values)

    bad: dict[str, Any] = {"data.fields.spent": "real"}
    return {"good": train("good"), "real": train("real", **bad)}


def judged(run: Run) -> Diagnosis:
    test = run.data.test
    return diagnose(run, test.examples(test.spread(1000)), 0)


def draws_only(diagnosis: Diagnosis) -> dict[str, rules.Verdict]:
    names = (
        "category out of proportion",
        "column unlike the data",
        "columns related otherwise",
    )
    return {v.name: v for v in diagnosis.verdicts if v.name in names}


def test_a_good_model_of_a_table_has_no_verdict_on_its_draws(
    tables: dict[str, Run],
) -> None:
    assert draws_only(judged(tables["good"])) == {}


def test_a_column_with_zeros_read_as_real_is_named_with_the_kind_that_it_has(
    tables: dict[str, Run],
) -> None:
    diagnosis = judged(tables["real"])
    verdict = draws_only(diagnosis)["column unlike the data"]
    assert "in column spent" in verdict.words
    assert verdict.settings == {"data.fields.spent": "zero-inflated"}

    def spent(diagnosis: Diagnosis) -> float:
        table = diagnosis.measurements.table
        assert table is not None
        return next(c.distance for c in table.columns if c.name == "spent")

    # the good run has the settings of the remedy
    assert spent(diagnosis) > 0.3
    assert spent(judged(tables["good"])) < 0.1


def measured(**table: Any) -> Any:
    empty: dict[str, Any] = {"columns": [], "pairs": [], "shares": []}
    distances = TableDistances(**{**empty, **table})
    return SimpleNamespace(table=distances, unusual=[], progress=None, transfer=None)


def test_remedies_of_draws_are_the_dependence_then_more_steps(
    tables: dict[str, Run],
) -> None:
    run = tables["good"]
    lost = CategoryShare("group", "rare", 0.03, 0.003, 1200, 4000)
    result = measured(shares=[lost])
    (verdict,) = rules.category_share(run, result)
    assert verdict.settings == {"likelihood.depends": "all"}
    assert "3.00%" in verdict.words and "0.30%" in verdict.words
    assert rules.category_share(run, measured(shares=[replace(lost, drawn=0.02)])) == []
    changes = {"likelihood.depends": "all"}
    recipe = rules.changed_recipe(run.config.recipe, changes)
    config = run.config.model_copy(update={"recipe": recipe})
    (verdict,) = rules.category_share(
        SimpleNamespace(config=config, spec=run.spec, history=run.history, folder=None),
        result,  # type: ignore[arg-type]
    )
    assert verdict.settings == {"train.steps": 1600}


def test_other_data_have_no_such_distances() -> None:
    x = torch.zeros(8, 3)
    run = SimpleNamespace(spec=SimpleNamespace(fields=()))

    assert table_distances(run, Batch(x), Batch(x), 0) is None  # type: ignore[arg-type]
