"""Contracts of posteriors and priors; a new one is tested by being listed."""

from __future__ import annotations

import math

import pytest
import torch
from support.core_cases import (
    context,
    grads_ok,
    model_of,
    partner,
    plain,
    posterior_of,
    prior_of,
    rows,
    shake,
    space_of,
    spec_of,
)
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS, ConditionalNormal
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.distributions import (
    Blend,
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    noise_form,
    noise_like,
    point,
)
from tightbound.distributions.reparam import to_noise
from tightbound.models.recipes import part

B, K, N = 5, 3, 8_000
OPTIONS = {
    "normal": [{"scale": "predicted"}, {"scale": "shared"}],
    "hamiltonian": [{"steps": 2}],
    "riemannian": [{"steps": 2, "count": 5}],
    "planar": [{"steps": 3}],
    "radial": [{"steps": 3}],
    "sylvester": [
        {"steps": 2, "rank": 2, "kind": kind} for kind in ("orthogonal", "householder")
    ],
    "inverse-autoregressive": [
        {"steps": 2, "width": 8, "context": 3, "kind": kind}
        for kind in ("affine", "spline", "coupling")
    ],
}
CONTINUOUS = [
    name for name, cls in POSTERIORS.items() if space_of(cls) != "codes"
]  # codes: components/test_codes.py
BESIDE = (
    "hamiltonian",
    "riemannian",
)  # their densities are of z and a momentum together
ELSEWHERE = (
    "two-stage",
    "riemannian",
    "conditional",
)  # runs/test_priors_after.py, models/test_conditions.py
PRIOR_NAMES = [
    name
    for name, cls in PRIORS.items()
    if space_of(cls) != "codes" and name not in ELSEWHERE
]
CASES = [(name, options) for name in CONTINUOUS for options in OPTIONS.get(name, [{}])]
DENSE = [(name, options) for name, options in CASES if name != "delta"]
PRIOR_CASES = [(name, {}) for name in PRIOR_NAMES if name != "flow"] + [
    ("flow", {"kind": kind}) for kind in ("coupling", "affine", "spline")
]


class Case(nn.Module):
    """A posterior of a registry's name, shaken, over a prior that goes with it."""

    def __init__(
        self, name: str, options: dict[str, object], latent: int = 3, by: float = 0.4
    ) -> None:
        super().__init__()
        self.prior, self.posterior = (
            prior_of(partner(name), latent),
            posterior_of(name, 4, latent, **options),
        )
        shake(self.posterior, by)

    def forward(self, h: Tensor) -> Distribution:
        ctx = context(len(h), h)
        return self.posterior(h, ctx, self.prior(ctx, Draw(), None))


def space_grid(space: str) -> tuple[Tensor, Tensor]:
    """Points that fill a space of one or two dimensions, and the volumes that they stand for."""
    if space == "sphere":
        angle = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)
        return torch.stack([angle.cos(), angle.sin()], -1).float(), torch.full(
            (2000,), 2 * math.pi / 2000
        )
    if space == "hyperbolic":
        r = (torch.arange(1200, dtype=torch.float64) + 0.5) / 100
        angle = torch.arange(200, dtype=torch.float64) * (math.pi / 100)
        at, a = r.repeat_interleave(200), angle.repeat(1200)
        return (at[:, None] * torch.stack([a.cos(), a.sin()], -1)).float(), (
            at * 0.01 * math.pi / 100
        ).float()
    z = torch.linspace(-40, 40, 20_001).unsqueeze(1)
    return z, torch.full((len(z),), 80 / 20_000)


def in_space(z: Tensor, space: str) -> bool:
    return bool(
        (z.norm(dim=-1) - 1).abs().max() < 1e-5
        if space == "sphere"
        else z.isfinite().all()
    )


def reference(name: str, n: int) -> Distribution:
    """A known density on the space of a posterior, at which its samples can be weighed."""
    cooler = {} if space_of(POSTERIORS[name]) == "sphere" else {"scale": 0.3}
    return prior_of(partner(name), 3, **cooler)(context(n), Draw(), None)


def exact_moments(dist: Distribution) -> tuple[Tensor, Tensor] | None:
    """Mean and variance of the first row, where the distribution knows them."""
    try:
        return dist.mean[0].detach(), dist.variance[0].detach()
    except NotImplementedError:
        return None


# ---- posteriors


@pytest.mark.parametrize(("name", "options"), CASES)
def test_posterior_shapes_and_gradients(name: str, options: dict[str, object]) -> None:
    case, h = Case(name, options), torch.randn(B, 4)
    q = case(h)
    z, log_q = from_noise(q, noise_like(q))
    assert z.shape == point(q).shape == (B, 3) and (
        log_q is None or log_q.shape == (B,)
    )
    assert in_space(z, space_of(POSTERIORS[name])) and in_space(
        point(q), space_of(POSTERIORS[name])
    )
    assert torch.equal(point(q), point(case(h)))
    if log_q is None and not is_point_mass(q):
        log_q = q.log_prob(z)
    ((z**3).sum() + (0 if log_q is None else log_q.sum())).backward()
    grads_ok(case.posterior)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_posterior_samples_have_its_mean_and_variance(
    name: str, options: dict[str, object]
) -> None:
    q = Case(name, options)(torch.randn(1, 4).expand(N, -1))
    z = from_noise(q, noise_like(q))[0].detach().double()
    if (exact := exact_moments(q)) is None:
        return
    mean, variance = exact
    fourth = ((z - z.mean(0)) ** 4).mean(0)
    assert ((z.mean(0) - mean).abs() <= 5 * (variance / N).sqrt() + 1e-5).all()
    assert (
        (z.var(0) - variance).abs()
        <= 5 * ((fourth - variance.square()).clamp(min=0) / N).sqrt() + 1e-6
    ).all()


REAL = [
    case
    for case in DENSE
    if space_of(POSTERIORS[case[0]]) == "real" and case[0] not in BESIDE
]


@pytest.mark.parametrize(("name", "options"), REAL)
def test_the_density_that_goes_with_a_sample_is_that_of_the_change_of_variables(
    name: str, options: dict[str, object]
) -> None:
    """log q(z) = log N(noise) - log |det dz/dnoise|; and where a density of any z is known, it is
    the same.
    """
    case, h = Case(name, options).double(), torch.randn(B, 4).double()
    noise = noise_like(case(h))
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda e, row: from_noise(case(row[None]), e[None])[0][0])
    )(noise, h)
    z, log_q = from_noise(case(h), noise)
    exact = (
        torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1)
        - torch.linalg.slogdet(jacobian)[1]
    )
    assert log_q is None or torch.allclose(log_q, exact, atol=1e-8)
    try:
        assert torch.allclose(case(h).log_prob(z), exact, atol=1e-6)
    except ValueError as refusal:
        assert "no inverse" in str(refusal) and log_q is not None


@pytest.mark.parametrize(("name", "options"), REAL)
def test_the_noise_that_makes_a_value_is_found_again(
    name: str, options: dict[str, object]
) -> None:
    """So chains can start at a given z; a q that cannot say raises, and never guesses."""
    q = Case(name, options, by=0.2).double()(torch.randn(B, 4).double())
    noise = noise_like(q)
    z, _ = from_noise(q, noise)
    try:
        assert torch.allclose(to_noise(q, z), noise, atol=1e-6)
    except NotImplementedError:
        assert name in ("planar", "radial", "sylvester")  # no inverse in closed form


@pytest.mark.parametrize(
    ("name", "options"),
    [case for case in DENSE if case not in REAL and case[0] not in BESIDE],
)
def test_samples_on_a_curved_space_agree_with_the_density(
    name: str, options: dict[str, object]
) -> None:
    """E_q[r(z) / q(z)] = 1 for a known density r."""
    q = Case(name, options, by=0.2)(torch.randn(1, 4).expand(N, -1))
    z, log_q = from_noise(q, noise_like(q))
    assert log_q is not None and torch.allclose(log_q, q.log_prob(z), atol=5e-3)
    weight = (reference(name, N).log_prob(z) - log_q).double().exp().detach()
    assert (
        abs(weight.mean().item() - 1) < 5 * weight.std().item() / N**0.5
        and weight.std() > 0.1
    )


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_drawn_beside_z_weighs_in_its_density(name: str) -> None:
    """E_q[r(z) / q] = 1 for a known density r, where q is of z and of a momentum that nobody asks
    for.
    """
    q = Case(name, OPTIONS[name][0], by=0.2)(torch.randn(1, 4).expand(N, -1))
    z, log_q = (t.detach() for t in from_noise(q, noise_like(q)) if t is not None)
    r = torch.distributions.Normal(z.mean(0), z.std(0) / 1.5)
    weight = (r.log_prob(z).sum(-1) - log_q).double().exp()
    assert (
        abs(weight.mean().item() - 1) < 5 * weight.std().item() / N**0.5 < 0.2
        and weight.std() > 0.1
    )


@pytest.mark.parametrize(("name", "options"), DENSE)
def test_posterior_density_integrates_to_one(
    name: str, options: dict[str, object]
) -> None:
    space = space_of(POSTERIORS[name])
    z, volume = space_grid(space)
    q = Case(name, options, latent=z.shape[1], by=0.2)(
        torch.randn(1, 4).expand(len(z), -1)
    )
    try:
        density = q.log_prob(z).double().exp()
    except ValueError:
        return  # no density at a given z: the test of its change of variables says all
    assert abs((density * volume).sum().item() - 1) < 2e-3


@pytest.mark.parametrize(("name", "options"), CASES)
def test_reparameterised_gradient_equals_finite_differences_of_common_noise(
    name: str, options: dict[str, object]
) -> None:
    case, h = (
        Case(name, options, by=0.1 if name in BESIDE else 0.4).double(),
        torch.randn(20, 4).double(),
    )
    noise = noise_like(case(h))

    def value() -> Tensor:
        z, log_q = from_noise(case(h), noise)
        return (z.sin() + z.prod(-1, keepdim=True) ** 2).mean() + (
            0 if log_q is None else log_q.mean() / 10
        )

    value().backward()
    for p in case.posterior.parameters():
        direction, step = torch.randn_like(p), 1e-6
        with torch.no_grad():
            p += step * direction
            high = value()
            p -= 2 * step * direction
            low = value()
            p += step * direction
        assert p.grad is not None
        assert torch.allclose(
            (p.grad * direction).sum(), (high - low) / (2 * step), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("prior", PRIOR_NAMES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_closed_form_kl_equals_monte_carlo(
    name: str, options: dict[str, object], prior: str
) -> None:
    if space_of(POSTERIORS[name]) != space_of(PRIORS[prior]):
        return
    h = torch.randn(1, 4).expand(N, -1)
    q = Case(name, options)(h)
    p = shake(prior_of(prior, 3), 0.4)(context(N), Draw(), None)
    closed = kl(q, p)
    if closed is None:
        return
    z, log_q = from_noise(q, noise_like(q))
    sampled = (q.log_prob(z) if log_q is None else log_q) - p.log_prob(z)
    assert abs(sampled.mean() - closed[0]) < 5 * sampled.std() / N**0.5
    each = kl_per_dimension(q, p)
    assert each is None or (
        each.shape == (N, 3) and torch.allclose(each.sum(-1), closed)
    )


def test_these_pairs_have_a_closed_form() -> None:
    for name, prior in [
        ("normal", "learned"),
        ("full-normal", "standard"),
        ("von-mises-fisher", "sphere"),
    ]:
        p = prior_of(prior, 3)(context(B), Draw(), None)
        assert kl(Case(name, {})(torch.randn(B, 4)), p) is not None


# ---- priors


@pytest.mark.parametrize(("name", "options"), PRIOR_CASES)
def test_prior_is_normalised_and_its_rows_do_not_depend_on_their_number(
    name: str, options: dict[str, object]
) -> None:
    z, volume = space_grid(space_of(PRIORS[name]))
    prior = shake(prior_of(name, z.shape[1], **options), 0.2).eval()
    with torch.no_grad():
        p = prior(context(len(z)), Draw(source="p"), None)
        assert abs((p.log_prob(z).double().exp() * volume).sum().item() - 1) < 3e-3
        assert p.log_prob(z).shape == (len(z),)
        few = prior(context(3), Draw(source="p"), None)
        assert torch.allclose(
            few.log_prob(z[500:503]), p.log_prob(z)[500:503], atol=1e-5
        )


@pytest.mark.parametrize(("name", "options"), [*PRIOR_CASES, ("conditional", {})])
def test_prior_gradients_and_samples(name: str, options: dict[str, object]) -> None:
    """Its samples lie in its space, agree with its density, and every parameter gets a gradient."""
    prior = (
        ConditionalNormal(4, 3)
        if name == "conditional"
        else prior_of(name, 3, **options)
    )
    prior = shake(prior, 0.4).eval()
    state = torch.randn(1, 4).expand(N, -1) if name == "conditional" else None
    p = prior(context(N), Draw(source="p"), state)
    z, log_p = from_noise(p, noise_like(p))
    space = space_of(PRIORS.get(name))
    assert in_space(z, space)
    given = p.log_prob(z)
    assert log_p is None or torch.allclose(log_p, given, atol=1e-3, rtol=1e-3)
    if space == "real":
        mean, scale = z.detach().mean(0), z.detach().std(0) / 2
        known = torch.distributions.Normal(mean, scale).log_prob(z).sum(-1)
    else:
        known = reference(
            "von-mises-fisher" if space == "sphere" else "wrapped-normal", N
        ).log_prob(z)
    weight = (known - given).double().exp().detach()
    assert abs(weight.mean().item() - 1) < 5 * weight.std().item() / N**0.5 + 1e-3
    if (exact := exact_moments(p)) is not None:
        assert ((z.mean(0) - exact[0]).abs() < 5 * (exact[1] / N).sqrt()).all()
        fourth = ((z - exact[0]) ** 4).mean(0)
        assert (
            (z.var(0) - exact[1]).abs()
            < 5 * ((fourth - exact[1] ** 2).clamp(min=0) / N).sqrt() + 1e-5
        ).all()
    p.log_prob(z.detach() + 1).sum().backward() if list(prior.parameters()) else None
    grads_ok(prior)


@pytest.mark.parametrize("name", PRIOR_NAMES)
def test_a_cooler_prior_is_narrower_and_its_own_space(name: str) -> None:
    p = prior_of(name, 3).eval()(context(2000), Draw(source="p"), None)
    noise = noise_form(p).draw(torch.Generator().manual_seed(0))
    warm, cool = from_noise(p, noise)[0], from_noise(p, noise, 0.1)[0]
    assert in_space(cool, space_of(PRIORS[name]))
    if name == "sphere":  # uniform: it has no temperature
        assert torch.equal(warm, cool)
    elif isinstance(p, Blend):  # each component by itself: which one was drawn stays
        far = [
            (z.unsqueeze(1) - point(p.parts)).norm(dim=-1).amin(1).mean()
            for z in (warm, cool)
        ]
        assert far[1] < 0.3 * far[0] + 0.1
    else:
        assert cool.var(0).sum() < 0.2 * warm.var(0).sum()


@pytest.mark.parametrize("prior", PRIOR_NAMES)
def test_a_trained_step_lowers_the_loss_of_each_prior(prior: str) -> None:
    """The whole chain learns: a few steps on fixed data and noise."""
    posterior = next(
        name
        for name in POSTERIORS
        if space_of(POSTERIORS[name]) == space_of(PRIORS[prior])
    )
    model, objective = model_of(
        plain(prior=part(prior), posterior=part(posterior)), spec_of("real", (6,))
    )
    x, kept = rows("real", (6,), B), {}
    optimiser, losses = torch.optim.Adam(model.parameters(), 2e-3), []
    for _ in range(60):
        optimiser.zero_grad()
        trace = model(
            Batch(x),
            Draw(K, noise=lambda name, dist: kept.setdefault(name, noise_like(dist))),
        )
        loss = objective(trace, Clock())
        assert isinstance(loss, Tensor)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
