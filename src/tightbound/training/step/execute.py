"""A training pass, its losses and gradients: step by step, or as one compiled graph.

Both give the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from tightbound.config import TrainSettings
from tightbound.core.trace import Batch, Clock
from tightbound.training.noise import Drawn
from tightbound.training.step.gradients import Gradients
from tightbound.training.step.module import Step
from tightbound.training.step.precision import set_precision

Figures = tuple[dict[str, Tensor], dict[str, Tensor]]
Whole = Callable[..., tuple[Figures, list[Tensor | None]]]
Say = Callable[[str], None]


class Eager:
    """`losses, sums = engine(batch, clock, noise)`; the gradients are then in `.grad` of each
    parameter.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.gradients = step, Gradients(step)

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses, sums = self.step(batch, clock, noise)
        self.gradients.backward(losses)
        return losses, sums


class Compiled(Eager):
    """The same as one graph that a compiler has made of the pass and its gradients together.

    Where that fails, the run goes on eagerly, and `say` is told once why.  Batches of another size
    are eager, too.
    """

    def __init__(
        self, step: Step, size: int, say: Say, backend: str = "inductor"
    ) -> None:
        super().__init__(step)
        self.size, self.say = size, say
        self.graph: Whole | None = _graph(self._whole, backend)

    def _whole(
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
        # the compiler's own are many, and an error of the model comes again below
        except Exception as error:
            self.graph = None
            self.say(
                f"this model cannot be compiled, so its steps run one by one ({_first_line(error)})"
            )
            return super().__call__(batch, clock, noise)
        for parameter, grad in zip(self.gradients.parameters, grads, strict=True):
            parameter.grad = grad
        return figures


def _graph(method: Whole, backend: str) -> Whole:
    """Compiles a method from a copy of its code: the compiler keeps what it made by code, and
    models must not share.
    """
    import torch._dynamo

    torch._dynamo.config.trace_autograd_ops = True
    code = method.__func__.__code__.replace()  # type: ignore[attr-defined]
    own = FunctionType(code, method.__globals__).__get__(method.__self__)  # type: ignore[attr-defined]
    # What a graph depends on beside its arguments is the same at every step; looking that up cost 5
    # % of a small one.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(
        own, fullgraph=True, dynamic=False, backend=backend, options=options
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def engine(
    step: Step, settings: TrainSettings, say: Say, size: int | None = None
) -> Eager:
    """The engine that resolved settings ask for: `train.precision`, `train.compile`.

    size: examples of a pass.
    """
    set_precision(step.model, settings.precision)
    return (
        Compiled(step, size or int(settings.batch), say)
        if settings.compile == "on"
        else Eager(step)
    )
