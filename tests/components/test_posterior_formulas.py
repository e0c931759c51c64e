"""What a posterior computes from its network, against the formula of its paper."""

from __future__ import annotations

from typing import Any

import torch
from support.core_cases import context, model_of, plain, rows, shake, spec_of
from torch.distributions import Independent, Normal

from tightbound.components.posteriors import POSTERIORS
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.models.recipes import part
from tightbound.training.step.module import Step

N, F, D = 7, 5, 3


def above() -> Independent:
    """p(z | what lies above), of means and scales of its own at every row."""
    return Independent(Normal(torch.randn(N, D), torch.rand(N, D) + 0.3), 1)


def test_a_ladder_multiplies_what_the_data_say_with_the_prior() -> None:
    """log q(z) - log N(z; own) - log p(z) is the same at every z, so that q is their product; eq.

    17 to 19.
    """
    posterior, h, p = shake(POSTERIORS["ladder"](F, D), 0.5), torch.randn(N, F), above()
    q, own = posterior(h, context(N), p), posterior.own(h, context(N), None)
    constants = torch.stack(
        [q.log_prob(z) - own.log_prob(z) - p.log_prob(z) for z in torch.randn(6, N, D)]
    )
    assert torch.allclose(constants, constants[:1].expand_as(constants), atol=1e-4)
    assert (q.variance < own.variance).all() and (q.variance < p.variance).all()


def test_a_residual_posterior_moves_and_stretches_the_prior() -> None:
    """N(m + d, (s r)^2); eq. 4."""
    posterior, h, p = (
        shake(POSTERIORS["residual"](F, D), 0.5),
        torch.randn(N, F),
        above(),
    )
    q = posterior(h, context(N), p)
    d, r = posterior.change.mean(h), posterior.change(h, context(N), None).stddev
    assert torch.allclose(q.mean, p.mean + d) and torch.allclose(q.stddev, p.stddev * r)


def model_with(posterior: str, **options: Any) -> Any:
    return shake(
        model_of(plain(posterior=part(posterior, **options)), spec_of("real", (F,)))[0]
    )


def test_leapfrog_steps_are_in_units_of_the_scale_they_start_with() -> None:
    model = model_with("hamiltonian", longest=0.8)
    q = model(Batch(rows("real", (F,), N)), Draw()).latents["z"].q
    share = 1 / (1 + (-model.hierarchy.posterior.length).exp())
    assert q.base.stddev.std() > 0 and torch.allclose(
        q.step, 0.8 * share * q.base.stddev
    )


def test_centres_of_a_learned_metric_are_the_means_of_training_examples() -> None:
    model = model_with("riemannian", count=4)
    posterior, data = model.hierarchy.posterior, rows("real", (F,), N)
    Step(model, lambda trace, clock: trace.distortion.mean()).prepare(
        lambda n: (data[:n], None)
    )
    trace = model(Batch(data[:4]), Draw())
    motion = trace.latents["z"].q.motion
    assert torch.allclose(motion.centres, trace.latents["z"].q.base.mean, atol=1e-6)
    assert motion.centres.std(0).min() > 0 and posterior.inputs.shape == (4, F)
