"""The work of an evaluation: figures of some examples, in pieces, from the store or computed now."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.data import Split
from tightbound.evaluation import gap as gap_room
from tightbound.evaluation.estimate import Estimate
from tightbound.evaluation.latents import spread
from tightbound.evaluation.likelihood import log_px
from tightbound.evaluation.pieces import Pieces
from tightbound.run import Run

Tick = Callable[..., None]
PIECE_VALUES = 2_000_000_000  # decoded values of a piece: some seconds of work


@dataclass(frozen=True)
class Chosen:
    """Some rows of a split, read as they are needed."""

    split: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, size: int) -> Iterator[Tensor]:
        """The examples in domain units, so many at a time."""
        yield from (self.split.batch(rows) for rows in self.rows.split(size))

    def x(self) -> Tensor:
        """All of them at once."""
        return self.split.batch(self.rows)

    def some(self, most: int) -> tuple[Tensor, Chosen]:
        """At most so many of them, spread evenly: their places among these, and themselves."""
        at = spread(len(self), most)
        return at, Chosen(self.split, self.rows[at])

    def digest(self) -> str:
        """sha256 over the examples."""
        found = hashlib.sha256()
        for x in self.parts(1000):
            found.update(x.contiguous().numpy().tobytes())
        return found.hexdigest()


class Work:
    """Figures of some examples of one run, from the store of pieces or computed now; tells how far it is."""

    def __init__(self, run: Run, seed: int, pieces: Pieces, tick: Tick | None) -> None:
        self.run, self.seed, self.pieces, self.tick = run, seed, pieces, tick

    def _parts(self, x: Chosen, draws: int) -> Iterator[Tensor]:
        return x.parts(int(min(1000, max(16, PIECE_VALUES // (draws * self.run.spec.dims)))))

    def teller(self, what: str, n: int) -> Callable[[float], None]:
        """Counts the examples of a stage that are done, and tells `tick`."""
        done = 0.0

        def tell(m: float) -> None:
            nonlocal done
            done += m
            if self.tick:
                self.tick(round(done), n, what)

        return tell

    def estimate(self, x: Chosen, method: str, noise: int | None = None, **settings: Any) -> tuple[Estimate, float]:
        """log p(x) of x by a method, and the seconds it took; noise: another seed than the evaluation's own."""
        seed = self.seed if noise is None else noise
        tell, found, spent = self.teller(method, len(x)), [], 0.0
        for part in self._parts(x, _draws(method, settings)):
            counted: list[float] = []

            def count(m: float, counted: list[float] = counted) -> None:
                counted.append(m)
                tell(m)

            def compute(part: Tensor = part, count: Any = count) -> tuple[dict[str, Tensor], dict[str, Any]]:
                e = log_px(self.run.model, part, method, seed=seed, tick=count, **settings)
                tensors = {"values": e.values, "se": e.se} | {f"d.{k}": v for k, v in e.diagnostic.items()}
                return tensors, {"kind": e.kind, "settings": e.settings}

            piece = self.pieces.get({"method": method, "seed": seed, "settings": settings}, part, compute)
            tell(len(part) - sum(counted))
            tensors = dict(piece.values)
            diagnostic = {k[2:]: v for k, v in tensors.items() if k.startswith("d.")}
            terms = (tensors["values"], tensors["se"], diagnostic, dict(piece.facts["settings"]))
            found.append(Estimate(method, piece.facts["kind"], *terms))
            spent += piece.seconds
        return Estimate.join(found), spent

    def bounds(self, x: Chosen, search: gap_room.Search) -> tuple[dict[str, Tensor], float]:
        """L[q] and L[q*] of x (see `gap.best_bound`), and the seconds they took."""
        tell, found, spent = self.teller("gap", len(x)), [], 0.0
        settings = dataclasses.asdict(search)
        for part in self._parts(x, 3 * search.samples * search.steps * search.rounds):
            piece = self.pieces.get(
                {"gap": settings, "seed": self.seed},
                part,
                lambda part=part: (gap_room.best_bound(self.run, part, self.seed, search), {}),  # type: ignore[misc]
            )
            found.append(piece.values)
            spent += piece.seconds
            tell(len(part))
        return {name: torch.cat([f[name] for f in found]) for name in found[0]}, spent


def _draws(method: str, settings: Mapping[str, Any]) -> int:
    """About how often a method decodes each example; a step of AIS, with its gradient, counts for several."""
    if method == "importance":
        return int(settings.get("k", 5000))
    return 20_000 if method == "quadrature" else 500 * int(settings.get("temperatures", 150))
