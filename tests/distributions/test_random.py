"""Noise as a function of what it is for: no batch size, order of rows or cut of the samples changes
a figure.
"""

from __future__ import annotations

import pytest
import torch
from support.core_cases import model_of, plain, rows, spec_of
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import diagonal
from tightbound.distributions.random import (
    TILE,
    ContentNoise,
    StepNoise,
    generator,
    seed_for,
    tiles,
)
from tightbound.models.recipes import Recipe

B, K = 5, 3


def test_seeds_differ_by_everything_they_are_for() -> None:
    seeds = [
        seed_for(0),
        seed_for(1),
        seed_for(0, "a"),
        seed_for(0, "b"),
        seed_for(0, "a", 1),
        seed_for(0, "a1"),
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= s < 2**63 for s in seeds)
    assert seed_for(3, "x", 7) == seed_for(3, "x", 7)
    assert torch.equal(
        torch.randn(4, generator=generator(3)), torch.randn(4, generator=generator(3))
    )


def hierarchy() -> Recipe:
    return plain(hierarchy="bottom-up", latent=(3, 2))


def log_w(
    model: torch.nn.Module, x: Tensor, seed: int = 0, tile: int = 0, k: int = K
) -> Tensor:
    return model(Batch(x), Draw(k, noise=ContentNoise(seed, x, tile, k))).log_w.detach()


def test_evaluation_noise_depends_on_the_example_alone() -> None:
    model, x = model_of(hierarchy(), spec_of("real", (6,)))[0], rows("real", (6,), B)
    whole = log_w(model, x)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(log_w(model, x[order]), whole[:, order], atol=1e-4)
    assert torch.allclose(
        torch.cat([log_w(model, x[:2]), log_w(model, x[2:])], 1), whole, atol=1e-4
    )
    assert torch.allclose(
        log_w(model, x, k=7)[:K], whole, atol=1e-4
    )  # fewer samples are the first of more
    for other in (log_w(model, x, seed=1), log_w(model, x, tile=1)):
        assert (other - whole).abs().min() > 0


def test_evaluation_noise_differs_between_sites_and_examples_and_is_standard() -> None:
    x = rows("real", (6,), 200)
    noise, q = (
        ContentNoise(0, x),
        diagonal(torch.zeros(TILE * 200, 2), torch.zeros(TILE * 200, 2)),
    )
    a, b = noise("z1", q), noise("z2", q)
    assert a.shape == (TILE * 200, 2) and len(a[:, 0].unique()) > 0.99 * len(a)
    for value in (a, b):
        assert value.mean().abs() < 0.04 and abs(value.std().item() - 1) < 0.04
    assert abs((a * b).mean().item()) < 0.04


def test_training_noise_is_a_function_of_seed_and_step() -> None:
    model, x = model_of(hierarchy(), spec_of("real", (6,)))[0], rows("real", (6,), B)

    def figure(seed: int, step: int) -> Tensor:
        torch.rand(7)  # the global generator plays no part
        return model(Batch(x), Draw(K, noise=StepNoise(seed, step))).log_w.detach()

    assert torch.equal(figure(0, 5), figure(0, 5))
    assert not torch.equal(figure(0, 5), figure(0, 6)) and not torch.equal(
        figure(0, 5), figure(1, 5)
    )


@pytest.mark.parametrize("k", [1, 63, 64, 65, 128, 150, 5000])
def test_tiles_hold_k_samples_exactly(k: int) -> None:
    """Peer bug 4.3: a sample count that is rounded to whole batches."""
    cut = tiles(k)
    assert sum(cut) == k and max(cut) <= TILE and all(size == TILE for size in cut[:-1])
