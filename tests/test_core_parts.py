"""Contracts of the registries: posteriors, priors and likelihoods; a new part is tested by being listed."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from core_cases import LEVELS, PARTS, context, grads_ok, model_of, plain, rows, shake, spec_of
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from tightbound.distributions import from_noise, is_point_mass, kl, kl_per_dimension, noise_like, point
from tightbound.likelihoods import AUTO, LIKELIHOODS
from tightbound.posteriors import POSTERIORS
from tightbound.priors import PRIORS, ConditionalNormal
from tightbound.recipes import part
from tightbound.spec import Domain
from tightbound.trace import Batch, Clock, Draw

B, K, N = 5, 3, 40_000
LIKELIHOOD_OPTIONS = {
    "gaussian": [{"scale": s} for s in ("learned", "shared", "predicted", "fixed", "optimal")],
    "discretized-logistic": [{"scale": s} for s in ("predicted", "learned", "shared", "fixed")],
}
POSTERIOR_OPTIONS = {"normal": [{"scale": "predicted"}, {"scale": "shared"}]}
VARIANTS = [(name, domain, options) for name, domain in PARTS for options in LIKELIHOOD_OPTIONS.get(name, [{}])]


def one_dimensional(name: str, domain: str, options: dict[str, str], n: int = 4) -> Distribution:
    """p(x|z) for n decoder outputs over data of one dimension."""
    likelihood = LIKELIHOODS[name](spec_of(domain, (1,)), **options)
    return likelihood(2 * torch.randn(n, likelihood.params, 1), context(n), None)


def grid(px: Distribution, domain: str) -> tuple[Tensor, Tensor]:
    """Points x over the support, (G, n, 1), and the weights of a sum or a trapezoidal integral over them, (G, n)."""
    n = px.batch_shape[0]
    if domain in LEVELS:
        x = torch.arange(LEVELS[domain]).float().reshape(-1, 1, 1).expand(-1, n, 1)
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
def test_likelihood_is_a_proper_density_on_its_support(name: str, domain: str, options: dict[str, str]) -> None:
    px = one_dimensional(name, domain, options)
    x, weight = grid(px, domain)
    total = (px.log_prob(x).double().exp() * weight.double()).sum(0)
    assert torch.allclose(total, torch.ones_like(total), atol=2e-4)


@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_samples_agree_with_log_prob_and_lie_in_the_support(name: str, domain: str, options: dict[str, str]) -> None:
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
    assert ((drawn.var(0) - variance).abs() < 5 * ((fourth - variance**2) / N).sqrt() + 1e-6).all()
    if domain in LEVELS:
        assert torch.equal(drawn, drawn.round())
    if name != "categorical":  # its values are unordered: no mean
        assert torch.allclose(px.mean.squeeze(-1).double(), mean, atol=1e-3, rtol=1e-3)
        assert torch.allclose(px.variance.squeeze(-1).double(), variance, atol=1e-3, rtol=2e-3)


@pytest.mark.parametrize("shape", [(7,), (1, 1, 1), (3, 3, 5)])
@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_likelihood_sums_nats_over_every_dimension(
    name: str, domain: str, options: dict[str, str], shape: tuple[int, ...]
) -> None:
    spec = spec_of(domain, shape)
    likelihood = shake(LIKELIHOODS[name](spec, **options))
    y, x = torch.randn(B, likelihood.params, *shape), rows(domain, shape, B)
    px = likelihood(y, context(B), None)
    assert px.batch_shape == (B,) and px.event_shape == shape and px.sample().shape == (B, *shape)
    total = px.log_prob(x)
    assert total.shape == (B,)
    flip = {"levels": LEVELS["levels"] - 1, "categorical": 4, "binary": 1}.get(domain)
    changed = x.clone().flatten(1)
    changed[:, 0] = (flip - changed[:, 0]) if flip else 1 - changed[:, 0]
    one = px.log_prob(changed.reshape(x.shape)) - total
    rest = px.log_prob(torch.cat([changed[:, :1], x.flatten(1)[:, 1:]], 1).reshape(x.shape)) - total
    assert torch.allclose(one, rest)
    single = px.base_dist.log_prob(x).flatten(1)
    assert single.shape == (B, math.prod(shape)) and torch.allclose(single.sum(1), total, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(("name", "domain", "options"), VARIANTS)
def test_every_parameter_of_a_model_gets_a_gradient(name: str, domain: str, options: dict[str, str]) -> None:
    recipe = plain(likelihood=part(name, **options), prior=part("learned"))
    model = shake(model_of(recipe, spec_of(domain, (6,)))[0])
    trace = model(Batch(rows(domain, (6,), B)), Draw(K))
    assert trace.log_w.shape == trace.log_px.shape == (K, B)
    trace.log_w.mean().backward()
    grads_ok(model)


def conditional(name: str, options: dict[str, str], latent: int = 3) -> nn.Module:
    return shake(POSTERIORS[name](4, latent, **options), 0.4)


POSTERIOR_CASES = [(name, options) for name in POSTERIORS for options in POSTERIOR_OPTIONS.get(name, [{}])]


@pytest.mark.parametrize(("name", "options"), POSTERIOR_CASES)
def test_posterior_shapes_and_gradients(name: str, options: dict[str, str]) -> None:
    posterior, h = conditional(name, options), torch.randn(B, 4)
    q = posterior(h, context(B, h), None)
    z, log_q = from_noise(q, noise_like(q))
    assert z.shape == point(q).shape == (B, 3) and (log_q is None or log_q.shape == (B,))
    assert torch.equal(point(q), point(posterior(h, context(B, h), None)))
    ((z**3).sum() + (0 if is_point_mass(q) else q.log_prob(z.detach()).sum())).backward()
    grads_ok(posterior)


@pytest.mark.parametrize(("name", "options"), POSTERIOR_CASES)
def test_posterior_samples_have_its_mean_and_variance(name: str, options: dict[str, str]) -> None:
    h = torch.randn(1, 4).expand(N, -1)
    q = conditional(name, options)(h, context(N, h), None)
    z = from_noise(q, noise_like(q))[0].detach()
    mean, variance = q.mean[0].detach(), q.variance[0].detach()
    assert ((z.mean(0) - mean).abs() <= 5 * (variance / N).sqrt() + 1e-5).all()
    assert ((z.var(0) - variance).abs() <= 5 * variance * (2 / N) ** 0.5 + 1e-6).all()


@pytest.mark.parametrize(("name", "options"), POSTERIOR_CASES)
def test_reparameterised_gradient_equals_finite_differences_of_common_noise(name: str, options: dict[str, str]) -> None:
    posterior, h = conditional(name, options).double(), torch.randn(50, 4).double()
    noise = noise_like(posterior(h, context(50, h), None))

    def value() -> Tensor:
        z, _ = from_noise(posterior(h, context(50, h), None), noise)
        return (z.sin() + z.prod(-1, keepdim=True) ** 2).mean()

    value().backward()
    for p in posterior.parameters():
        direction, step = torch.randn_like(p), 1e-6
        with torch.no_grad():
            p += step * direction
            high = value()
            p -= 2 * step * direction
            low = value()
            p += step * direction
        assert p.grad is not None
        assert torch.allclose((p.grad * direction).sum(), (high - low) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", PRIORS)
def test_prior_is_normalised_and_its_rows_do_not_depend_on_their_number(name: str) -> None:
    prior = shake(PRIORS[name](1), 0.4)
    z = torch.linspace(-15, 15, 20_001).unsqueeze(1)
    p = prior(context(len(z)), Draw(source="p"), None)
    assert abs(torch.trapezoid(p.log_prob(z).double().exp(), z[:, 0].double()).item() - 1) < 1e-4
    assert p.log_prob(z).shape == (len(z),)
    few = prior(context(3), Draw(source="p"), None)
    assert torch.equal(few.log_prob(z[5000:5003]), p.log_prob(z)[5000:5003])


@pytest.mark.parametrize("name", [*PRIORS, "conditional"])
def test_prior_gradients_and_samples(name: str) -> None:
    prior: nn.Module = shake(ConditionalNormal(4, 3) if name == "conditional" else PRIORS[name](3), 0.4)
    state = torch.randn(1, 4).expand(N, -1) if name == "conditional" else None
    p = prior(context(N), Draw(source="p"), state)
    z, _ = from_noise(p, noise_like(p))
    assert ((z.mean(0) - p.mean[0]).abs() < 5 * (p.variance[0] / N).sqrt()).all()
    assert ((z.var(0) - p.variance[0]).abs() < 5 * p.variance[0] * (2 / N) ** 0.5).all()
    p.log_prob(z.detach() + 1).sum().backward() if list(prior.parameters()) else None
    grads_ok(prior)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("name", "options"), POSTERIOR_CASES)
def test_closed_form_kl_equals_monte_carlo(name: str, options: dict[str, str], prior: str) -> None:
    h = torch.randn(B, 4)
    q = conditional(name, options)(h, context(B, h), None)
    p = shake(PRIORS[prior](3), 0.4)(context(B), Draw(), None)
    closed = kl(q, p)
    if closed is None:
        assert is_point_mass(q), "no closed form: nothing to check"
        return
    z = q.sample((N,))
    sampled = q.log_prob(z) - p.log_prob(z)
    assert ((sampled.mean(0) - closed).abs() < 5 * sampled.std(0) / N**0.5).all()
    each = kl_per_dimension(q, p)
    assert each is not None and each.shape == (B, 3) and torch.allclose(each.sum(-1), closed)


def test_auto_names_a_likelihood_of_each_domain() -> None:
    assert set(AUTO) == set(get_args(Domain))
    assert all(domain in LIKELIHOODS[name].domains for domain, name in AUTO.items())


@pytest.mark.parametrize("prior", PRIORS)
def test_a_trained_step_lowers_the_loss_of_each_prior(prior: str) -> None:
    """The whole chain learns: a few steps on fixed data and noise."""
    model, objective = model_of(plain(prior=part(prior)), spec_of("real", (6,)))
    x, noise = rows("real", (6,), B), torch.randn(K * B, 3)
    optimiser, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        optimiser.zero_grad()
        loss = objective(model(Batch(x), Draw(K, noise=lambda name, dist: noise)), Clock())
        assert isinstance(loss, Tensor)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
