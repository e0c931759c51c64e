"""What is decided by timing: by figures that the test gives, saved before the first counted step,
never asked again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import SMALL

import tightbound as tb
from tightbound.config import TrainSettings
from tightbound.runtime.progress import listening
from tightbound.training import autotune as trial
from tightbound.training import run_training as fit
from tightbound.training.step.module import Step

CPU = torch.device("cpu")


class Fake:
    """A trial whose step takes what its settings say, in seconds."""

    times: dict[tuple[str, str], float]

    def __init__(self, trainer: Any, patience: float = 0.0) -> None:
        self.trainer = trainer
        self.first_step = 30.0

    def seconds_per_step(self) -> float:
        return self.times[self.trainer.precision, self.trainer.compile]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """A machine that can do all, whose times a test sets."""
    monkeypatch.setattr(trial, "bfloat16_pays", lambda device: True)
    monkeypatch.setattr(trial, "can_compile", lambda device: True)
    monkeypatch.setattr(trial, "Trial", Fake)
    return Fake


def decided(settings: TrainSettings, steps: int) -> tuple[str, str, int]:
    chosen, notes = trial.choose_execution(settings, steps, lambda s: s, CPU)
    return chosen.precision, chosen.compile, len(notes)


@pytest.mark.parametrize(
    ("half", "whole", "steps", "wanted"),
    [
        (
            0.008,
            0.007,
            100_000,
            ("bfloat16", "off", 1),
        ),  # compiled in float32 0.007, in bfloat16 as slow as eager
        (0.020, 0.007, 100_000, ("float32", "on", 1)),
        (
            0.020,
            0.0099,
            100_000,
            ("float32", "off", 0),
        ),  # 10 s are saved, 30 s the price
        (
            0.020,
            0.007,
            20_000,
            ("float32", "off", 0),
        ),  # 200 s in all: not long enough to try
    ],
)
def test_the_faster_one_is_taken_where_it_pays(
    timed: type[Fake],
    half: float,
    whole: float,
    steps: int,
    wanted: tuple[str, str, int],
) -> None:
    timed.times = {
        ("float32", "off"): 0.010,
        ("bfloat16", "off"): half,
        ("float32", "on"): whole,
        ("bfloat16", "on"): half,
    }
    assert decided(TrainSettings(), steps) == wanted


def test_a_budget_is_the_length_of_its_run(timed: type[Fake]) -> None:
    timed.times = {
        ("float32", "off"): 0.010,
        ("bfloat16", "off"): 0.02,
        ("float32", "on"): 0.009,
    }
    assert decided(TrainSettings(budget=1800.0), 0) == (
        "float32",
        "on",
        1,
    )  # 180,000 steps save 180 s
    assert decided(TrainSettings(budget=250.0), 0) == (
        "float32",
        "off",
        0,
    )  # 25 s are saved, 30 s the price


def test_trials_stay_within_a_tenth_of_the_budget(
    timed: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling is tried only where it ends in time, and slow steps are not compared."""
    timed.times = {
        ("float32", "off"): 0.010,
        ("bfloat16", "off"): 0.001,
        ("float32", "on"): 0.001,
        ("bfloat16", "on"): 0.001,
    }
    assert decided(TrainSettings(budget=1190.0), 0) == ("float32", "off", 0), (
        "the first step of the trial takes 30 s"
    )
    monkeypatch.setattr(
        timed,
        "__init__",
        lambda self, trainer, patience=0.0: setattr_all(self, trainer),
    )
    assert decided(TrainSettings(budget=1190.0), 0) == ("bfloat16", "off", 1)
    assert decided(TrainSettings(budget=1300.0), 0) == ("bfloat16", "off", 1)
    timed.times["bfloat16", "on"] = 0.0001
    assert decided(TrainSettings(budget=1190.0), 0) == ("bfloat16", "off", 1), (
        "a twentieth is less than the 60 s of compiling"
    )
    assert decided(TrainSettings(budget=1300.0), 0) == ("bfloat16", "on", 2)


def setattr_all(fake: Fake, trainer: Any) -> None:
    """A trial whose first step is quick."""
    fake.trainer = trainer
    fake.first_step = 0.5


def test_windows_end_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(trial, "now", lambda: now[0])

    class Slow:
        def seconds_per_step(self) -> float:
            now[0] += 10.0
            return 10.0

    assert trial.time_in_turn([Slow(), Slow()], until=15.0) == [10.0, 10.0]
    assert now[0] == 20.0, "one round, of two windows"


def test_phases_of_trials_are_reported(timed: type[Fake]) -> None:
    timed.times = {
        ("float32", "off"): 0.010,
        ("bfloat16", "off"): 0.02,
        ("float32", "on"): 0.009,
    }
    said: list[str] = []
    with listening(said.append):
        decided(TrainSettings(budget=1800.0), 0)
    assert said == [
        "timing steps, to choose precision and compilation ...",
        "timing steps in float32 and bfloat16 ...",
        "compiling a step ...",
        "timing compiled steps ...",
    ]


def test_what_the_user_says_is_not_timed(timed: type[Fake]) -> None:
    timed.times = {}
    asked = TrainSettings(precision="bfloat16", compile="off")
    assert decided(asked, 100_000) == ("bfloat16", "off", 0)
    assert decided(TrainSettings(), trial.LEAST_STEPS - 1) == ("float32", "off", 0)


def test_a_trial_takes_steps_and_the_run_starts_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real trials: the choice is in config.toml, the weights are those of a run that was told
    it.
    """
    monkeypatch.setattr(trial, "bfloat16_pays", lambda device: True)
    monkeypatch.setattr(trial, "LEAST_STEPS", 1)
    monkeypatch.setattr(trial, "WINDOW", 0.01)
    monkeypatch.setattr(trial, "time_in_turn", lambda trials, until, count: [2.0, 1.0])
    values = {**SMALL, "train.steps": 6}
    run = tb.train(
        "digits", out=tmp_path / "a", settings=values, display="none", report=False
    )
    assert (
        run.config.train.precision == "bfloat16" and run.config.train.compile == "off"
    )
    assert 'precision = "bfloat16"' in (tmp_path / "a" / "config.toml").read_text()
    explicit = {**values, "train.precision": "bfloat16", "train.compile": "off"}
    same = tb.train(
        "digits", out=tmp_path / "b", settings=explicit, display="none", report=False
    )
    assert run.predictor.fingerprint == same.predictor.fingerprint
    monkeypatch.setattr(fit, "choose_execution", None)  # a resumed run must not ask
    again = tb.train(out=tmp_path / "a", resume=True, display="none", report=False)
    assert again.predictor.fingerprint == run.predictor.fingerprint


def test_windows_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class One:
        def __init__(self, name: str, times: list[float]) -> None:
            self.name, self.times = name, times

        def seconds_per_step(self) -> float:
            order.append(self.name)
            return self.times.pop(0)

    medians = trial.time_in_turn([One("a", [3.0, 1.0, 2.0]), One("b", [5.0, 9.0, 7.0])])
    assert medians == [2.0, 7.0] and order == ["a", "b"] * 3


def test_only_the_run_looks_at_data_to_start_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codebook, or clusters, may take long to place; a trial is thrown away."""
    asked, trials_made = list[int](), list[Any]()
    monkeypatch.setattr(
        Step, "prepare", lambda self, examples: asked.append(len(examples(5)[0]))
    )
    monkeypatch.setattr(trial, "bfloat16_pays", lambda device: True)
    monkeypatch.setattr(trial, "LEAST_STEPS", 1)
    monkeypatch.setattr(trial, "WINDOW", 0.01)
    monkeypatch.setattr(
        trial,
        "time_in_turn",
        lambda trials, until, count: trials_made.extend(trials) or [1.0, 2.0],
    )
    values = {**SMALL, "train.steps": 6, "latent": 64}
    tb.train(
        "digits",
        "vq-vae",
        out=tmp_path / "run",
        settings=values,
        display="none",
        report=False,
    )
    assert len(trials_made) == 2 and asked == [5]
