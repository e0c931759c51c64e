"""OnDisk: examples that stay where they are and are read as they are asked for, in bounded
memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tightbound.data.settings import DataSettings
from tightbound.data.source import as_tensor
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady

Read = Callable[[int, int], Tensor]

NEAR = 1 << 16  # bytes between two rows that are still read in one go
PIECE = 1 << 20  # bytes that are worth reading in one go
KEPT = 1 << 26  # bytes of pieces that are kept for the next question
FEW = 1 << 27  # bytes of a sample that is held in memory
PLACES = 256  # places of a file that a sample of rows is taken from


class OnDisk:
    """The few things of a tensor (n, ...) that a `Split` uses, over rows that `read(start, stop)`
    fetches in order.

    block: how many rows the file keeps together, as a chunk; 1 where any row can be read alone.  A
    block is read whole, and the latest ones are kept.
    """

    device = torch.device("cpu")

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, read: Read, block: int = 1
    ) -> None:
        self.shape, self.dtype, self.block = (
            tuple(shape),
            dtype,
            max(1, min(block, shape[0] or 1)),
        )
        self._read = read
        if self.block > 1:
            kept = max(2, KEPT // max(1, self.block * self.row_bytes))
            self._whole = functools.lru_cache(kept)(self._one_block)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one example."""
        return torch.Size(self.shape[1:]).numel() * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return len(self) * self.row_bytes

    @property
    def few(self) -> int:
        """Rows that may be held in memory to stand for all: 50,000, or what 128 MB hold."""
        return max(16, min(50_000, FEW // max(1, self.row_bytes)))

    @property
    def piece(self) -> int:
        """Rows that are worth reading together: about a megabyte, in whole blocks."""
        return -(-max(1, PIECE // max(1, self.row_bytes)) // self.block) * self.block

    def __len__(self) -> int:
        return self.shape[0]

    def _one_block(self, number: int) -> Tensor:
        start = number * self.block
        return self._read(start, min(start + self.block, len(self)))

    def read(self, start: int, stop: int) -> Tensor:
        """The rows from start to stop, in memory."""
        start, stop, _ = slice(start, stop).indices(len(self))
        if self.block == 1 or stop <= start:
            return self._read(start, max(start, stop))
        blocks = range(start // self.block, -(-stop // self.block))
        rows = [self._whole(number) for number in blocks]
        offset = blocks.start * self.block
        return (rows[0] if len(rows) == 1 else torch.cat(rows))[
            start - offset : stop - offset
        ]

    def __getitem__(self, key: slice | Tensor) -> Tensor:
        return (
            self.read(*key.indices(len(self))[:2])
            if isinstance(key, slice)
            else self.index_select(0, key)
        )

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """These rows, in this order; rows that lie near each other are read in one go."""
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if not len(rows):
            return out
        order = rows.cpu().argsort()
        ranked = rows.cpu()[order]
        if int(ranked[0]) < 0 or int(ranked[-1]) >= len(self):
            raise IndexError(
                f"rows {int(ranked[0])} to {int(ranked[-1])} of {len(self)}"
            )
        start = 0
        for stop in [
            *(_gaps(ranked, NEAR // max(1, self.row_bytes)) + 1).tolist(),
            len(ranked),
        ]:
            for at in range(start, stop, self.piece):
                own = ranked[at : min(at + self.piece, stop)]
                first = int(own[0])
                out[order[at : at + len(own)]] = self.read(first, int(own[-1]) + 1)[
                    own - first
                ]
            start = stop
        return out

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        return (self.read(start, start + size) for start in range(0, len(self), size))

    def narrow(self, dim: int, start: int, length: int) -> OnDisk:
        """The rows from start to start + length, still on the disk."""
        return OnDisk(
            (length, *self.shape[1:]),
            self.dtype,
            lambda a, b: self.read(a + start, b + start),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> OnDisk:
        """The rows as `change` makes them of what is read."""
        one = change(self.read(0, 1))
        return OnDisk(
            (len(self), *one.shape[1:]), one.dtype, lambda a, b: change(self.read(a, b))
        )


def too_large(
    nbytes: int, settings: DataSettings, where: str, notices: list[str]
) -> bool:
    """True for a source that is not to be held in memory, which is announced."""
    if nbytes <= settings.memory * 1_000_000:
        return False
    notices.append(
        f"{where}: {nbytes / 1e9:.3g} GB are read as they are needed (held in "
        "memory up to data.memory = "
        f"{settings.memory} MB), and mixed some {PLACES} places at a time"
    )
    return True


def held(
    rows: OnDisk, settings: DataSettings, where: str, notices: list[str]
) -> Tensor | OnDisk:
    """The rows in memory where they fit `data.memory`, else where they are."""
    if too_large(rows.nbytes, settings, where, notices):
        return rows
    steady = Steady(f"reading {where}", len(rows))
    out = torch.empty(rows.shape, dtype=rows.dtype)
    for start in range(0, len(rows), rows.piece):
        out[start : start + rows.piece] = rows.read(start, start + rows.piece)
        steady.add(min(rows.piece, len(rows) - start))
    return out


def map_on_disk(array: np.memmap, what: str) -> OnDisk:
    """The rows of a whole memory map, by plain reads of its file: pages of a map count as memory of
    this process.
    """
    if not array.flags.c_contiguous:
        raise TightboundError(
            f"{what} is stored column by column (Fortran order), too large to "
            "turn: save it in C order"
        )
    path, offset, one = str(array.filename), array.offset, array[:1]
    like = as_tensor(np.array(one), what, [])

    def read(start: int, stop: int) -> Tensor:
        rows = np.empty((stop - start, *array.shape[1:]), array.dtype)
        with open(path, "rb", buffering=0) as file:
            file.seek(offset + start * one.nbytes)
            if file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:
                raise TightboundError(
                    f"{what}: rows {start} to {stop - 1} cannot be read: the file became shorter"
                )
        return as_tensor(rows, what, [])

    return OnDisk((len(array), *like.shape[1:]), like.dtype, read)


def _gaps(ranked: Tensor, near: int) -> Tensor:
    """Where sorted rows lie more than `near` apart."""
    return ((ranked[1:] - ranked[:-1]) > max(1, near)).nonzero().flatten()


class Without:
    """The rows 0..n-1 without some: `index[i]` is the i-th of the rest, at no cost in memory.

    taken: the rows that are left out, sorted.  limit: only the first so many of the rest.
    """

    def __init__(self, n: int, taken: Tensor, limit: int | None = None) -> None:
        self.n, self.taken = n, taken
        self.length = n - len(taken) if limit is None else min(limit, n - len(taken))
        self._before = taken - torch.arange(len(taken))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Tensor) -> Tensor:
        return at + torch.searchsorted(self._before, at.contiguous(), right=True)

    def inside(self, start: int, stop: int) -> Tensor:
        """Which of the rows start..stop-1 of the whole belong to it, as offsets from start."""
        first, last = (
            int(i) for i in torch.searchsorted(self.taken, torch.tensor([start, stop]))
        )
        keep = torch.ones(stop - start, dtype=torch.bool)
        keep[self.taken[first:last] - start] = False
        return keep.nonzero().flatten()[: max(0, self.length - (start - first))]


def looked_at(x: Tensor | OnDisk) -> tuple[Tensor, Tensor | None]:
    """The rows that stand for all, and their numbers: all of them, or scattered ones of a source on
    a disk.

    The others are checked when they are read.
    """
    if isinstance(x, Tensor):
        return x, None
    rows = scattered(len(x), x.piece, min(x.few, len(x)), 0).sort().values
    return x[rows], rows


def scattered(n: int, piece: int, k: int, seed: int) -> Tensor:
    """k different rows of n in random order, from about 256 places of the file, some of each
    `piece` rows long.
    """
    if k > n:
        raise TightboundError(f"{k} rows are wanted of {n}")
    random = torch.Generator().manual_seed(seed)
    places = torch.randperm(-(-n // piece), generator=random)
    each = -(-k // min(len(places), PLACES))
    found: list[Tensor] = []
    while not found or sum(map(len, found)) < k:
        found, total = [], 0
        for place in places.tolist():
            size = min(piece, n - place * piece)
            found.append(place * piece + torch.randperm(size, generator=random)[:each])
            total += len(found[-1])
            if total >= k:
                break
        each *= 2
    rows = torch.cat(found)
    return rows[torch.randperm(len(rows), generator=random)[:k]]


def spread(n: int, piece: int, k: int) -> Tensor:
    """k row numbers of n spread evenly; where rows are read in pieces, over 256 of them, and evenly
    in each.
    """
    k = min(n, k)
    if piece == 1 or k <= PLACES or n <= k * 2:
        return torch.linspace(0, n - 1, k, dtype=torch.float64).round().long()
    places, size = min(PLACES, n // piece or 1), min(piece, n)
    each = -(-k // places)
    if each * 2 > size:
        return torch.linspace(0, n - 1, k, dtype=torch.float64).round().long()
    starts = (
        torch.linspace(0, n - size, -(-k // each), dtype=torch.float64).round().long()
    )
    inner = torch.linspace(0, size - 1, each, dtype=torch.float64).round().long()
    return (starts[:, None] + inner).flatten()[:k]
