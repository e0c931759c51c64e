"""The goals of training speed, and a finished measurement judged by them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

NETWORKS = ("burda", "wide", "strided", "residual", "ladder")
EAGER, COMPILED = (
    ("tightbound-float32",),
    ("tightbound-float32-compiled",),
)  # "tightbound" may choose to compile
FLOAT32 = ("tightbound-float32", "tightbound-float32-compiled")
BF16 = ("tightbound-bf16", "tightbound-bf16-compiled")
ANY = ("tightbound", *FLOAT32, *BF16)


def likelihood(network: str) -> str:
    """Which of the two data files a network reads."""
    return "gaussian" if network == "wide" else "bernoulli"


@dataclass(frozen=True)
class Goal:
    """The best of `ours` against `base` on one case: a ratio of rates to reach, or an overhead in
    percent, at most.

    limit: the variant that shows what the machine allows.
    """

    text: str
    network: str
    batch: int
    ours: tuple[str, ...]
    must: float
    aim: float
    base: str = "pythae"
    overhead: bool = False
    limit: str = "products-float32"

    def value(self, ours: float, base: float) -> float:
        return 100 * (base / ours - 1) if self.overhead else ours / base

    def words(self, value: float) -> str:
        return f"{value:.0f} %" if self.overhead else f"{value:.2f}"

    def met(self, value: float, mark: float) -> bool:
        return value <= mark if self.overhead else value >= mark


GOALS = [
    Goal("burda, batch 100, best precision", "burda", 100, ANY, 2.5, 4),
    Goal(
        "wide, batch 128, best precision",
        "wide",
        128,
        ANY,
        2,
        3.4,
        limit="products-bf16",
    ),
    Goal("burda, batch 1000, float32", "burda", 1000, (*FLOAT32, "tightbound"), 2.3, 3),
    Goal("wide, batch 1000, float32", "wide", 1000, (*FLOAT32, "tightbound"), 1.5, 1.8),
    Goal("burda, batch 1000, bf16", "burda", 1000, BF16, 4, 6, limit="products-bf16"),
    Goal("wide, batch 1000, bf16", "wide", 1000, BF16, 3.7, 5, limit="products-bf16"),
    Goal(
        "small strided convolution, batch 128, bf16",
        "strided",
        128,
        BF16,
        1.5,
        2.5,
        limit="products-bf16",
    ),
    Goal(
        "residual convolution, batch 128, bf16",
        "residual",
        128,
        BF16,
        2,
        3,
        limit="products-bf16",
    ),
    *(
        Goal(
            f"overhead of the loop over a step by hand, {words}: {n}, batch {b}",
            n,
            b,
            ours,
            must,
            aim,
            base,
            True,
        )
        for words, ours, base, must, aim in (
            ("compiled", COMPILED, "hand-float32-compiled", 5, 0),
            ("eager", EAGER, "hand-float32", 13, 5),
        )
        for n, b in (("burda", 100), ("burda", 1000), ("wide", 1000))
    ),
]


def judge(goal: Goal, case: dict[str, Any]) -> dict[str, Any]:
    """The best variant's value, its spread over rounds, whether must and aim are met; the limit's
    value beside it.
    """
    rounds = [
        {name: w["work"] / w["seconds"] for name, w in r.items()}
        for r in case.get("rounds", [])
    ]
    there = [name for name in goal.ours if rounds and name in rounds[0]]
    if not there or goal.base not in rounds[0]:
        why = case.get("missing", {}).get(
            goal.base if there else goal.ours[0], "not measured"
        )
        return {"goal": goal, "why": why}
    values = {
        name: [goal.value(r[name], r[goal.base]) for r in rounds] for name in there
    }
    pick = min if goal.overhead else max
    best = pick(there, key=lambda name: statistics.median(values[name]))
    median = statistics.median(values[best])
    limit = None
    if goal.limit in rounds[0] and not goal.overhead:
        limit = statistics.median(r[goal.limit] / r[goal.base] for r in rounds)
    return {
        "goal": goal,
        "best": best,
        "median": median,
        "low": min(values[best]),
        "high": max(values[best]),
        "must": goal.met(median, goal.must),
        "aim": goal.met(median, goal.aim),
        "limit": limit,
    }


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    goal: Goal = found["goal"]
    head = f"| {goal.text} | {goal.words(goal.must)} | {goal.words(goal.aim)} |"
    if "why" in found:
        return f"{head} | | not measured: {found['why']} |"
    spread = (
        f"{goal.words(found['median'])} ({goal.words(found['low'])} to "
        f"{goal.words(found['high'])})"
    )
    limit = "" if found["limit"] is None else f"{found['limit']:.2f}"
    verdict = (
        "aim met" if found["aim"] else "must met" if found["must"] else "**missed**"
    )
    return f"{head} {spread}, `{found['best']}` | {limit} | {verdict} |"


def markdown(found: dict[str, Any]) -> str:
    """The table of goals of a finished measurement; goals whose case was not run are left out."""
    cases = {(c["network"], c["batch"]): c for c in found["cases"]}
    rows = [
        row(judge(g, cases[g.network, g.batch]))
        for g in GOALS
        if (g.network, g.batch) in cases
    ]
    head = [
        "| goal | must | aim | measured, median (least to greatest) | products alone | |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])
