"""Training by several processes: each has a part of every batch, all have the same losses,
gradients and decisions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.config import TrainSettings
from tightbound.core.trace import Batch, Clock, Gather
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext, started_by_torchrun
from tightbound.training.distributed import batch_norm as batchnorm
from tightbound.training.noise import Drawn
from tightbound.training.step.accumulate import Accumulated
from tightbound.training.step.execute import Eager, Figures, Say, execution
from tightbound.training.step.gradients import Gradients
from tightbound.training.step.module import Step


class DataParallel:
    """An engine over the parts that all processes have of a batch.

    Losses and gradients are means over the processes, whose parts are equal; sums are sums.
    Gradients go over the net as one flat vector of fixed order, so that a step's result is the same
    bits in every process and after a restart.
    """

    def __init__(
        self, execution: Eager, launch: LaunchContext, reduces: bool = True
    ) -> None:
        self.execution, self.launch, self.reduces = execution, launch, reduces
        self.gradients = execution.gradients

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses, sums = self.execution(batch, clock, noise)
        if self.reduces:
            self._mean_gradients()
        scaled = {
            name: loss.detach() / self.launch.world_size
            for name, loss in losses.items()
        }
        figures = [*scaled.values(), *sums.values()]
        flat = self.launch.add(
            torch.cat([figure.double().flatten() for figure in figures])
        )
        parts = flat.split([figure.numel() for figure in figures])
        added = [
            part.view_as(figure).to(figure.dtype)
            for part, figure in zip(parts, figures, strict=True)
        ]
        return dict(zip(losses, added, strict=False)), dict(
            zip(sums, added[len(losses) :], strict=True)
        )

    @torch.no_grad()
    def _mean_gradients(self) -> None:
        own = [p for p in self.gradients.parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in own])  # type: ignore[union-attr]
        self.launch.add(flat).div_(self.launch.world_size)
        for parameter, mean in zip(
            own, flat.split([p.numel() for p in own]), strict=True
        ):
            parameter.grad = mean.view_as(parameter)


def distributed_execution(
    step: Step, settings: TrainSettings, say: Say, launch: LaunchContext
) -> Eager | DataParallel:
    """The engine for the part of a batch that this process has: `train.parallel`,
    `train.accumulate`.
    """
    sharded, parts = is_sharded(settings), settings.accumulate
    step.gather = gather_rows(launch, step.objective, settings)
    norms = batchnorm.observe(step.model, launch)
    step.observers += norms
    if parts > 1 and norms:
        raise TightboundError(
            f"train.accumulate = {parts} cuts batches, and the network has "
            "batch normalisation, a statistic of the "
            "whole batch: set train.accumulate=1, or start more processes with torchrun"
        )
    exchange = launch.world_size > 1 and norms
    if settings.compile == "on" and (sharded or step.gather is not None or exchange):
        say(
            "steps run one by one: a pass in which processes exchange tensors "
            "(train.parallel = fsdp2, an objective "
            "over the batch, or batch normalisation) is not compiled"
        )
        settings = settings.model_copy(update={"compile": "off"})
    if int(settings.batch) % (launch.world_size * parts):
        raise TightboundError(
            f"train.batch = {settings.batch} cannot be split into {parts} "
            f"parts for each of {launch.world_size} processes: "
            "set train.accumulate or train.batch so that it can"
        )
    made = execution(
        step, settings, say, int(settings.batch) // (launch.world_size * parts)
    )
    if sharded:
        made.gradients = ShardedGradients(step)
    if parts > 1:
        made = Accumulated(made, parts)
    return (
        DataParallel(made, launch, reduces=not sharded)
        if launch.world_size > 1
        else made
    )


def is_sharded(settings: TrainSettings) -> bool:
    """True where parameters are in shards: by setting, in a launch by torchrun."""
    return settings.parallel == "fsdp2" and started_by_torchrun()


class _AllRows(torch.autograd.Function):
    """Rows of all processes, by rank; the gradient of a process's own rows is the sum over all that
    used them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, launch: LaunchContext) -> Tensor:
        import torch.distributed as dist

        ctx.launch = launch
        found = [torch.empty_like(rows) for _ in range(launch.world_size)]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.launch.add(grad.contiguous().clone()).chunk(ctx.launch.world_size)[
            ctx.launch.rank
        ], None


def gather_rows(
    launch: LaunchContext, objective: Any, settings: TrainSettings
) -> Gather | None:
    """What `Trace.gather` is to be among several processes; checks that an objective over the batch
    can be served.

    Raises TightboundError where such an objective is to be trained on parts of a batch one after
    another.
    """
    whole = getattr(objective, "per_example", True)
    if settings.accumulate > 1 and not whole:
        raise TightboundError(
            f"train.accumulate = {settings.accumulate} cuts batches, and "
            f"objective {type(objective).__name__} takes a "
            "statistic of the whole batch: set train.accumulate=1, or start "
            "more processes with torchrun"
        )
    return (
        None
        if launch.world_size == 1 or whole
        else lambda rows: _AllRows.apply(rows, launch)
    )


# ---- FSDP2: parameters, gradients and optimiser state in shards


def blocks(model: VAE) -> list[nn.Module]:
    """The networks of a model, which are called whole; whatever else it has is small, and may be
    used at any time.
    """
    path = model.path
    lists = [part for name in ("climbs", "links") for part in getattr(path, name, [])]
    found = [model.encoder, *lists, getattr(path, "decoder", None)]
    return [
        module
        for module in found
        if module is not None and any(True for _ in module.parameters())
    ]


def shard(
    step: Step, averaged: VAE | None, launch: LaunchContext, device: torch.device
) -> None:
    """Makes each process hold one part of every parameter; a network's are together only while it
    runs.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Networks end in a reshape, and nothing here changes what they give in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (launch.world_size,))
    for root, model in ((step, step.model), (averaged, averaged)):
        if root is not None and model is not None:
            for module in blocks(model):
                fully_shard(module, mesh=mesh)
            fully_shard(root, mesh=mesh)


class ShardedGradients(Gradients):
    """The same where parameters are in shards: `backward(inputs=...)` would give them none and say
    nothing.

    So each loss goes back to all parameters; those of its group keep what it gave, the others are
    cleared.
    """

    def backward(self, losses: Any) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        pairs, kept = self._pairs(losses), dict[nn.Parameter, Tensor | None]()
        for i, (loss, parameters) in enumerate(pairs):
            loss.backward(retain_graph=i + 1 < len(pairs))
            kept |= {parameter: parameter.grad for parameter in parameters}
            for parameter in self.parameters:
                parameter.grad = None
        for parameter, grad in kept.items():
            parameter.grad = grad


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """All parameters of a model whole inside the block, so that each process may run it as often as
    it likes.
    """
    parts: list[Any] = [
        module for module in model.modules() if hasattr(module, "unshard")
    ]
    for part in parts:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True)
            part.reshard()


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A model's state on the CPU, copied, parameters in shards put together."""
    found = {}
    for name, value in model.state_dict().items():
        full = value.full_tensor() if hasattr(value, "full_tensor") else value
        found[name] = full.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found
