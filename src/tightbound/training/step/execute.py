"""Execution of a training pass: operator by operator, or as one compiled graph.

Both give the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from tightbound.config import TrainSettings
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock
from tightbound.training.noise import Drawn
from tightbound.training.step.gradients import Gradients
from tightbound.training.step.module import Step
from tightbound.training.step.precision import set_precision

Figures = tuple[dict[str, Tensor], dict[str, Tensor]]
Graph = Callable[..., tuple[Figures, list[Tensor | None]]]
Say = Callable[[str], None]


class Eager:
    """`losses, sums = engine(batch, clock, noise)`, with the gradients left in `.grad`."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.gradients = Gradients(step)

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses, sums = self.step(batch, clock, noise)
        self.gradients.backward(losses)
        return losses, sums


class Compiled(Eager):
    """The forward pass and its gradients as one graph of `torch.compile`.

    Where compilation fails, the run goes on eagerly and `say` is called once with the
    reason. Batches whose size is not `size` run eagerly, too.
    """

    def __init__(
        self, step: Step, size: int, say: Say, backend: str = "inductor"
    ) -> None:
        super().__init__(step)
        self.size = size
        self.say = say
        self.graph: Graph | None = _compile(self._pass_and_gradients, backend)

    def _pass_and_gradients(
        self, batch: Batch, progress: Tensor, noise: dict[str, Tensor]
    ) -> tuple[Figures, list[Tensor | None]]:
        losses, sums = self.step(batch, Clock(progress), lambda name, _: noise[name])
        grads = self.gradients.of(losses)
        return ({name: loss.detach() for name, loss in losses.items()}, sums), grads

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        if self.graph is None or len(batch) != self.size:
            return super().__call__(batch, clock, noise)
        try:
            figures, grads = self.graph(
                batch, torch.tensor(clock.progress), noise.values
            )
        # the compiler has many kinds of errors; one of the model is raised again below
        except Exception as error:
            self.graph = None
            self.say(
                "this model cannot be compiled, so its steps run one by one "
                f"({_first_line(error)})"
            )
            return super().__call__(batch, clock, noise)
        for parameter, grad in zip(self.gradients.parameters, grads, strict=True):
            parameter.grad = grad
        return figures


def _compile(method: Any, backend: str) -> Graph:
    """Compile a bound method from a copy of its code.

    The compiler caches by code object, and models must not share an entry.
    """
    import torch._dynamo

    torch._dynamo.config.trace_autograd_ops = True
    code = method.__func__.__code__.replace()
    copied = FunctionType(code, method.__globals__).__get__(method.__self__)
    # The inputs of a graph other than its arguments are the same at every step, and
    # checking them took 5 % of a small step.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(
        copied, fullgraph=True, dynamic=False, backend=backend, options=options
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    return f"{name}: {lines[0]}" if lines else name


def execution(
    step: Step, settings: TrainSettings, say: Say, size: int | None = None
) -> Eager:
    """The execution that resolved `train.precision` and `train.compile` name.

    Args:
        size: examples of a pass; `train.batch` if None.
    """
    set_precision(step.model, settings.precision)
    if settings.compile == "on":
        return Compiled(step, size or int(settings.batch), say)
    return Eager(step)
