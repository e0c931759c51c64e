"""Losses that are games or have several terms: each is its formula, written out again from the
parts of a trace.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.core_cases import model_of, plain, rows, shake, spec_of
from torch import Tensor, nn

from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.distributions import Quantized, point
from tightbound.models.recipes import part

B, K, D = 5, 3, 6


def game(name: str, **options: float) -> tuple[Any, Any]:
    """A model with a critic that says something, though nothing so sure that a logarithm
    overflows.
    """
    vae, objective = model_of(plain(part(name, **options)), spec_of("real", (D,)))
    shake(vae)
    return vae, objective


def inputs(module: nn.Module) -> list[Tensor]:
    """What a module is shown from now on, in turn."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
    return seen


def other(seen: list[Tensor], known: Tensor) -> Tensor:
    """The one thing among those seen that is not `known`."""
    (found,) = [x for x in seen if not torch.equal(x, known)]
    return found


def log_two_kinds(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """-1/2 E[log D(real)] - 1/2 E[log(1 - D(fake))], D the logistic function of the critic."""
    return (
        -(
            critic(real).sigmoid().log().mean()
            + (1 - critic(fake).sigmoid()).log().mean()
        )
        / 2
    )


def test_factor_vae_is_the_elbo_and_gamma_times_the_log_ratio_of_joint_to_shuffled() -> (
    None
):
    vae, objective = game("factor", gamma=3.0)
    trace = vae(Batch(rows("real", (D,), B)), Draw(K))
    seen, z = inputs(vae.critic[0]), trace.latents["z"].z
    losses = objective(trace, Clock())
    assert isinstance(losses, dict)
    logit = vae.critic(z)
    wanted = trace.distortion.mean() + trace.rate.mean() + 3 * logit.mean()
    assert torch.allclose(losses["inference"], wanted) and torch.allclose(
        losses["generative"], wanted
    )
    assert torch.allclose(
        losses["critic"], log_two_kinds(vae.critic, z, other(seen, z))
    )


def test_an_adversarial_encoder_wants_its_codes_taken_for_draws_of_the_prior() -> None:
    vae, objective = game("adversarial", weight=2.0)
    trace = vae(Batch(rows("real", (D,), B)), Draw())
    seen, z = inputs(vae.critic[0]), trace.latents["z"].z
    losses = objective(trace, Clock())
    assert isinstance(losses, dict)
    fooled = -vae.critic(z).sigmoid().log().mean()
    assert torch.allclose(losses["inference"], trace.distortion.mean() + 2 * fooled)
    assert torch.allclose(losses["generative"], trace.distortion.mean())
    assert torch.allclose(
        losses["critic"], log_two_kinds(vae.critic, other(seen, z), z)
    )


def test_a_vae_gan_plays_x_against_its_reconstruction_and_against_new_data() -> None:
    vae, objective = game("vae-gan", likeness=0.5)
    x = rows("real", (D,), B)
    trace = vae(Batch(x), Draw(K))
    hidden, judge = vae.critic[:-1], vae.critic[-1]
    seen = inputs(vae.critic[0])
    losses = objective(trace, Clock())
    assert isinstance(losses, dict)
    real, old = x.repeat(K, 1), point(trace.px)
    new = other([y for y in seen if not torch.equal(y, real)], old)
    unlike = (hidden(real) - hidden(old)).square().sum(-1).mean() / 2
    true = {
        name: judge(hidden(y)).sigmoid()
        for name, y in (("real", real), ("old", old), ("new", new))
    }
    fooled = -true["old"].log().mean() - true["new"].log().mean()
    fakes = -((1 - true["old"]).log().mean() + (1 - true["new"]).log().mean()) / 2
    assert torch.allclose(losses["inference"], trace.rate.mean() + unlike)
    assert torch.allclose(
        losses["generative"], trace.rate.mean() + 0.5 * unlike + fooled
    )
    assert torch.allclose(losses["critic"], (fakes - true["real"].log().mean()) / 2)


def test_the_new_data_of_a_vae_gan_are_decoded_from_the_prior_whatever_x_is() -> None:
    vae, objective = game("vae-gan")
    seen, found = inputs(vae.critic[0]), []
    for x in (rows("real", (D,), B), rows("real", (D,), B)):
        trace = vae(Batch(x), Draw(K))
        torch.manual_seed(3)
        objective(trace, Clock())
        found.append(
            other(
                [y for y in seen if not torch.equal(y, x.repeat(K, 1))], point(trace.px)
            )
        )
        seen.clear()
    assert torch.equal(*found) and found[0].std(0).min() > 0


def trace_and_loss(
    name: str, clock: Clock | None = None, **options: float
) -> tuple[Trace, Tensor]:
    vae, objective = model_of(plain(part(name, **options)), spec_of("real", (D,)))
    shake(vae)
    trace = vae(Batch(rows("real", (D,), B)), Draw(K))
    loss = objective(trace, clock or Clock())
    assert isinstance(loss, Tensor)
    return trace, loss


def test_an_autoencoder_with_l2_pays_half_the_square_of_its_codes() -> None:
    trace, loss = trace_and_loss("rae", codes=0.7)
    norms = torch.stack([(row * row).sum() for row in trace.latents["z"].z])
    assert torch.allclose(loss, trace.distortion.mean() + 0.35 * norms.mean())


def test_commitment_is_the_squared_distance_to_the_chosen_code_times_its_weight() -> (
    None
):
    trace, loss = trace_and_loss("commitment", weight=0.6)
    q = trace.latents["z"].q
    assert isinstance(q, Quantized)
    away = (q.raw.flatten(1) - q.code.vector.flatten(1)).square().sum(-1)
    assert away.min() > 0 and torch.allclose(
        loss, 0.6 * away.mean() - trace.elbo.mean()
    )


@pytest.mark.parametrize("capacity", [0.0, 1e4])
def test_capacity_is_held_from_both_sides(capacity: float) -> None:
    trace, loss = trace_and_loss("capacity", gamma=3.0, capacity=capacity)
    rate = trace.rate.mean()
    assert 0 < rate < 1e4
    assert torch.allclose(
        loss - trace.distortion.mean(), 3 * (1e4 - rate if capacity else rate)
    )


@pytest.mark.parametrize("name", ["sliced", "mmd"])
def test_a_distance_to_the_prior_counts_by_its_weight(name: str) -> None:
    """Distortion, and beside it a distance of the same draws times its weight: twice the weight is
    twice as much.
    """
    vae, _ = model_of(plain(part(name)), spec_of("real", (D,)))
    trace, apart = shake(vae)(Batch(rows("real", (D,), B)), Draw(K)), []
    for weight in (3.0, 6.0):
        objective: Any = model_of(
            plain(part(name, weight=weight)), spec_of("real", (D,))
        )[1]
        torch.manual_seed(4)
        apart.append(objective(trace, Clock()) - trace.distortion.mean())
    assert apart[0] > 0.1 and torch.allclose(apart[1], 2 * apart[0], rtol=1e-4)
