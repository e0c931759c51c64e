"""Batch normalisation in a user's own network: of the whole batch, whatever the processes, and not
of bad steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tightbound.core.trace import Trace
from tightbound.runtime.launch_context import LaunchContext


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of a process's own part is the sum over all that
    used it.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, launch: LaunchContext) -> Tensor:
        ctx.launch = launch
        return launch.add(own.contiguous().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.launch.add(grad.contiguous().clone()), None


class OfWholeBatch:
    """Mixed in to a batch normalisation: while training, mean and variance are those of all
    processes' rows.

    seen: rows, sums and centred squares, (1 + 2 C,), of this process's rows; `Observer` moves the
    running statistics by them, after the step.
    """

    launch: LaunchContext
    seen: Tensor | None

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)  # type: ignore[misc]
        axes, wide = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        own = x.numel() // x.shape[1]
        n, total = (
            own * self.launch.world_size,
            x.sum(axes),
        )  # the processes have equal parts of a batch
        centred = x - (self._sum(total) / n).reshape(wide)
        square = centred.square().sum(axes)
        self.seen = torch.cat([torch.full_like(total[:1], own), total, square]).detach()
        scale = torch.rsqrt(self._sum(square) / n + self.eps)
        y = centred * (scale if self.weight is None else scale * self.weight).reshape(
            wide
        )
        return y if self.bias is None else y + self.bias.reshape(wide)

    def _sum(self, own: Tensor) -> Tensor:
        return own if self.launch.world_size == 1 else _Sum.apply(own, self.launch)


class Observer:
    """Moves the running statistics of one batch normalisation after a step; see
    `Step.after_step`.
    """

    def __init__(self, module: Any, name: str) -> None:
        self.module, self.name = module, f"batch norm {name}"

    def buffers(self) -> Iterator[Tensor]:
        """What is moved."""
        return self.module.buffers()

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Sums over the rows of the pass; none of a pass that was no training."""
        seen, self.module.seen = self.module.seen, None
        return {} if seen is None else {self.name: seen}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Moves mean and variance (unbiased) as torch does: by `momentum`, or where that is None to
        their average.
        """
        bn = self.module
        if self.name not in sums or bn.running_mean is None:
            return
        n, rest = sums[self.name][0], sums[self.name][1:]
        total, square = rest.chunk(2)
        bn.num_batches_tracked += 1
        share = 1 / bn.num_batches_tracked if bn.momentum is None else bn.momentum
        bn.running_mean.lerp_(total / n, share)
        bn.running_var.lerp_(square / (n - 1), share)


def observe(model: nn.Module, launch: LaunchContext) -> list[Observer]:
    """Makes each batch normalisation of a model one of the whole batch, in place."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if not isinstance(module, OfWholeBatch):
                kind = type(module)
                module.__class__ = type(kind.__name__, (OfWholeBatch, kind), {})
            module.launch, module.seen = launch, None  # type: ignore[assignment]
            found.append(Observer(module, name))
    return found
