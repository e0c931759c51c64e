"""The work of an evaluation: figures of some examples, in pieces, from the store or
computed now.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tightbound.core.trace import Batch
from tightbound.data import Split
from tightbound.evaluation.cache import Piece, Pieces
from tightbound.evaluation.diagnosis.latent_usage import spread
from tightbound.evaluation.estimators import amortization_gap as gap_room
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import log_px
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import SINGLE_PROCESS, LaunchContext

Tick = Callable[..., None]
A = TypeVar("A")
B = TypeVar("B")
PIECE_VALUES = 2_000_000_000  # decoded values of a piece: some seconds of work


@dataclass(frozen=True)
class Chosen:
    """Some rows of a split, read as they are needed."""

    split: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, size: int) -> Iterator[Batch]:
        """The examples in domain units, so many at a time."""
        yield from (self.split.examples(rows) for rows in self.rows.split(size))

    def x(self) -> Batch:
        """All of them at once."""
        return self.split.examples(self.rows)

    def some(self, most: int) -> tuple[Tensor, Chosen]:
        """At most so many of them, spread evenly: their places among these, and themselves."""
        at = spread(len(self), most)
        return at, Chosen(self.split, self.rows[at])

    def digest(self) -> str:
        """sha256 over the examples."""
        found = hashlib.sha256()
        for x in self.parts(1000):
            found.update(x.key.numpy().tobytes())
        return found.hexdigest()


class Work:
    """Figures of some examples of one run, from the store of pieces or computed now; tells how far
    it is.

    launch: the processes that share the work. Neither the pieces nor the figures depend on how
    many there are: figures are taken of the values of all examples in their order.
    """

    def __init__(
        self,
        run: Run,
        seed: int,
        pieces: Pieces,
        tick: Tick | None,
        launch: LaunchContext = SINGLE_PROCESS,
    ) -> None:
        self.run, self.seed, self.pieces, self.launch = run, seed, pieces, launch
        self.tick = tick if launch.is_rank_zero else None

    def _cut(self, x: Chosen, draws: int) -> Sequence[Tensor]:
        """The rows of each piece."""
        return x.rows.split(
            int(min(1000, max(16, PIECE_VALUES // (draws * self.run.spec.dims))))
        )

    def each(self, items: Sequence[A], make: Callable[[A], B]) -> list[B]:
        """make(item) of each item, in order, each in one of the processes; where one is refused, in
        all of them.
        """
        if self.launch.world_size == 1:
            return [make(item) for item in items]
        own, refused = dict[int, B](), ""
        try:
            for i in range(self.launch.rank, len(items), self.launch.world_size):
                own[i] = make(items[i])
        except TightboundError as error:
            refused = str(error)
        found = self.launch.gather((own, refused))
        if refused := next((text for _, text in found if text), ""):
            raise TightboundError(refused)
        whole = {i: value for some, _ in found for i, value in some.items()}
        return [whole[i] for i in range(len(items))]

    def teller(self, what: str, n: int) -> Callable[[float], None]:
        """Counts the examples of a stage that are done, by all processes as far as this one knows,
        and tells `tick`.
        """
        done = 0.0

        def tell(m: float) -> None:
            nonlocal done
            done += m * self.launch.world_size
            if self.tick:
                self.tick(min(n, round(done)), n, what)

        return tell

    def estimate(
        self, x: Chosen, method: str, noise: int | None = None, **settings: Any
    ) -> tuple[Estimate, float]:
        """log p(x) of x by a method, and the seconds it took; noise: another seed than the
        evaluation's own.
        """
        seed = self.seed if noise is None else noise
        tell = self.teller(method, len(x))

        def piece(rows: Tensor) -> Piece:
            part, counted = x.split.examples(rows), list[float]()

            def count(m: float) -> None:
                counted.append(m)
                tell(m)

            def compute() -> tuple[dict[str, Tensor], dict[str, Any]]:
                e = log_px(
                    self.run.model, part, method, seed=seed, tick=count, **settings
                )
                tensors = {"values": e.values, "se": e.se} | {
                    f"d.{k}": v for k, v in e.diagnostic.items()
                }
                return tensors, {"kind": e.kind, "settings": e.settings}

            found = self.pieces.get(
                {"method": method, "seed": seed, "settings": settings}, part, compute
            )
            tell(len(part) - sum(counted))
            return found

        pieces = self.each(self._cut(x, _draws(method, settings)), piece)
        return Estimate.join([_estimate(method, p) for p in pieces]), sum(
            p.seconds for p in pieces
        )

    def bounds(
        self, x: Chosen, search: gap_room.Search
    ) -> tuple[dict[str, Tensor], float]:
        """L[q] and L[q*] of x (see `gap.best_bound`), and the seconds they took."""
        tell, settings = self.teller("gap", len(x)), dataclasses.asdict(search)

        def piece(rows: Tensor) -> Piece:
            part = x.split.examples(rows)
            what = {"gap": settings, "seed": self.seed}
            found = self.pieces.get(
                what,
                part,
                lambda: (gap_room.best_bound(self.run, part, self.seed, search), {}),
            )
            tell(len(part))
            return found

        found = self.each(
            self._cut(x, 3 * search.samples * search.steps * search.rounds), piece
        )
        values = {
            name: torch.cat([p.values[name] for p in found]) for name in found[0].values
        }
        return values, sum(p.seconds for p in found)


def _estimate(method: str, piece: Piece) -> Estimate:
    tensors = dict(piece.values)
    diagnostic = {k[2:]: v for k, v in tensors.items() if k.startswith("d.")}
    return Estimate(
        method,
        piece.facts["kind"],
        tensors["values"],
        tensors["se"],
        diagnostic,
        dict(piece.facts["settings"]),
    )


def _draws(method: str, settings: Mapping[str, Any]) -> int:
    """About how often a method decodes each example; a step of AIS, with its gradient, counts for
    several.
    """
    if method == "importance":
        return int(settings.get("k", 5000))
    return (
        20_000
        if method == "quadrature"
        else 500 * int(settings.get("temperatures", 150))
    )
