"""The fast step: the compiled graph against the eager pass, noise drawn ahead, losses per group,
precision, waiting.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.trainings import SMALL, Listener, train, weights
from torch import Tensor, nn

from tightbound import data as data_room
from tightbound.config import TrainSettings, configure
from tightbound.core.draw import Clock
from tightbound.core.trace import Trace
from tightbound.distributions.random import StepNoise
from tightbound.runtime.errors import TightboundError
from tightbound.training import budget
from tightbound.training.console import Quiet
from tightbound.training.optimization.optimizer import optimizer
from tightbound.training.run_training import assemble_step, settle
from tightbound.training.step.execute import Compiled, Eager
from tightbound.training.step.gradients import Gradients
from tightbound.training.step.precision import set_precision
from tightbound.training.trainer import Interrupted, Trainer

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "ae": ("ae", {}),
    "warm-up and free bits": (
        "beta-vae",
        {"objective.warmup": 0.5, "objective.free_bits": 0.1},
    ),
    "iwae": ("iwae", {"k": 4}),
    "top-down": ("hvae", {"latent": (3, 2)}),
    "bottom-up": ("iwae-2", {"latent": (4, 3), "k": 5}),
    "optimal scale": ("vae", {"likelihood": "gaussian", "likelihood.scale": "optimal"}),
    "asks for log p(x, z)": (
        "hamiltonian",
        {"posterior.steps": 1, "data.binarize": "dynamic"},
    ),
    "bernoulli": ("vae", {"data.binarize": "dynamic"}),
    "convolution": ("vae", {"network": "conv"}),
}


def make_trainer(folder: Path, recipe: str = "vae", **values: Any) -> Trainer:
    """A trainer that has not begun."""
    config = configure("digits", recipe, values=SMALL | values)
    data = data_room.load("digits", config.data, seed=0)
    config, _ = settle(config, data)
    if config.data.domain != data.settings.domain:
        data = data_room.load("digits", config.data, seed=0)
    config = config.model_copy(update={"spec": data.spec})
    config = config.model_copy(
        update={"train": budget.resolve(config.train, len(data.train))}
    )
    step = assemble_step(config, torch.device("cpu"))
    step.model.train()
    return Trainer(step, config, data, folder, Quiet())


def figures(
    execution: Eager, trainer: Trainer, clock: Clock
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]:
    batch = trainer.batches(3)
    losses, sums = execution(batch, clock, trainer.noise(3, batch))
    return (
        losses,
        sums,
        [p.grad.clone() for p in execution.gradients.parameters if p.grad is not None],
    )


@pytest.mark.parametrize("name", RECIPES)
def test_one_graph_gives_the_losses_sums_and_gradients_of_the_eager_pass(
    tmp_path: Path, name: str
) -> None:
    """Captured whole for every kind of recipe; run by torch's own operators, so that no C++
    compiler is needed.
    """
    recipe, values = RECIPES[name]
    trainer, said = make_trainer(tmp_path, recipe, **values), list[str]()
    graph = Compiled(trainer.step_module, 32, said.append, backend="aot_eager")
    for progress in (0.1, 0.9):
        eager = figures(trainer.execution, trainer, Clock(progress))
        compiled = figures(graph, trainer, Clock(progress))
        assert said == [] and graph.graph is not None
        assert (
            len(eager[2])
            == len(compiled[2])
            == len(trainer.execution.gradients.parameters)
        )
        for a, b in zip(eager[:2], compiled[:2], strict=True):
            assert a.keys() == b.keys() and all(
                torch.allclose(a[key], b[key], rtol=1e-4) for key in a
            )
        for grad, other in zip(eager[2], compiled[2], strict=True):
            assert torch.allclose(
                grad, other, rtol=1e-3, atol=1e-4 * float(grad.abs().max())
            )


class Two(nn.Module):
    """Two groups, and a loss for each; `generative` depends on both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.tensor(2.0)),
            nn.Parameter(torch.tensor(3.0)),
        )
        self.frozen = nn.Parameter(torch.tensor(5.0), requires_grad=False)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"inference": [self.a], "generative": [self.b, self.frozen]}


class TwoStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Two()

    def forward(self) -> dict[str, Tensor]:
        a, b = self.model.a, self.model.b
        shared = a.square() * b
        return {"inference": shared + 7 * a, "generative": -shared * b}


def test_each_group_gets_the_gradient_of_its_own_loss_and_of_no_other() -> None:
    step: Any = TwoStep()
    gradients = Gradients(step)
    a, b = step.model.a, step.model.b
    for _ in range(2):  # a second time, so that a gradient that was kept would show
        gradients.backward(step())
        assert a.grad.item() == 2 * 2 * 3 + 7 and b.grad.item() == -2 * 4 * 3
    assert [g.item() for g in gradients.of(step()) if g is not None] == [
        a.grad.item(),
        b.grad.item(),
    ]
    gradients.backward({"all": 5 * b})
    assert a.grad is None and b.grad.item() == 5
    assert gradients.of({"all": 5 * b})[0] is None
    with pytest.raises(ValueError, match="'critic'"):
        gradients.backward({"critic": a * 1})


def test_settings_of_a_group_hold_for_its_parameters_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "vae")
    settings = TrainSettings(
        groups={"inference": {"lr": 1e-4, "weight_decay": 0.3, "betas": [0.5, 0.9]}}
    )
    opt = optimizer(trainer.model, settings)
    inner = {id(p) for p in trainer.model.groups()["inference"]}
    grouped = set()
    for group in opt.param_groups:
        for p in group["params"]:
            mine = id(p) in inner
            grouped.add(id(p))
            assert group["top"] == (1e-4 if mine else 1e-3) and list(
                group["betas"]
            ) == ([0.5, 0.9] if mine else [0.9, 0.999])
            assert (
                group["weight_decay"] == (0 if p.dim() < 2 else 0.3 if mine else 5e-2)
                or p is trainer.model.likelihood.base
            )
    assert grouped == {id(p) for p in trainer.model.parameters()}
    with pytest.raises(TightboundError, match="did you mean 'inference'"):
        optimizer(trainer.model, TrainSettings(groups={"inferense": {"lr": 1.0}}))


@pytest.mark.parametrize("name", ["vae", "iwae", "top-down", "bottom-up"])
def test_noise_drawn_ahead_is_what_the_sites_would_have_drawn(
    tmp_path: Path, name: str
) -> None:
    recipe, values = RECIPES[name]
    trainer = make_trainer(tmp_path, recipe, **values)
    batch = trainer.batches(7)
    for step in (7, 8):
        ahead = trainer.noise(step, batch)
        spot = StepNoise(trainer.config.seed, "noise", step)
        trainer.step_module(batch, Clock(), spot)
        assert set(ahead.values) == set(spot.forms) == set(trainer.model.sites)
        again = StepNoise(trainer.config.seed, "noise", step)
        expected = trainer.step_module(batch, Clock(), again)[0]["all"]
        assert torch.equal(
            trainer.step_module(batch, Clock(), ahead)[0]["all"], expected
        )


def test_a_rehearsal_leaves_the_model_and_its_mode_as_they_were(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, "vae", **{"likelihood": "gaussian", "likelihood.scale": "optimal"}
    )
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.noise(0, trainer.batches(0))
    assert trainer.model.training and all(
        torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items()
    )


def test_a_model_that_cannot_be_compiled_trains_eagerly_and_says_so_once(
    tmp_path: Path, monkeypatch: Any
) -> None:
    trainer = make_trainer(tmp_path, "vae")
    objective = trainer.step_module.objective

    def breaks(trace: Trace, clock: Clock) -> Any:
        torch._dynamo.graph_break()
        return objective(trace, clock)

    trainer.step_module.objective = breaks
    said: list[str] = []
    graph = Compiled(trainer.step_module, 32, said.append, backend="aot_eager")
    for _ in range(3):
        losses, _, grads = figures(graph, trainer, Clock(0.5))
    assert len(said) == 1 and "cannot be compiled" in said[0]
    eager = figures(trainer.execution, trainer, Clock(0.5))
    assert torch.equal(losses["all"], eager[0]["all"]) and all(
        map(torch.equal, grads, eager[2])
    )


def test_bfloat16_is_for_the_products_of_training_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "vae", network="conv")
    model = trainer.model
    batch = trainer.batches(0)
    noise = trainer.noise(0, batch)
    exact = trainer.step_module(batch, Clock(), noise)[0]["all"]
    set_precision(model, "bfloat16")
    half = trainer.step_module(batch, Clock(), noise)[0]["all"]
    assert (
        half.dtype == torch.float32
        and half != exact
        and torch.allclose(half, exact, rtol=2e-3)
    )
    half.backward()
    assert all(
        p.dtype == p.grad.dtype == torch.float32
        for p in model.parameters()
        if p.grad is not None
    )
    model.eval()
    assert torch.equal(trainer.step_module(batch, Clock(), noise)[0]["all"], exact), (
        "evaluation is float32"
    )
    model.train()
    set_precision(model, "float32")
    assert torch.equal(trainer.step_module(batch, Clock(), noise)[0]["all"], exact)
    assert {type(m) for m in model.modules()} & {nn.Linear, nn.Conv2d} == {
        nn.Linear,
        nn.Conv2d,
    }


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the operators that hand a value of the device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.equal,
        ):
            self.operators.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RECIPES)
def test_no_step_waits_for_the_device(tmp_path: Path, name: str) -> None:
    recipe, values = RECIPES[name]
    trainer = make_trainer(tmp_path, recipe, **values)
    trainer.train_step(Clock(0.0))
    with Waits() as waits:
        for i in range(4):
            trainer.train_step(Clock(i / 60))
        assert waits.operators == []
        bool(trainer.sums[0] > 0)
    assert len(waits.operators) == 1, "the counter counts"


@pytest.fixture
def compiler() -> Iterator[None]:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("needs a C++ compiler")
    yield


def test_a_compiled_run_resumes_to_the_same_bytes(
    tmp_path: Path, compiler: None
) -> None:
    values = {
        "train.compile": True,
        "train.steps": 30,
        "train.validate_every": 10,
        "data.binarize": "dynamic",
    }
    whole = train(tmp_path / "whole", **values)
    assert whole.config.train.compile == "on"
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", Listener(press_at=10), **values)
    said = Listener()
    train(tmp_path / "cut", said, resume=True, **values)
    assert any("step 10 of 30" in line for line in said.said)
    assert not any("cannot be compiled" in line for line in said.said), said.said
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    eager = train(tmp_path / "eager", **values | {"train.compile": False})
    for a, b in zip(whole.model.parameters(), eager.model.parameters(), strict=True):
        assert (a - b).abs().max() < 5e-3 * (1 + b.abs().max())
