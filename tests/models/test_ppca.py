"""The linear-Gaussian model has a known optimum: it is solved for, and training by gradients
finds it too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from support.trainings import Listener

import tightbound as tb
from tightbound.config import configure
from tightbound.evaluation import evaluate
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

LATENT = 10
SETTINGS = {
    "data.domain": "real",
    "latent": LATENT,
    "train.steps": 1200,
    "train.lr": 0.03,
    "train.validate_every": 300,
    "train.validate_n": 8,
}


def test_ppca_reaches_the_likelihood_of_principal_components(tmp_path: Path) -> None:
    """By gradients, as a recipe of another name with the same parts.

    scikit-learn's PCA.score is the exact mean log-likelihood of the optimum (Tipping and
    Bishop 1999, eq. 3).
    """
    config = configure("digits", "ppca", values=SETTINGS)
    parts = config.recipe.model_copy(update={"name": "linear"})
    run = fit(
        config.model_copy(update={"recipe": parts}),
        "digits",
        tmp_path / "run",
        Quiet(),
    )
    train, test = (
        s.batch(torch.arange(len(s))).flatten(1).double().numpy()
        for s in (run.data.train, run.data.test)
    )
    oracle = PCA(LATENT).fit(train).score(test)
    found = evaluate(run, k=300).terms
    assert abs(found["log_px"].mean - oracle) < 0.5
    assert abs(found["elbo"].mean - oracle) < 0.6, (
        "the diagonal posterior is exact at the optimum"
    )
    assert 0 <= found["gap"].mean < 0.5


def rows_of(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "few rows":
        return rng.normal(size=(57, 3)) @ rng.normal(size=(3, 8)) + rng.normal(
            size=(57, 8)
        )
    if kind == "fewer rows than columns":
        return rng.normal(size=(40, 60)) * np.linspace(0.5, 3, 60)
    x = rng.normal(size=(200, 6)) * [1.0, 2.0, 1e-3, 50.0, 0.3, 4.0]
    x[:, 4] = 7.5  # constant
    return x + 100


def by_eigenvalues(train: np.ndarray, latent: int, least: float) -> Any:
    """The normal distribution of the optimum, Tipping and Bishop 1999, eq. 7 and 8."""
    cov = np.cov(train.T, bias=True)
    values, vectors = np.linalg.eigh(cov)
    noise = max(values[: len(values) - latent].mean(), least**2)
    w = vectors[:, -latent:] * np.sqrt(np.maximum(values[-latent:] - noise, 0))
    return stats.multivariate_normal(train.mean(0), w @ w.T + noise * np.eye(len(cov)))


@pytest.mark.parametrize("kind", ["few rows", "fewer rows than columns", "constant"])
def test_the_closed_form_is_the_optimum(kind: str, tmp_path: Path) -> None:
    settings = {"latent": 2, "train.steps": 700}
    show = Listener()
    config = configure("rows", "ppca", values=settings)
    run = fit(config, rows_of(kind), tmp_path / "run", show)
    assert any("solved in closed form" in line for line in show.said)
    train = run.data.train.batch(torch.arange(len(run.data.train))).double().numpy()
    x = run.data.test.batch(torch.arange(len(run.data.test)))
    exact = by_eigenvalues(train, 2, 0).logpdf(x.double().numpy())
    terms = tb.score(run, x, 100, 0)
    assert np.abs(terms["log_px"].numpy() - exact).max() < 0.02
    assert float(run.model(x, k=50).log_w.std(0).max()) < 0.02, "q is the posterior"
    assert (terms["log_px_se"] < 0.02).all()
    quadrature = tb.log_px(run.model, x, "quadrature")
    assert np.abs(quadrature.values.numpy() - exact).max() < 1e-3
    text = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    log = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in log] == ["start", "note", "epoch"]
    assert run.config.train.steps == 1 and log[-1]["step"] == 1


def test_a_solved_run_resumes_evaluates_and_has_a_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"latent": 2}
    run = tb.train(
        "digits", "ppca", out=out, display="none", report=False, settings=settings
    )
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    again = tb.train(
        "digits",
        "ppca",
        out=out,
        display="none",
        resume=True,
        settings=settings | {"train.steps": 300},
    )
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, weights[name])
    verdicts = tb.evaluate(again, k=50).diagnosis.verdicts
    assert verdicts, "two features are worse than a constant for each pixel"
    assert all(v.fix not in ("more_steps", "longer") for v in verdicts)
    assert verdicts[0].settings == {"recipe.latent": 4}
    assert (out / "report.html").is_file() and (out / "evaluation.json").is_file()
    assert torch.equal(tb.load(out).model.likelihood.base, weights["likelihood.base"])


@pytest.mark.parametrize(
    "settings",
    [{"objective.beta": 4.0}, {"posterior.scale": "predicted"}, {"network": "mlp"}],
)
def test_other_parts_than_the_recipes_are_trained_by_steps(
    settings: dict[str, object], tmp_path: Path
) -> None:
    values = {"latent": 2, "train.steps": 3, "data.domain": "real", **settings}
    run = fit(
        configure("digits", "ppca", values=values), "digits", tmp_path / "r", Quiet()
    )
    assert run.config.train.steps == 3


def test_as_many_features_as_columns_give_the_covariance_of_the_data(
    tmp_path: Path,
) -> None:
    """Columns of W beyond D - 1 are 0; the noise is the least eigenvalue, and q is exact."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3))
    config = configure("rows", "ppca", values={"latent": 4})
    run = fit(config, rows, tmp_path / "run", Quiet())
    train = run.data.train.batch(torch.arange(len(run.data.train))).double().numpy()
    x = run.data.test.batch(torch.arange(20))
    cov = np.cov(train.T, bias=True)
    exact = stats.multivariate_normal(train.mean(0), cov).logpdf(x.double().numpy())
    drawn = tb.score(run, x, 100, 0)["log_px"].numpy()
    assert np.abs(drawn - exact).max() < 0.002
    assert float(run.model(x, k=50).log_w.std(0).max()) < 0.002


def test_examples_that_the_latents_can_hold_in_full_are_trained_by_steps(
    tmp_path: Path,
) -> None:
    """Of 16 examples in 40 dimensions, 16 features leave no variance for the noise."""
    rows = np.random.default_rng(0).normal(size=(20, 40))
    values = {"latent": 16, "train.steps": 5, "data.domain": "real"}
    run = fit(configure("rows", "ppca", values=values), rows, tmp_path / "r", Quiet())
    assert run.config.train.steps == 5
    assert run.history()[-1]["valid"]["elbo"] > -200
