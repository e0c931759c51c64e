"""What metrics beside log p(x) to measure, and their results, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tightbound.evaluation.summary import Table
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.runtime.reading import Tree

if TYPE_CHECKING:
    from tightbound.evaluation.metrics.novelty import Novelty

NAMES = ("quality", "novelty", "ood", "disentanglement", "features")


class Metric(Protocol):
    """Result of one metric: JSON for the evaluation file, tables for the terminal."""

    def to_json(self) -> Tree: ...
    def tables(self) -> list[Table | list[str]]: ...


@dataclass(frozen=True)
class MetricRequest:
    """Metrics to measure, and what they need beside the run.

    Args:
        names: of NAMES; "all" for those that the data allow.
        against: other data, for "ood".
        beside: a run whose features are compared, for "features".
        factors: a table of the factors of the evaluated examples, for "disentanglement".
    """

    names: tuple[str, ...] = ()
    against: object = None
    beside: Run | None = None
    factors: object = None

    @classmethod
    def of(
        cls,
        names: Iterable[str] | str,
        against: object = None,
        beside: Run | None = None,
        factors: object = None,
    ) -> MetricRequest:
        """From names in any form: a list, or texts with commas.

        `against` asks for "ood", `beside` for "features", `factors` for "disentanglement".

        Raises:
            TightboundError: a name is unknown, or "ood" has nothing to compare with.
        """
        texts = [names] if isinstance(names, str) else list(names)
        every = [name.strip() for text in texts for name in str(text).split(",")]
        given = {"ood": against, "features": beside, "disentanglement": factors}
        every += [name for name, value in given.items() if value is not None]
        chosen = tuple(dict.fromkeys(name for name in every if name))
        for name in chosen:
            if name != "all":
                lookup(dict.fromkeys(NAMES), name, "metric")
        if "ood" in chosen and against is None:
            raise TightboundError(
                "ood compares with another data set: name it with --against DATA"
            )
        return cls(chosen, against, beside, factors)


@dataclass(frozen=True)
class Metrics:
    """Results by name of the metric, and reasons of those that were left out."""

    results: Mapping[str, Metric] = field(default_factory=dict)
    skipped: Sequence[str] = ()

    @property
    def novelty(self) -> Novelty | None:
        """The novelty of samples, where it was measured."""
        from tightbound.evaluation.metrics.novelty import Novelty

        result = self.results.get("novelty")
        return result if isinstance(result, Novelty) else None

    def to_json(self) -> Tree:
        """The results by name."""
        return {name: result.to_json() for name, result in self.results.items()}

    def blocks(self) -> list[Table | list[str]]:
        """Tables and sentences of all results."""
        return [block for result in self.results.values() for block in result.tables()]
