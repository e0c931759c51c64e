"""What processes share of the work on a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tightbound.cli import main
from tightbound.evaluation import inference_gap as third
from tightbound.evaluation import run_evaluation as measure
from tightbound.evaluation import runner as work
from tightbound.evaluation.budget import Plan
from tightbound.evaluation.estimators import amortization_gap as gap
from tightbound.runtime.launch_context import join_launch

K = 60


def quick(setattr: Callable[[Any, str, Any], None]) -> None:
    """An evaluation of everything, in little time: pieces of 16 examples, few temperatures and
    steps.
    """
    plan = Plan(K, 25, 20, {"ais-q": {"temperatures": 6}}, gap=True, train=True)
    setattr(measure, "requested_plan", lambda *_: plan)
    setattr(measure, "LEAST", 20)
    setattr(work, "PIECE_VALUES", 1)
    setattr(third, "PILOT_K", 20)
    setattr(gap, "Search", partial(gap.Search, steps=5, rounds=1, k=64))


def share(tasks: list[list[str]], failing: list[str], evaluation: list[str]) -> None:
    """Runs commands, one that fails, and an evaluation; prints which methods each process had to
    compute.
    """
    calls: list[str] = []
    log_px = work.log_px

    def counted(model: Any, x: Any, method: str, **settings: Any) -> Any:
        calls.append(method)
        return log_px(model, x, method, **settings)

    work.log_px = counted
    with join_launch("cpu") as launch:
        for words in tasks:
            assert main(words) == 0
        assert main(failing) == 2
        assert main(evaluation) == 0
        every = launch.gather(calls)
        if launch.is_rank_zero:
            print(json.dumps(every))
