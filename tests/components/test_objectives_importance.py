"""Bounds of K samples: their values are true bounds, and each surrogate has the gradient of the
bound it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.core_cases import losses_of, model_of, plain, spec_of
from support.linear_gaussian import Problem, problem
from torch import Tensor
from torch.distributions import Normal

from tightbound.components.objectives.importance import (
    Ciwae,
    Dreg,
    Iwae,
    Piwae,
    Renyi,
    StickingTheLanding,
    Vimco,
    bound,
)
from tightbound.core.batch import Batch
from tightbound.core.component import Objective
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError

B, K = 3, 8
FAMILY = [Iwae(), Iwae(m=4), Piwae(m=2), Ciwae(), Dreg(), StickingTheLanding(), Vimco()]


def pass_of(lg: Problem, k: int = K, rounds: int = 1) -> Trace:
    return lg.model(Batch(lg.data(B)[0].repeat(rounds, 1)), Draw(k))


def logmeanexp(a: np.ndarray) -> float:
    return float(np.log(np.exp(a - a.max()).mean()) + a.max())


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_miwae_averages_m_bounds_of_k_over_m_samples(m: int) -> None:
    """Peer bug 4.2: the axes of M and K swapped; here each bound is computed by itself, in
    numpy.
    """
    trace = pass_of(problem("flat").spoil())
    log_w = trace.log_w.detach().numpy()
    one = [
        [logmeanexp(log_w[i * K // m : (i + 1) * K // m, b]) for i in range(m)]
        for b in range(B)
    ]
    assert np.allclose(bound(trace, m).detach().numpy(), np.mean(one, 1))
    assert torch.allclose(Iwae(m)(trace, Clock()), torch.tensor(-np.mean(one)))


def test_miwae_with_one_estimate_is_iwae_and_with_one_sample_each_is_the_elbo() -> None:
    lg = problem("flat").spoil()
    trace = pass_of(lg)
    assert torch.equal(bound(trace, 1), trace.log_p_hat)
    assert torch.allclose(bound(trace, K), trace.log_w.mean(0))
    trace = pass_of(lg, 20_000)
    se = (trace.log_w - trace.log_px).std(0) / 20_000**0.5
    assert ((bound(trace, 20_000) - trace.elbo).abs() < 4.5 * se).all()


def test_piwae_gives_each_half_its_own_bound() -> None:
    trace = pass_of(problem("flat").spoil())
    losses = Piwae(m=2)(trace, Clock())
    assert torch.equal(losses["generative"], Iwae()(trace, Clock()))
    assert torch.equal(losses["inference"], Iwae(m=2)(trace, Clock()))


def test_ciwae_lies_between_the_elbo_and_the_bound() -> None:
    trace = pass_of(problem("flat").spoil())
    assert torch.allclose(Ciwae(1.0)(trace, Clock()), -trace.elbo.mean())
    assert torch.allclose(Ciwae(0.0)(trace, Clock()), Iwae()(trace, Clock()))
    mixed = 0.3 * trace.elbo.mean() + 0.7 * trace.log_p_hat.mean()
    assert torch.allclose(Ciwae(0.3)(trace, Clock()), -mixed)


@pytest.mark.parametrize("objective", FAMILY, ids=repr)
def test_the_value_is_a_bound_and_never_the_surrogate(objective: Objective) -> None:
    """Peer bug 4.1: -sum w~ log w was reported; it is optimistic by up to log K and exceeds log
    p(x).
    """
    lg = problem("flat").spoil(shift=1.0)
    exact = float(lg.data(B)[1].mean())
    trace = pass_of(lg, 48, rounds=400)
    for value in losses_of(objective, trace).values():
        assert -value.item() < exact
        assert any(
            torch.allclose(-value, bound(trace, m).mean(), rtol=1e-6)
            for m in (1, 2, 4, 48)
        ) or isinstance(objective, Ciwae)


@pytest.mark.parametrize(
    "objective", [Iwae(), Piwae(m=1), Ciwae(0.0), Dreg()], ids=repr
)
def test_the_best_sample_has_most_weight(objective: Objective) -> None:
    """Peer bug 4.11: softmax of +loss gave most weight to the worst sample.

    d bound / d log p(x|z_k) = w~_k.
    """
    lg = problem("flat").spoil()
    trace = pass_of(lg)
    loss = losses_of(objective, trace)
    loss = loss.get("generative", loss.get("all"))
    wanted = torch.autograd.grad(
        trace.log_p_hat.mean(), lg.model.likelihood.base, retain_graph=True
    )[0]
    assert torch.allclose(
        torch.autograd.grad(-loss, lg.model.likelihood.base)[0], wanted
    )


def gradients(
    lg: Problem, loss: Callable[[Trace], Tensor], k: int, rounds: int = 60
) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the gradient of a loss in all of phi, over rounds of fresh
    noise.
    """
    phi = lg.model.groups()["inference"]
    x = lg.data(B)[0].repeat(250, 1)
    each = []
    for _ in range(rounds):
        grads = torch.autograd.grad(loss(lg.model(Batch(x), Draw(k))), phi)
        each.append(torch.cat([g.flatten() for g in grads]))
    all_ = torch.stack(each)
    return all_.mean(0), all_.std(0) / rounds**0.5


def detached(trace: Trace) -> Tensor:
    """DReG as it must not be: log q from the output of q, detached."""
    log_q = sum(
        Normal(s.q.mean.detach(), s.q.stddev.detach())
        .log_prob(s.z)
        .sum(-1)
        .reshape(trace.k, -1)
        for s in trace.latents.values()
    )
    log_w = trace.log_px + sum(s.log_p for s in trace.latents.values()) - log_q
    return -(log_w.detach().softmax(0).square() * log_w).sum(0).mean()


@pytest.mark.parametrize("path", ["flat", "top-down", "bottom-up"])
def test_the_expectation_of_the_doubly_reparameterised_gradient_is_that_of_the_bound(
    path: str,
) -> None:
    """And for more than one site it is not if q's output is detached: then q(z1 | z2) hides how z2
    moves it.
    """
    lg = problem(path).spoil()
    iwae, se = gradients(lg, lambda t: Iwae()(t, Clock()), 5)
    dreg, dreg_se = gradients(lg, lambda t: Dreg()(t, Clock())["inference"], 5)
    assert ((dreg - iwae).abs() < 4.5 * (se**2 + dreg_se**2).sqrt() + 1e-9).all()
    assert dreg_se.norm() < se.norm()
    wrong, wrong_se = gradients(lg, detached, 5)
    off = ((wrong - iwae).abs() / (se**2 + wrong_se**2).sqrt()).max()
    assert off < 4.5 if path == "flat" else off > 8


def test_the_gradient_without_scores_is_that_of_the_elbo_and_vanishes_where_q_is_exact() -> (
    None
):
    lg = problem("top-down")
    exact, exact_se = gradients(
        lg, lambda t: StickingTheLanding()(t, Clock()), 2, rounds=4
    )
    assert exact.abs().max() < 1e-9 and exact_se.max() < 1e-9
    lg.spoil()
    elbo, se = gradients(lg, lambda t: -t.log_w.mean(), 2)
    landing, landing_se = gradients(lg, lambda t: StickingTheLanding()(t, Clock()), 2)
    assert ((landing - elbo).abs() < 4.5 * (se**2 + landing_se**2).sqrt() + 1e-9).all()
    assert landing_se.norm() < se.norm()


@pytest.mark.parametrize("k", [1, 4])
def test_the_expectation_of_vimco_is_the_gradient_of_the_bound(k: int) -> None:
    lg = problem("bottom-up").spoil()
    iwae, se = gradients(lg, lambda t: Iwae()(t, Clock()), k)
    vimco, vimco_se = gradients(lg, lambda t: Vimco()(t, Clock()), k, rounds=120)
    assert ((vimco - iwae).abs() < 4.5 * (se**2 + vimco_se**2).sqrt() + 1e-9).all()


def test_vimco_compares_each_sample_with_the_geometric_mean_of_the_others() -> None:
    lg = problem("flat").spoil()
    trace = pass_of(lg, 3)
    log_w = trace.log_w.detach().numpy()
    site = trace.latents["z"]
    signal = np.empty_like(log_w)
    for b in range(B):
        for k in range(3):
            swapped = log_w[:, b].copy()
            swapped[k] = np.delete(log_w[:, b], k).mean()
            signal[k, b] = logmeanexp(log_w[:, b]) - logmeanexp(swapped)
    again = trace.again(detach=True)
    score = (torch.from_numpy(signal) * again.latents["z"].log_q).sum(0).mean()
    wanted = torch.autograd.grad(
        score + again.log_p_hat.mean(), lg.model.hierarchy.posterior.mean.bias
    )[0]
    ours = torch.autograd.grad(
        -Vimco()(trace, Clock()), lg.model.hierarchy.posterior.mean.bias
    )[0]
    assert torch.allclose(ours, wanted) and site.z.requires_grad


@pytest.mark.parametrize("path", ["flat", "top-down", "bottom-up"])
def test_a_second_pass_repeats_the_first_and_holds_what_is_frozen(path: str) -> None:
    lg = problem(path).spoil()
    trace, groups = pass_of(lg), lg.model.groups()
    for frozen in [(), ("inference",), ("generative",), ("inference", "generative")]:
        again = trace.again(frozen=frozen, detach=True)
        assert torch.allclose(again.log_w, trace.log_w) and torch.allclose(
            again.rate, trace.rate
        )
        lg.model.zero_grad()
        if len(frozen) == 2:
            assert not again.log_w.requires_grad
            continue
        again.log_w.sum().backward()
        for name, group in groups.items():
            assert all((p.grad is None) == (name in frozen) for p in group)
    attached = trace.again(frozen={"inference", "generative"})
    assert attached.log_w.requires_grad and all(
        p.requires_grad for p in lg.model.parameters()
    )
    drawn = trace.again(Draw(2, source="p"))
    assert drawn.log_px.shape == (2, B)


def test_renyi_goes_from_the_bound_of_k_samples_to_the_elbo() -> None:
    exact = problem("flat").spoil()
    trace = exact.model(Batch(exact.data(5)[0]), Draw(7))
    at = [
        -float(Renyi(alpha)(trace, Clock()).detach())
        for alpha in (0.0, 0.3, 0.7, 1 - 1e-7)
    ]
    assert at == sorted(at, reverse=True) and len(set(at)) == 4
    assert (
        abs(at[0] - float(trace.log_p_hat.mean().detach())) < 1e-9
        and abs(at[-1] - float(trace.log_w.mean().detach())) < 1e-4
    )


@pytest.mark.parametrize("objective", ["stl", "dreg", "vimco"])
@pytest.mark.parametrize("posterior", ["planar", "hamiltonian"])
def test_log_q_at_a_given_z_is_not_asked_of_a_q_that_has_none(
    objective: str, posterior: str
) -> None:
    with pytest.raises(TightboundError, match="cannot evaluate: set"):
        model_of(plain(objective, posterior=part(posterior)), spec_of("real", (6,)))


@pytest.mark.parametrize("objective", ["stl", "dreg", "vimco"])
@pytest.mark.parametrize("prior", ["vamp", "exemplar"])
def test_q_is_not_held_fixed_where_the_prior_is_made_of_it(
    objective: str, prior: str
) -> None:
    """Frozen with q, p(z) would lose a gradient whose mean is not zero."""
    with pytest.raises(
        TightboundError, match=r"nor with a prior made of q: set objective elbo or iwae"
    ):
        model_of(plain(objective, prior=part(prior)), spec_of("real", (6,)))


def test_codes_that_are_certain_have_no_score_to_learn_from() -> None:
    codes = {"posterior": part("finite-scalar"), "prior": part("codes"), "latent": 8}
    with pytest.raises(
        TightboundError,
        match=r"cannot evaluate: set objective iwae or elbo, or .* of codes",
    ):
        model_of(plain("vimco", **codes), spec_of("real", (6,)))


@pytest.mark.parametrize("objective", [Iwae(), Iwae(m=2), Ciwae(), Renyi(0.2)])
def test_samples_too_light_to_count_have_no_gradient_rather_than_a_denormal_one(
    objective: Objective,
) -> None:
    """Products with denormal numbers take a processor ten times as long.

    All that can be told is as it was.
    """
    trace = pass_of(problem("flat").spoil())
    spread = torch.tensor([0.0, -3.0, -60.0, -92.0, -95.0, -100.0, -104.0, -300.0])
    log_w = (spread[:, None] + torch.arange(B)).requires_grad_()
    trace._log_w = log_w
    loss = objective(trace, Clock())
    assert isinstance(loss, Tensor)
    (grad,) = torch.autograd.grad(loss, log_w)
    assert grad.dtype == torch.float32 and (grad[:2] != 0).all()
    assert not ((grad != 0) & (grad.abs() < torch.finfo(torch.float32).tiny)).any()
    if objective == Iwae():
        exact = -log_w.detach().double().softmax(0) / B
        assert (
            torch.allclose(grad.double(), exact, rtol=1e-5, atol=1e-20)
            and (grad[2:] == 0).all()
        )
        assert torch.allclose(
            loss.double(), -(log_w.double().logsumexp(0) - math.log(K)).mean()
        )
