"""The processes of one launch by torchrun: their ranks and what they exchange."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import is_lost_connection

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# (index, number) of equal parts of a batch; random numbers are drawn for the whole batch.
Share = tuple[int, int]
WHOLE: Share = (0, 1)
# The longest time that one process may wait for another; the end of a process is noticed at once.
TIMEOUT = timedelta(hours=6)


class RankZeroError(TightboundError):
    """An error that rank 0 reports to the user as well."""


class WorkerError(TightboundError):
    """An error of one process other than rank 0."""


class LaunchContext:
    """A process of a torchrun launch: rank, world size, local rank.

    All processes must call the methods in the same order. With a single process they
    communicate nothing.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank

    @property
    def share(self) -> Share:
        """The part of each batch that this process works on."""
        return self.rank, self.world_size

    @property
    def is_rank_zero(self) -> bool:
        """True for the process that prints and writes files."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, in every process."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[T | None] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def broadcast(self, value: T) -> T:
        """The value of rank 0, in every process."""
        if self.world_size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 and return its result in every process.

        A TightboundError on rank 0 is raised in all processes, as RankZeroError in the others.
        """
        results: list[T] = []
        error = None
        if self.is_rank_zero:
            try:
                results.append(function())
            except TightboundError as caught:
                error = caught
        sentence = None if error is None else str(error)
        results, sentence = self.broadcast((results, sentence))
        if error is not None:
            raise error
        if sentence is not None:
            raise RankZeroError(sentence)
        return results[0]

    def rank_zero_first(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0, then in the others; each gets its own result.

        Files that rank 0 writes exist when the other processes look for them.
        """
        results: list[T] = []

        def call() -> None:
            results.append(function())

        self.on_rank_zero(call)
        if results:
            return results[0]
        return function()

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; bit-identical in every process."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values


def _with_rank(error: Exception, launch: LaunchContext) -> Exception:
    """The error with the rank of its process, or that another process has ended."""
    if launch.is_rank_zero or isinstance(error, RankZeroError):
        return error
    process = f"process {launch.rank} of {launch.world_size}"
    if is_lost_connection(error):
        return WorkerError(
            f"{process}: another process has ended, so this one ends, too"
        )
    if isinstance(error, TightboundError):
        return WorkerError(f"{process}: {error}")
    return error


SINGLE_PROCESS = LaunchContext()
_current = SINGLE_PROCESS


def current_launch() -> LaunchContext:
    """The launch that was joined, or SINGLE_PROCESS."""
    return _current


def started_by_torchrun() -> bool:
    """True if torchrun started this process, also as the only one."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch_id() -> str:
    """An identifier shared by all starts of one launch by torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name != "none":
        return name
    return f"{socket.gethostname()}:{os.getppid()}"


@contextmanager
def join_launch(device: str) -> Iterator[LaunchContext]:
    """Join the process group of a torchrun launch for the time of the block.

    The backend is nccl for GPUs (device "cuda") and gloo for CPUs. Without torchrun, and
    inside another such block, nothing is joined.

    Raises:
        TightboundError: The launch has more processes on this machine than there are GPUs.
    """
    global _current
    if not started_by_torchrun() or _current is not SINGLE_PROCESS:
        yield _current
        return
    import torch.distributed as dist

    local_rank = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        _select_gpu(local_rank)
    creates_group = not dist.is_initialized()
    if creates_group:
        _create_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    _current = LaunchContext(dist.get_rank(), dist.get_world_size(), local_rank)
    try:
        yield _current
    except (TightboundError, RuntimeError) as error:
        raise _with_rank(error, _current) from error
    finally:
        _current = SINGLE_PROCESS
        if creates_group:
            dist.destroy_process_group()


def _select_gpu(local_rank: int) -> None:
    import torch

    if local_rank >= torch.cuda.device_count():
        raise TightboundError(
            f"process {local_rank} has no GPU, this machine has {torch.cuda.device_count()}: "
            "start torchrun with --nproc-per-node at most that many, or add --device cpu"
        )
    torch.cuda.set_device(local_rank)


def _create_group(backend: str) -> None:
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    # The launcher's store outlives a restart; a prefix hides the entries of ended processes.
    store, rank, world_size = next(rendezvous("env://", timeout=TIMEOUT))
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    dist.init_process_group(
        backend,
        store=PrefixStore(f"start-{restart}", store),
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
