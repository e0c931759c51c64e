"""What a step does after its gradients: the optimiser's kernels, the averaged weights; and the
normals of a pass.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.core_cases import model_of, spec_of
from support.trainings import train
from support.trainings import weights as weights_of
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from tightbound.distributions import LogScaleNormal, UnitNormal
from tightbound.models.recipes import RECIPES
from tightbound.training.optimization import fused_adam
from tightbound.training.optimization.ema import EARLY, STRIDE, Average
from tightbound.training.optimization.fused_adam import (
    FusedAdamStep,
    OptimizerStep,
    optimizer_step,
)
from tightbound.training.step.precision import channels_last, set_precision

YES, NO = torch.tensor(True), torch.tensor(False)
OPTIMISERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "AdamW": (torch.optim.AdamW, {"fused": True, "betas": (0.8, 0.95), "eps": 1e-6}),
    "Adam": (torch.optim.Adam, {"fused": True, "weight_decay": 0.03}),
    "AMSGrad": (torch.optim.AdamW, {"fused": True, "amsgrad": True}),
    "eager": (torch.optim.AdamW, {"fused": False}),
    "Adam as AdamW": (
        torch.optim.Adam,
        {"fused": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "RMSprop": (torch.optim.RMSprop, {}),
}


def pair(name: str) -> tuple[OptimizerStep, torch.optim.Optimizer]:
    """An optimiser with `optimizer_step`, and the same with its `step`, on equal weights."""
    cls, options = OPTIMISERS[name]
    net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Conv2d(3, 4, 2))
    other = copy.deepcopy(net)
    optimisers = []
    channels_last(net)
    assert not net[2].weight.is_contiguous()
    for copied in (net, other):
        matrices = [p for p in copied.parameters() if p.dim() > 1]
        others = [p for p in copied.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, "top": 0.02},
            {"params": others, "top": 0.01, "weight_decay": 0.0},
        ]
        optimisers.append(cls(groups, lr=0.02, **options))
    return optimizer_step(optimisers[0]), optimisers[1]


@pytest.fixture(params=["kernels", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Steps by torch's kernels, and by `optimizer.step()` as for an unknown torch."""
    if request.param == "public":
        monkeypatch.setattr(fused_adam, "TESTED", ((99, 0), (99, 1)))
    return str(request.param)


def weights(opt: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def give(grads: list[Tensor], *optimisers: torch.optim.Optimizer) -> None:
    """Contiguous gradients, whatever the layout of the weights, as a graph or an exchange between
    processes leaves.
    """
    for opt in optimisers:
        for p, grad in zip(weights(opt), grads, strict=True):
            p.grad = grad.clone()


def random(like: torch.optim.Optimizer, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator) for p in weights(like)]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_are_those_of_the_optimiser(name: str, way: str) -> None:
    update, reference = pair(name)
    for step in range(6):
        level, divisor = 1 / (1 + step), None if step < 3 else torch.tensor(float(step))
        grads = random(reference, step)
        give(grads, update.opt)
        give(grads if divisor is None else [g / divisor for g in grads], reference)
        update(level, YES, divisor)
        for group in reference.param_groups:
            group["lr"] = level * group["top"]
        reference.step()
        for a, b in zip(weights(update.opt), weights(reference), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    kept = [
        [s[key] for s in opt.state.values() for key in sorted(s)]
        for opt in (update.opt, reference)
    ]
    for a, b in zip(*kept, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    calls_kernel = isinstance(update, FusedAdamStep) and len(update.groups) == 2
    assert calls_kernel == (way == "kernels" and name in ("AdamW", "Adam"))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_that_is_left_out_moves_nothing(name: str, way: str) -> None:
    update, _ = pair(name)
    for step in range(3):
        give(random(update.opt, step), update.opt)
        update(1.0, YES, None)
    before = copy.deepcopy((weights(update.opt), list(update.opt.state.values())))
    give([torch.full_like(p, float("nan")) for p in weights(update.opt)], update.opt)
    update(1.0, NO, None)
    for a, b in zip(before[0], weights(update.opt), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(before[1], update.opt.state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_parameter_without_a_gradient_is_left_alone(way: str) -> None:
    update, reference = pair("AdamW")
    for step in range(4):
        grads = random(reference, step)
        give(grads, update.opt, reference)
        if step in (1, 3):
            weights(update.opt)[1].grad = weights(reference)[1].grad = None
        update(1.0, YES, None)
        for group in reference.param_groups:
            group["lr"] = group["top"]
        reference.step()
    for a, b in zip(weights(update.opt), weights(reference), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    model, _ = model_of(RECIPES["vae"], spec_of("binary", (1, 3, 4)))
    average, decay, shares = (
        Average(model, 0.8),
        0.8,
        torch.ones(1, dtype=torch.float64),
    )
    history = [[p.detach().double().clone() for p in model.parameters()]]
    for step in [*range(60), *range(EARLY - 3, EARLY + 3 * STRIDE)]:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(
                    torch.randn(p.shape, generator=torch.Generator().manual_seed(step)),
                    alpha=0.1,
                )
            model.get_buffer("centre").add_(1)
        average.update(step)
        history.append([p.detach().double().clone() for p in model.parameters()])
        now = min(decay, (1 + step) / (10 + step))
        now = now if step < EARLY else now**STRIDE if step % STRIDE == 0 else 1.0
        shares = torch.cat([shares * now, torch.tensor([1 - now], dtype=torch.float64)])
    torch.testing.assert_close(shares.sum(), torch.ones((), dtype=torch.float64))
    for i, p in enumerate(average.current().parameters()):
        exact = sum(
            float(share) * values[i]
            for share, values in zip(shares, history, strict=True)
        )
        torch.testing.assert_close(p.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(
        average.model.get_buffer("centre"), model.get_buffer("centre")
    ), "buffers are those of now"


def test_normals_that_keep_their_log_scale_are_torchs() -> None:
    def normal_values(seed: int, spread: float = 1.0) -> Tensor:
        return spread * torch.randn(
            4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )

    q, p, unit = (
        LogScaleNormal(normal_values(0), normal_values(1)),
        LogScaleNormal(normal_values(2), normal_values(3)),
        UnitNormal(torch.zeros_like(normal_values(0))),
    )
    x = normal_values(4, 2.0)
    for dist in (q, p, unit):
        torch.testing.assert_close(
            dist.log_prob(x), Normal(dist.loc, dist.scale).log_prob(x)
        )
    for other in (p, unit):
        want = kl_divergence(Normal(q.loc, q.scale), Normal(other.loc, other.scale))
        torch.testing.assert_close(kl_divergence(q, other), want)
    assert torch.equal(kl_divergence(q, q), torch.zeros_like(x))


@pytest.mark.parametrize("sides", [1, 2, 3])
def test_transposed_convolutions_train_in_bfloat16_and_are_evaluated_in_float32(
    sides: int,
) -> None:
    kind: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[sides - 1]
    net, x = (
        nn.Sequential(kind(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)),
        torch.randn(2, 4, *[5] * sides),
    )
    full = net(x)
    set_precision(net, "bfloat16")
    half = net.train()(x)
    assert half.dtype == torch.float32 and half.shape == full.shape
    assert not torch.equal(half, full), "products are in bfloat16"
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
    assert torch.equal(net.eval()(x), full)
    set_precision(net, "float32")
    assert type(net[0]) is kind and torch.equal(net.train()(x), full)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.8.1", False),
        ("2.9.0", True),
        ("2.13.0+cpu", True),
        ("2.14.0", False),
        ("3.0", False),
    ],
)
def test_kernels_are_called_in_tested_versions_of_torch_alone(
    version: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert fused_adam.internals_are_known() is expected
    opt = torch.optim.AdamW([nn.Parameter(torch.zeros(2))], fused=True)
    assert isinstance(optimizer_step(opt), FusedAdamStep) is expected


def test_the_optimiser_without_kernels_trains_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "kernels")
    monkeypatch.setattr(fused_adam, "TESTED", ((99, 0), (99, 1)))
    train(tmp_path / "public")
    assert weights_of(tmp_path / "kernels") == weights_of(tmp_path / "public")
