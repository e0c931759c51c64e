"""The processes of one launch by torchrun: which of them this is, and what they tell each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from torch import Tensor

LOST = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "Socket Timeout",
)
T = TypeVar("T")
Share = tuple[
    int, int
]  # (which, of how many) equal parts of a batch; random numbers are drawn for the whole of it
WHOLE: Share = (0, 1)
PATIENCE = timedelta(
    hours=6
)  # a dead process is noticed at once; this is how long one may be slower than another


class Told(TightboundError):
    """An error that the first process tells the user, too."""


class Own(TightboundError):
    """An error of this process, which is not the first, alone."""


class Processes:
    """This process among its likes: `rank` of `world`; on its machine the `local`-th.

    All methods must be called by all processes in the same order; for a single process they cost
    nothing.
    """

    def __init__(self, rank: int = 0, world: int = 1, local: int = 0) -> None:
        self.rank, self.world, self.local = rank, world, local

    @property
    def share(self) -> Share:
        """The part of each batch that is this one's."""
        return self.rank, self.world

    @property
    def first(self) -> bool:
        """True for the one that prints and writes."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all, by rank."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def agree(self, value: T) -> T:
        """The value of the first, for all."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def lead(self, do: Callable[[], T]) -> T:
        """What `do()` gives the first process, for all; where it raises a TightboundError, all
        stop.
        """
        found, error = None, None
        if self.first:
            try:
                found = do()
            except TightboundError as caught:
                error = caught
        found, sentence = self.agree((found, None if error is None else str(error)))
        if error is not None:
            raise error
        if sentence is not None:
            raise Told(sentence)
        return found  # type: ignore[return-value]

    def after_first(self, do: Callable[[], T]) -> T:
        """What `do()` gives each, the first one before the others: it makes what the others find
        made.
        """
        own: list[T] = []
        self.lead(lambda: own.append(do()))
        return own[0] if own else do()

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; the same bits in each."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values


def _own(error: Exception, us: Processes) -> Exception:
    """The error of a process, told so that one knows whose it is, and whether another's end is its
    cause.
    """
    import torch.distributed as dist

    if us.first or isinstance(error, Told):
        return error
    lost = isinstance(error, dist.DistError) or any(word in str(error) for word in LOST)
    if lost:
        return Own(
            f"process {us.rank} of {us.world}: another process has ended, so this one ends, too"
        )
    return (
        Own(f"process {us.rank} of {us.world}: {error}")
        if isinstance(error, TightboundError)
        else error
    )


ALONE = Processes()
_here = ALONE


def here() -> Processes:
    """This process among those of the launch that was joined; alone where none was."""
    return _here


def launched() -> bool:
    """True where torchrun started this process, also as the only one."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch() -> str:
    """A name of this launch that its restarts share: the id that torchrun was given, else its
    process.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return name if name != "none" else f"{socket.gethostname()}:{os.getppid()}"


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Joins the other processes of a launch for the time of the block: nccl among GPUs ("cuda"),
    gloo among CPUs.

    Raises TightboundError where the launch has more processes a machine than there are GPUs.
    """
    global _here
    if not launched() or _here is not ALONE:
        yield _here
        return
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    local = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise TightboundError(
                f"process {local} has no GPU, this machine has "
                f"{torch.cuda.device_count()}: start torchrun with "
                "--nproc-per-node at most that many, or add --device cpu"
            )
        torch.cuda.set_device(local)
    own = not dist.is_initialized()
    if own:
        # The launcher's store outlives a restart, and what dead processes left in it must not be
        # found again.
        store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
        store = PrefixStore(
            f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store
        )
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=PATIENCE
        )
    _here = Processes(dist.get_rank(), dist.get_world_size(), local)
    try:
        yield _here
    except (TightboundError, RuntimeError) as error:
        raise _own(error, _here) from error
    finally:
        _here = ALONE
        if own:
            dist.destroy_process_group()
