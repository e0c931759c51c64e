"""Evaluation: the result of `evaluate`, as an object, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tightbound.evaluation import saved, summary
from tightbound.evaluation.diagnosis.diagnose import Diagnosis
from tightbound.evaluation.diagnosis.rules import COPIES
from tightbound.evaluation.headline import Headline, headline
from tightbound.evaluation.measures import BDMCGap, InferenceGap, Method
from tightbound.evaluation.metrics.request import Metrics
from tightbound.evaluation.statistic import Mean, means_to_json
from tightbound.evaluation.summary import Summary, Table
from tightbound.runs.folder import RunFolder
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.lock import RunLock
from tightbound.runtime.reading import Options, Tree

# Parts that stay in the file when a later evaluation does not measure them again.
KEPT = ("methods", "inference_gap", "train", "overfitting", "bdmc_gap", "diagnosis")


@dataclass(frozen=True)
class Evaluation:
    """The terms of log p(x) of a trained model on n examples, in nats per example.

    `print(evaluation)` shows the terms as a table; a notebook shows them as HTML.

    Args:
        name: name of the run.
        split: the split, the name of the given data, or "given".
        n: number of examples.
        k: samples of the importance-sampled log p(x); 0 without a bound.
        seed: seed of all draws.
        bound: True where the model has a lower bound on log p(x).
        terms: distortion, rate, elbo, log_px (importance sampling), gap = log_px - elbo
            (a lower bound on KL(q(z|x), p(z|x)) at this k) and ess (effective samples);
            only distortion where `bound` is False.
        bits_per_dim: elbo and log_px in bits per dimension, for discrete data.
        kl_per_latent: KL(q(z_j|x), p(z_j)) of each latent dimension.
        digest: digest of the data set.
        examples: digest of the evaluated examples.
        seconds: duration.
        least_ess: smallest number of effective samples of an example.
        weights: fingerprint of the model's weights.
        curve: number of samples -> importance-sampled bound.
        methods: estimates of log p(x) by name of the method.
        inference_gap: the inference gap on a subset of the examples.
        train: the same on training examples.
        overfitting: of decoder and encoder, from test and training examples.
        bdmc_gap: error of annealed importance sampling by bidirectional Monte Carlo.
        diagnosis: measurements and verdicts.
        metrics: sample quality, novelty and others that were asked for.
        budget: seconds given, timed trials, and the plan that they led to.
        reason: why there is no bound, where `bound` is False.
        notes: remarks on the data and on measurements that were left out.

    Example:
        >>> import tightbound as tb
        >>> e = tb.Evaluation("ae", "test", n=2, k=0, seed=0, bound=False,
        ...     terms={"distortion": tb.Mean(3.0, 0.5)}, reason="an AE has no bound")
        >>> print(e)
        ae: 2 test examples, mean ± standard error
        <BLANKLINE>
        term        nats per example  definition
        -----------------------------------------
        distortion       3.00 ± 0.50  -log p(x|z)
        <BLANKLINE>
        an AE has no bound
    """

    name: str
    split: str
    n: int
    k: int
    seed: int
    bound: bool
    terms: Mapping[str, Mean] = field(default_factory=dict)
    bits_per_dim: Mapping[str, Mean] | None = None
    kl_per_latent: list[float] | None = None
    digest: str = ""
    examples: str = ""
    seconds: float = 0.0
    least_ess: float | None = None
    weights: str = ""
    curve: Mapping[int, Mean] = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)
    inference_gap: InferenceGap | None = None
    train: InferenceGap | None = None
    overfitting: Mapping[str, Mean] = field(default_factory=dict)
    bdmc_gap: BDMCGap | None = None
    diagnosis: Diagnosis | None = None
    metrics: Metrics = field(default_factory=Metrics)
    budget: Options | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def headline(self) -> Headline | None:
        """The closest figure of log p(x), where it is closer than importance sampling."""
        return headline(
            self.terms, self.methods, self.n, self.bdmc_gap, self.bits_per_dim
        )

    @property
    def one_sided(self) -> bool:
        """True where log p(x) of an example is a bound whose error is not known.

        So it is where the upper limit of Pareto k is above 0.7, or K is below 25, and there
        is no closer figure of log p(x).
        """
        importance = self.methods.get("importance")
        if importance is None or self.headline is not None:
            return False
        return not math.isfinite(importance.noise)

    def to_json(self) -> Tree:
        """All fields as JSON.

        Returns:
            The content of `evaluation.json`.
        """
        return {
            "format": saved.FORMAT,
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
            "terms": means_to_json(self.terms),
            "bits_per_dim": self.bits_per_dim and means_to_json(self.bits_per_dim),
            "headline": self.headline and self.headline.to_json(),
            "kl_per_latent": self.kl_per_latent,
            "least_ess": self.least_ess,
            "curve": [{"k": k, **mean.to_json()} for k, mean in self.curve.items()],
            "methods": {
                name: method.to_json() for name, method in self.methods.items()
            },
            "inference_gap": self.inference_gap and self.inference_gap.to_json(),
            "train": self.train and self.train.to_json(),
            "overfitting": means_to_json(self.overfitting),
            "bdmc_gap": self.bdmc_gap and self.bdmc_gap.to_json(),
            "diagnosis": self.diagnosis and self.diagnosis.to_json(),
            "metrics": self.metrics.to_json(),
            "budget": self.budget,
            "notes": self.notes,
        }

    def save(self, folder: Path | str) -> str | None:
        """Writes `evaluation.json` into a run folder.

        A file of the same weights and data with more samples or examples is left as it
        is. Otherwise the parts that were not measured this time are kept from it.

        Args:
            folder: the run folder.

        Returns:
            A sentence where the file was left as it is, or one was replaced that could not
            be used, else None.
        """
        folder = Path(folder)
        path = RunFolder(folder).evaluation_file
        # of two evaluations at once, the second is merged with the file of the first
        with RunLock(folder, "evaluating", "evaluation.", wait=True):
            tree = self.to_json()
            old, reason = self._comparable(folder)
            if old is not None:
                if _is_larger(old, self.n, self.k):
                    if self.metrics.results:
                        saved.write(path, _with_metrics(old, tree))
                    return (
                        f"{path} keeps its terms of K = {old['k']} on {old['n']} "
                        "examples; remove it to replace them"
                    )
                tree = _with_kept(tree, old)
            saved.write(path, tree)
        return f"{reason}, so it was replaced" if reason else None

    def _comparable(self, folder: Path) -> tuple[Tree | None, str]:
        """The content of an earlier file, if it is of the same weights and data.

        Else None, with the reason if the file cannot be used.
        """
        try:
            old = saved.read(folder, self.weights)
        except saved.OtherWeights:
            return None, ""
        except TightboundError as error:
            return None, str(error)
        if old is not None and old["data"]["digest"] == self.digest:
            return old, ""
        return None, ""

    def lines(self) -> list[str]:
        """The printed evaluation as lines.

        Returns:
            The lines of `str(evaluation)`.
        """
        return str(self).splitlines()

    def __str__(self) -> str:
        return self._summary().text()

    def _repr_html_(self) -> str:
        """The same tables and sentences as HTML, for a notebook."""
        return self._summary().html()

    def _summary(self) -> Summary:
        """Terms, estimates of log p(x), inference gap, diagnosis and notes."""
        title = f"{self.name}: {self.n} {self.split} examples, mean ± standard error"
        best = self.headline
        terms = summary.terms_table(self.terms, self.k, best, self.one_sided)
        blocks: list[Table | list[str]] = [terms]
        if self.bound:
            blocks.append(self._sampling())
        else:
            blocks.append([self.reason])
        if self.bits_per_dim:
            bits = summary.bits_table(self.bits_per_dim, best, self.one_sided)
            blocks.append(bits)
        methods = summary.methods_table(self.methods)
        if methods is not None:
            blocks.append(methods)
        if self.bdmc_gap is not None:
            blocks.append([summary.bdmc_sentence(self.bdmc_gap)])
        if self.inference_gap is not None:
            split = self.split if self.train is None else "test"
            blocks.append(summary.gap_table(self.inference_gap, split))
        if self.train is not None:
            blocks.append(summary.gap_table(self.train, "train"))
        blocks.append(summary.overfitting_sentences(self.overfitting))
        blocks += self.metrics.blocks()
        blocks.append(self._remarks())
        return Summary(title, blocks)

    def _sampling(self) -> list[str]:
        """Effective samples, and the bound by number of samples."""
        sentences = []
        if "ess" in self.terms:
            sentences.append(
                f"effective samples: {self.terms['ess'].mean:.1f} of {self.k} on average, "
                f"{self.least_ess or math.nan:.1f} at the least"
            )
        if len(self.curve) > 1:
            bounds = [f"{mean.mean:.2f} (K = {k})" for k, mean in self.curve.items()]
            sentences.append(f"importance-sampled bound: {', '.join(bounds)}")
        return sentences

    def _remarks(self) -> list[str]:
        """The diagnosis, warnings of the estimates, and notes."""
        lines = self.diagnosis.lines() if self.diagnosis else []
        warnings = [text for m in self.methods.values() for text in m.warnings]
        return [
            *(f"diagnosis: {line}" for line in lines),
            *(f"warning: {text}" for text in warnings),
            *(f"note: {text}" for text in self.notes),
        ]


def _is_larger(old: Options, n: int, k: int) -> bool:
    """Whether an earlier evaluation has more examples or samples, and no fewer."""
    size = (old.get("n", 0), old.get("k", 0))
    return bool(size[0] >= n and size[1] >= k and size != (n, k))


def _with_kept(tree: Options, old: Options) -> Tree:
    """A new evaluation with parts of an earlier one that were not measured again."""
    kept = {name: tree[name] or old.get(name) or tree[name] for name in KEPT}
    methods = {**(old.get("methods") or {}), **tree["methods"]}
    same = all(tree[name] == old.get(name) for name in ("n", "k", "seed", "terms"))
    if same and tree["headline"] is None:  # it goes with the methods that are kept
        kept["headline"] = old.get("headline")
    new = {**tree, **kept, "methods": methods}
    new["metrics"] = {**(old.get("metrics") or {}), **tree["metrics"]}
    if kept["diagnosis"] and "novelty" not in tree["metrics"]:
        new["diagnosis"] = _with_copies(kept["diagnosis"], old.get("diagnosis"))
    return new


def _with_copies(diagnosis: Options, other: Options | None) -> Tree:
    """A diagnosis whose verdicts on the novelty of samples are those of another one."""
    verdicts = [v for v in diagnosis["verdicts"] if v["name"] != COPIES]
    of_other = [] if other is None else other["verdicts"]
    copies = [v for v in of_other if v["name"] == COPIES]
    return {**diagnosis, "verdicts": [*verdicts, *copies]}


def _with_metrics(old: Options, tree: Options) -> Tree:
    """An earlier evaluation with newly measured metrics, and the verdicts from them."""
    metrics = {**(old.get("metrics") or {}), **tree["metrics"]}
    diagnosis = old.get("diagnosis") or tree["diagnosis"]
    if old.get("diagnosis") and tree["diagnosis"] and "novelty" in tree["metrics"]:
        diagnosis = _with_copies(old["diagnosis"], tree["diagnosis"])
    return {**old, "metrics": metrics, "diagnosis": diagnosis}
