"""Bayes' rule where it can be computed: three terms by integrals of their own, against exact
answers.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.report_pages import untrained
from support.small import small_run
from torch.distributions import MultivariateNormal

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.exact_terms import by_k, gap_on_grid, three_terms
from tightbound.evaluation.estimators.quadrature import posterior_box, posterior_grid
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(
        small_run(
            tmp_path_factory.mktemp("runs") / "two",
            "vae",
            latent=2,
            steps=120,
            lr=0.003,
        )
    )


def exact_log_px(run: Run, x: torch.Tensor) -> float:
    """Of a linear-Gaussian model with p(z) = N(0, I), from its decoder read off at z = 0 and at
    each unit vector.
    """
    z = torch.cat([torch.zeros(1, 2), torch.eye(2)])
    px = run.predictor.decode(Batch(z))
    mean = px.mean.flatten(1).double()
    weight, sd = mean[1:] - mean[0], px.variance[0].flatten().double().sqrt()
    cov = weight.T @ weight + torch.diag(sd**2)
    return float(MultivariateNormal(mean[0], cov).log_prob(x.flatten().double()))


def test_the_three_terms_add_up_to_an_exact_log_px() -> None:
    run = untrained("digits", "ppca", latent=2, **{"data.domain": "real"})
    x = run.data.test.batch(torch.tensor([5]))
    t = three_terms(run.model, x)
    exact = exact_log_px(run, x)
    assert t.log_px == pytest.approx(exact, abs=1e-3)
    assert abs(t.residual) < 2e-3 and t.elbo + t.inference_gap == pytest.approx(
        exact, abs=3e-3
    )
    assert t.inference_gap > 1


def test_each_term_is_what_it_says(two: Run) -> None:
    """fit against draws, rate against the closed form, third against the integral over another
    grid.
    """
    for row in (0, 60, 150):
        x = two.data.test.batch(torch.tensor([row]))
        t = three_terms(two.model, x)
        assert abs(t.residual) < 1e-3
        q, p = two.posterior(two.spec.to_raw(x))["z"], two.prior["z"]
        assert t.rate == pytest.approx(
            float(torch.distributions.kl_divergence(q, p)), abs=1e-3
        )  # type: ignore[arg-type]
        torch.manual_seed(row)
        z = q.sample((20_000,))[:, 0]  # type: ignore[union-attr]
        drawn = two.predictor.decode(Batch(z)).log_prob(x)
        assert t.fit == pytest.approx(
            float(drawn.mean()), abs=4.5 * float(drawn.std()) / math.sqrt(20_000)
        )
        other = posterior_grid(
            two.model, x, points=90, box=posterior_box(two.model, x, width=7.0)
        )
        assert (
            t.inference_gap == pytest.approx(gap_on_grid(other), abs=5e-3)
            and t.inference_gap > 0
        )


def test_the_prior_finds_little_where_the_encoder_finds_much() -> None:
    run = untrained("digits", "ppca", latent=4, **{"data.domain": "real"})
    with torch.no_grad():
        run.model.likelihood.scale.log_scale -= 3
    x = run.data.test.batch(torch.tensor([3]))
    estimates = by_k(run, x, [1, 10, 200], 6, 0)
    assert estimates["p"].shape == estimates["q"].shape == (6, 3)
    medians = estimates["p"].median(0).values
    assert medians[0] < medians[1] < medians[2]
    again = by_k(run, x, [1, 10, 200], 6, 0)
    assert torch.equal(estimates["q"], again["q"]), "a function of the seed"
    one = by_k(run, x, [1], 6, 1)["p"]
    assert not torch.equal(one, estimates["p"][:, :1])


def test_more_features_than_two_are_refused(tmp_path: Path) -> None:
    run = untrained("digits", "vae", latent=5)
    with pytest.raises(TightboundError, match="1 to 3 latent features"):
        three_terms(run.model, run.data.test.batch(torch.tensor([0])))
