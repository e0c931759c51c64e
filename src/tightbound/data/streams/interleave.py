"""Shuffle data that are read in pieces, in bounded memory.

The pieces (blocks of a file, shards) are dealt out over a fixed number of readers, and
each reader gives an equal part of every batch. A reader goes through its pieces in an
order that is a function of (seed, epoch), and shuffles its rows one buffer at a time. A
process runs some of the readers and reads only their pieces, so the batch of all
processes together does not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from tightbound.data.on_disk import ExcludingIndex, OnDisk
from tightbound.data.prepare.infer import check_read
from tightbound.data.prepare.split import Split
from tightbound.data.source import sha256_text
from tightbound.runtime.errors import TightboundError

MAX_READERS = 16
BUFFER = 1 << 28  # bytes of the shuffle buffers of all readers together

Position = tuple[int, int, int]  # epoch, number of the piece in its order, row in it


class Pieces(Protocol):
    """Data in pieces of any size, each with the same rows in the same order.

    Attributes:
        where: the name of the data in messages.
        shuffle_buffer: rows to shuffle at a time; None for as many as fit 256 MB.
        row_bytes: bytes of one row.
    """

    @property
    def where(self) -> str: ...

    @property
    def shuffle_buffer(self) -> int | None: ...

    @property
    def row_bytes(self) -> int: ...

    def __len__(self) -> int: ...

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        """Raw rows of a piece from its row `start` on, a few at a time."""
        ...


class Blocks:
    """The training rows of a split on the disk, in pieces of about a megabyte."""

    shuffle_buffer = None

    def __init__(self, split: Split) -> None:
        assert isinstance(split.x, OnDisk) and not isinstance(split.index, Tensor)
        self.x = split.x
        self.checks = split.checks
        self.where = "the data"
        nothing = torch.empty(0, dtype=torch.long)
        self.index = split.index or ExcludingIndex(len(split.x), nothing)
        self.stop = int(self.index[torch.tensor([len(split) - 1])]) + 1

    @property
    def row_bytes(self) -> int:
        return self.x.row_bytes

    def __len__(self) -> int:
        return -(-self.stop // self.x.piece)

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        first = piece * self.x.piece
        last = min(first + self.x.piece, self.stop)
        offsets = self.index.inside(first, last)[start:]
        if len(offsets):
            rows = self.x.read(first, last)[offsets]
            if self.checks is not None:
                check_read(rows, self.checks, self.where, offsets + first)
            yield rows


def _permutation(n: int, generator: torch.Generator) -> Tensor:
    """The numbers 0 to n - 1 in random order, (n,), in as few bytes as hold them."""
    order = torch.randperm(n, generator=generator)
    return order.int() if n < 2**31 else order


class ShardReader:
    """Reads some of the pieces in random order, shuffled through a buffer.

    Attributes:
        at: position at which the current buffer starts.
        used: rows of the buffer that were taken.

    Args:
        pieces: the data.
        chosen: the numbers of the pieces to read, (m,).
        seed: the orders are functions of seed and number.
        number: the number of this reader.
        first_buffer: rows of the first buffer.
        shuffle_buffer: rows of all later buffers.
    """

    def __init__(
        self,
        pieces: Pieces,
        chosen: Tensor,
        seed: int,
        number: int,
        first_buffer: int,
        shuffle_buffer: int,
    ) -> None:
        self.pieces = pieces
        self.chosen = chosen
        self.seed = seed
        self.number = number
        self.first_buffer = first_buffer
        self.shuffle_buffer = shuffle_buffer
        self.go_to((0, 0, 0), 0)

    def go_to(self, at: Position, used: int) -> None:
        """Continue at the position of another reader of the same number."""
        self.at = at
        self.used = used
        self._stream = self._read(at)
        self._pending: tuple[Tensor, Position] | None = None
        self._buffer: Tensor | None = None

    def take(self, k: int) -> Tensor:
        """The next k rows."""
        taken: list[Tensor] = []
        while k:
            if self._buffer is None:
                self._buffer = self._fill()
            rows = self._order[self.used : self.used + k]
            taken.append(self._buffer.index_select(0, rows))
            self.used += len(rows)
            k -= len(rows)
            if self.used == len(self._order):
                self.at = self._after
                self.used = 0
                self._buffer = None
        return torch.cat(taken)

    def _random(self, *keys: object) -> torch.Generator:
        digest = sha256_text(self.seed, self.number, *keys)
        return torch.Generator().manual_seed(int(digest[:15], 16))

    def _fill(self) -> Tensor:
        """Read the next buffer, not beyond the end of its epoch, and draw its order."""
        missing = self.shuffle_buffer if any(self.at) else self.first_buffer
        blocks: list[Tensor] = []
        current: int | None = None
        while missing:
            rows, position = self._pending or next(self._stream)
            self._pending = None
            epoch, piece, row = position
            if current not in (None, epoch):
                self._pending = (rows, position)
                break
            current = epoch
            block = rows[:missing]
            blocks.append(block)
            self._after = (epoch, piece, row + len(block))
            if len(rows) > missing:
                self._pending = (rows[missing:], self._after)
            missing -= len(block)
        buffer = torch.cat(blocks)
        # the key "window" is part of the orders of examples and stays as it is
        self._order = _permutation(len(buffer), self._random("window", *self.at))
        return buffer

    def _read(self, at: Position) -> Iterator[tuple[Tensor, Position]]:
        """Rows from a position on, epoch after epoch, with the position of the first."""
        epoch, start, row = at
        while True:
            order = self.chosen[
                _permutation(len(self.chosen), self._random("epoch", epoch))
            ]
            is_empty = (start, row) == (0, 0)
            for number in range(start, len(order)):
                for rows in self.pieces.rows(int(order[number]), row):
                    yield rows, (epoch, number, row)
                    row += len(rows)
                    is_empty = False
                row = 0
            if is_empty:
                raise TightboundError(
                    f"{self.pieces.where}: some of its pieces have no "
                    "examples: leave out empty ones"
                )
            epoch += 1
            start = 0


class InterleavedReader:
    """The readers of one process.

    A call gives the raw rows of its part of the next batch.

    Args:
        pieces: the data.
        batch: size of the batch of all processes.
        seed: the order of the rows is a function of it.
        rank: number of this process.
        world: number of processes.
        shuffle_buffer: rows that are shuffled at a time, of all readers together.

    Raises:
        TightboundError: where the pieces cannot be shared out over the processes.
    """

    def __init__(
        self,
        pieces: Pieces,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        shuffle_buffer: Literal["auto"] | int = "auto",
    ) -> None:
        self.total = reader_count(len(pieces), batch, world, pieces.where)
        self.each = batch // self.total
        if shuffle_buffer == "auto":
            most = BUFFER // max(1, pieces.row_bytes)
            rows = min(pieces.shuffle_buffer or BUFFER, most)
        else:
            rows = shuffle_buffer
        buffer = max(self.each, rows // self.total)
        dealt = _permutation(len(pieces), torch.Generator().manual_seed(seed))
        share = self.total // world
        # the first buffers have different sizes, so that not all are used up at once
        self.readers = [
            ShardReader(
                pieces,
                dealt[number :: self.total].clone(),
                seed,
                number,
                max(self.each, buffer * (number + 1) // self.total),
                buffer,
            )
            for number in range(rank * share, (rank + 1) * share)
        ]

    def __call__(self) -> Tensor:
        return torch.cat([reader.take(self.each) for reader in self.readers])

    def state_dict(self) -> dict[str, list[int]]:
        """The position of each reader of this process: {"3": [epoch, piece, row, used]}."""
        return {
            str(reader.number): [*reader.at, reader.used] for reader in self.readers
        }

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> str:
        """Continue from the states of all processes together, of any number of processes.

        Returns:
            A note for the user, where that number needs another number of readers: all
            then begin the next epoch. Else an empty text.
        """
        if len(state) != self.total:
            epoch = 1 + max(position[0] for position in state.values())
            for reader in self.readers:
                reader.go_to((epoch, 0, 0), 0)
            return (
                "the number of processes does not fit the order of the data, so "
                "the next epoch begins now"
            )
        for reader in self.readers:
            epoch, piece, row, used = state[str(reader.number)]
            reader.go_to((epoch, piece, row), used)
        return ""


def reader_count(pieces: int, batch: int, world: int, where: str) -> int:
    """The number of readers: the largest power of two that divides the batch.

    It is at most 16, and at most the number of pieces. Where it is not a multiple of the number of
    processes, there is one reader for each process.
    """
    if pieces < world:
        raise TightboundError(
            f"{where}: {pieces} pieces are too few for {world} processes: "
            "write more, smaller shards"
        )
    fits = [n for n in (1, 2, 4, 8, MAX_READERS) if n <= pieces and batch % n == 0]
    if fits[-1] % world == 0:
        return fits[-1]
    return world
