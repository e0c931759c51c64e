"""Gradient accumulation: a batch in equal parts, one after another, for less memory."""

from __future__ import annotations

from dataclasses import fields, replace

from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Clock
from tightbound.training.noise import Drawn
from tightbound.training.step.execute import Eager, Figures


class Accumulated(Eager):
    """Runs `parts` equal parts of a batch and averages their losses and gradients.

    For losses that are means over examples these are the figures of the whole batch.
    The noise of the parts is that of the whole batch, split.
    """

    def __init__(self, execution: Eager, parts: int) -> None:
        self.execution = execution
        self.parts = parts
        self.step = execution.step
        self.gradients = execution.gradients

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses: dict[str, Tensor] = {}
        sums: dict[str, Tensor] = {}
        grads: dict[int, Tensor] = {}
        parameters = self.gradients.parameters
        for i in range(self.parts):
            part_losses, part_sums = self.execution(
                _part(batch, i, self.parts), clock, noise.part((i, self.parts))
            )
            losses = {
                name: losses.get(name, 0) + value.detach() / self.parts
                for name, value in part_losses.items()
            }
            sums = {
                name: sums.get(name, 0) + value for name, value in part_sums.items()
            }
            for at, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    share = parameter.grad / self.parts
                    grads[at] = grads[at] + share if at in grads else share
        for at, parameter in enumerate(parameters):
            parameter.grad = grads.get(at)
        return losses, sums


def _part(batch: Batch, which: int, parts: int) -> Batch:
    """One of the equal parts of a batch."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    chunks = {
        name: value.chunk(parts)[which]
        for name, value in values.items()
        if value is not None
    }
    return replace(batch, **chunks)
