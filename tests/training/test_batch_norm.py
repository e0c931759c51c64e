"""Batch normalisation in a user's own network: torch's own figures, but not moved by a step that
was left out.
"""

from __future__ import annotations

import copy
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support.distributed_cases import Normed, train
from torch import nn

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock
from tightbound.distributions.random import StepNoise
from tightbound.models.build import build
from tightbound.models.recipes import Recipe
from tightbound.runtime.atomic_files import load_weights
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import SINGLE_PROCESS, LaunchContext
from tightbound.training.distributed.batch_norm import observe_batch_norm
from tightbound.training.step.execute import Compiled, Eager
from tightbound.training.step.module import Step


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (7, 5)),
        (nn.BatchNorm1d, (7, 5, 3)),
        (nn.BatchNorm2d, (7, 5, 3, 2)),
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_it_is_torch_s(
    kind: Any, shape: tuple[int, ...], momentum: float | None, affine: bool
) -> None:
    theirs = kind(5, momentum=momentum, affine=affine).double()
    if affine:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    ours = copy.deepcopy(theirs)
    [observer] = observe_batch_norm(nn.Sequential(ours), SINGLE_PROCESS)
    for _ in range(3):
        x = (torch.randn(shape, dtype=torch.double) * 3 + 100).requires_grad_()
        y = x.detach().clone().requires_grad_()
        wanted, result = theirs(x), ours(y)
        assert torch.allclose(wanted, result, atol=1e-9)
        up = torch.randn_like(wanted)
        wanted.backward(up)
        result.backward(up)
        assert (
            x.grad is not None
            and y.grad is not None
            and torch.allclose(x.grad, y.grad, atol=1e-9)
        )
        observer.after_step(observer.statistics(None))  # type: ignore[arg-type]
        for name, value in theirs.state_dict().items():
            assert torch.allclose(value, ours.state_dict()[name]), name
    theirs.eval()
    ours.eval()
    assert torch.allclose(theirs(x), ours(x)) and observer.statistics(None) == {}
    twin = copy.deepcopy(ours)
    nn.init.constant_(twin.running_mean, 0.0)
    assert not torch.equal(twin(x), ours(x)), "a copy is a module of its own"


def step_with_batch_norm() -> Step:
    spec = DataSpec(
        shape=(1, 8, 8),
        domain="unit",
        layout="hw",
        mean=torch.full((1, 8, 8), 0.5),
        std=torch.ones(1, 8, 8),
    )
    torch.manual_seed(0)
    step = Step(
        *build(Recipe(latent=3, network=Normed, likelihood="gaussian"), spec), 2
    )
    step.observers += observe_batch_norm(step.model, SINGLE_PROCESS)
    return step


def test_compiled_it_is_the_same() -> None:
    steps = step_with_batch_norm(), step_with_batch_norm()
    engines = Eager(steps[0]), Compiled(steps[1], 6, pytest.fail, backend="aot_eager")
    batch, clock = Batch(torch.rand(6, 1, 8, 8)), Clock(0.0)
    for step, execution in zip(steps, engines, strict=True):
        noise = Drawnlike()
        _, sums = execution(batch, clock, noise)  # type: ignore[arg-type]
        step.after_step(sums)
    for name, value in steps[0].model.state_dict().items():
        assert torch.allclose(value, steps[1].model.state_dict()[name]), name
    for a, b in zip(
        engines[0].gradients.values(), engines[1].gradients.values(), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-6)


class Drawnlike:
    """The noise of a pass, by site."""

    def __init__(self) -> None:
        self.values = {
            "z": torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
        }

    def __call__(self, name: str, dist: Any) -> torch.Tensor:
        return self.values[name]


def test_a_step_left_out_does_not_move_it() -> None:
    step = step_with_batch_norm()
    before = {name: value.clone() for name, value in step.model.named_buffers()}
    _, sums = step(
        Batch(torch.full((6, 1, 8, 8), math.nan)), Clock(0.0), StepNoise(0, "x")
    )
    step.after_step(sums, torch.tensor(False))
    for name, value in step.model.named_buffers():
        assert torch.equal(value, before[name]), name
    _, sums = step(Batch(torch.rand(6, 1, 8, 8)), Clock(0.0), StepNoise(0, "x"))
    step.after_step(sums, torch.tensor(True))
    moved = [
        name
        for name, value in step.model.named_buffers()
        if not torch.equal(value, before[name])
    ]
    assert {name.rsplit(".", 1)[1] for name in moved} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_it_refuses_parts_of_a_batch(tmp_path: Path) -> None:
    with pytest.raises(
        TightboundError, match=r"train.accumulate = 2 .* batch normalisation"
    ):
        train(tmp_path, "batch norm", "run", **{"train.accumulate": 2})
    run = train(tmp_path, "batch norm, bad step", "run")
    assert run.folder is not None
    weights, _ = load_weights(run.folder / "ema.safetensors")
    moved = [value for name, value in weights.items() if "running" in name]
    assert len(moved) == 4 and all(
        bool(value.isfinite().all()) and bool((value != 0).any()) for value in moved
    )


class Threads(LaunchContext):
    """Processes that are threads of this one: `add` waits for all."""

    def __init__(self, rank: int, world: int, shared: dict[str, Any]) -> None:
        super().__init__(rank, world)
        self.shared = shared

    def add(self, values: torch.Tensor) -> torch.Tensor:
        self.shared[self.rank] = values.clone()
        self.shared["barrier"].wait(60)
        total = sum(self.shared[rank] for rank in range(self.world_size))
        self.shared["barrier"].wait(60)
        return values.copy_(total)


@pytest.mark.parametrize("world", [2, 4])
def test_parts_of_a_batch_in_several_processes_are_the_whole(world: int) -> None:
    net = nn.Sequential(
        nn.Linear(3, 5),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 2),
        nn.BatchNorm1d(2),
    ).double()
    x, target = torch.randn(8, 3).double() * 2 + 1, torch.randn(8, 2).double()
    copies, shared = (
        [copy.deepcopy(net) for _ in range(world)],
        {"barrier": threading.Barrier(world)},
    )

    def work(
        model: nn.Module, launch: LaunchContext, rows: slice
    ) -> dict[str, torch.Tensor]:
        observers = observe_batch_norm(model, launch)
        (model(x[rows]) - target[rows]).square().sum(1).mean().backward()
        return {
            name: value for o in observers for name, value in o.statistics(None).items()
        }  # type: ignore[arg-type]

    with ThreadPoolExecutor(world) as pool:
        size = 8 // world
        jobs = [
            pool.submit(
                work,
                model,
                Threads(rank, world, shared),
                slice(rank * size, (rank + 1) * size),
            )
            for rank, model in enumerate(copies)
        ]
        parts = [job.result(60) for job in jobs]
    (net(x) - target).square().sum(1).mean().backward()
    for name, parameter in net.named_parameters():
        mean = (
            sum(dict(model.named_parameters())[name].grad for model in copies) / world
        )  # type: ignore[misc]
        assert parameter.grad is not None and torch.allclose(
            parameter.grad, mean, atol=1e-12
        ), name
    for observer in observe_batch_norm(copies[0], SINGLE_PROCESS):
        observer.after_step(
            {name: sum(part[name] for part in parts) for name in parts[0]}
        )  # type: ignore[misc]
    for name, buffer in net.named_buffers():
        assert torch.allclose(buffer, dict(copies[0].named_buffers())[name]), name
