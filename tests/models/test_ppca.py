"""The linear-Gaussian model has a known optimum: training must find it."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.decomposition import PCA

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
    """scikit-learn's PCA.score is the exact mean log-likelihood of the optimum (Tipping and Bishop
    1999, eq. 3).
    """
    run = fit(
        configure("digits", "ppca", values=SETTINGS),
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
