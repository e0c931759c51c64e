"""What torch.distributions lacks: the discretised logistic and its tails, the bounded log-scale,
the point mass.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic
from support.core_cases import context
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Independent,
    Laplace,
    Normal,
)

from tightbound.components.likelihoods import ContinuousBernoulliLikelihood
from tightbound.core.data_spec import DataSpec
from tightbound.distributions import (
    BernoulliPixels,
    Delta,
    DiscretizedLogistic,
    diagonal,
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    noise_like,
    point,
    soft_clip,
)

LEVELS = 17
CASES = [
    (8.0, 0.3),
    (0.0, 1.0),
    (16.0, 2.0),
    (-5.0, 1.0),
    (25.0, 3.0),
    (7.4, 30.0),
    (3.0, 0.02),
    (3.5, 0.05),
]


def mass(loc: float, scale: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """log P of each level, (L,)."""
    at = torch.full((1,), loc, dtype=dtype)
    return DiscretizedLogistic(
        at, torch.full((1,), 1 / scale, dtype=dtype), LEVELS
    ).log_prob(torch.arange(LEVELS, dtype=dtype))


@pytest.mark.parametrize(("loc", "scale"), CASES)
def test_logistic_mass_is_the_difference_of_the_distribution_function(
    loc: float, scale: float
) -> None:
    """The edges take the tails: P(0) = F(1/2), P(L-1) = 1 - F(L-3/2)."""
    edges = np.concatenate([[-np.inf], np.arange(LEVELS - 1) + 0.5, [np.inf]])
    exact = np.diff(logistic(loc, scale).cdf(edges))
    assert np.allclose(mass(loc, scale).exp().numpy(), exact, atol=1e-12)
    assert abs(mass(loc, scale).exp().sum().item() - 1) < 1e-12
    assert np.allclose(mass(loc, scale, torch.float32).exp().numpy(), exact, atol=1e-6)


@pytest.mark.parametrize(("loc", "scale"), CASES)
def test_logistic_mean_and_variance_are_exact_sums(loc: float, scale: float) -> None:
    x, p = torch.arange(LEVELS, dtype=torch.float64), mass(loc, scale).exp()
    d = DiscretizedLogistic(
        torch.tensor([loc], dtype=torch.float64),
        1 / torch.tensor([scale], dtype=torch.float64),
        LEVELS,
    )
    assert abs(d.mean.item() - (p * x).sum().item()) < 1e-10
    assert abs(d.variance.item() - (p * (x - d.mean) ** 2).sum().item()) < 1e-9


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e3, 1e5])
@pytest.mark.parametrize("loc", [-1e6, -1e3, -3.0, 8.0, 19.0, 1e3, 1e6])
def test_logistic_tails_are_finite_and_their_gradients_pull_back(
    loc: float, scale: float
) -> None:
    """float32, loc far outside, tiny and huge scales: log P stays finite, and so do both
    gradients.
    """
    at = torch.full((LEVELS,), loc, requires_grad=True)
    log_scale = torch.full((LEVELS,), math.log(scale), requires_grad=True)
    log_p = DiscretizedLogistic(at, torch.exp(-log_scale), LEVELS).log_prob(
        torch.arange(LEVELS).float()
    )
    assert log_p.isfinite().all() and (log_p <= 1e-6).all()
    log_p.sum().backward()
    assert at.grad is not None and log_scale.grad is not None
    assert at.grad.isfinite().all() and log_scale.grad.isfinite().all()
    if loc > LEVELS + 2 and scale < 1e3:
        assert (at.grad[:-1] < 0).all()
    if loc < -2 and scale < 1e3:
        assert (at.grad[1:] > 0).all()


def test_logistic_far_tail_has_the_right_slope() -> None:
    """log P falls by 1/s nats per level of distance, also where P itself underflows."""
    log_p = [mass(loc, 0.5, torch.float32)[3].item() for loc in (200.0, 201.0)]
    assert abs(log_p[0] - log_p[1] - 2.0) < 1e-3 and log_p[0] < -380


@pytest.mark.parametrize(("loc", "scale"), CASES)
def test_logistic_samples_follow_the_mass_function(loc: float, scale: float) -> None:
    d, n = (
        DiscretizedLogistic(torch.tensor([loc]), 1 / torch.tensor([scale]), LEVELS),
        40_000,
    )
    drawn = d.sample((n,)).squeeze(-1)
    p = mass(loc, scale).exp()
    assert set(drawn.tolist()) <= set(range(LEVELS))
    counts = torch.bincount(drawn.long(), minlength=LEVELS) / n
    assert ((counts - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


def test_soft_clip_is_bounded_monotone_zero_at_zero_and_the_identity_inside() -> None:
    s = torch.linspace(-1000, 1000, 20_001, dtype=torch.float64)
    clipped = soft_clip(s)
    assert (
        (clipped >= -8).all() and (clipped <= 8).all() and (clipped.diff() >= 0).all()
    )
    assert soft_clip(torch.zeros(1)).item() == 0.0
    inside = torch.linspace(-3, 3, 50, dtype=torch.float64)
    assert torch.allclose(soft_clip(inside), inside, atol=0.01)
    alive = torch.tensor([-20.0, 0.0, 20.0], requires_grad=True)
    soft_clip(alive).sum().backward()
    assert alive.grad is not None and (alive.grad > 0).all()


@pytest.mark.parametrize("log_scale", [-1e4, -50.0, 50.0, 1e4])
def test_diagonal_keeps_every_variance_finite(log_scale: float) -> None:
    q = diagonal(torch.zeros(2, 3), torch.full((2, 3), log_scale))
    p = diagonal(torch.zeros(2, 3), torch.zeros(2, 3))
    closed = kl(q, p)
    assert (
        (q.variance > 0).all()
        and q.variance.isfinite().all()
        and closed is not None
        and closed.isfinite().all()
    )
    assert q.log_prob(from_noise(q, noise_like(q))[0]).isfinite().all()


def test_point_mass_has_a_value_and_no_density() -> None:
    value = torch.randn(4, 3)
    d = Delta(value)
    assert d.batch_shape == (4,) and d.event_shape == (3,)
    assert torch.equal(d.rsample((2,)), value.expand(2, 4, 3)) and torch.equal(
        point(d), value
    )
    assert (
        torch.equal(from_noise(d, torch.randn(4, 3))[0], value) and not d.variance.any()
    )
    assert (
        is_point_mass(d)
        and not is_point_mass(diagonal(value, value))
        and not is_point_mass(None)
    )
    with pytest.raises(ValueError, match="no density"):
        d.log_prob(value)
    assert kl(d, diagonal(value, value)) is None


def test_noise_and_values_from_noise() -> None:
    q = diagonal(torch.randn(4, 3), torch.randn(4, 3))
    noise = noise_like(q, torch.Generator().manual_seed(3))
    assert noise.shape == (4, 3) and torch.equal(
        noise, noise_like(q, torch.Generator().manual_seed(3))
    )
    assert torch.equal(from_noise(q, noise)[0], q.mean + q.base_dist.scale * noise)
    assert torch.equal(from_noise(q, torch.zeros(4, 3))[0], point(q))
    with pytest.raises(NotImplementedError, match="Bernoulli"):
        from_noise(Bernoulli(logits=torch.zeros(2)), torch.zeros(2))


def test_point_of_each_kind() -> None:
    """The mean; for unordered categories the most likely one."""
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    assert point(Independent(Categorical(logits=logits), 1)).tolist() == [1.0, 0.0]
    assert torch.allclose(
        point(Independent(Bernoulli(logits=torch.zeros(2, 3)), 1)),
        torch.full((2, 3), 0.5),
    )


def test_kl_where_torch_knows_none() -> None:
    odd = Independent(Laplace(torch.zeros(2, 3), torch.ones(2, 3)), 1)
    assert kl(Independent(ContinuousBernoulli(torch.full((2, 3), 0.3)), 1), odd) is None
    assert kl_per_dimension(Delta(torch.zeros(2, 3)), odd) is None
    q, p = Normal(torch.zeros(2), torch.ones(2)), Normal(torch.ones(2), torch.ones(2))
    assert torch.equal(kl(q, p), torch.full((2,), 0.5))


@pytest.mark.parametrize(
    "logit",
    [-100.0, -30.0, -10.0, -1.0, -0.002, 0.0, 0.002, 0.01, 1.0, 10.0, 30.0, 100.0],
)
def test_continuous_bernoulli_is_normalised_and_its_moments_are_those_of_its_density(
    logit: float,
) -> None:
    """float32, from flat to steep: torch's own normaliser stops at |logit| = 16, its variance
    breaks down near 0.
    """
    likelihood = ContinuousBernoulliLikelihood(
        DataSpec(shape=(1,), domain="unit", mean=torch.tensor([0.5]))
    )
    px = likelihood(torch.full((1, 1, 1), logit), context(1), None)
    x = torch.linspace(0, 1, 200_001).reshape(-1, 1, 1)
    at, density = x.flatten().double(), px.log_prob(x).flatten().double().exp().detach()
    assert abs(torch.trapezoid(density, at).item() - 1) < 2e-3
    mean = torch.trapezoid(density * at, at).item()
    variance = torch.trapezoid(density * (at - mean) ** 2, at).item()
    assert (
        abs(px.mean.item() - mean) < 2e-3 and abs(px.variance.item() - variance) < 2e-3
    )


@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (2, 3, 32), (1, 28, 28)])
def test_bernoulli_pixels_without_gradients_are_those_with(
    shape: tuple[int, ...],
) -> None:
    """One logarithm for a product of factors: to 1e-6 of the usual sum, also at logits where exp
    overflows.
    """
    for scale in (0.1, 5.0, 300.0):
        logits = scale * torch.randn(9, *shape)
        x = (torch.rand(9, *shape) < 0.5).float()
        usual = Independent(
            Bernoulli(logits=logits.double(), validate_args=False), len(shape)
        ).log_prob(x.double())
        fast = BernoulliPixels(logits).log_prob(x)
        assert fast.shape == (9,) and torch.allclose(
            fast.double(), usual, rtol=1e-6, atol=1e-5
        )
        assert torch.allclose(
            BernoulliPixels(logits.double()).log_prob(x.double()), usual, rtol=1e-12
        )
        of_one = BernoulliPixels(logits).log_prob(x[:1].expand(9, *shape))
        assert torch.allclose(
            of_one,
            BernoulliPixels(logits).log_prob(x[:1].repeat(9, *[1] * len(shape))),
            rtol=1e-5,
        )
        slow = BernoulliPixels(logits.requires_grad_()).log_prob(x)
        assert slow.requires_grad and torch.allclose(slow, fast, rtol=1e-5, atol=1e-4)
