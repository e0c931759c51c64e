"""Lanes: training rows of data that are read in pieces, mixed in bounded memory, the same for any
number of processes.

The pieces (blocks of a file, shards) are dealt out over a fixed number of lanes, and each lane
gives an equal part of every batch.  A lane goes through its pieces in an order that is a function
of (seed, epoch), and mixes what it reads a window at a time.  A process runs some of the lanes and
reads only their pieces, so the batch of all processes together does not depend on how many they
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from tightbound.data.on_disk import OnDisk, Without
from tightbound.data.prepare.infer import check_read
from tightbound.data.prepare.split import Split
from tightbound.data.source import sha256_text
from tightbound.runtime.errors import TightboundError

MOST_LANES = 16
WINDOW = 1 << 28  # bytes of rows that all lanes together hold to mix

Place = tuple[
    int, int, int
]  # epoch, piece as the number in the epoch's order, row in it


class Pieces(Protocol):
    """Data in pieces of whatever size; a piece has the same rows in the same order each time.

    mix: how many rows are held to be mixed; None: what 256 MB hold.
    """

    @property
    def where(self) -> str: ...

    @property
    def mix(self) -> int | None: ...

    @property
    def row_bytes(self) -> int: ...

    def __len__(self) -> int: ...

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        """Raw rows of a piece, some at a time, from its row `start` on."""
        ...


class Blocks:
    """The training rows of a split on a disk, about a megabyte a piece."""

    mix = None

    def __init__(self, split: Split) -> None:
        assert isinstance(split.x, OnDisk) and not isinstance(split.index, Tensor)
        self.x, self.checks, self.where = split.x, split.checks, "the data"
        self.index = split.index or Without(
            len(split.x), torch.empty(0, dtype=torch.long)
        )
        self.stop = int(self.index[torch.tensor([len(split) - 1])]) + 1

    @property
    def row_bytes(self) -> int:
        return self.x.row_bytes

    def __len__(self) -> int:
        return -(-self.stop // self.x.piece)

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        first, last = piece * self.x.piece, min((piece + 1) * self.x.piece, self.stop)
        own = self.index.inside(first, last)[start:]
        if len(own):
            found = self.x.read(first, last)[own]
            if self.checks is not None:
                check_read(found, self.checks, self.where, own + first)
            yield found


class Lane:
    """One lane.  at: where the current window starts; used: how many of its rows are taken."""

    def __init__(
        self,
        pieces: Pieces,
        own: Sequence[int],
        seed: int,
        number: int,
        first: int,
        window: int,
    ) -> None:
        self.pieces, self.own, self.seed, self.number = pieces, own, seed, number
        self.first, self.size = first, window
        self.go_to((0, 0, 0), 0)

    def go_to(self, at: Place, used: int) -> None:
        """Goes on where another lane of the same number stood."""
        self.at, self.used = at, used
        self._reader, self._rest = self._read(at), iter(())  # type: Iterator[tuple[Tensor, Place]], Any
        self._window: Tensor | None = None

    def take(self, k: int) -> Tensor:
        """The next k rows."""
        found: list[Tensor] = []
        while k:
            if self._window is None:
                self._fill()
            assert self._window is not None
            rows = self._order[self.used : self.used + k]
            found.append(self._window.index_select(0, rows))
            self.used, k = self.used + len(rows), k - len(rows)
            if self.used == len(self._order):
                self.at, self.used, self._window = self._after, 0, None
        return torch.cat(found)

    def _random(self, *parts: object) -> torch.Generator:
        digest = sha256_text(self.seed, self.number, *parts)
        return torch.Generator().manual_seed(int(digest[:15], 16))

    def _fill(self) -> None:
        """Reads the next window, no further than its epoch, and draws its order."""
        left, found, this = self.size if any(self.at) else self.first, [], None
        while left:
            rows, (epoch, piece, row) = next(self._rest, None) or next(self._reader)
            if this not in (None, epoch):
                self._rest = iter([(rows, (epoch, piece, row))])
                break
            this = epoch
            found.append(rows[:left])
            self._after = (epoch, piece, row + len(found[-1]))
            if len(rows) > left:
                self._rest = iter([(rows[left:], self._after)])
            left -= len(found[-1])
        self._window = torch.cat(found)
        self._order = torch.randperm(
            len(self._window), generator=self._random("window", *self.at)
        )

    def _read(self, at: Place) -> Iterator[tuple[Tensor, Place]]:
        """Rows from a place on, epoch after epoch, some at a time, each with the place of the
        first.
        """
        epoch, start, row = at
        while True:
            order = torch.randperm(
                len(self.own), generator=self._random("epoch", epoch)
            ).tolist()
            empty = (start, row) == (0, 0)
            for number in range(start, len(order)):
                for rows in self.pieces.rows(self.own[order[number]], row):
                    yield rows, (epoch, number, row)
                    row, empty = row + len(rows), False
                row = 0
            if empty:
                raise TightboundError(
                    f"{self.pieces.where}: some of its pieces have no "
                    "examples: leave out empty ones"
                )
            epoch, start = epoch + 1, 0


class Lanes:
    """The lanes of one process: `lanes()` gives the raw rows of its part of the next batch.

    Raises TightboundError where the batch or the pieces cannot be shared out over the processes.
    """

    def __init__(
        self,
        pieces: Pieces,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        mix: Literal["auto"] | int = "auto",
    ) -> None:
        self.total = lanes_for(len(pieces), batch, world, pieces.where)
        self.each = batch // self.total
        window = (
            mix
            if mix != "auto"
            else min(pieces.mix or WINDOW, WINDOW // max(1, pieces.row_bytes))
        )
        window = max(self.each, window // self.total)
        dealt = torch.randperm(
            len(pieces), generator=torch.Generator().manual_seed(seed)
        ).tolist()
        share = (
            self.total // world
        )  # the first windows are of different sizes, so that not all end at one time
        self.lanes = [
            Lane(
                pieces,
                dealt[i :: self.total],
                seed,
                i,
                max(self.each, window * (i + 1) // self.total),
                window,
            )
            for i in range(rank * share, (rank + 1) * share)
        ]

    def __call__(self) -> Tensor:
        return torch.cat([lane.take(self.each) for lane in self.lanes])

    def state_dict(self) -> dict[str, Any]:
        """Where each lane of this process stands, plain numbers: {"3": [epoch, piece, row,
        used]}.
        """
        return {str(lane.number): [*lane.at, lane.used] for lane in self.lanes}

    def load_state_dict(self, state: dict[str, Any]) -> str:
        """Goes on from the states of all processes together, which may have been another number;
        returns a note.

        Where that number needs other lanes, all begin the next epoch.
        """
        if len(state) != self.total:
            epoch = 1 + max(place[0] for place in state.values())
            for lane in self.lanes:
                lane.go_to((epoch, 0, 0), 0)
            return (
                "the number of processes does not fit the order of the data, so "
                "the next epoch begins now"
            )
        for lane in self.lanes:
            *at, used = state[str(lane.number)]
            lane.go_to(tuple(at), used)
        return ""


def lanes_for(pieces: int, batch: int, world: int, where: str) -> int:
    """How many lanes: the largest power of two up to 16 that divides the batch and leaves each a
    piece.

    Where that is no multiple of the processes, one for each of them.
    """
    if pieces < world:
        raise TightboundError(
            f"{where}: {pieces} pieces are too few for {world} processes: "
            "write more, smaller shards"
        )
    fits = [n for n in (1, 2, 4, 8, MOST_LANES) if n <= pieces and batch % n == 0]
    return fits[-1] if fits[-1] % world == 0 else world
