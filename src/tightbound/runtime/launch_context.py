"""The processes of one launch by torchrun: their ranks and what they exchange."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from tightbound.runtime.errors import TightboundError, shortened
from tightbound.runtime.foreign_errors import is_lost_connection, is_unreachable
from tightbound.runtime.progress import notice

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# (index, number) of equal parts of a batch; random numbers are drawn for the whole batch.
Share = tuple[int, int]
WHOLE: Share = (0, 1)
# The longest time that one process may wait for another; the end of a process is noticed at once.
TIMEOUT = timedelta(hours=6)
# The longest time that a process waits for the others of its launch to start.
JOIN_TIMEOUT = timedelta(minutes=10)
COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
VARIABLES = (*COUNTS, "MASTER_ADDR", "MASTER_PORT")


class RankZeroError(TightboundError):
    """An error that rank 0 reports to the user as well."""


class WorkerError(TightboundError):
    """An error of one process other than rank 0."""


@dataclass(frozen=True)
class LaunchVariables:
    """The place of a process in a launch, as its environment says.

    Attributes:
        rank: number of the process in the launch.
        world_size: number of processes in the launch.
        local_rank: number of the process on its machine.
        address: host and port at which the processes meet.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str


def launch_variables() -> LaunchVariables | None:
    """The launch that the environment describes, or None where a variable lacks.

    Raises:
        TightboundError: A variable is not a whole number, or RANK is none of the launch.
    """
    if not all(os.environ.get(name) for name in VARIABLES):
        return None
    rank, world_size, local_rank = (_count(name) for name in COUNTS)
    _count("MASTER_PORT")
    if rank >= world_size:
        raise TightboundError(
            f"RANK is {rank} and WORLD_SIZE {world_size} in the environment, but ranks count from "
            f"0: {_unset(VARIABLES)}, or start the processes by torchrun"
        )
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    return LaunchVariables(rank, world_size, local_rank, address)


def _count(name: str) -> int:
    value = os.environ[name]
    if value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise TightboundError(
        f"the environment variable {name} is {shortened(value)}, but torchrun sets it to a whole "
        f"number: {_unset(VARIABLES)}, or start the processes by torchrun"
    )


def _unset(names: tuple[str, ...] | list[str]) -> str:
    return f"unset {' '.join(names)}"


def leftover_variables() -> str:
    """A notice of variables of a launch that is incomplete, or "" without any.

    They stay in a shell after a launch by hand. The process then works on its own.
    """
    present = [name for name in VARIABLES if os.environ.get(name)]
    if not present or len(present) == len(VARIABLES):
        return ""
    missing = [name for name in VARIABLES if name not in present]
    return (
        f"{', '.join(present)} in the environment, without {', '.join(missing)}: left over from "
        f"an earlier launch and ignored, this is one process ({_unset(present)} ends this notice)"
    )


def own_rank() -> int:
    """The rank of this process in its launch, 0 where it is on its own."""
    variables = launch_variables()
    return variables.rank if variables else 0


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

        The others wait meanwhile, so to `function` rank 0 is the only process: what it calls
        communicates nothing. A TightboundError on rank 0 is raised in all processes, as
        RankZeroError in the others.
        """
        results: list[T] = []
        error = None
        if self.is_rank_zero:
            try:
                with _on_its_own():
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
        with _on_its_own():
            return function()

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; bit-identical in every process."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values


def _with_rank(error: Exception, launch: LaunchContext) -> Exception:
    """The error with the rank of its process, or that another process has ended."""
    process = f"process {launch.rank} of {launch.world_size}"
    if launch.world_size > 1 and is_lost_connection(error):
        return WorkerError(
            f"{process}: another process has ended, so this one ends, too"
        )
    if launch.is_rank_zero or isinstance(error, RankZeroError):
        return error
    if isinstance(error, TightboundError):
        return WorkerError(f"{process}: {error}")
    return error


SINGLE_PROCESS = LaunchContext()
_current = SINGLE_PROCESS


def current_launch() -> LaunchContext:
    """The launch that was joined, or SINGLE_PROCESS."""
    return _current


@contextmanager
def _on_its_own() -> Iterator[None]:
    """Let this process of a launch be the only one for the time of the block."""
    global _current
    joined = _current
    _current = SINGLE_PROCESS
    try:
        yield
    finally:
        _current = joined


def started_by_torchrun() -> bool:
    """True if torchrun started this process, also as the only one."""
    return launch_variables() is not None


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
        TightboundError: The launch has more processes on this machine than there are GPUs, or
            the others do not come.
    """
    global _current
    variables = launch_variables()
    if variables is None or _current is not SINGLE_PROCESS:
        if leftover := leftover_variables():
            notice(leftover)
        yield _current
        return
    import torch.distributed as dist

    if device == "cuda":
        _select_gpu(variables.local_rank)
    creates_group = not dist.is_initialized()
    if creates_group:
        _create_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", variables)
    _current = LaunchContext(
        dist.get_rank(), dist.get_world_size(), variables.local_rank
    )
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


def _create_group(backend: str, variables: LaunchVariables) -> None:
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    by_hand = "TORCHELASTIC_RUN_ID" not in os.environ
    if by_hand and variables.world_size > 1:
        notice(
            f"process {variables.rank} of {variables.world_size}, by RANK and WORLD_SIZE in the "
            f"environment: waiting for the others at {variables.address}"
        )
    try:
        # The launcher's store outlives a restart; a prefix hides the entries of ended processes.
        store, rank, world_size = next(rendezvous("env://", timeout=JOIN_TIMEOUT))
        store.set_timeout(TIMEOUT)
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
        dist.init_process_group(
            backend,
            store=PrefixStore(f"start-{restart}", store),
            rank=rank,
            world_size=world_size,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError, OSError) as error:
        if not is_unreachable(error):
            raise
        raise WorkerError(
            f"process {variables.rank} of {variables.world_size} cannot meet the others at "
            f"{variables.address}: if these are variables of an earlier launch, "
            f"{_unset(VARIABLES)}; else start all processes by torchrun"
        ) from error
