"""The gap in its two parts: against exact posteriors, against quadrature, and refused where q has
no parameters.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.linear_gaussian import PATHS, problem
from support.small import small_run, trained
from torch import Tensor
from torch.distributions import Independent, Normal

from tightbound.config import configure
from tightbound.core.batch import Batch
from tightbound.evaluation.estimators import amortization_gap as gap
from tightbound.evaluation.estimators.amortization_gap import (
    FeatureParameters,
    Search,
    SiteParameters,
    best_bound,
    improve,
    local_parameters,
    parts,
)
from tightbound.evaluation.estimators.methods import score
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError

B = 24


def linear(path: str, **spoiled: float) -> tuple[Run, Tensor, Tensor]:
    """A run whose q is the exact posterior, or one moved away from it; examples, and their exact
    log p(x).
    """
    linear_gaussian = problem(path)
    if spoiled:
        linear_gaussian.spoil(**spoiled)
    x, log_px = linear_gaussian.data(B)
    return (
        Run(configure("digits", "vae"), linear_gaussian.model),
        x,
        torch.from_numpy(log_px),
    )


def within(values: Tensor, target: float, sigmas: float = 4.0) -> bool:
    return (
        abs(float(values.mean()) - target)
        < sigmas * float(values.std()) / len(values) ** 0.5
    )


@pytest.mark.parametrize("path", PATHS)
def test_with_the_exact_posterior_every_part_is_zero(path: str) -> None:
    run, x, log_px = linear(path)
    bounds = best_bound(run, x, 0)
    part = parts(log_px, bounds["elbo"], bounds)
    assert within(log_px - bounds["elbo"], 0) and within(part["approximation"], 0)
    assert part["amortisation"].abs().max() < 0.01 and bounds["last"].max() < 0.01


@pytest.mark.parametrize("path", PATHS)
def test_what_a_better_encoder_would_close_is_found(path: str) -> None:
    """q is the exact posterior, moved and widened: all of its gap is amortisation, known exactly
    for one site.
    """
    run, x, log_px = linear(path, shift=0.4, widen=0.3)
    bounds = best_bound(run, x, 0)
    part = parts(log_px, bounds["elbo"], bounds)
    assert within(part["approximation"], 0) and part["amortisation"].mean() > 1
    assert within(bounds["best"] - log_px, 0)
    if path == "flat":
        with torch.no_grad():
            q = run.predictor.trace(x, gap.Draw()).latents["z"].q
            exact = linear(path)[0].predictor.trace(x, gap.Draw()).latents["z"].q
        third = torch.distributions.kl_divergence(q, exact)
        assert (
            (part["amortisation"] - third).abs() < 4.5 * bounds["gain_se"] + 0.01
        ).all()


def test_the_parts_add_up_to_the_gap_exactly() -> None:
    run, x, log_px = linear("top-down", shift=0.4, widen=0.3)
    bounds = best_bound(run, x, 0, Search(steps=5, rounds=1, k=16))
    elbo = bounds["elbo"] + 0.1 * torch.randn(B, dtype=torch.float64)
    part = parts(log_px, elbo, bounds)
    assert torch.allclose(
        part["approximation"] + part["amortisation"], log_px - elbo, atol=1e-12, rtol=0
    )


def test_a_figure_does_not_depend_on_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, x, _ = linear("bottom-up", shift=0.4, widen=0.3)
    few = Search(steps=20, rounds=1, k=32)
    whole = best_bound(run, x[:7], 0, few)
    turned = best_bound(run, x[:7].flip(0), 0, few)
    monkeypatch.setattr(gap, "VALUES_AT_ONCE", 7 * 8 * 2)
    cut = best_bound(run, x[:7], 0, few)
    assert torch.allclose(whole["best"], turned["best"].flip(0), atol=1e-9)
    assert torch.allclose(whole["best"], cut["best"], atol=1e-9)


def test_the_search_over_features_moves_what_the_network_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For families that are no diagonal normal: the mean can be put right through the features, the
    width cannot.
    """
    run, x, log_px = linear("flat", shift=0.4, widen=0.0)
    monkeypatch.setattr(gap, "local_parameters", FeatureParameters)
    bounds = best_bound(run, x, 0)
    assert (log_px - bounds["elbo"]).mean() > 0.5 and within(log_px - bounds["best"], 0)
    run, x, log_px = linear("flat", shift=0.0, widen=0.5)
    wide = best_bound(run, x, 0)
    assert (log_px - wide["best"]).mean() > 0.2


def test_the_features_of_a_conditional_model_have_its_condition_in_them(
    tmp_path: Path,
) -> None:
    """With another q than a normal: before the search, the bound is that of the model itself."""
    run = trained(tmp_path / "run", "conditional", posterior="full-normal")
    batch = run.data.test.examples(torch.arange(40))
    local = local_parameters(run, batch)
    assert isinstance(local, FeatureParameters)
    assert torch.equal(local.features(), run.model.features(batch))
    bounds = best_bound(run, batch, 0, Search(rounds=0, k=256))
    elbo = score(run, batch, 256, 1)["elbo"]
    assert float((bounds["elbo"] - elbo).abs().mean()) < 0.2
    assert float(elbo.std()) > 1


# ---- two latents, against a grid


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("two") / "run"
    return load(small_run(folder, "vae", latent=2, steps=150, lr=0.003))


def on_grid(run: Run, x: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """z (m, 2) on a grid, log p(z|x) there, log p(x), and the log of a grid cell."""
    axis = torch.linspace(-5, 5, 301)
    z = torch.cartesian_prod(axis, axis)
    joint = torch.cat(
        [run.predictor.decode(Batch(part)).log_prob(x) for part in z.split(20_000)]
    ).double()
    joint += run.prior["z"].log_prob(z).double()
    cell = 2 * math.log(10 / 300)
    log_px = joint.logsumexp(0) + cell
    return z.double(), joint - log_px, log_px, cell


def divergence(q: Independent, z: Tensor, log_posterior: Tensor, cell: float) -> float:
    """KL(q, p(z|x)) as a sum over the grid."""
    log_q = q.log_prob(z)
    return float(((log_q + cell).exp() * (log_q - log_posterior)).sum())


def test_gaps_of_a_two_latent_model_are_those_of_quadrature(two: Run) -> None:
    """The inference gap before and after the search, by a grid; and no small change of q* makes it
    smaller.
    """
    x = two.data.test.batch(torch.tensor([3, 40, 99]))
    bounds = best_bound(two, x, 0, Search(k=2048))
    local = local_parameters(two, x)
    assert isinstance(local, SiteParameters)
    improve(two, x, local, 0, Search())
    shift = local.shifts["z"].shift.detach()
    stretch = local.shifts["z"].stretch.detach()
    base = two.posterior(two.spec.to_raw(x))["z"].base_dist
    for i in range(len(x)):
        z, log_posterior, log_px, cell = on_grid(two, x[i : i + 1])
        part = {
            k: float(v[i])
            for k, v in parts(log_px[None], bounds["elbo"], bounds).items()
        }

        def third(
            move: Tensor,
            widen: Tensor,
            i: int = i,
            grid: tuple = (z, log_posterior, cell),
        ) -> float:
            scale = base.scale[i].double()
            q = Independent(
                Normal(
                    base.loc[i] + scale * (shift[i] + move),
                    scale * (stretch[i] + widen).exp(),
                ),
                1,
            )
            return divergence(q, *grid)

        before, best = (
            third(-shift[i], -stretch[i]),
            third(torch.zeros(2), torch.zeros(2)),
        )
        noise = 5 * float(bounds["best_se"][i] + bounds["gain_se"][i]) + 0.03
        assert part["approximation"] + part["amortisation"] == pytest.approx(
            before, abs=noise
        )
        assert part["approximation"] == pytest.approx(best, abs=noise)
        around = [
            third(a * e, b * e)
            for e in torch.eye(2)
            for a, b in ((0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3))
        ]
        assert best < before and min(around) > best - 0.005


# ---- refused


def test_what_has_no_gap_or_no_parameters_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(small_run(tmp_path / "ae", "ae", steps=2))
    x = run.data.test.batch(torch.arange(2))
    with pytest.raises(TightboundError, match="its latent is a point"):
        best_bound(run, x, 0)
    fixed, x, _ = linear("flat")
    fixed.model.hierarchy.posterior.mean.weight.zero_()
    monkeypatch.setattr(gap, "local_parameters", FeatureParameters)
    with pytest.raises(TightboundError, match="no parameters to search over"):
        best_bound(fixed, x, 0)
