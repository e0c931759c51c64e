"""Critics: what they estimate, where it is known, and that each parameter group gets the gradient
of its own loss.
"""

from __future__ import annotations

import math

import pytest
import torch
from support.core_cases import model_of, plain, rows, shake, spec_of
from torch import nn

from tightbound.components.objectives.adversarial import discriminator_loss
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.models.recipes import part
from tightbound.models.vae import VAE
from tightbound.training.step.gradients import Gradients
from tightbound.training.step.module import Step

B, K, D = 5, 3, 6


def model(name: str) -> tuple[VAE, object]:
    found, objective = model_of(plain(name), spec_of("real", (D,)))
    return shake(found), objective  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["factor", "adversarial", "vae-gan"])
def test_each_group_gets_the_gradient_of_its_own_loss(name: str) -> None:
    vae, objective = model(name)
    step = Step(vae, objective, K)  # type: ignore[arg-type]
    torch.manual_seed(1)
    losses, _ = step(Batch(rows("real", (D,), B)), Clock())
    groups = vae.groups()
    assert set(losses) == set(groups) == {"inference", "generative", "critic"}
    wanted = {
        group: torch.autograd.grad(losses[group], parameters, retain_graph=True)
        for group, parameters in groups.items()
    }
    Gradients(step).backward(losses)
    for group, parameters in groups.items():
        assert all(
            torch.allclose(p.grad, g)
            for p, g in zip(parameters, wanted[group], strict=True)
        )
    ids = [id(p) for parameters in groups.values() for p in parameters]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in vae.parameters()}


def test_a_learned_prior_follows_the_rate_of_a_vae_gan() -> None:
    """And not the critic alone, which sees no weights of a mixture."""
    found, objective = model_of(
        plain("vae-gan", prior=part("mixture", components=3)), spec_of("real", (D,))
    )
    trace = shake(found)(Batch(rows("real", (D,), B)), Draw(K))
    losses, weight = objective(trace, Clock()), found.hierarchy.prior.log_weight
    assert isinstance(losses, dict)
    ours, known = (
        torch.autograd.grad(t, weight, retain_graph=True)[0]
        for t in (losses["generative"], trace.rate.mean())
    )
    assert torch.allclose(ours, known) and known.abs().max() > 0


def test_the_critic_s_loss_is_log_two_where_it_cannot_tell_and_falls_where_it_can() -> (
    None
):
    blind = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    nn.init.zeros_(blind[0].weight), nn.init.zeros_(blind[0].bias)
    z = torch.randn(50, 2)
    assert math.isclose(
        discriminator_loss(blind, z, z + 1).item(), math.log(2), rel_tol=1e-6
    )
    blind[0].weight.data.fill_(-5.0)
    assert (
        discriminator_loss(blind, z - 10, z + 10)
        < 1e-3
        < discriminator_loss(blind, z + 10, z - 10)
    )


@pytest.mark.parametrize("name", ["factor", "adversarial"])
def test_the_critic_s_loss_moves_no_code(name: str) -> None:
    vae, objective = model(name)
    losses = objective(vae(Batch(rows("real", (D,), B)), Draw(K)), Clock())
    losses["critic"].backward()
    assert all(
        p.grad is None
        for group in ("inference", "generative")
        for p in vae.groups()[group]
    )


def test_shuffling_keeps_each_feature_s_values_and_breaks_their_pairs() -> None:
    """What the critic is shown: seen through a critic that keeps its inputs."""
    vae, objective = model("factor")
    seen: list[torch.Tensor] = []
    vae.critic[0].register_forward_hook(
        lambda module, inputs, out: seen.append(inputs[0])
    )  # type: ignore[index]
    objective(vae(Batch(rows("real", (D,), 40)), Draw()), Clock())  # type: ignore[operator]
    z, shuffled = seen[1], seen[2]
    assert torch.equal(z.sort(0).values, shuffled.sort(0).values)
    assert not any(bool((z == row).all(1).any()) for row in shuffled)


def test_after_training_on_dependent_codes_the_mean_logit_is_their_total_correlation() -> (
    None
):
    """Two normal features of correlation 0.9: TC = -1/2 log(1 - 0.81) = 0.83 nats."""
    critic = nn.Sequential(
        nn.Linear(5, 1), nn.Flatten(0)
    )  # on squares and the product the log-ratio is linear
    opt = torch.optim.Adam(critic.parameters(), lr=0.05)

    def seen_as(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, z.square(), z.prod(1, keepdim=True)], 1)

    def draws(n: int) -> torch.Tensor:
        a, b = torch.randn(2, n)
        return torch.stack([a, 0.9 * a + 0.19**0.5 * b], 1)

    for _ in range(400):
        z, other = draws(2000), torch.randn(2000, 2)
        opt.zero_grad()
        discriminator_loss(critic, seen_as(z), seen_as(other)).backward()
        opt.step()
    assert (
        abs(critic(seen_as(draws(50_000))).mean().item() + 0.5 * math.log(0.19)) < 0.1
    )
