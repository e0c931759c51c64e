"""The account of a model: the terms of log p(x), each with its standard error, and what is known of the gap."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.data import Split
from tightbound.errors import TightboundError
from tightbound.evaluation.diagnosis import Diagnosis, diagnose
from tightbound.evaluation.estimate import NO_BOUND
from tightbound.evaluation.figure import Figure, plain
from tightbound.evaluation.likelihood import rate_per_feature, score
from tightbound.files import write_atomic
from tightbound.run import Run


@dataclass
class Evaluation:
    """What `evaluate` found, in nats per example.

    account: name -> Figure: distortion, rate, elbo, log_px, gap (log_px - elbo, a lower bound on KL(q, p(z|x)) at this
    K), ess; only distortion where `bound` is False.  bits_per_dim: of elbo and log_px, for integer data.
    """

    name: str
    split: str
    n: int
    k: int
    seed: int
    bound: bool
    account: dict[str, Figure]
    bits_per_dim: dict[str, Figure] | None
    kl_per_latent: list[float] | None
    digest: str
    seconds: float
    least_ess: float | None = None
    weights: str = ""
    diagnosis: Diagnosis | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Every figure with its error, sample counts, seed, time, and the data it was computed on."""
        fixed = {
            "name": self.name,
            "split": self.split,
            "n": self.n,
            "k": self.k,
            "seed": self.seed,
            "bound": self.bound,
        }
        return {
            **fixed,
            "seconds": round(self.seconds, 2),
            "data": {"digest": self.digest},
            "weights": self.weights,
            **plain(self.account),
            "bits_per_dim": self.bits_per_dim and plain(self.bits_per_dim),
            "kl_per_latent": self.kl_per_latent,
            "least_ess": self.least_ess,
            "diagnosis": self.diagnosis and self.diagnosis.to_json(),
            "notes": self.notes,
        }

    def save(self, folder: Path | str) -> str | None:
        """Writes `evaluation.json` into a run folder; one of more samples that is there stays, and that is said."""
        path = Path(folder) / "evaluation.json"
        with suppress(OSError, ValueError, TypeError):
            old = json.loads(path.read_text(encoding="utf-8"))
            same = old["data"]["digest"] == self.digest and old["weights"] == self.weights
            if same and (old["n"], old["k"]) > (self.n, self.k) and old["n"] >= self.n and old["k"] >= self.k:
                return f"{path} keeps its figures of K = {old['k']} on {old['n']} examples; remove it to replace them"
        write_atomic(path, json.dumps(self.to_json(), indent=2) + "\n")
        return None

    def lines(self) -> list[str]:
        """The account for a person, one line a term."""
        out = [f"{self.name} on {self.n} {self.split} examples, nats per example (± standard error)"]
        a = self.account
        if not self.bound:
            return [*out, f"  distortion  {a['distortion']}   -log p(x|z)", f"  {NO_BOUND}", *self._closing()]
        rows = [
            ("distortion", "-E_q[log p(x|z)]"),
            ("rate", "KL(q(z|x), p(z))"),
            ("elbo", "-distortion - rate"),
            ("log_px", f"importance-sampled, K = {self.k}: at or below the truth"),
            ("gap", "log p(x) - ELBO: at this K a lower bound on KL(q(z|x), p(z|x))"),
        ]
        out += [f"  {name:<10}  {a[name]!s:>18}   {meaning}" for name, meaning in rows]
        out.append(f"  effective samples: {a['ess'].mean:.1f} of {self.k} on average, {self.least_ess:.1f} at least")
        if self.bits_per_dim:
            b = self.bits_per_dim
            out.append(
                f"  bits per dimension: {b['log_px'].mean:.4f} ± {b['log_px'].se:.4f} (ELBO: {b['elbo'].mean:.4f})"
            )
        return out + self._closing()

    def _closing(self) -> list[str]:
        """What is wrong with the model, and what to know about these figures."""
        found = self.diagnosis.lines() if self.diagnosis else []
        return [f"  {line}" for line in [*found, *self.notes]]


def evaluate(
    run: Run,
    data: Any = None,
    *,
    split: str = "test",
    k: int = 5000,
    seed: int | None = None,
    limit: int | None = None,
    diagnosis: bool = True,
    tick: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The account of a run on its test split, or on other data: distortion, rate, ELBO, log p(x) with K samples, gap.

    data: anything `run.encode` takes; the run's own data where None.  limit: n examples only, spread evenly.
    diagnosis: also measures latents, calibration and training, and says what is wrong with the model.
    Raises TightboundError for an unknown split, K below 1, or data that do not fit the model.
    """
    if k < 1 or (limit is not None and limit < 1):
        raise TightboundError(f"k = {k} samples of {limit} examples say nothing: ask for 1 or more")
    started = time.perf_counter()
    seed = run.config.seed if seed is None else seed
    rows, digest = _examples(run, data, split)
    n = len(rows) if limit is None else min(limit, len(rows))
    found: dict[str, list[Tensor]] = {}
    done = 0

    def count(m: int) -> None:
        nonlocal done
        done += m
        if tick:
            tick(done, n)

    for part in rows.spread(n).split(1000):
        for name, value in score(run, rows.batch(part), k, seed, count).items():
            found.setdefault(name, []).append(value)
    terms = {name: torch.cat(values) for name, values in found.items()}
    account: dict[str, Figure] = {
        name: Figure.of(terms[name]) for name in ("distortion", "rate", "elbo", "log_px", "ess") if name in terms
    }
    bits, kl, least = None, None, None
    if run.has_bound:
        account["gap"] = Figure.of(terms["log_px"] - terms["elbo"])
        least = float(terms["ess"].min())
        unit = -math.log(2) * run.spec.dims
        if run.spec.discrete:
            bits = {name: Figure.of(terms[name] / unit) for name in ("elbo", "log_px")}
        kl = rate_per_feature(run, rows.batch(rows.spread(min(n, 2000))), seed)
    return Evaluation(
        name=run.name,
        split=split if data is None else str(data) if isinstance(data, str | Path) else "given",
        n=n,
        k=k if run.has_bound else 0,
        seed=seed,
        bound=run.has_bound,
        account=account,
        bits_per_dim=bits,
        kl_per_latent=kl,
        digest=digest,
        seconds=time.perf_counter() - started,
        least_ess=least,
        weights=run.fingerprint,
        diagnosis=diagnose(run, _judged(run, data, rows, n), seed) if diagnosis else None,
        notes=_notes(run, data, n, len(rows)),
    )


def _judged(run: Run, data: Any, rows: Split, n: int) -> Tensor:
    """What a diagnosis holds against the training data: test examples, or the data that were given."""
    test = run.data.test if data is None and len(run.data.test) else rows
    return test.batch(test.spread(min(n, 1000)))


def _notes(run: Run, data: Any, n: int, of: int) -> list[str]:
    notes = [f"{n} of {of} examples, spread evenly"] if n < of else []
    if data is None and not run.data.held_out:
        notes.append("these examples stand for a stream and were trained on too: the figures flatter the model")
    return notes


def _examples(run: Run, data: Any, split: str) -> tuple[Split, str]:
    from tightbound import data as data_room

    if data is not None:
        found = data_room.read(data, run.spec, run.config.data)
        return found, ""
    splits = run.data.splits
    if split not in splits:
        raise TightboundError(f"there is no split {split!r}: name one of {', '.join(splits)}")
    if not isinstance(splits[split], Split):
        raise TightboundError(f"split {split!r} is a stream, which cannot be evaluated: give the examples as data")
    return splits[split], run.data.digest
