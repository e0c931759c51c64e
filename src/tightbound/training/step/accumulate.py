"""Gradients of a batch that does not fit into memory at once, from its parts one after another."""

from __future__ import annotations

from dataclasses import fields, replace

from torch import Tensor

from tightbound.core.trace import Batch, Clock
from tightbound.training.noise import Drawn
from tightbound.training.step.execute import Eager, Figures


class Accumulated(Eager):
    """An engine over `parts` equal parts of a batch; for losses that are means over examples the
    whole batch's figures.

    The noise of the parts is that of the whole batch, cut.
    """

    def __init__(self, engine: Eager, parts: int) -> None:
        self.engine, self.parts = engine, parts
        self.step, self.gradients = engine.step, engine.gradients

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses: dict[str, Tensor] = {}
        sums: dict[str, Tensor] = {}
        parameters, grads = self.gradients.parameters, dict[int, Tensor]()
        for i in range(self.parts):
            loss, some = self.engine(
                _part(batch, i, self.parts), clock, noise.part((i, self.parts))
            )
            losses = {
                name: losses.get(name, 0) + value.detach() / self.parts
                for name, value in loss.items()
            }
            sums = {name: sums.get(name, 0) + value for name, value in some.items()}
            for at, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    share = parameter.grad / self.parts
                    grads[at] = grads[at] + share if at in grads else share
        for at, parameter in enumerate(parameters):
            parameter.grad = grads.get(at)
        return losses, sums


def _part(batch: Batch, which: int, of: int) -> Batch:
    """One of the equal parts of a batch."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(
        batch,
        **{
            name: value.chunk(of)[which]
            for name, value in values.items()
            if value is not None
        },
    )
