"""The account of a model: every figure that was found, with its error, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tightbound.evaluation.diagnosis.diagnose import Diagnosis
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.statistic import Figure, plain
from tightbound.evaluation.summary import lines
from tightbound.runs.folder import RunFolder
from tightbound.runtime.atomic_files import write_atomic

FORMAT = 2
KEPT = ("methods", "third_term", "train", "overfitting", "certificate", "diagnosis")


@dataclass(frozen=True)
class Method:
    """log p(x) of n examples by one method, in nats: kind is what it is to the truth (exact, lower,
    estimate).

    noise: the part of its error that is the method's own.  above: over importance sampling on the
    same examples.
    """

    kind: str
    n: int
    log_px: Figure
    noise: float
    above: Figure | None
    settings: Mapping[str, Any]
    warnings: list[str]
    seconds: float
    pareto_k: Mapping[str, float] | None = None

    @classmethod
    def of(
        cls, found: Estimate, seconds: float, base: Estimate | None = None
    ) -> Method:
        """From an estimate; base: importance sampling of the same examples."""
        above = None if base is None else Figure.of(found.values - base.values)
        k = found.diagnostic.get("pareto_k")
        tail = None
        if k is not None and not bool(k.isnan().all()):
            tail = {
                "median": float(k.nanmedian()),
                "above_0.7": float((k > 0.7).double().mean()),
            }
        figure = Figure.of(found.values)
        return cls(
            found.kind,
            len(found),
            figure,
            found.noise,
            above,
            found.settings,
            found.warnings,
            seconds,
            tail,
        )

    def to_json(self) -> dict[str, Any]:
        """Kind, n, the figure, and all that is needed to repeat it."""
        fixed = {
            "kind": self.kind,
            "n": self.n,
            **self.log_px.to_json(),
            "noise": self.noise,
        }
        rest = {
            "settings": dict(self.settings),
            "warnings": self.warnings,
            "seconds": round(self.seconds, 2),
        }
        return (
            fixed
            | {
                "above_importance": self.above and self.above.to_json(),
                "pareto_k": self.pareto_k,
            }
            | rest
        )


@dataclass(frozen=True)
class ThirdTerm:
    """KL(q(z|x), p(z|x)) = log p(x) - ELBO of n examples, in nats, log p(x) by `method`; and its
    two parts, if parted.

    exact: log p(x) is exact; otherwise it is a lower bound, and so are gap and approximation.
    """

    method: str
    exact: bool
    n: int
    figures: Mapping[str, Figure]  # log_px, elbo, gap; approximation, amortisation
    settings: Mapping[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        fixed = {"method": self.method, "exact": self.exact, "n": self.n}
        return (
            fixed
            | plain(self.figures)
            | {"settings": dict(self.settings), "seconds": round(self.seconds, 2)}
        )


@dataclass
class Evaluation:
    """What `evaluate` found, in nats per example.

    account: name -> Figure: distortion, rate, elbo, log_px (importance-sampled), gap (log_px -
    elbo, a lower bound on KL(q, p(z|x)) at this K), ess; only distortion where `bound` is False,
    for `reason`. bits_per_dim: of elbo and log_px, of integer data.  curve: K -> bound.  methods:
    log p(x) by name of the method. third_term, train: the gap as closely as was asked for, on test
    and on training examples; overfitting: of decoder and encoder, from the two.
    """

    name: str
    split: str
    n: int
    k: int
    seed: int
    bound: bool
    account: dict[str, Figure] = field(default_factory=dict)
    bits_per_dim: dict[str, Figure] | None = None
    kl_per_latent: list[float] | None = None
    digest: str = ""
    examples: str = ""
    seconds: float = 0.0
    least_ess: float | None = None
    weights: str = ""
    curve: dict[int, Figure] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    third_term: ThirdTerm | None = None
    train: ThirdTerm | None = None
    overfitting: dict[str, Figure] = field(default_factory=dict)
    certificate: dict[str, Any] | None = None
    diagnosis: Diagnosis | None = None
    budget: dict[str, Any] | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Every figure with its error, sample counts, seed, time, and the data it was
        computed on.
        """
        return {
            "format": FORMAT,
            "name": self.name,
            "split": self.split,
            "n": self.n,
            "k": self.k,
            "seed": self.seed,
            "bound": self.bound,
            "reason": self.reason,
            "seconds": round(self.seconds, 2),
            "data": {"digest": self.digest, "examples": self.examples},
            "weights": self.weights,
            **plain(self.account),
            "bits_per_dim": self.bits_per_dim and plain(self.bits_per_dim),
            "kl_per_latent": self.kl_per_latent,
            "least_ess": self.least_ess,
            "curve": [{"k": k, **figure.to_json()} for k, figure in self.curve.items()],
            "methods": {
                name: method.to_json() for name, method in self.methods.items()
            },
            "third_term": self.third_term and self.third_term.to_json(),
            "train": self.train and self.train.to_json(),
            "overfitting": plain(self.overfitting),
            "certificate": self.certificate,
            "diagnosis": self.diagnosis and self.diagnosis.to_json(),
            "budget": self.budget,
            "notes": self.notes,
        }

    def save(self, folder: Path | str) -> str | None:
        """Writes `evaluation.json` into a run folder; one of more samples that is there stays, and
        that is said.

        Parts that were not asked for this time are kept from the file that is there, if of the same
        weights and data.
        """
        path, tree = RunFolder(Path(folder)).evaluation_file, self.to_json()
        old: Any = {}
        with suppress(OSError, ValueError):
            old = json.loads(path.read_text(encoding="utf-8"))
        with suppress(KeyError, TypeError, AttributeError):
            if old["data"]["digest"] == self.digest and old["weights"] == self.weights:
                if (
                    (old["n"], old["k"]) > (self.n, self.k)
                    and old["n"] >= self.n
                    and old["k"] >= self.k
                ):
                    kept = f"{path} keeps its figures of K = {old['k']} on {old['n']} examples"
                    return f"{kept}; remove it to replace them"
                tree = _with_kept(tree, old)
        write_atomic(path, json.dumps(tree, indent=2) + "\n")
        return None

    def lines(self) -> list[str]:
        """The account for a person, one line a term."""
        return lines(self)


def _with_kept(tree: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The new figures, with the parts of the old ones that were not made again."""
    for name in KEPT:
        if not tree[name]:
            tree[name] = old.get(name) or tree[name]
    tree["methods"] = {**(old.get("methods") or {}), **tree["methods"]}
    return tree
