"""Batch normalisation over the whole batch, in any number of processes.

The running statistics follow accepted steps only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tightbound.core.trace import Trace
from tightbound.runtime.launch_context import LaunchContext


class _AllReduce(torch.autograd.Function):
    """The sum over all processes.

    The gradient of a process's part is the sum over all processes that used the sum.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, launch: LaunchContext) -> Tensor:
        ctx.launch = launch
        return launch.add(part.contiguous().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.launch.add(grad.contiguous().clone()), None


class SynchronisedBatchNorm(_BatchNorm):
    """Mixin for batch normalisation: mean and variance over the rows of all processes.

    In training mode, `batch_sums` of shape (1 + 2 C,) are the number, the sums and the
    centred sums of squares of this process's rows; `BatchNormObserver` updates the
    running statistics from them after the step.
    """

    launch: LaunchContext
    batch_sums: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.dim())]
        per_channel = (1, -1, *[1] * (x.dim() - 2))
        rows = x.numel() // x.shape[1]
        n = rows * self.launch.world_size  # the processes have equal parts of a batch
        total = x.sum(axes)
        centred = x - (self._sum(total) / n).reshape(per_channel)
        square = centred.square().sum(axes)
        count = torch.full_like(total[:1], rows)
        self.batch_sums = torch.cat([count, total, square]).detach()
        scale = torch.rsqrt(self._sum(square) / n + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = centred * scale.reshape(per_channel)
        return y if self.bias is None else y + self.bias.reshape(per_channel)

    def _sum(self, part: Tensor) -> Tensor:
        if self.launch.world_size == 1:
            return part
        reduce: Callable[[Tensor, LaunchContext], Tensor] = _AllReduce.apply
        return reduce(part, self.launch)


class BatchNormObserver:
    """Updates the running statistics of one batch normalisation, see `Step.after_step`."""

    def __init__(self, module: SynchronisedBatchNorm, name: str) -> None:
        self.module = module
        self.name = f"batch norm {name}"

    def buffers(self) -> Iterator[Tensor]:
        """The running statistics."""
        return self.module.buffers()

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Sums over the rows of the last training pass; empty if there was none."""
        sums = self.module.batch_sums
        self.module.batch_sums = None
        return {} if sums is None else {self.name: sums}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Update mean and unbiased variance, as torch does.

        The update is by `momentum`, or where that is None to the average of all steps.
        """
        norm = self.module
        if self.name not in sums or norm.running_mean is None:
            return
        n = sums[self.name][0]
        total, square = sums[self.name][1:].chunk(2)
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        share: float | Tensor = 1 / norm.num_batches_tracked
        if norm.momentum is not None:
            share = norm.momentum
        norm.running_mean.lerp_(total / n, share)
        norm.running_var.lerp_(square / (n - 1), share)


def observe_batch_norm(
    model: nn.Module, launch: LaunchContext
) -> list[BatchNormObserver]:
    """Synchronise each batch normalisation of a model, in place, and observe it."""
    observers = []
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if not isinstance(module, SynchronisedBatchNorm):
            kind = type(module)
            module.__class__ = type(kind.__name__, (SynchronisedBatchNorm, kind), {})
        assert isinstance(module, SynchronisedBatchNorm)
        module.launch = launch
        module.batch_sums = None
        observers.append(BatchNormObserver(module, name))
    return observers
