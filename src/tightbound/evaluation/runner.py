"""Runner of an evaluation: cached pieces, shared among processes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.evaluation.cache import Cache, CachedResult
from tightbound.evaluation.diagnosis.latent_usage import spread
from tightbound.evaluation.estimators import amortization_gap
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import log_px
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import SINGLE_PROCESS, LaunchContext
from tightbound.runtime.progress import phase
from tightbound.runtime.reading import Options

Tick = Callable[..., None]
Add = Callable[[float], None]
A = TypeVar("A")
B = TypeVar("B")
# Stages in words, where they are not methods by their names.
STAGES = {
    "importance": "log p(x) by importance sampling",
    "ais": "log p(x) by annealed importance sampling",
    "ais-q": "log p(x) by annealed importance sampling",
    "gap": "inference gap",
    "BDMC": "BDMC gap",
}
PIECE_VALUES = 2_000_000_000  # decoded values of a piece: some seconds of work


@dataclass(frozen=True)
class Selection:
    """Rows of a split, read when they are needed."""

    split: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, size: int) -> Iterator[Batch]:
        """The examples in model units, `size` at a time."""
        yield from (self.split.examples(rows) for rows in self.rows.split(size))

    def x(self) -> Batch:
        """All examples at once."""
        return self.split.examples(self.rows)

    def subset(self, most: int) -> tuple[Tensor, Selection]:
        """At most `most` of them, spread evenly, with their places among these."""
        places = spread(len(self), most)
        return places, Selection(self.split, self.rows[places])

    def digest(self) -> str:
        """sha256 over the examples."""
        digest = hashlib.sha256()
        for x in self.parts(1000):
            digest.update(x.key.numpy().tobytes())
        return digest.hexdigest()


class Runner:
    """Computes estimates on examples of one run in pieces, and reports progress.

    The pieces and how they are cut do not depend on the number of processes that share
    them, and means are taken over the values of all examples in their order. So results
    are bit-identical for any number of processes.

    Args:
        run: the run.
        seed: seed of all draws.
        cache: finished pieces.
        tick: called with (examples done, examples in all, name of the stage).
        launch: the processes that share the work.
    """

    def __init__(
        self,
        run: Run,
        seed: int,
        cache: Cache,
        tick: Tick | None,
        launch: LaunchContext = SINGLE_PROCESS,
    ) -> None:
        self.run = run
        self.seed = seed
        self.cache = cache
        self.launch = launch
        self.tick = tick if launch.is_rank_zero else None

    def _cut(self, x: Selection, draws: int) -> Sequence[Tensor]:
        """The rows of each piece."""
        size = PIECE_VALUES // (draws * self.run.spec.dims)
        pieces: Sequence[Tensor] = x.rows.split(int(min(1000, max(16, size))))
        return pieces

    def each(self, items: Sequence[A], make: Callable[[A], B]) -> list[B]:
        """make(item) of each item, in order, each in one of the processes.

        Raises:
            TightboundError: in all processes, if one of them raises it.
        """
        if self.launch.world_size == 1:
            return [make(item) for item in items]
        results: dict[int, B] = {}
        refusal = ""
        try:
            for i in range(self.launch.rank, len(items), self.launch.world_size):
                results[i] = make(items[i])
        except TightboundError as error:
            refusal = str(error)
        gathered = self.launch.gather((results, refusal))
        refusals = [text for _, text in gathered if text]
        if refusals:
            raise TightboundError(refusals[0])
        merged: dict[int, B] = {}
        for part, _ in gathered:
            merged |= part
        return [merged[i] for i in range(len(items))]

    @contextmanager
    def progress(self, stage: str, n: int) -> Iterator[Callable[[float], None]]:
        """A stage of n examples; gives a function that adds finished examples.

        With several processes it assumes that the others are as far as this one.
        """
        done = 0.0
        with phase(STAGES.get(stage, f"log p(x) by {stage}"), n, " examples") as count:

            def add(m: float) -> None:
                nonlocal done
                done += m * self.launch.world_size
                finished = min(n, round(done))
                count.reach(finished)
                if self.tick:
                    self.tick(finished, n, stage)

            yield add

    def estimate(
        self, x: Selection, method: str, seed: int | None = None, **settings: Any
    ) -> tuple[Estimate, float]:
        """log p(x) of examples by a method, and the seconds that it took.

        Args:
            x: the examples.
            method: a name of `METHODS`.
            seed: another seed than that of the evaluation.
            **settings: settings of the method.
        """
        seed = self.seed if seed is None else seed

        def compute_piece(rows: Tensor, add: Add) -> CachedResult:
            part = x.split.examples(rows)
            counted: list[float] = []

            def tick(m: float) -> None:
                counted.append(m)
                add(m)

            def compute() -> tuple[dict[str, Tensor], Options]:
                model = self.run.model
                e = log_px(model, part, method, seed=seed, tick=tick, **settings)
                return _tensors(e), {"kind": e.kind, "settings": e.settings}

            key = {"method": method, "seed": seed, "settings": settings}
            result = self.cache.get(key, part, compute)
            add(len(part) - sum(counted))
            return result

        cut = self._cut(x, _draws(method, settings))
        with self.progress(method, len(x)) as add:
            pieces = self.each(cut, lambda rows: compute_piece(rows, add))
        estimate = Estimate.join([_estimate(method, piece) for piece in pieces])
        return estimate, sum(piece.seconds for piece in pieces)

    def bounds(
        self, x: Selection, search: amortization_gap.Search
    ) -> tuple[dict[str, Tensor], float]:
        """L[q] and L[q*] of examples by `best_bound`, and the seconds that they took."""
        settings = dataclasses.asdict(search)

        def compute_piece(rows: Tensor, add: Add) -> CachedResult:
            part = x.split.examples(rows)

            def compute() -> tuple[dict[str, Tensor], Options]:
                bounds = amortization_gap.best_bound(self.run, part, self.seed, search)
                return bounds, {}

            key = {"gap": settings, "seed": self.seed}
            result = self.cache.get(key, part, compute)
            add(len(part))
            return result

        draws = 3 * search.samples * search.steps * search.rounds
        with self.progress("gap", len(x)) as add:
            pieces = self.each(
                self._cut(x, draws), lambda rows: compute_piece(rows, add)
            )
        values = {}
        for name in pieces[0].values:
            values[name] = torch.cat([piece.values[name] for piece in pieces])
        return values, sum(piece.seconds for piece in pieces)


def _tensors(estimate: Estimate) -> dict[str, Tensor]:
    diagnostic = {f"d.{name}": value for name, value in estimate.diagnostic.items()}
    return {"values": estimate.values, "se": estimate.se, **diagnostic}


def _estimate(method: str, piece: CachedResult) -> Estimate:
    tensors = piece.values
    diagnostic = {k[2:]: v for k, v in tensors.items() if k.startswith("d.")}
    return Estimate(
        method,
        piece.facts["kind"],
        tensors["values"],
        tensors["se"],
        diagnostic,
        dict(piece.facts["settings"]),
    )


def _draws(method: str, settings: Options) -> int:
    """About how often a method decodes each example.

    A step of AIS computes a gradient and counts for several.
    """
    if method == "importance":
        return int(settings.get("k", 5000))
    if method == "quadrature":
        return 20_000
    return 500 * int(settings.get("temperatures", 150))
