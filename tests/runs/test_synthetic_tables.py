"""Draws of tables: rare categories with their own values, exact zeros, conditions by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.small import trained

import tightbound as tb
from tightbound.components.likelihoods.product import Chain
from tightbound.runs.run import Run

pd = pytest.importorskip("pandas")
DRAWS = 20_000


def payments(n: int = 2000) -> Any:
    """A rare category of three, whose amounts, counts and places differ."""
    r = np.random.default_rng(3)
    status = r.choice(["fraud", "ok", "returned"], n, p=[0.01, 0.79, 0.2])
    is_fraud = status == "fraud"
    return pd.DataFrame(
        {
            "place": np.where(is_fraud | (r.random(n) < 0.05), "abroad", "home"),
            "score": r.normal(size=n) + 8.0 * is_fraud,
            "orders": r.negative_binomial(3, 0.5, n) + 30 * is_fraud,
            "fee": np.where(r.random(n) < 0.9, 0.0, r.lognormal(1, 0.4, n)),
            "status": status,
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tables") / "payments"
    values: dict[str, Any] = {"validate_every": 150, "save_seconds": 1000}
    return trained(folder, "vae", payments(), steps=450, batch=128, **values)


@pytest.fixture(scope="module")
def drawn(run: Run) -> Any:
    return run.sample(DRAWS)


def test_a_rare_category_keeps_its_share_and_its_values(drawn: Any) -> None:
    data = payments()
    real = data[data.status == "fraud"]
    rare = drawn[drawn.status == "fraud"]
    share = len(real) / len(data)
    assert share / 2 < len(rare) / DRAWS < 2 * share
    assert abs(rare.score.mean() - real.score.mean()) < 1
    assert abs(rare.orders.mean() - real.orders.mean()) < 8
    assert (rare.place == "abroad").mean() > 0.8
    others = drawn[drawn.status == "ok"]
    assert abs(others.score.mean()) < 0.3 and others.orders.mean() < 6
    assert (others.place == "abroad").mean() < 0.15


def test_nine_zeros_in_ten_are_drawn_and_nothing_is_below_zero(drawn: Any) -> None:
    data = payments()
    assert abs((drawn.fee == 0).mean() - (data.fee == 0).mean()) < 0.03
    assert (drawn.fee >= 0).all()
    above = drawn.fee[drawn.fee > 0]
    assert abs(np.log(above).mean() - 1) < 0.2
    assert drawn.orders.dtype == data.orders.dtype and (drawn.orders >= 0).all()


def test_a_saved_run_draws_and_scores_the_same(run: Run, drawn: Any) -> None:
    assert run.folder is not None
    again = tb.load(run.folder)
    assert again.sample(DRAWS).equals(drawn)
    rows = run.data.test.examples(run.data.test.spread(50))
    scores = [tb.score(r, rows, k=10, seed=0)["log_px"] for r in (run, again)]
    assert scores[0].equal(scores[1])


def test_reconstructions_are_rows_that_go_together(run: Run) -> None:
    rebuilt = run.reconstruct(payments())
    assert list(rebuilt.columns) == list(payments().columns)
    assert (rebuilt.fee >= 0).all() and (rebuilt.fee == 0).mean() > 0.8
    errors = rebuilt.score - payments().score
    assert errors.std() < payments().score.std()


def test_p_of_x_given_z_is_a_density_of_raw_rows(run: Run) -> None:
    """The density of a rare row is that of the columns given its category."""
    data = payments()
    rare = data[data.status == "fraud"].iloc[:1]
    z = run.encode(rare)
    px = run.likelihood(z)
    assert isinstance(px.base, Chain)
    ordinary = rare.assign(status="ok")
    assert float(px.log_prob(rare)) > float(px.log_prob(ordinary)) + 10


def regions(n: int = 300) -> Any:
    r = np.random.default_rng(0)
    region = r.choice(["north", "south"], n)
    return pd.DataFrame(
        {
            "v": r.normal(size=n) + 6 * (region == "south"),
            "kind": np.where(r.random(n) < 0.5, "a", "b"),
            "region": region,
        }
    )


@pytest.mark.parametrize("source", ["frame", "csv"])
def test_a_text_column_is_a_condition_from_training_to_report(
    source: str, tmp_path: Path
) -> None:
    data: Any = regions()
    if source == "csv":
        data.to_csv(tmp_path / "regions.csv", index=False)
        data = tmp_path / "regions.csv"
    run = tb.train(
        data,
        "conditional",
        out=tmp_path / "run",
        display="none",
        report=source == "csv",
        settings={
            "data.condition": "region",
            "train.steps": 150,
            "recipe.size": "s",
            "latent": 4,
        },
    )
    assert run.spec.condition is not None
    assert run.spec.condition.names == ("north", "south")
    south = run.sample(200, condition="south")
    assert list(south.columns) == ["v", "kind"]
    gap = south.v.mean() - run.sample(200, condition="north").v.mean()
    assert 4 < gap < 8
    with pytest.raises(tb.TightboundError, match="no class 'west'"):
        run.sample(2, condition="west")
    if source == "csv":
        page = next((tmp_path / "run").rglob("*.html")).read_text(encoding="utf-8")
        assert "south" in page and "north" in page
