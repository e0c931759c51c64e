"""The evaluation and the report after a training fit into the time that is left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.small import trained

import tightbound as tb
from tightbound import api
from tightbound.evaluation import first_look
from tightbound.evaluation.first_look import FirstLook, fitting
from tightbound.runtime.time_budget import TimeBudget, limited

WANTED = FirstLook(1000)


def seconds_of(look: FirstLook, cost: float) -> float:
    """What a plan takes by the counts of `first_look`."""
    decoded = look.n * look.k
    if look.diagnosis:
        decoded += first_look.DIAGNOSIS
    if look.report != "none":
        decoded += first_look.REPORT
    if look.report == "whole":
        decoded += first_look.THEORY
    return decoded * cost + (0.0 if look.report == "none" else first_look.FIXED)


@pytest.mark.parametrize("cost", [1e-6, 1e-4, 1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("seconds", [0.5, 5.0, 30.0, 300.0, 3600.0])
def test_a_plan_never_takes_more_than_the_time(cost: float, seconds: float) -> None:
    look = fitting(WANTED, cost, seconds)
    assert look.n == 0 or seconds_of(look, cost) <= seconds
    assert look.n <= WANTED.n and look.k in (first_look.LEAST_K, first_look.K)


def test_more_time_gives_more() -> None:
    looks = [fitting(WANTED, 1e-3, seconds) for seconds in (0.1, 2, 20, 60, 400)]
    assert looks[0] == FirstLook(0, diagnosis=False, report="none")
    assert looks[0].left_out() == "the evaluation, the report"
    assert looks[1].report == "none" and looks[1].n == 16
    assert looks[2].report == "without theory" and not looks[2].diagnosis
    assert looks[3].diagnosis
    assert looks[4] == WANTED and looks[4].left_out() == ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tb.Run:
    return trained(tmp_path_factory.mktemp("runs") / "run", "vae")


def test_without_a_limit_the_first_look_is_whole(run: tb.Run) -> None:
    assert first_look.whole(run) == FirstLook(1000)


def test_the_report_without_theory_has_the_other_sections(run: tb.Run) -> None:
    assert run.folder is not None
    pages = []
    for theory in (True, False):
        path = run.folder / f"{theory}.html"
        api.report_room.write([run], path, theory=theory)
        pages.append(path.read_text(encoding="utf-8").count("<section"))
    assert pages[0] > pages[1] > 5


def test_where_no_time_is_left_nothing_is_written_and_it_is_said(
    run: tb.Run, tmp_path: Path
) -> None:
    said: list[str] = []

    class Show(api.Quiet):
        def note(self, line: str) -> None:
            said.append(line)

    now = [0.0]
    limit = TimeBudget(5.0, clock=lambda: now[0])
    now[0] = 6.0
    with limited(limit):
        api._finish([run], tmp_path / "report.html", Show(), "en")
    assert not (tmp_path / "report.html").exists()
    (line,) = said
    assert line.startswith("the budget leaves no time for the evaluation, the report")
    assert line.endswith(
        f": to make it, run tightbound evaluate {run.folder} and then tightbound "
        f"compare {run.folder}"
    )


def test_without_test_examples_it_is_not_the_budget_that_is_named() -> None:
    data = SimpleNamespace(test=[])
    spec = SimpleNamespace(dims=4)
    run: Any = SimpleNamespace(folder="runs/a", data=data, spec=spec)
    look = first_look.within(run, TimeBudget(60.0))
    assert look == FirstLook(0, diagnosis=False, report="none")
    assert api._why_left_out(run, look) == (
        "there are no test examples, so there is no evaluation and no report: to "
        "evaluate other data, run tightbound evaluate runs/a --data F"
    )
