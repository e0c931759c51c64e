"""log p(x) by quadrature and importance sampling: known answers, and the estimator bugs that others
shipped.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from support.latent_cases import (
    Steep,
    by_lattice,
    by_scipy,
    examples,
    flat_vae,
    folded,
    wavy,
)
from support.linear_gaussian import PATHS, problem
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators import estimate as estimates
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import METHODS, log_px
from tightbound.evaluation.estimators.pareto import tail_length, tail_shape
from tightbound.evaluation.estimators.quadrature import posterior_box, posterior_grid
from tightbound.runtime.errors import TightboundError


@pytest.mark.parametrize("make", [wavy, folded])
def test_quadrature_of_one_latent_is_scipys(make: object) -> None:
    x, model = examples(4), make(1)
    result = log_px(model, x, "quadrature")
    exact = [by_scipy(make(1), row[None]) for row in x]
    assert np.allclose(result.values, exact, atol=2e-7) and result.kind == "exact"
    assert (result.se < 1e-5).all() and result.warnings == []


@pytest.mark.parametrize("make", [wavy, folded])
@pytest.mark.parametrize(("latent", "points"), [(2, 400), (3, 64)])
def test_quadrature_of_several_latents_and_modes_is_that_of_a_plain_lattice(
    make: object, latent: int, points: int
) -> None:
    x = examples(2)
    result = log_px(make(latent), x, "quadrature", tolerance=1e-5)
    assert torch.allclose(
        result.values, by_lattice(make(latent), x, latent, points), atol=1e-4
    )
    assert (result.se < 1e-3).all()


def test_quadrature_sees_all_three_latents_of_a_linear_model() -> None:
    lg = problem("flat")
    x, exact = lg.data(2)
    assert np.allclose(
        log_px(lg.model, x, "quadrature", tolerance=1e-4).values, exact, atol=1e-4
    )


def test_quadrature_finds_a_posterior_that_is_far_narrower_than_its_grid_and_where_q_is_not() -> (
    None
):
    x = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    exact = by_scipy(flat_vae(1, Steep()), x, [0.73, 0.7337, 0.7343, 0.7349, 0.74])
    result = log_px(flat_vae(1, Steep()), x, "quadrature")
    assert abs(float(result.values) - exact) < 1e-6
    assert abs(exact - math.log(0.0012) - stats.norm.logpdf(0.7343)) < 0.1, (
        "the integral of a sliver"
    )


def test_quadrature_refuses_more_latents_than_three_and_says_what_to_use() -> None:
    lg = problem("top-down")
    with pytest.raises(
        TightboundError, match="1 to 3 latent features, but this model has 5"
    ):
        log_px(lg.model, lg.data(2)[0], "quadrature")


def test_quadrature_refuses_a_prior_that_is_no_density_over_real_numbers() -> None:
    """As on a sphere, whose density is per area of the sphere."""
    model = wavy(2)
    model.hierarchy.prior = Circle()
    with pytest.raises(TightboundError, match="not to 1 over real z"):
        log_px(model, examples(1), "quadrature")


class Circle(torch.nn.Module):
    """Uniform on the unit circle, with its density per arc."""

    def forward(
        self, ctx: object, draw: object, state: object
    ) -> torch.distributions.Distribution:
        z = torch.zeros(ctx.n, 2, dtype=torch.float64)
        arc = torch.distributions.Independent(torch.distributions.Normal(z, z + 1), 1)
        arc.log_prob = lambda value: torch.full_like(
            value[..., 0], -math.log(2 * math.pi)
        )
        return arc


@pytest.mark.parametrize("latent", [1, 2])
def test_bayes_rule_on_a_grid(latent: int) -> None:
    """Prior times likelihood integrates to p(x); the posterior and q integrate to 1; the modes are
    seen.
    """
    model = folded(latent)
    x = (model.hierarchy.decoder.weight.sum(0, keepdim=True) > 0).float()
    low, high = posterior_box(model, x)
    grid = posterior_grid(model, x, points=150, box=(low, high))
    exact = float(log_px(model, x, "quadrature").values)
    assert abs(grid.log_px - exact) < 2e-3
    volume = grid.log_posterior.exp().sum() * grid.cell
    assert abs(float(volume) - 1) < 1e-9
    assert torch.allclose(
        grid.log_prior + grid.log_likelihood - grid.log_px, grid.log_posterior
    )
    whole = posterior_grid(
        model,
        x,
        points=400,
        box=(torch.full((latent,), -9.0), torch.full((latent,), 9.0)),
    )
    assert abs(float(whole.log_prior.exp().sum() * whole.cell) - 1) < 1e-6
    assert abs(float(whole.log_q.exp().sum() * whole.cell) - 1) < 1e-6
    middle = 150 // 2
    peak, between = (
        float(grid.log_posterior.max()),
        float(grid.log_posterior[(middle,) * latent]),
    )
    assert peak - between > 1 and grid.log_posterior.shape == (150,) * latent


# ---- importance sampling


@pytest.mark.parametrize("path", PATHS)
def test_importance_with_a_wrong_q_is_within_three_standard_errors(path: str) -> None:
    lg = problem(path).spoil(0.2, 0.2)
    x, exact = lg.data(40)
    result = log_px(lg.model, x, "importance", k=4000)
    off = (result.values - torch.from_numpy(exact)) / result.se
    assert (
        (off.abs() < 4.5).all() and off.square().mean() < 2 and off.abs().mean() > 0.3
    )
    assert abs(result.mean - exact.mean()) < 3 * result.noise and result.kind == "lower"


def test_importance_agrees_with_quadrature_where_nothing_is_linear() -> None:
    model, x = wavy(2), examples(30)
    exact = log_px(model, x, "quadrature", tolerance=1e-4).values
    result = log_px(model, x, "importance", k=3000)
    assert abs(result.mean - float(exact.mean())) < 3 * result.noise
    assert (result.diagnostic["elbo"] < exact).all() and result.diagnostic[
        "elbo"
    ].mean() < exact.mean() - 0.05


def _log_w(model: object, x: Tensor, k: int, seed: int = 0) -> Tensor:
    return model(Batch(x), Draw(k, noise=ContentNoise(seed, x, 0, k))).log_w.double()


def test_the_curve_is_the_mean_of_disjoint_blocks_of_one_pass() -> None:
    lg = problem("flat").spoil()
    x, exact = lg.data(6)
    result = log_px(lg.model, x, "importance", k=730)
    log_w = _log_w(lg.model, x, 730)
    assert result.settings["curve"] == [1, 5, 50, 500]
    for size, point in zip((1, 5, 50, 500), result.diagnostic["curve"].T, strict=True):
        blocks = log_w[: 730 // size * size].reshape(-1, size, 6).logsumexp(
            1
        ) - math.log(size)
        assert torch.allclose(point, blocks.mean(0))
    means = result.diagnostic["curve"].mean(0)
    assert (means.diff() > 0).all() and means[-1] < exact.mean() + 0.05


def test_bug_4_3_and_4_15_exactly_k_samples_are_drawn_and_divided_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pythae used 100 of 1 and 200 of 250; scvi drew ceil(n / p) p and divided by n."""
    lg = problem("flat").spoil()
    x, _ = lg.data(3)
    counted: list[int] = []
    forward = type(lg.model).forward

    def count(
        self: object, batch: Batch, draw: Draw, h: Tensor | None = None
    ) -> object:
        counted.append(draw.k * len(batch))
        return forward(self, batch, draw, h)

    for k in (1, 100, 250, 1300):
        reference = torch.cat(
            [
                lg.model(Batch(x), Draw(m, noise=ContentNoise(0, x, i, m))).log_w
                for i, m in ((0, min(k, 1024)), (1, k - 1024))
                if m > 0
            ]
        )
        with monkeypatch.context() as patch:
            patch.setattr(type(lg.model), "forward", count)
            counted.clear()
            result = METHODS["importance"](lg.model, x, k=k)
        assert sum(counted) == k * 3
        assert torch.allclose(result.values, reference.logsumexp(0) - math.log(k))


def test_no_pass_holds_more_rows_than_fit_whatever_k_and_n(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lg = problem("flat").spoil()
    monkeypatch.setattr(estimates, "VALUES_AT_ONCE", 300 * 7)
    rows: list[int] = []
    forward = type(lg.model).forward

    def count(
        self: object, batch: Batch, draw: Draw, h: Tensor | None = None
    ) -> object:
        rows.append(draw.k * len(batch))
        return forward(self, batch, draw, h)

    monkeypatch.setattr(type(lg.model), "forward", count)
    for n, k, method, settings in (
        (2, 7000, "importance", {"k": 7000}),
        (400, 3, "importance", {"k": 3}),
        (40, 16, "ais-q", {"temperatures": 2, "leapfrog": 1, "pilot_temperatures": 2}),
    ):
        rows.clear()
        METHODS[method](lg.model, lg.data(n)[0], **settings)
        assert 100 < max(rows) <= 300, (method, k)


def test_bug_4_1_the_value_is_the_bound_and_not_the_weighted_mean_of_log_w() -> None:
    """Pythae reports sum of w log w, too high by up to log K: it even passes log p(x)."""
    lg = problem("flat").spoil(1.0, 0.6)
    x, exact = lg.data(200)
    result = log_px(lg.model, x, "importance", k=50)
    assert result.mean <= exact.mean() + 3 * result.noise
    log_w = _log_w(lg.model, x, 50)
    wrong = (log_w.softmax(0) * log_w).sum(0).detach()
    assert float(wrong.mean()) > exact.mean() + 3 * result.noise, (
        "so a test of the bound tells them apart"
    )


def test_bug_4_2_samples_and_examples_are_not_mixed_up() -> None:
    """Swapped axes: with K != B each example has its own bound from its own K weights."""
    lg = problem("flat").spoil()
    x, _ = lg.data(3)
    whole = log_px(lg.model, x, "importance", k=7).values
    assert whole.shape == (3,)
    alone = torch.cat(
        [log_px(lg.model, row, "importance", k=7).values for row in x.split(1)]
    )
    assert torch.allclose(whole, alone)


def test_bug_4_3_the_sign_the_error_and_the_mode() -> None:
    """log p is a log-probability, has an error, needs no gradient, and leaves the model as
    it was.
    """
    lg = problem("flat").spoil()
    x, exact = lg.data(3)
    lg.model.train()
    lg.model.requires_grad_(True)
    result = log_px(lg.model, x, "importance", k=2000)
    assert np.abs(result.values.numpy() - exact).max() < 0.3 and (exact < 0).all()
    assert (
        (result.se > 0).all() and not result.values.requires_grad and lg.model.training
    )


def test_bug_4_11_the_best_sample_weighs_most() -> None:
    """PyTorch-VAE's softmax gave most weight to the worst: the bound fell below the ELBO."""
    lg = problem("flat").spoil()
    x, _ = lg.data(50)
    result = log_px(lg.model, x, "importance", k=50)
    assert (result.values > result.diagnostic["curve"][:, 0]).all()
    assert result.mean > float(result.diagnostic["elbo"].mean())


def test_cuts_order_and_neighbours_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lg = problem("bottom-up").spoil()
    x, _ = lg.data(7)
    whole = log_px(lg.model, x, "importance", k=1100)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    turned = log_px(lg.model, x[order], "importance", k=1100)
    parts = Estimate.join(
        [log_px(lg.model, part, "importance", k=1100) for part in x.split(3)]
    )
    monkeypatch.setattr(estimates, "VALUES_AT_ONCE", 7 * 37)
    small = log_px(lg.model, x, "importance", k=1100)
    for result, rows in ((turned, order), (parts, slice(None)), (small, slice(None))):
        assert torch.allclose(result.values, whole.values[rows], atol=1e-9)
        assert result.diagnostic.keys() == whole.diagnostic.keys()
        for name, value in whole.diagnostic.items():
            assert torch.allclose(
                result.diagnostic[name], value[rows], atol=1e-9, equal_nan=True
            ), name


# ---- Pareto k


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_the_tail_of_a_generalised_pareto_has_its_shape(shape: float) -> None:
    rng = np.random.default_rng(0)
    m, n = 2000, 40
    x = stats.genpareto(shape).rvs((m, n), random_state=rng)
    top = torch.from_numpy(np.concatenate([np.full((1, n), 1e-12), x + 1e-12]))
    result = tail_shape(top.log()[torch.randperm(m + 1)])
    assert abs(float(result.mean()) - shape) < 0.03 and float(result.std()) < 0.1


def test_pareto_k_tells_a_good_q_from_a_bad_one() -> None:
    """A q narrower than the posterior has weights with a heavy tail, a wider one has bounded
    weights.
    """
    assert [tail_length(k) for k in (5, 100, 5000, 10**6)] == [1, 20, 212, 3000]
    lg = problem("flat")
    x, _ = lg.data(20)
    narrow = log_px(lg.spoil(0.0, -1.0).model, x, "importance", k=5000)
    assert float((narrow.diagnostic["pareto_k"] > 0.7).double().mean()) > 0.5
    assert any("Pareto" in w for w in narrow.warnings)
    wide = log_px(problem("flat").spoil(0.0, 0.3).model, x, "importance", k=5000)
    assert (wide.diagnostic["pareto_k"] < 0.5).all() and wide.warnings == []
    assert log_px(lg.model, x, "importance", k=20).diagnostic["pareto_k"].isnan().all()


# ---- what is refused


def test_bad_questions_get_a_sentence() -> None:
    lg = problem("flat")
    x, _ = lg.data(2)
    for method, settings, text in (
        ("importanse", {}, "importance"),
        ("importance", {"kk": 5}, "k"),
        ("importance", {"k": 0}, "1 or more"),
    ):
        with pytest.raises(TightboundError, match=text):
            log_px(lg.model, x, method, **settings)
    with pytest.raises(TightboundError, match="no examples"):
        log_px(lg.model, x[:0])
