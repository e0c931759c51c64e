"""Objectives that see the whole batch, or the decoder's slope: estimators against their known
values.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from support.core_cases import model_of, plain, rows, shake, spec_of
from support.linear_gaussian import problem
from torch import Tensor

from tightbound.components.objectives import OBJECTIVES, Capacity, Dip, Mmd, Rae
from tightbound.components.objectives.decompose import (
    TotalCorrelation,
    decompose,
    log_shares,
)
from tightbound.components.objectives.divergence import SCALES, mmd, sliced
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.core.latent import Latent
from tightbound.core.trace import Trace
from tightbound.distributions import diagonal
from tightbound.models.recipes import part
from tightbound.models.vae import VAE
from tightbound.training.step.module import Step

B, K, D = 5, 3, 6


def trace_of(posterior: str = "normal", b: int = B, k: int = K) -> tuple[VAE, Trace]:
    model = shake(
        model_of(
            plain(posterior=part(posterior), objective="mmd"), spec_of("real", (D,))
        )[0]
    )
    assert isinstance(model, VAE)
    return model, model(Batch(rows("real", (D,), b)), Draw(k))


def site(mean: Tensor, scale: float, z: Tensor) -> Latent:
    """A latent of K = len(z) / len(mean) samples whose q is N(mean, scale^2) and whose p is N(0,
    1).
    """
    k = len(z) // len(mean)
    q = diagonal(mean.repeat(k, 1), torch.full_like(z, math.log(scale)))
    found = Latent(k, z, "q", q, None)
    found.p = diagonal(torch.zeros_like(z), torch.zeros_like(z))
    return found


# ---- total correlation


def test_the_parts_of_the_total_correlation_sum_to_the_kl() -> None:
    _, trace = trace_of()
    latent = trace.latents["z"]
    for n in (B, 7, 10_000):
        parts = decompose(latent, n)
        assert all(part_.shape == (K, B) for part_ in parts)
        assert torch.allclose(sum(parts), latent.log_q - latent.log_p, atol=1e-4)
    ones = TotalCorrelation(beta=1.0, rows=100)(trace, Clock())
    assert torch.allclose(
        ones, trace.distortion.mean() + (latent.log_q - latent.log_p).mean(), rtol=1e-5
    )


def test_stratified_weights_are_unbiased() -> None:
    """Peer bug 4.5: weights in a column instead of the diagonal.

    Here: all batches that an example can be in.
    """
    n, b = 7, 4
    density = torch.rand(
        n, dtype=torch.float64
    )  # q(z | x_j) at one z, drawn from q(z | x_0)
    shares = log_shares(b, n, density).exp()
    batches = [(0, *rest) for rest in itertools.combinations(range(1, n), b - 1)]
    for own, row in enumerate(shares):  # wherever in the batch it is
        placed = [[*rest[:own], own_, *rest[own:]] for own_, *rest in batches]
        estimates = [float(row @ density[batch]) for batch in placed]
        assert math.isclose(
            sum(estimates) / len(batches), density.mean(), rel_tol=1e-12
        )
    assert torch.allclose(shares.sum(1), torch.ones(b, dtype=torch.float64))
    column = torch.full(
        (b,), 1 / (b - 1), dtype=torch.float64
    )  # a row of theirs, whose diagonal is elsewhere
    column[0], column[1] = 1 / n, (n - b + 1) / (n * (b - 1))
    peers = [
        float(column @ density[[one, two, own, three]])
        for own, one, two, three in batches
    ]
    assert abs(sum(peers) / len(batches) - density.mean()) > 0.01


def test_with_the_whole_data_set_as_the_batch_the_aggregate_is_exact() -> None:
    _, trace = trace_of()
    latent, parts = trace.latents["z"], decompose(trace.latents["z"], B)
    q = latent.q.base_dist
    for k, i in itertools.product(range(K), range(B)):
        each = torch.stack(
            [q.log_prob(latent.z[k * B + i])[j] for j in range(B)]
        )  # K copies of q follow; B suffice
        log_qz = each.sum(-1).logsumexp(0) - math.log(B)
        marginals = (each.logsumexp(0) - math.log(B)).sum()
        assert torch.allclose(
            parts.information[k, i], latent.log_q[k, i] - log_qz, atol=1e-4
        )
        assert torch.allclose(parts.correlation[k, i], log_qz - marginals, atol=1e-4)


def test_total_correlation_of_two_clusters_on_a_diagonal_is_log_two() -> None:
    """z = (m, m) or (-m, -m): each code tells which x (log 2), and each feature tells the other
    (log 2).
    """
    mean = torch.tensor([[20.0, 20.0], [-20.0, -20.0]])
    parts = decompose(site(mean, 1.0, mean.repeat(50, 1) + torch.randn(100, 2)), 2)
    assert torch.allclose(parts.information, torch.tensor(math.log(2)), atol=1e-4)
    assert torch.allclose(parts.correlation, torch.tensor(math.log(2)), atol=1e-4)
    same = decompose(site(torch.zeros(4, 2), 1.0, torch.randn(12, 2)), 4)
    assert same.information.abs().max() < 1e-5 and same.correlation.abs().max() < 1e-5


def test_total_correlation_penalises_the_middle_part_only() -> None:
    _, trace = trace_of()
    parts = decompose(trace.latents["z"], 50)
    base = TotalCorrelation(rows=50, beta=1.0)(trace, Clock())
    assert torch.allclose(
        TotalCorrelation(rows=50, beta=4.0)(trace, Clock()) - base,
        3 * parts.correlation.mean(),
        atol=1e-4,
    )
    assert torch.allclose(
        TotalCorrelation(rows=50, beta=1.0, alpha=0.0)(trace, Clock()) - base,
        -parts.information.mean(),
        atol=1e-4,
    )
    assert torch.allclose(
        TotalCorrelation()(trace, Clock()), TotalCorrelation(rows=B)(trace, Clock())
    )


def test_build_tells_the_objective_how_many_examples_there_are() -> None:
    spec = spec_of("real", (D,)).model_copy(update={"rows": 321})
    objective = model_of(plain("total-correlation"), spec)[1]
    assert objective == TotalCorrelation(rows=321)


# ---- covariance


@pytest.mark.parametrize("kind", [1, 2])
def test_dip_penalises_what_is_off_the_unit_covariance(kind: int) -> None:
    _, trace = trace_of(b=400)
    q = trace.latents["z"].q
    mean, variance = q.mean[:400].double().detach(), q.variance[:400].double().detach()
    cov = torch.cov(mean.T, correction=0) + (
        torch.diag(variance.mean(0)) if kind == 2 else 0
    )
    off, diagonal = (
        (cov - torch.diag(cov.diag())).square().sum(),
        (cov.diag() - 1).square().sum(),
    )
    ours = Dip(kind=kind, off=3.0, diagonal=2.0)(trace, Clock()) + trace.elbo.mean()
    assert torch.allclose(ours.double(), 3 * off + 2 * diagonal, rtol=1e-4)


# ---- distances of samples


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_mmd_is_unbiased_and_has_its_known_value(kernel: str) -> None:
    """E exp(-r^2 / w) of N(m, I) and N(0, I): (w / (w + 4))^(d/2) exp(-|m|^2 / (w + 4)); of equals,
    zero.
    """
    d, n, w, shift = 3, 64, 5.0, torch.tensor([0.8, -0.5, 0.3])
    widths = torch.tensor([w])
    same = torch.stack(
        [mmd(torch.randn(n, d), torch.randn(n, d), kernel, widths) for _ in range(400)]
    )
    assert same.mean().abs() < 4 * same.std() / 20 and (same < 0).any()
    apart = torch.stack(
        [
            mmd(torch.randn(n, d) + shift, torch.randn(n, d), kernel, widths)
            for _ in range(400)
        ]
    )
    if kernel == "rbf":
        own = (w / (w + 4)) ** (d / 2)
        exact = 2 * own - 2 * own * math.exp(-float(shift.square().sum()) / (w + 4))
        assert abs(apart.mean() - exact) < 4 * apart.std() / 20
    assert apart.mean() > 10 * same.mean().abs()


def test_mmd_sums_over_kernel_widths_set_by_the_prior() -> None:
    model, trace = trace_of(b=40)
    z, drawn = trace.latents["z"].z, torch.randn(120, 3)
    noisy = model(
        trace.batch,
        Draw(
            K,
            noise=lambda name, dist: (
                drawn if name == "prior draw" else torch.randn(120, 3)
            ),
        ),
    )
    base = 2 * drawn.var(0, correction=0).sum()
    one = sum(mmd(noisy.latents["z"].z, drawn, "imq", (base * s)[None]) for s in SCALES)
    assert torch.allclose(
        Mmd(weight=3.0)(noisy, Clock()), noisy.distortion.mean() + 3 * one, rtol=1e-5
    )
    both = Mmd(weight=0.0, rate_weight=0.5)(trace, Clock())
    assert torch.allclose(
        both, trace.distortion.mean() + 0.5 * trace.rate.mean()
    ) and z.shape == (120, 3)


def test_sliced_distance_has_its_known_value() -> None:
    """N(m, I) against N(0, I): the mean over directions of (u . m)^2, which is |m|^2 / d."""
    d, shift, x = 4, torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.randn(300, 4)
    found = sliced(x + shift, x[torch.randperm(300)], torch.randn(3000, d))
    assert abs(found - shift.square().sum() / d) < 0.1
    one = sliced(x + shift, x, torch.tensor([[0.0, 3.0, 0.0, 0.0]]))
    assert torch.allclose(one, torch.tensor(4.0), atol=1e-4)


@pytest.mark.parametrize("name", ["mmd", "sliced"])
def test_pulling_codes_to_the_prior_makes_them_like_it(name: str) -> None:
    """Gradient steps on the distance alone bring far codes to mean 0 and variance 1."""
    z = (1.5 + 0.2 * torch.randn(200, 2)).requires_grad_()
    opt = torch.optim.Adam([z], lr=0.1)
    for _ in range(200):
        drawn = torch.randn(200, 2)
        loss = (
            mmd(z, drawn, "imq", 4 * torch.tensor(SCALES))
            if name == "mmd"
            else sliced(z, drawn, torch.randn(50, 2))
        )
        opt.zero_grad()
        loss.backward()
        opt.step()
    assert z.mean(0).abs().max() < 0.25 and (z.var(0) - 1).abs().max() < 0.5


# ---- capacity, and the objective in validation


def test_capacity_holds_the_rate_at_a_level_that_rises() -> None:
    """Peer bug 4.16: with capacity 0 the KL was clamped to [0, 0], so it was identically 0, with no
    gradient.
    """
    model, trace = trace_of()
    rate = trace.rate.mean()
    for progress, level in ((0.0, 0.0), (0.2, 10.0), (0.5, 20.0), (1.0, 20.0)):
        loss = Capacity(gamma=7.0, capacity=20.0, rise=0.4)(trace, Clock(progress))
        assert torch.allclose(loss, trace.distortion.mean() + 7 * (rate - level).abs())
    own = min(25.0, trace.batch.x[0].numel() / 8)
    assert torch.equal(
        Capacity()(trace, Clock()), Capacity(capacity=own)(trace, Clock())
    )
    at_zero = Capacity(gamma=7.0, capacity=0.0)(trace, Clock())
    grads = [
        torch.autograd.grad(
            term, model.hierarchy.posterior.mean.bias, retain_graph=True
        )[0]
        for term in (at_zero - trace.distortion.mean(), 7 * rate)
    ]
    assert grads[0].abs().sum() > 0 and torch.allclose(*grads)


@pytest.mark.parametrize(
    "name", [n for n, cls in OBJECTIVES.items() if not cls.learns_from_labels]
)
def test_validation_weighs_the_rate_as_the_end_of_training_does(name: str) -> None:
    """Peer bug 4.13: a KL weight of 0.00025 in training and 1 in validation, which then chose
    collapsed models.
    """
    model, objective = model_of(
        plain(name, k=16 if name in ("iwae", "piwae") else K), spec_of("real", (D,))
    )
    x = Batch(rows("real", (D,), B))

    def value(clock: Clock) -> list[Tensor]:
        torch.manual_seed(3)
        losses, _ = Step(model, objective, 16 if name in ("iwae", "piwae") else K)(
            x, clock
        )
        return list(losses.values())

    assert all(
        torch.equal(a, b)
        for a, b in zip(value(Clock(1.0)), value(Clock()), strict=True)
    )


# ---- the decoder's slope


def test_the_slope_of_a_linear_decoder_is_the_norm_of_its_matrix() -> None:
    model = problem("flat").model
    trace = model(Batch(torch.randn(4000, 7, dtype=torch.float64)), Draw(2))
    slope = Rae(smooth=1.0)._squared_gradient(trace, trace.latents["z"].z)
    exact = model.hierarchy.decoder.head.weight.square().sum()
    assert slope.shape == (8000,)
    assert (
        slope.mean() - exact
    ).abs() < 5 * slope.std() / 8000**0.5 and slope.std() > 0


def test_the_penalty_is_the_same_in_validation_and_its_gradient_reaches_the_decoder() -> (
    None
):
    spec = spec_of("real", (D,))
    model, objective = model_of(plain(part("rae", codes=0.5, smooth=2.0)), spec)
    shake(model)
    x = Batch(rows("real", (D,), B))

    def loss() -> Tensor:
        torch.manual_seed(5)
        found = objective(model(x, Draw(K)), Clock())
        assert isinstance(found, Tensor)
        return found

    trained = loss()
    with torch.no_grad():
        assert torch.allclose(loss(), trained)
    trace = model(x, Draw(K))
    plainly = (
        trace.distortion.mean() + 0.25 * trace.latents["z"].z.square().sum(-1).mean()
    )
    assert trained > plainly
    grad = torch.autograd.grad(trained - plainly, model.hierarchy.decoder.head.weight)[
        0
    ]
    assert grad.abs().sum() > 0
