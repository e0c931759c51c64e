"""Known answers: for linear-Gaussian models log p(x), the joint and the posterior are exact, along
all three paths.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.linear_gaussian import PATHS, problem
from torch import Tensor, nn

from tightbound.components.objectives import Elbo, Iwae
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.models.hierarchy import TopDown

B, K = 5, 3


def close(ours: Tensor, exact: np.ndarray, tol: float = 1e-6) -> bool:
    return bool(np.abs(ours.detach().numpy() - exact).max() < tol)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("k", [1, K])
def test_log_w_is_log_px_whatever_is_drawn_when_q_is_the_posterior(
    path: str, k: int
) -> None:
    lg = problem(path)
    x, exact = lg.data(B)
    trace = lg.model(Batch(x), Draw(k))
    assert trace.log_w.shape == (k, B) and trace.bound
    assert close(trace.log_w, np.broadcast_to(exact, (k, B)))
    assert close(trace.log_p_hat, exact)


@pytest.mark.parametrize("path", PATHS)
def test_log_w_is_log_px_at_any_given_z_with_its_density(path: str) -> None:
    """Bayes' rule holds at every z: also where q would never go."""
    lg = problem(path)
    x, exact = lg.data(B)
    far = {
        site: 3 * torch.randn(K * B, *_width(lg, site), dtype=torch.float64)
        for site in lg.sites
    }
    drawn = lg.model(Batch(x), Draw(K, given=far))
    given = {s: (z, drawn.latents[s].q.log_prob(z)) for s, z in far.items()}
    assert close(
        lg.model(Batch(x), Draw(K, given=given)).log_w, np.broadcast_to(exact, (K, B))
    )
    one = {lg.sites[0]: given[lg.sites[0]]}
    if (
        path != "top-down"
    ):  # in a top-down q the upper site is drawn first, so q(z1 | z2) above belongs to another z2
        assert close(
            lg.model(Batch(x), Draw(K, given=one)).log_w, np.broadcast_to(exact, (K, B))
        )


def _width(lg: object, site: str) -> tuple[int]:
    at = lg.chain.at[site]
    return (at.stop - at.start,)


def test_elbo_with_closed_form_rate_is_log_px_on_average() -> None:
    """distortion is a Monte Carlo mean, rate is exact: with the exact posterior their sum is log
    p(x).
    """
    lg = problem("flat")
    x, exact = lg.data(B)
    k = 20_000
    trace = lg.model(Batch(x), Draw(k))
    se = trace.log_px.std(0) / k**0.5
    assert ((trace.elbo - torch.from_numpy(exact)).abs() < 4.5 * se).all() and (
        se < 0.03
    ).all()


@pytest.mark.parametrize("path", PATHS)
def test_rate_in_closed_form_agrees_with_monte_carlo(path: str) -> None:
    """A closed-form KL(q(z1|x), p(z1|z2)) is wrong where z2 was drawn from z1: the two are not
    independent.
    """
    lg = problem(path).spoil()
    x, _ = lg.data(B)
    k = 20_000
    trace = lg.model(Batch(x), Draw(k))
    for site in trace.latents.values():
        sampled = site.log_q - site.log_p
        se = sampled.std(0) / k**0.5
        assert ((sampled.mean(0) - site.kl.mean(0)).abs() < 4.5 * se).all()
    assert torch.equal(
        trace.rate, sum(site.kl for site in trace.latents.values()).mean(0)
    )


@pytest.mark.parametrize("path", PATHS)
def test_single_sample_elbo_is_the_mean_of_log_w(path: str) -> None:
    """E_q[log w] is the ELBO: reported elbo (closed-form rate) and the mean of log_w agree within
    their noise.
    """
    lg = problem(path).spoil()
    x, exact = lg.data(B)
    k = 20_000
    trace = lg.model(Batch(x), Draw(k))
    se = (trace.log_w - trace.log_px).std(0) / k**0.5
    assert ((trace.log_w.mean(0) - trace.elbo).abs() < 4.5 * se).all()
    assert (trace.elbo < torch.from_numpy(exact) - 0.05).all()  # a wrong q pays


@pytest.mark.parametrize("path", PATHS)
def test_joint_is_the_exact_joint_density(path: str) -> None:
    lg = problem(path).spoil()
    x, _ = lg.data(B)
    at = {
        site: torch.randn(B, *_width(lg, site), dtype=torch.float64)
        for site in lg.sites
    }
    exact = lg.chain.log_density(
        x=x.numpy(), **{site: z.numpy() for site, z in at.items()}
    )
    assert close(lg.model.joint(Batch(x), at), exact)


@pytest.mark.parametrize("path", PATHS)
def test_generated_data_have_the_models_mean_and_covariance(path: str) -> None:
    lg = problem(path)
    n = 40_000
    trace = lg.model.generate(n, Draw(source="p"))
    x = trace.px.sample().numpy()
    mean, cov = lg.chain.moments(["x"])
    se = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)
    assert (np.abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n)).all()
    assert (np.abs(np.cov(x.T) - cov) < 5 * se).all()


@pytest.mark.parametrize("path", PATHS)
def test_samples_are_laid_out_sample_major_and_axes_are_not_swapped(path: str) -> None:
    """Peer bug 4.2: K and B swapped.

    Row k*B+b is sample k of example b; each density is recomputed by scipy.
    """
    lg = problem(path).spoil()
    x, exact = lg.data(B)
    trace = lg.model(Batch(x), Draw(K))
    z = {
        site: trace.latents[site].z.detach().numpy().reshape(K, B, -1)
        for site in lg.sites
    }
    log_q = sum(site.log_q.detach().numpy() for site in trace.latents.values())
    for k in range(K):
        joint = lg.chain.log_density(
            x=x.numpy(), **{site: z[site][k] for site in lg.sites}
        )
        assert close(trace.log_w[k], joint - log_q[k])
    ours = trace.log_w.detach().numpy()
    assert close(trace.log_p_hat, np.log(np.exp(ours - exact).mean(0)) + exact)
    assert (
        trace.log_p_hat.shape
        == trace.elbo.shape
        == trace.rate.shape
        == trace.distortion.shape
        == (B,)
    )


@pytest.mark.parametrize("k", [1, 2, 7, 250])
def test_k_is_honoured_exactly(k: int) -> None:
    """Peer bug 4.3: a requested number of samples that is rounded to something else."""
    lg, rows = problem("top-down"), {}

    def noise(name: str, dist: torch.distributions.Distribution) -> Tensor:
        rows[name] = dist.mean.shape[0]
        return torch.randn_like(dist.mean)

    trace = lg.model(Batch(lg.data(B)[0]), Draw(k, noise=noise))
    assert rows == {"z1": k * B, "z2": k * B}
    assert trace.k == k and trace.log_w.shape == trace.log_v.shape == (k, B)
    assert torch.allclose(trace.log_v.exp().sum(0), torch.ones(B, dtype=torch.float64))
    assert len(trace.latents["z1"].z.unique(dim=0)) == k * B  # no sample is used twice


@pytest.mark.parametrize("path", PATHS)
def test_importance_bound_grows_with_k_and_never_exceeds_log_px(path: str) -> None:
    lg = problem(path).spoil()
    x, exact = lg.data(B)
    rounds = 400
    means, errors = [], []
    for k in (1, 3, 10, 100):
        trace = lg.model(Batch(x.repeat(rounds, 1)), Draw(k))
        gap = trace.log_p_hat.detach().reshape(rounds, B).mean(1) - float(exact.mean())
        means.append(float(gap.mean()))
        errors.append(float(gap.std()) / rounds**0.5)
    for low, high, a, b in zip(means, means[1:], errors, errors[1:], strict=False):
        assert high - low > 2 * (a**2 + b**2) ** 0.5
    assert all(mean < 3 * se for mean, se in zip(means, errors, strict=True))
    assert means[0] < -0.2 and means[-1] > means[0] / 10


def test_one_sample_importance_bound_is_the_single_sample_elbo() -> None:
    lg = problem("flat").spoil()
    trace = lg.model(Batch(lg.data(B)[0]), Draw(1))
    assert torch.allclose(trace.log_p_hat, trace.log_w[0])
    assert torch.allclose(Iwae()(trace, Clock()), -trace.log_w.mean())


def test_reported_importance_bound_is_not_the_weighted_mean_of_log_w() -> None:
    """Peer bug 4.1: sum of normalised w times log w is reported; it is optimistic and exceeds log
    p(x).
    """
    lg = problem("flat").spoil(shift=1.0)
    x, exact = lg.data(B)
    trace = lg.model(Batch(x.repeat(200, 1)), Draw(50))
    wrong = (trace.log_w.softmax(0) * trace.log_w).sum(0)
    assert wrong.mean().item() > exact.mean() > trace.log_p_hat.mean().item()
    assert torch.equal(Iwae()(trace, Clock()), -trace.log_p_hat.mean())


def test_gradient_of_the_bound_is_exact_for_the_exact_posterior() -> None:
    """With the exact q, E[d log w] with respect to theta is d log p(x): checked by moving the
    prior's mean.
    """
    lg = problem("flat")
    x, _ = lg.data(B)
    loss = Elbo()(lg.model(Batch(x), Draw(20_000)), Clock())
    grad = torch.autograd.grad(-loss, lg.model.hierarchy.prior.mean)[0].numpy()
    step, exact = 1e-5, []
    for i in range(3):
        values = []
        for sign in (1, -1):
            lg.chain.c[i] += sign * step
            values.append(lg.chain.log_density(x=x.numpy()).mean())
            lg.chain.c[i] -= sign * step
        exact.append((values[0] - values[1]) / (2 * step))
    assert np.abs(grad - exact).max() < 1e-6


@pytest.mark.parametrize("objective", [Elbo(beta=2.0), Iwae()])
@pytest.mark.parametrize("path", PATHS)
def test_gradients_equal_finite_differences_of_common_noise(
    path: str, objective: Elbo | Iwae
) -> None:
    """No path cuts a gradient: every parameter, along z and through all sites, in float64."""
    lg = problem(path).spoil()
    x, _ = lg.data(B)
    noise = {
        site: torch.randn(K * B, *_width(lg, site), dtype=torch.float64)
        for site in lg.sites
    }

    def loss() -> Tensor:
        return objective(
            lg.model(Batch(x), Draw(K, noise=lambda name, dist: noise[name])), Clock()
        )

    loss().backward()
    for name, p in lg.model.named_parameters():
        direction, step = torch.randn_like(p), 1e-6
        with torch.no_grad():
            p += step * direction
            high = loss()
            p -= 2 * step * direction
            low = loss()
            p += step * direction
        assert p.grad is not None and torch.allclose(
            (p.grad * direction).sum(), (high - low) / (2 * step), rtol=1e-5, atol=1e-6
        ), name


def test_a_top_down_model_of_one_block_is_the_flat_one() -> None:
    """The same weights, noise and data: z, all log-terms and every gradient."""
    flat = problem("flat").spoil()
    x, _ = flat.data(5)
    way = flat.model.hierarchy
    found = []
    for path in (
        way,
        TopDown([way.prior], [way.posterior], [nn.Identity()], way.decoder, [3]),
    ):
        flat.model.hierarchy = path
        flat.model.zero_grad()
        noise = torch.randn(
            3 * 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        trace = flat.model(Batch(x), Draw(3, noise=lambda name, dist, e=noise: e))
        (trace.log_p_hat.mean() + trace.elbo.mean()).backward()
        (site,) = trace.latents.values()
        grads = [
            p.grad.clone()
            for p in (*way.parameters(), *flat.model.likelihood.parameters())
            if p.grad is not None
        ]
        found.append(
            [site.z, trace.log_px, site.log_p, site.log_q, site.kl, trace.log_w, *grads]
        )
    assert len(found[0]) == len(found[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
