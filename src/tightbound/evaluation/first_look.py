"""Plan of the evaluation and the report that follow a training, in the time that is left."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch

from tightbound.evaluation.estimators.methods import score
from tightbound.runs.run import Run
from tightbound.runtime.time_budget import TimeBudget

# The first evaluation: K samples, at most so many examples, and at most so many values in all.
K = 100
N = 1000
VALUES = 100_000_000
LEAST_K = 20  # samples where the time is short
LEAST_N = 16  # examples, below which there are fewer samples, and then no evaluation
TIMED = 8  # examples of the trial
# Decoded examples of each part, of a model of images with the default settings.
DIAGNOSIS = 16_000
REPORT = 8_000
THEORY = 9_000
FIXED = 4.0  # seconds of a report beside the passes of the model


@dataclass(frozen=True)
class FirstLook:
    """What is done after a training.

    Attributes:
        n: examples of the evaluation; 0: none.
        k: samples of importance sampling.
        diagnosis: whether faults of the model are looked for.
        report: the report with or without its sections on theory, or "none".
    """

    n: int
    k: int = K
    diagnosis: bool = True
    report: Literal["whole", "without theory", "none"] = "whole"

    def left_out(self) -> str:
        """What a lack of time leaves out, in words; "" for nothing."""
        words = []
        if not self.n:
            words.append("the evaluation")
        elif not self.diagnosis:
            words.append("the diagnosis")
        if self.report == "none":
            words.append("the report")
        elif self.report == "without theory":
            words.append("the sections on theory of the report")
        return ", ".join(words)


def whole(run: Run) -> FirstLook:
    """The first evaluation without a limit of time, on fewer examples if they are large."""
    most = max(64, VALUES // (K * run.spec.dims))
    return FirstLook(min(N, most))


def within(run: Run, limit: TimeBudget) -> FirstLook:
    """The part of a first evaluation and report that fits into the time that is left."""
    wanted = dataclasses.replace(whole(run), n=min(whole(run).n, len(run.data.test)))
    if limit.left() <= 0 or not wanted.n:
        return FirstLook(0, diagnosis=False, report="none")
    cost = seconds_per_decoding(run, limit)
    return fitting(wanted, cost, 0.9 * limit.left())


def seconds_per_decoding(run: Run, limit: TimeBudget) -> float:
    """The time that it takes to decode an example, by a trial on a few."""
    k = 4 if run.config.recipe.has_bound else 1
    x = run.data.test.examples(run.data.test.spread(TIMED))
    start = limit.clock()
    with torch.random.fork_rng():
        score(run, x, k, run.config.seed)
    return (limit.clock() - start) / (k * len(x))


def fitting(wanted: FirstLook, cost: float, seconds: float) -> FirstLook:
    """The part of a wanted evaluation and report that fits into a time.

    The report without its sections on theory comes first, then as much of the evaluation as
    half of the other time allows, then the diagnosis, then theory.

    Args:
        wanted: all that would be done.
        cost: seconds for decoding an example.
        seconds: the time for all of it.
    """
    nothing = FirstLook(0, diagnosis=False, report="none")
    least = min(LEAST_N, wanted.n) * LEAST_K * cost
    if least > seconds:
        return nothing
    report = FIXED + REPORT * cost
    if least + report > seconds:
        report = 0.0
    left = seconds - report
    k = wanted.k
    n = min(wanted.n, int(left / 2 / (k * cost)))
    if n < min(LEAST_N, wanted.n):
        k = LEAST_K
        n = min(wanted.n, max(1, int(left / (k * cost))), LEAST_N)
    left -= n * k * cost
    diagnosis = DIAGNOSIS * cost <= left
    if not report:
        return FirstLook(n, k, diagnosis, "none")
    if diagnosis:
        left -= DIAGNOSIS * cost
    theory = THEORY * cost <= left
    return FirstLook(n, k, diagnosis, "whole" if theory else "without theory")
