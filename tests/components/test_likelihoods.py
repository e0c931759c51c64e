"""Contracts of the likelihoods; a new one is tested by being listed."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from support.core_cases import (
    LEVELS,
    PARTS,
    context,
    grads_ok,
    model_of,
    plain,
    rows,
    shake,
    spec_of,
)
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.components.likelihoods import AUTO, LIKELIHOODS
from tightbound.core.batch import Batch
from tightbound.core.data_spec import Domain
from tightbound.core.draw import Draw
from tightbound.models.recipes import part

B, K, N = 5, 3, 40_000
LIKELIHOOD_OPTIONS = {
    "gaussian": [
        {"scale": s} for s in ("learned", "shared", "predicted", "fixed", "optimal")
    ],
    "laplace": [{"scale": s} for s in ("learned", "shared", "predicted", "fixed")],
    "negative-binomial": [{"scale": s} for s in ("learned", "predicted")],
    "discretized-logistic": [
        {"scale": s} for s in ("predicted", "learned", "shared", "fixed")
    ],
}
VARIANTS = [
    (name, domain, options)
    for name, domain in PARTS
    for options in LIKELIHOOD_OPTIONS.get(name, [{}])
]


COUNTED = LEVELS | {"count": 20_000}


def one_dimensional(
    name: str, domain: str, options: dict[str, str], n: int = 4
) -> Distribution:
    """p(x|z) for n decoder outputs over data of one dimension."""
    likelihood = LIKELIHOODS[name](spec_of(domain, (1,)), **options)
    return likelihood(2 * torch.randn(n, likelihood.params, 1), context(n), None)


def grid(px: Distribution, domain: str) -> tuple[Tensor, Tensor]:
    """Points x over the support, (G, n, 1), and the weights of a sum or a trapezoidal integral over
    them, (G, n).
    """
    n = px.batch_shape[0]
    if domain in COUNTED:
        x = torch.arange(COUNTED[domain]).float().reshape(-1, 1, 1).expand(-1, n, 1)
        return x, torch.ones(len(x), n)
    if getattr(px.support, "base_constraint", px.support) is constraints.unit_interval:
        low, high = torch.zeros(n), torch.ones(n)
    else:
        mean, std = px.mean.squeeze(-1), px.variance.squeeze(-1).sqrt()
        low, high = mean - 12 * std, mean + 12 * std
    x = low + torch.linspace(0, 1, 20_001).unsqueeze(1) * (high - low)
    weight = ((high - low) / 20_000).expand_as(x).clone()
    weight[[0, -1]] /= 2
    return x.unsqueeze(-1).detach(), weight.detach()


@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_likelihood_is_a_proper_density_on_its_support(
    name: str, domain: str, options: dict[str, str]
) -> None:
    px = one_dimensional(name, domain, options)
    x, weight = grid(px, domain)
    total = (px.log_prob(x).double().exp() * weight.double()).sum(0)
    assert torch.allclose(total, torch.ones_like(total), atol=2e-4)


@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_samples_agree_with_log_prob_and_lie_in_the_support(
    name: str, domain: str, options: dict[str, str]
) -> None:
    px = one_dimensional(name, domain, options)
    x, weight = grid(px, domain)
    mass = (px.log_prob(x).exp() * weight).detach().double()
    x = x.squeeze(-1).double()
    mean = (mass * x).sum(0)
    variance = (mass * (x - mean) ** 2).sum(0)
    drawn = px.sample((N,)).detach().reshape(N, -1).double()
    assert (drawn >= x.min(0).values).all() and (drawn <= x.max(0).values).all()
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / N).sqrt() + 1e-6).all()
    fourth = (mass * (x - mean) ** 4).sum(0)
    assert (
        (drawn.var(0) - variance).abs() < 5 * ((fourth - variance**2) / N).sqrt() + 1e-6
    ).all()
    if domain in COUNTED:
        assert torch.equal(drawn, drawn.round())
    if name != "categorical":  # its values are unordered: no mean
        assert torch.allclose(px.mean.squeeze(-1).double(), mean, atol=1e-3, rtol=1e-3)
        assert torch.allclose(
            px.variance.squeeze(-1).double(), variance, atol=1e-3, rtol=2e-3
        )


@pytest.mark.parametrize("shape", [(7,), (2, 5), (1, 1, 1), (3, 3, 5), (1, 2, 3, 4)])
@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_likelihood_sums_nats_over_every_dimension(
    name: str, domain: str, options: dict[str, str], shape: tuple[int, ...]
) -> None:
    spec = spec_of(domain, shape)
    likelihood = shake(LIKELIHOODS[name](spec, **options))
    y, x = torch.randn(B, likelihood.params, *shape), rows(domain, shape, B)
    px = likelihood(y, context(B), None)
    assert (
        px.batch_shape == (B,)
        and px.event_shape == shape
        and px.sample().shape == (B, *shape)
    )
    total = px.log_prob(x)
    assert total.shape == (B,)
    flip = {"levels": LEVELS["levels"] - 1, "categorical": 4, "binary": 1}.get(domain)
    changed = x.clone().flatten(1)
    changed[:, 0] = (flip - changed[:, 0]) if flip else 1 - changed[:, 0]
    one = px.log_prob(changed.reshape(x.shape)) - total
    rest = (
        px.log_prob(
            torch.cat([changed[:, :1], x.flatten(1)[:, 1:]], 1).reshape(x.shape)
        )
        - total
    )
    assert torch.allclose(one, rest)
    single = px.base_dist.log_prob(x).flatten(1)
    assert single.shape == (B, math.prod(shape)) and torch.allclose(
        single.sum(1), total, atol=1e-3, rtol=1e-5
    )


@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_every_parameter_of_a_model_gets_a_gradient(
    name: str, domain: str, options: dict[str, str]
) -> None:
    recipe = plain(likelihood=part(name, **options), prior=part("learned"))
    model = shake(model_of(recipe, spec_of(domain, (6,)))[0])
    trace = model(Batch(rows(domain, (6,), B)), Draw(K))
    assert trace.log_w.shape == trace.log_px.shape == (K, B)
    trace.log_w.mean().backward()
    grads_ok(model)


def test_auto_names_a_likelihood_of_each_domain() -> None:
    assert set(AUTO) == set(get_args(Domain))
    assert all(domain in LIKELIHOODS[name].domains for domain, name in AUTO.items())
