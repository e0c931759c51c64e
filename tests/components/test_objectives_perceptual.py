"""Structural similarity against its definition in loops, and losses by what a critic sees."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from support.core_cases import model_of, plain, rows, shake, spec_of
from torch import Tensor

from tightbound.components.objectives.perceptual import (
    POWERS,
    MsSsim,
    VaeGan,
    msssim,
    structure,
)
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.runtime.errors import TightboundError

SIDE, SIGMA, REACH = 5, 1.1, 4.0
SHAPE = (2, 13, 12)


def window(side: int = SIDE, sigma: float = SIGMA) -> np.ndarray:
    at = np.arange(side) - (side - 1) / 2
    line = np.exp(-(at**2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


def by_loops(
    x: np.ndarray, y: np.ndarray, kernel: np.ndarray, reach: float
) -> tuple[float, float]:
    """Means of SSIM and of its second factor over all places where the window fits in whole; one
    channel (H, W).
    """
    c1, c2, side = (0.01 * reach) ** 2, (0.03 * reach) ** 2, len(kernel)
    ssim, cs = [], []
    for i, j in itertools.product(
        range(x.shape[0] - side + 1), range(x.shape[1] - side + 1)
    ):
        a, b = x[i : i + side, j : j + side], y[i : i + side, j : j + side]
        ma, mb = (kernel * a).sum(), (kernel * b).sum()
        va, vb, ab = (
            (kernel * (a - ma) ** 2).sum(),
            (kernel * (b - mb) ** 2).sum(),
            (kernel * (a - ma) * (b - mb)).sum(),
        )
        cs.append((2 * ab + c2) / (va + vb + c2))
        ssim.append((2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * cs[-1])
    return float(np.mean(ssim)), float(np.mean(cs))


def halved(x: np.ndarray) -> np.ndarray:
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))


def pair(shape: tuple[int, ...] = SHAPE, n: int = 3) -> tuple[Tensor, Tensor]:
    x = REACH * torch.rand(n, *shape, dtype=torch.float64)
    return x, 0.7 * x + 0.3 * REACH * torch.rand(n, *shape, dtype=torch.float64)


def test_ssim_is_its_definition_at_every_valid_window() -> None:
    x, y = pair()
    line = torch.as_tensor(window().sum(0))
    ssim, cs = structure(x, y, line, REACH)
    for n, c in itertools.product(range(3), range(2)):
        want = by_loops(x[n, c].numpy(), y[n, c].numpy(), window(), REACH)
        assert math.isclose(ssim[n, c], want[0], abs_tol=1e-12) and math.isclose(
            cs[n, c], want[1], abs_tol=1e-12
        )


def test_peers_4_6_each_scale_counts_by_its_own_power_and_the_coarsest_once() -> None:
    """Two scales fit: cs of the fine one and SSIM of the coarse one, each to its own power."""
    x, y = pair()
    found = msssim(x, y, REACH, SIDE, SIGMA)
    share = np.array(POWERS[:2]) / sum(POWERS[:2])
    for n in range(3):
        each = []
        for c in range(2):
            a, b = x[n, c].numpy(), y[n, c].numpy()
            fine, coarse = (
                by_loops(a, b, window(), REACH)[1],
                by_loops(halved(a), halved(b), window(), REACH)[0],
            )
            assert fine > 0.05 and coarse > 0.05
            each.append(fine ** share[0] * coarse ** share[1])
        assert math.isclose(found[n], np.mean(each), rel_tol=1e-10)


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 64, 40), (2, 20), (1, 9, 8, 10), (1, 1, 1)]
)
def test_equal_data_are_alike_whatever_their_shape(shape: tuple[int, ...]) -> None:
    x, y = pair(shape)
    assert torch.allclose(msssim(x, x, REACH), torch.ones(3, dtype=torch.float64))
    assert msssim(x, y, REACH).shape == (3,) and (msssim(x, y, REACH) < 1).all()
    assert msssim(x, REACH - x, REACH).mean() < msssim(x, y, REACH).mean() - 0.1


def test_units_are_those_of_the_range() -> None:
    """Data of 0 to 255 with their range are as alike as the same data of 0 to 1 with theirs."""
    x, y = pair((1, 16, 16))
    assert torch.allclose(
        msssim(x, y, REACH), msssim(255 * x / REACH, 255 * y / REACH, 255.0)
    )
    spec = spec_of("unit", (1, 8, 8))
    assert model_of(plain("msssim"), spec)[1].reach == 1.0  # type: ignore[attr-defined]
    levels = model_of(
        plain("msssim").model_copy(update={"likelihood": plain().likelihood}),
        spec_of("levels", (1, 8, 8)),
    )
    assert levels[1].reach == 16.0  # type: ignore[attr-defined]


def test_its_loss_is_what_it_says_and_reported_figures_are_those_of_the_likelihood() -> (
    None
):
    model, objective = model_of(plain("msssim"), spec_of("unit", (1, 8, 8)))
    assert isinstance(objective, MsSsim)
    trace = shake(model)(Batch(rows("unit", (1, 8, 8), 5)), Draw(3))
    alike = torch.stack(
        [msssim(trace.batch.x, y, 1.0) for y in trace.px.mean.unflatten(0, (3, 5))]
    )
    assert torch.allclose(
        objective(trace, Clock()), 100 * (1 - alike.mean()) + trace.rate.mean()
    )
    assert torch.allclose(
        trace.distortion,
        -trace.px.log_prob(trace.batch.x.repeat(3, 1, 1, 1)).reshape(3, 5).mean(0),
    )


def test_vae_gan_compares_by_the_last_hidden_layer_of_a_critic_of_data() -> None:
    model, objective = model_of(plain("vae-gan"), spec_of("unit", (1, 8, 8)))
    assert isinstance(objective, VaeGan) and model.critic is objective.discriminator
    trace = shake(model)(Batch(x := rows("unit", (1, 8, 8), 5)), Draw(3))
    losses = objective(trace, Clock())
    f, old = model.critic[:-1], trace.px.mean
    unlike = (f(x.repeat(3, 1, 1, 1)) - f(old)).square().sum(1).mean() / 2
    assert torch.allclose(losses["inference"], trace.rate.mean() + unlike)
    for p in model.critic.parameters():
        p.data.zero_()
    blind = objective(trace, Clock())
    assert math.isclose(blind["critic"].item(), math.log(2), rel_tol=1e-6)
    fooled = (
        blind["generative"] - trace.rate.mean()
    )  # the rate is there for a prior that learns
    assert math.isclose(fooled.item(), 2 * math.log(2), rel_tol=1e-5)


@pytest.mark.parametrize("name", ["vae-gan", "msssim"])
def test_data_without_a_small_step_are_refused(name: str) -> None:
    recipe = plain(name).model_copy(update={"likelihood": plain().likelihood})
    with pytest.raises(TightboundError, match="categorical"):
        model_of(recipe, spec_of("categorical", (6,)))
