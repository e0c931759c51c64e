"""Examples that stay on the disk and are read on access, in bounded memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tightbound.data.formats.limits import check_value_count
from tightbound.data.settings import DataSettings
from tightbound.data.source import as_tensor
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady

Read = Callable[[int, int], Tensor]

NEAR = 1 << 16  # bytes: rows with smaller gaps between them are read together
PIECE = 1 << 20  # bytes that are worth reading at a time
CACHED = 1 << 26  # bytes of the blocks that stay in memory for later reads
SAMPLE = 1 << 27  # bytes of a sample of rows that is kept in memory
PLACES = 256  # places of a file that a random sample of rows is taken from


class OnDisk:
    """An array of examples on the disk, with the indexing methods of a Tensor.

    Args:
        shape: shape of the whole array.
        dtype: dtype of the rows that `read` returns.
        read: `read(start, stop)` returns these rows.
        block: number of rows that the file stores together, as a chunk, or 1. A
            block is read as a whole, and the latest blocks stay in memory.
    """

    device = torch.device("cpu")

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, read: Read, block: int = 1
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.block = max(1, min(block, shape[0] or 1))
        self._read = read
        if self.block > 1:
            blocks = max(2, CACHED // max(1, self.block * self.row_bytes))
            self._cached_block = functools.lru_cache(blocks)(self._read_block)

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
    def sample_size(self) -> int:
        """Rows of a sample that is kept in memory: 50,000, or as many as fit 128 MB."""
        return max(16, min(50_000, SAMPLE // max(1, self.row_bytes)))

    @property
    def piece(self) -> int:
        """Rows to read at a time: about a megabyte, in whole blocks."""
        rows = max(1, PIECE // max(1, self.row_bytes))
        return -(-rows // self.block) * self.block

    def __len__(self) -> int:
        return self.shape[0]

    def _read_block(self, number: int) -> Tensor:
        start = number * self.block
        return self._read(start, min(start + self.block, len(self)))

    def read(self, start: int, stop: int) -> Tensor:
        """The rows from start to stop, in memory."""
        start, stop, _ = slice(start, stop).indices(len(self))
        if self.block == 1 or stop <= start:
            return self._read(start, max(start, stop))
        blocks = range(start // self.block, -(-stop // self.block))
        rows = [self._cached_block(number) for number in blocks]
        offset = blocks.start * self.block
        joined = rows[0] if len(rows) == 1 else torch.cat(rows)
        return joined[start - offset : stop - offset]

    def __getitem__(self, key: slice | Tensor) -> Tensor:
        if isinstance(key, slice):
            return self.read(*key.indices(len(self))[:2])
        return self.index_select(0, key)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """These rows in this order; rows that lie close together are read at once."""
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if not len(rows):
            return out
        order = rows.cpu().argsort()
        ranked = rows.cpu()[order]
        if int(ranked[0]) < 0 or int(ranked[-1]) >= len(self):
            raise IndexError(
                f"rows {int(ranked[0])} to {int(ranked[-1])} of {len(self)}"
            )
        breaks = _gaps(ranked, NEAR // max(1, self.row_bytes)) + 1
        start = 0
        for stop in [*breaks.tolist(), len(ranked)]:
            for at in range(start, stop, self.piece):
                group = ranked[at : min(at + self.piece, stop)]
                first = int(group[0])
                block = self.read(first, int(group[-1]) + 1)
                out[order[at : at + len(group)]] = block[group - first]
            start = stop
        return out

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        return (self.read(start, start + size) for start in range(0, len(self), size))

    def narrow(self, dim: int, start: int, length: int) -> OnDisk:
        """The rows from start to start + length, not read yet."""
        return OnDisk(
            (length, *self.shape[1:]),
            self.dtype,
            lambda a, b: self.read(a + start, b + start),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> OnDisk:
        """The same rows with `change` applied to them whenever they are read."""
        row = change(self.read(0, 1))
        return OnDisk(
            (len(self), *row.shape[1:]), row.dtype, lambda a, b: change(self.read(a, b))
        )


def too_large(
    nbytes: int, settings: DataSettings, where: str, notices: list[str]
) -> bool:
    """True, with a notice, for a source larger than `data.memory`."""
    if nbytes <= settings.memory_bytes:
        return False
    notices.append(
        f"{where}: {nbytes / 1e9:.3g} GB are read as they are needed (held in "
        f"memory up to data.memory = {settings.memory} MB), and mixed some "
        f"{PLACES} places at a time"
    )
    return True


def load_if_small(
    rows: OnDisk, settings: DataSettings, where: str, notices: list[str]
) -> Tensor | OnDisk:
    """The rows in memory where they fit `data.memory`, else unchanged."""
    if too_large(rows.nbytes, settings, where, notices):
        return rows
    progress = Steady(f"reading {where}", len(rows))
    out = torch.empty(rows.shape, dtype=rows.dtype)
    for start in range(0, len(rows), rows.piece):
        out[start : start + rows.piece] = rows.read(start, start + rows.piece)
        progress.add(min(rows.piece, len(rows) - start))
    return out


def map_on_disk(array: np.memmap, what: str) -> OnDisk:
    """The rows of a memory map, read with plain file reads.

    Pages of the map itself would count as memory of this process.
    """
    if not array.flags.c_contiguous:
        raise TightboundError(
            f"{what} is stored column by column (Fortran order), too large to "
            "turn: save it in C order"
        )
    check_value_count(what, array.shape)
    path = str(array.filename)
    offset = array.offset
    row = array[:1]
    like = as_tensor(np.array(row), what, [])

    def read(start: int, stop: int) -> Tensor:
        rows = np.empty((stop - start, *array.shape[1:]), array.dtype)
        with open(path, "rb", buffering=0) as file:
            file.seek(offset + start * row.nbytes)
            if file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:
                raise TightboundError(
                    f"{what}: rows {start} to {stop - 1} cannot be read: the file became shorter"
                )
        return as_tensor(rows, what, [])

    return OnDisk((len(array), *like.shape[1:]), like.dtype, read)


def _gaps(ranked: Tensor, near: int) -> Tensor:
    """Positions in sorted row numbers after which the next is more than `near` away."""
    return ((ranked[1:] - ranked[:-1]) > max(1, near)).nonzero().flatten()


class ExcludingIndex:
    """An index of the rows 0..n-1 without some of them, in memory O(excluded rows).

    `index[i]` is the number of the i-th row that remains.

    Args:
        n: number of all rows.
        excluded: sorted numbers of the rows that are left out.
        limit: keep only so many of the remaining rows, the first ones.
    """

    def __init__(self, n: int, excluded: Tensor, limit: int | None = None) -> None:
        self.n = n
        self.excluded = excluded
        remaining = n - len(excluded)
        self.length = remaining if limit is None else min(limit, remaining)
        self._before = excluded - torch.arange(len(excluded))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Tensor) -> Tensor:
        return at + torch.searchsorted(self._before, at.contiguous(), right=True)

    def inside(self, start: int, stop: int) -> Tensor:
        """The rows from start to stop that the index contains, as offsets from start."""
        bounds = torch.searchsorted(self.excluded, torch.tensor([start, stop]))
        first, last = bounds.tolist()
        keep = torch.ones(stop - start, dtype=torch.bool)
        keep[self.excluded[first:last] - start] = False
        return keep.nonzero().flatten()[: max(0, self.length - (start - first))]


def rows_to_check(x: Tensor | OnDisk) -> tuple[Tensor, Tensor | None]:
    """The rows whose values are checked at once, and their numbers.

    Returns:
        All rows of a Tensor, and None; of rows on the disk a random sample, whose
        other rows are checked when they are read.
    """
    if isinstance(x, Tensor):
        return x, None
    rows = random_rows(len(x), x.piece, min(x.sample_size, len(x)), 0).sort().values
    return x[rows], rows


def random_rows(n: int, piece: int, k: int, seed: int) -> Tensor:
    """k different row numbers of n in random order, from about 256 places of a file.

    Args:
        n: number of rows.
        piece: rows of one place, which are read together.
        k: number of rows to draw.
        seed: the rows are a function of it.
    """
    if k > n:
        raise TightboundError(f"{k} rows are wanted of {n}")
    random = torch.Generator().manual_seed(seed)
    places = torch.randperm(-(-n // piece), generator=random)
    from_each = -(-k // min(len(places), PLACES))
    drawn: list[Tensor] = []
    while not drawn or sum(map(len, drawn)) < k:
        drawn = _draw_from_places(n, piece, k, places, from_each, random)
        from_each *= 2
    rows = torch.cat(drawn)
    return rows[torch.randperm(len(rows), generator=random)[:k]]


def _draw_from_places(
    n: int,
    piece: int,
    k: int,
    places: Tensor,
    from_each: int,
    random: torch.Generator,
) -> list[Tensor]:
    """`from_each` random rows of one place after another, until k rows are drawn."""
    drawn: list[Tensor] = []
    total = 0
    for number in range(len(places)):
        place = int(places[number])
        size = min(piece, n - place * piece)
        rows = torch.randperm(size, generator=random)[:from_each]
        drawn.append(place * piece + rows)
        total += len(rows)
        if total >= k:
            break
    return drawn


def spread(n: int, piece: int, k: int) -> Tensor:
    """k row numbers of n, evenly spaced.

    Where rows are read in pieces, evenly in each of 256 of these.
    """
    k = min(n, k)
    if piece == 1 or k <= PLACES or n <= k * 2:
        return _evenly(n, k)
    places = min(PLACES, n // piece or 1)
    size = min(piece, n)
    from_each = -(-k // places)
    if from_each * 2 > size:
        return _evenly(n, k)
    starts = _evenly(n - size + 1, -(-k // from_each))
    return (starts[:, None] + _evenly(size, from_each)).flatten()[:k]


def _evenly(n: int, k: int) -> Tensor:
    """k whole numbers from 0 to n - 1, evenly spaced."""
    return torch.linspace(0, n - 1, k, dtype=torch.float64).round().long()
