"""Log-normal and zero-inflated columns: exact densities in raw units, moments, starting values."""

from __future__ import annotations

import pytest
import torch
from support.core_cases import context, shake
from torch import Tensor

from tightbound.components.likelihoods.one_sided import (
    LogNormalLikelihood,
    StartedLikelihood,
    ZeroInflatedLikelihood,
    ZeroInflatedNormalLikelihood,
)
from tightbound.core.data_spec import DataSpec
from tightbound.distributions import LogNormal, ZeroInflated

FAMILIES = (LogNormalLikelihood, ZeroInflatedLikelihood, ZeroInflatedNormalLikelihood)


def values(n: int = 400) -> Tensor:
    """Two columns of numbers of other sizes, a quarter of them zeros."""
    torch.manual_seed(0)
    above = torch.stack([torch.randn(n).exp(), 1000 * (0.3 * torch.randn(n)).exp()], 1)
    above[: n // 4] = 0
    return above


def made(kind: type[StartedLikelihood], scale: str = "learned") -> StartedLikelihood:
    x = values()
    spec = DataSpec(shape=(2,), domain="real", mean=x.mean(0), std=x.std(0))
    likelihood = kind(spec, scale=scale)  # type: ignore[arg-type]
    with torch.no_grad():
        likelihood.start(x)
    return likelihood


@pytest.mark.parametrize("scale", ["learned", "predicted"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_density_in_raw_units_integrates_to_one(
    kind: type[StartedLikelihood], scale: str
) -> None:
    likelihood = shake(made(kind, scale), 0.3)
    px = likelihood(torch.randn(3, likelihood.params, 2), context(3), None)
    grid = torch.linspace(-40, 40, 80_001).double().exp()
    if kind is ZeroInflatedNormalLikelihood:
        grid = torch.linspace(-20_000, 20_000, 800_002).double()
    x = grid.float().reshape(-1, 1, 1).expand(-1, 3, 2)
    with torch.no_grad():
        p = px.base_dist.log_prob(x).double().exp()
        total = torch.trapezoid(p, grid, dim=0)
        zero = px.base_dist.log_prob(torch.zeros(3, 2)).exp()
    assert torch.allclose(total + zero, torch.ones(3, 2).double(), atol=1e-3)
    assert bool((zero > 0).all()) == (kind is not LogNormalLikelihood)


@pytest.mark.parametrize("kind", FAMILIES)
def test_starting_values_are_those_of_the_training_rows(
    kind: type[StartedLikelihood],
) -> None:
    likelihood = made(kind)
    px = likelihood(torch.zeros(1, likelihood.params, 2), context(1), None)
    x = values()
    above = x[len(x) // 4 :]
    drawn = px.sample((20_000,))[:, 0]
    share = 0.0 if kind is LogNormalLikelihood else 0.25
    assert ((drawn == 0).float().mean(0) - share).abs().max() < 0.02
    others = drawn.where(drawn != 0, torch.nan)
    if kind is not ZeroInflatedNormalLikelihood:
        assert (drawn >= 0).all()
        others, above = others.log(), above.log()
    error = above.std(0) / 20
    assert ((others.nanmean(0) - above.mean(0)).abs() < error).all()
    spread = (others - others.nanmean(0)).square().nanmean(0).sqrt()
    assert torch.allclose(spread, above.std(0), rtol=0.05)


def test_moments_of_zero_inflated_values() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[-1.0, 2.2]])
    dist = ZeroInflated(logits, LogNormal(torch.zeros(1, 2), 0.5 * torch.ones(1, 2)))
    drawn = dist.sample((400_000,))
    assert torch.allclose(drawn.mean(0), dist.mean, rtol=0.02)
    assert torch.allclose(drawn.var(0), dist.variance, rtol=0.05)
    assert dist.point[0, 1] == 0 and dist.point[0, 0] > 1


def test_numbers_outside_the_support_have_no_density_and_no_bad_gradient() -> None:
    loc = torch.zeros(3, requires_grad=True)
    dist = LogNormal(loc, torch.ones(3))
    log_p = dist.log_prob(torch.tensor([-1.0, 0.0, 1.0]))
    assert log_p[:2].tolist() == [-torch.inf] * 2
    torch.where(log_p.isfinite(), log_p, 0.0).sum().backward()
    assert loc.grad is not None and loc.grad.isfinite().all()
    zeros = ZeroInflated(torch.zeros(3), dist)
    log_p = zeros.log_prob(torch.tensor([-1.0, 0.0, 1.0]))
    assert log_p[0] == -torch.inf
    assert torch.allclose(log_p[1].exp(), torch.tensor(0.5))
