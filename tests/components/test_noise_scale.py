"""The scale of a likelihood: fixed, learned, shared, predicted, optimal; and its floor."""

from __future__ import annotations

import pytest
import torch
from support.core_cases import LEVELS, context, plain, rows, spec_of
from torch import Tensor

from tightbound.components.likelihoods.continuous import GaussianLikelihood
from tightbound.components.likelihoods.discrete import DiscretizedLogisticLikelihood
from tightbound.components.likelihoods.noise_scale import Scale
from tightbound.components.objectives import Elbo
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock
from tightbound.models.build import build
from tightbound.models.recipes import part
from tightbound.models.vae import VAE
from tightbound.training.step.module import Step

B, K = 5, 3
UNIT = torch.tensor([0.5, 2.0, 10.0])


def sigma(scale: Scale, y: Tensor | None = None) -> Tensor:
    return scale(y).detach().expand(3)


def test_fixed_is_the_value_in_domain_units() -> None:
    scale = Scale("fixed", UNIT, value=0.3)
    assert (
        torch.equal(sigma(scale), torch.full((3,), 0.3))
        and not list(scale.parameters())
        and scale.params == 0
    )


def test_learned_is_one_per_dimension_and_starts_at_the_data_s_own_unit() -> None:
    scale = Scale("learned", UNIT, floor=0.01)
    assert torch.allclose(sigma(scale), 1.01 * UNIT) and scale.params == 0
    with torch.no_grad():
        scale.log_scale[1] += 1
    assert (
        torch.allclose(sigma(scale)[[0, 2]], 1.01 * UNIT[[0, 2]])
        and sigma(scale)[1] > 2 * 2.0
    )


def test_shared_is_one_for_all_dimensions_whatever_their_units() -> None:
    scale = Scale("shared", UNIT)
    assert scale.log_scale.shape == () and len(sigma(scale).unique()) == 1
    assert torch.allclose(sigma(scale), 1.01 * UNIT.square().mean().sqrt())


def test_predicted_follows_the_decoder_per_example_and_dimension() -> None:
    scale, y = Scale("predicted", UNIT, start=0.5, floor=0.0), torch.randn(B, 3)
    assert scale.params == 1 and scale(y).shape == (B, 3)
    assert torch.allclose(scale(y), UNIT * 0.5 * y.exp(), rtol=1e-2)
    assert torch.allclose(scale(torch.zeros(B, 3)), (UNIT * 0.5).expand(B, 3))


@pytest.mark.parametrize("kind", ["learned", "shared", "predicted", "optimal"])
def test_the_floor_holds_however_far_training_pushes(kind: str) -> None:
    scale = Scale(kind, UNIT, floor=0.01)
    with torch.no_grad():
        for t in [*scale.parameters(), *([scale.square] if kind == "optimal" else [])]:
            t.fill_(0.0 if kind == "optimal" else -1e6)
    y = torch.full((B, 3), -1e6)
    assert (scale(y if kind == "predicted" else None) >= 0.01 * scale.unit - 1e-8).all()


def test_a_misspelt_scale_is_refused() -> None:
    for kind in ("lerned", ""):
        with pytest.raises(ValueError, match="learned"):
            build(plain(likelihood=part("gaussian", scale=kind)), spec_of("real", (3,)))


def test_a_scale_that_a_likelihood_cannot_follow_is_refused() -> None:
    """The discretised logistic has no optimal scale; accepted, it would stay where it starts, in
    silence.
    """
    with pytest.raises(ValueError, match="optimal"):
        build(
            plain(likelihood=part("discretized-logistic", scale="optimal")),
            spec_of("levels", (3,)),
        )


def test_optimal_scale_is_the_root_mean_square_error() -> None:
    """The mean over the steps at first: two steps of errors e1 and e2 give their mean square, K
    samples included.
    """
    scale = Scale("optimal", UNIT, floor=0.0)
    first, second = torch.randn(K, B, 3) * UNIT, 0.2 * torch.randn(K, B, 3) * UNIT
    squares = [(e / UNIT).square().mean() for e in (first, second)]
    scale.follow(scale.sums(first))
    assert torch.allclose(sigma(scale), UNIT * squares[0].sqrt())
    scale.follow(scale.sums(second))
    assert torch.allclose(sigma(scale), UNIT * ((squares[0] + squares[1]) / 2).sqrt())


def test_an_optimal_scale_is_the_error_itself_down_to_its_floor() -> None:
    """Were the floor added to it, 784 values whose error is a tenth of their unit would lose 6.7
    nats for nothing.
    """
    for error, wanted in ((0.3, 0.3), (0.02, 0.02), (0.001, 0.01)):
        scale = Scale("optimal", UNIT, floor=0.01)
        scale.follow(scale.sums(error * UNIT.expand(B, 3)))
        assert torch.allclose(sigma(scale), wanted * UNIT)


def test_optimal_scale_forgets_what_was_long_ago() -> None:
    scale = Scale("optimal", torch.ones(3), floor=0.0)
    for size, steps in ((10.0, 100), (0.5, 1200)):
        for _ in range(steps):
            scale.follow(scale.sums(torch.full((B, 3), size)))
    assert torch.allclose(sigma(scale), torch.full((3,), 0.5), rtol=0.01)


def test_optimal_sums_add_over_parts_of_a_batch() -> None:
    scale, error = Scale("optimal", UNIT), torch.randn(B, 3)
    whole, a, b = scale.sums(error), scale.sums(error[:2]), scale.sums(error[2:])
    assert all(torch.allclose(whole[key], a[key] + b[key]) for key in whole)
    assert (
        whole["scale/count"].item() == B * 3
        and Scale("learned", UNIT).sums(error) == {}
    )


def test_optimal_scale_moves_through_a_step_and_only_after_it_is_accepted() -> None:
    torch.manual_seed(1)
    spec = spec_of("real", (3,))
    model = build(plain(likelihood=part("gaussian", scale="optimal", floor=0.0)), spec)[
        0
    ]
    assert isinstance(model, VAE)
    x, noise = rows("real", (3,), B), torch.randn(K * B, 3)
    step = Step(model, Elbo(), K)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    _, sums = step(Batch(x), Clock(), lambda name, dist: noise)
    assert all(
        torch.equal(value, before[key]) for key, value in model.state_dict().items()
    )
    step.after_step(sums)
    _, again = step(Batch(x), Clock(), lambda name, dist: noise)
    expected = (sums["scale/square"] / (K * B * 3)).sqrt() * spec.spread
    assert torch.allclose(model.likelihood.scale(None), expected)
    assert torch.allclose(again["scale/square"], sums["scale/square"])
    better = torch.autograd.grad(
        step(Batch(x), Clock(), lambda name, dist: noise)[0]["all"],
        model.likelihood.base,
    )
    assert better[0].isfinite().all() and again["distortion"] < sums["distortion"]


@pytest.mark.parametrize("kind", ["learned", "shared", "predicted", "optimal"])
def test_a_constant_column_has_a_finite_likelihood_and_gradient(kind: str) -> None:
    x = torch.randn(50, 3)
    x[:, 1] = 4.0
    spec = DataSpec(shape=(3,), domain="real", mean=x.mean(0), std=x.std(0))
    assert spec.spread[1] == 1
    likelihood = GaussianLikelihood(spec, scale=kind)
    for p in likelihood.parameters():
        if p is not likelihood.base:
            torch.nn.init.constant_(p, -1e6)  # as far as training could ever push
    y = torch.zeros(50, likelihood.params, 3, requires_grad=True)
    px = likelihood(y, context(50), None)
    log_px = px.log_prob(x)
    assert log_px.isfinite().all() and (px.stddev[:, 1] >= 0.01).all()
    log_px.sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for p in [y, *likelihood.parameters()]
    )


@pytest.mark.parametrize("level", [0, 16])
def test_constant_levels_have_a_finite_likelihood_and_gradient(level: int) -> None:
    x = torch.full((50, 3), float(level))
    spec = DataSpec(
        shape=(3,),
        domain="levels",
        levels=LEVELS["levels"],
        mean=x.mean(0),
        std=x.std(0),
    )
    likelihood = DiscretizedLogisticLikelihood(spec)
    for size in (-1e4, 0.0, 1e4):
        y = torch.full((50, 2, 3), size, requires_grad=True)
        log_px = likelihood(y, context(50), None).log_prob(x)
        assert log_px.isfinite().all() and (log_px <= 1e-5).all()
        log_px.sum().backward()
        assert y.grad is not None and y.grad.isfinite().all()


def test_the_decoder_speaks_in_units_of_the_data() -> None:
    """y = 0 is the data's mean with their own spread, for every kind of column."""
    spec = spec_of("real", (3,))
    px = GaussianLikelihood(spec)(torch.zeros(B, 1, 3), context(B), None)
    assert torch.allclose(px.mean, spec.centre.expand(B, 3)) and torch.allclose(
        px.stddev[0], 1.01 * spec.spread
    )
