"""Data-parallel training: each process has a part of every batch.

All processes have the same losses, gradients and decisions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tightbound.config import TrainSettings
from tightbound.core.batch import Batch
from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.trace import Gather
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext, started_by_torchrun
from tightbound.training.distributed.batch_norm import (
    BatchNormObserver,
    observe_batch_norm,
)
from tightbound.training.noise import Drawn
from tightbound.training.step.accumulate import Accumulated
from tightbound.training.step.execute import Eager, Figures, Say, execution
from tightbound.training.step.gradients import Gradients, Losses
from tightbound.training.step.module import Step

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class DataParallel:
    """Runs each process's part of a batch and reduces the results over processes.

    Losses and gradients are means over the processes, whose parts are equal; sums are
    sums. Gradients are reduced as one flat vector in fixed order, so that a step's
    result is bit-identical in all processes and after a restart.
    """

    def __init__(
        self, execution: Eager, launch: LaunchContext, reduces: bool = True
    ) -> None:
        self.execution = execution
        self.launch = launch
        self.reduces = reduces
        self.gradients = execution.gradients

    def __call__(self, batch: Batch, clock: Clock, noise: Drawn) -> Figures:
        losses, sums = self.execution(batch, clock, noise)
        if self.reduces:
            self._average_gradients()
        world_size = self.launch.world_size
        scaled = {name: loss.detach() / world_size for name, loss in losses.items()}
        figures = [*scaled.values(), *sums.values()]
        flat = self.launch.add(
            torch.cat([figure.double().flatten() for figure in figures])
        )
        parts = flat.split([figure.numel() for figure in figures])
        totals = [
            part.view_as(figure).to(figure.dtype)
            for part, figure in zip(parts, figures, strict=True)
        ]
        total_losses = dict(zip(losses, totals[: len(losses)], strict=True))
        total_sums = dict(zip(sums, totals[len(losses) :], strict=True))
        return total_losses, total_sums

    @torch.no_grad()
    def _average_gradients(self) -> None:
        parameters = [p for p in self.gradients.parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in self.gradients.values()])
        self.launch.add(flat).div_(self.launch.world_size)
        means = flat.split([p.numel() for p in parameters])
        for parameter, mean in zip(parameters, means, strict=True):
            parameter.grad = mean.view_as(parameter)


def distributed_execution(
    step: Step, settings: TrainSettings, say: Say, launch: LaunchContext
) -> Eager | DataParallel:
    """The execution of this process's part of a batch.

    Reads `train.parallel`, `train.accumulate`, `train.compile` and `train.precision`.
    Batch normalisation in the model is replaced in place, see `observe_batch_norm`.

    Raises:
        TightboundError: where a batch cannot be split as the settings say.
    """
    sharded = is_sharded(settings)
    parts = settings.accumulate
    step.gather = gather_rows(launch, step.objective, settings)
    norms = observe_batch_norm(step.model, launch)
    step.observers += norms
    _check_split(settings, launch, norms)
    exchanges = sharded or step.gather is not None
    if norms and launch.world_size > 1:
        exchanges = True
    if settings.compile == "on" and exchanges:
        say(
            "steps run one by one: a pass in which processes exchange tensors "
            "(train.parallel = fsdp2, an objective over the batch, or batch "
            "normalisation) is not compiled"
        )
        settings = settings.model_copy(update={"compile": "off"})
    size = int(settings.batch) // (launch.world_size * parts)
    executed = execution(step, settings, say, size)
    if sharded:
        executed.gradients = ShardedGradients(step)
    if parts > 1:
        executed = Accumulated(executed, parts)
    if launch.world_size > 1:
        return DataParallel(executed, launch, reduces=not sharded)
    return executed


def _check_split(
    settings: TrainSettings, launch: LaunchContext, norms: list[BatchNormObserver]
) -> None:
    parts = settings.accumulate
    if parts > 1 and norms:
        raise TightboundError(
            f"train.accumulate = {parts} splits batches, and the network has batch "
            "normalisation, a statistic of the whole batch: set train.accumulate=1, or "
            "start more processes with torchrun"
        )
    if int(settings.batch) % (launch.world_size * parts):
        raise TightboundError(
            f"train.batch = {settings.batch} cannot be split into {parts} parts for each "
            f"of {launch.world_size} processes: set train.accumulate or train.batch so "
            "that it can"
        )


def is_sharded(settings: TrainSettings) -> bool:
    """True where parameters are in shards: by setting, in a launch by torchrun."""
    return settings.parallel == "fsdp2" and started_by_torchrun()


class _AllRows(torch.autograd.Function):
    """All-gather of rows, by rank.

    The gradient of a process's rows is the sum over all processes that used them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, launch: LaunchContext) -> Tensor:
        import torch.distributed as dist

        ctx.launch = launch
        gathered = [torch.empty_like(rows) for _ in range(launch.world_size)]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = ctx.launch.add(grad.contiguous().clone())
        return total.chunk(ctx.launch.world_size)[ctx.launch.rank], None


def gather_rows(
    launch: LaunchContext, objective: Objective, settings: TrainSettings
) -> Gather | None:
    """The function for `Trace.gather`: rows of all processes, or None for one process.

    It is needed for objectives that are not a mean over examples.

    Raises:
        TightboundError: where such an objective is to be trained on parts of a batch
            one after another.
    """
    whole = objective.per_example
    if settings.accumulate > 1 and not whole:
        raise TightboundError(
            f"train.accumulate = {settings.accumulate} splits batches, and objective "
            f"{type(objective).__name__} takes a statistic of the whole batch: set "
            "train.accumulate=1, or start more processes with torchrun"
        )
    if launch.world_size == 1 or whole:
        return None
    gather: Callable[[Tensor, LaunchContext], Tensor] = _AllRows.apply
    return lambda rows: gather(rows, launch)


# ---- FSDP2: parameters, gradients and optimiser state in shards


def blocks(model: VAE) -> list[nn.Module]:
    """The networks of a model: the modules that are sharded and gathered as units.

    The remaining parameters are small, and are gathered for the whole pass.
    """
    children = dict(model.hierarchy.named_children())
    networks: list[nn.Module] = [model.encoder]
    for name in ("climbs", "links"):
        if name in children:
            networks.extend(children[name].children())
    if "decoder" in children:
        networks.append(children["decoder"])
    return [network for network in networks if _has_parameters(network)]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def shard(
    step: Step, averaged: VAE | None, launch: LaunchContext, device: torch.device
) -> None:
    """Shard all parameters over the processes (FSDP2), in place.

    The parameters of a network are gathered only while it runs.
    """
    from torch.distributed.device_mesh import init_device_mesh

    # Networks end in a reshape; their outputs are never changed in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (launch.world_size,))
    _shard_networks(step.model, step, mesh)
    if averaged is not None:
        _shard_networks(averaged, averaged, mesh)


def _shard_networks(model: VAE, root: nn.Module, mesh: DeviceMesh) -> None:
    from torch.distributed.fsdp import fully_shard

    for module in blocks(model):
        fully_shard(module, mesh=mesh)
    fully_shard(root, mesh=mesh)


class ShardedGradients(Gradients):
    """Gradients of losses where parameters are in shards.

    FSDP2 ignores `backward(inputs=...)`, so each loss goes back to all parameters. The
    parameters of its group keep their gradients, and the others are cleared.
    """

    def backward(self, losses: Losses) -> None:
        """Put the gradients into `.grad`, None where no loss depends on a parameter."""
        pairs = self._pairs(losses)
        gradients: dict[nn.Parameter, Tensor | None] = {}
        self._clear()
        for i, (loss, parameters) in enumerate(pairs):
            loss.backward(retain_graph=i + 1 < len(pairs))
            gradients |= {parameter: parameter.grad for parameter in parameters}
            self._clear()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Gather all parameters of a model for the block.

    Inside it each process may run the model as often as it likes. Does nothing for a
    model that is not sharded.
    """
    modules: list[Any] = [m for m in model.modules() if hasattr(m, "unshard")]
    for module in modules:
        module.set_reshard_after_forward(False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.set_reshard_after_forward(True)
            module.reshard()


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state on the CPU, with sharded parameters gathered."""
    state = {}
    for name, value in model.state_dict().items():
        full = value.full_tensor() if hasattr(value, "full_tensor") else value
        state[name] = full.detach().cpu().clone(memory_format=torch.contiguous_format)
    return state
