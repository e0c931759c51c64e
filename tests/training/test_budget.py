"""Steps of a budget: by times that the test gives, and by a training whose clock is wound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.small import SMALL

import tightbound as tb
from tightbound.config import configure
from tightbound.runs.folder import RunFolder
from tightbound.runtime.time_budget import TimeBudget, limited
from tightbound.training import budget
from tightbound.training.budget import Timing
from tightbound.training.console import Quiet
from tightbound.training.run_training import Plan, fit


class Timed:
    """A training whose steps and validations take what the test says."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step: float, validation: float
    ) -> None:
        self.now = 0.0
        self.step = step
        self.validation = validation
        self.first_step = step
        monkeypatch.setattr(budget, "now", lambda: self.now)

    def run(self, steps: int) -> None:
        self.now += steps * self.step

    def validate(self) -> None:
        self.now += self.validation

    def steps_of_a_validation(self) -> float:
        return self.validation / self.step


@pytest.mark.parametrize(
    ("step", "validation", "seconds"),
    [(0.01, 0.5, 60.0), (2.0, 1.0, 60.0), (0.01, 40.0, 60.0), (30.0, 600.0, 60.0)],
)
def test_timing_takes_a_small_share_of_the_budget(
    monkeypatch: pytest.MonkeyPatch, step: float, validation: float, seconds: float
) -> None:
    """Slow steps are those of the trial's first one, slow validations are computed."""
    trial = Timed(monkeypatch, step, validation)
    times = budget.timing(trial, seconds)
    assert times.step == pytest.approx(step)
    assert times.validation == pytest.approx(validation)
    assert trial.now <= 0.1 * seconds


def test_a_slow_first_step_does_not_count_where_a_second_one_is_affordable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = Timed(monkeypatch, 0.5, 1.0)
    trial.first_step = 4.0
    assert budget.timing(trial, 60.0).step == pytest.approx(0.5)
    trial.first_step = 6.0
    assert budget.timing(trial, 60.0).step == 6.0


def test_steps_fill_the_time_with_their_validations() -> None:
    times = Timing(step=0.01, validation=1.0)
    steps = budget.steps_within(100.0, 1000, times)
    assert steps * 0.01 + (1 + steps / 1000) * 1.0 == pytest.approx(97.0, abs=0.1)
    assert budget.steps_within(0.001, 1000, times) == 1
    assert budget.steps_within(-5.0, 1000, times) == 1


def test_a_time_that_is_too_short_is_said_with_one_that_is_not() -> None:
    times = Timing(step=1.0, validation=4.0)
    assert budget.too_short(60.0, 50, times) == []
    (line,) = budget.too_short(5.0, 1, times)
    assert "a step takes 1 s, a validation 4 s, so 1 step is trained" in line
    longer = float(line.split("allow ")[1].split(" s")[0])
    assert budget.steps_within(longer, 1000, times) >= budget.FEW


def test_long_validations_estimate_log_px_on_fewer_examples() -> None:
    assert budget.examples_of_log_px(128, 100.0, Timing(1.0, 3.0)) == 128
    assert budget.examples_of_log_px(128, 100.0, Timing(1.0, 30.0)) == 12
    assert budget.examples_of_log_px(128, 1.0, Timing(1.0, 30.0)) == 1


def test_time_is_kept_for_what_follows_in_proportion() -> None:
    limit = TimeBudget(60.0)
    assert budget.reserved(limit, None) == 15.0
    assert budget.reserved(limit, Timing(0.01, 0.1)) == pytest.approx(10.7)
    assert budget.reserved(limit, Timing(0.01, 10.0)) == 15.0
    assert budget.reserved(TimeBudget(60.0, after_training=0.0), None) == 0.0


class Clocked(Quiet):
    """A display that puts the clock forward at each validation."""

    def __init__(self, seconds: float) -> None:
        self.time = 0.0
        self.seconds = seconds
        self.said: list[str] = []

    def clock(self) -> float:
        return self.time

    def note(self, line: str) -> None:
        self.said.append(line)

    def record(self, record: dict[str, Any]) -> None:
        self.time += self.seconds


def test_training_ends_with_its_time_and_resuming_takes_the_other_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only validations move: the third one passes the limit."""
    monkeypatch.setattr(budget, "steps_within", lambda *args: 60)
    show = Clocked(4.0)
    changes: dict[str, Any] = {"validate_every": 10}
    config = configure("digits", "vae", values={**SMALL, **changes})
    limit = TimeBudget(10.0, after_training=0.0, clock=show.clock)
    with limited(limit):
        run = fit(config, "digits", tmp_path / "run", show)
    steps = [line["step"] for line in run.history()]
    assert steps == [10, 20, 30, 31] and run.config.train.steps == 60
    assert "the budget ended training at step 31 of 60: --resume takes the others" in (
        show.said
    )
    kept = RunFolder(tmp_path / "run").settings()
    assert kept is not None
    again = fit(kept, "digits", tmp_path / "run", Quiet(), mode="resume")
    assert again.history()[-1]["step"] == 60


def test_training_alone_has_its_own_budget(tmp_path: Path) -> None:
    """Reading data and the trials do not count for `train.budget`."""
    config = configure("digits", "vae", values={**SMALL, "train.budget": 3.0})
    run = fit(config, "digits", tmp_path / "run", Quiet())
    assert run.config.train.budget == 3.0
    assert run.history()[-1]["time"] < 60


@pytest.mark.parametrize(("total", "seconds"), [(100.0, 5.0), (3.0, 3.0)])
def test_training_ends_by_the_smaller_of_both_budgets(
    total: float, seconds: float
) -> None:
    config = configure("digits", "vae", values={"train.budget": 5.0})
    with limited(TimeBudget(total, clock=lambda: 0.0)):
        budget = Plan(config, []).stops_after()
    assert budget is not None
    assert budget.seconds == seconds


def test_the_budget_of_training_stays_in_the_settings(tmp_path: Path) -> None:
    """So the same command with --resume is not refused."""
    settings = {**SMALL, "train.budget": 0.5}
    out = tmp_path / "run"
    for resume in (False, True):
        run = tb.train(
            "digits",
            out=out,
            budget="200s",
            settings=settings,
            report=False,
            display="none",
            resume=resume,
        )
        assert run.config.train.budget == 0.5
