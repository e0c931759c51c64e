"""Ctrl-C, SIGTERM and SIGHUP: what is finished is kept, and the exit status says which."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.small import SMALL, trained

import tightbound as tb
from tightbound import api, cli, evaluation, report
from tightbound.runtime.signals import ENDING, Ended, collected, raised
from tightbound.training.console import Quiet

AFTER_FIRST = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}
QUICK = {**SMALL, "steps": 6}
TRAINING = {**SMALL, "steps": 20, "validate_every": 10, "save_seconds": 1000}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers after a test are those before it; under nohup they are the usual ones."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)]
    assert after == before


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_raised_once_and_the_second_one_ends_the_process(
    number: int,
) -> None:
    with pytest.raises(Ended) as ended, raised():
        try:
            signal.raise_signal(number)
        finally:
            default = signal.getsignal(number)
    assert ended.value.number == number and default is AFTER_FIRST[number]


@pytest.mark.parametrize("number", ENDING)
def test_an_ignored_signal_stays_ignored(number: int) -> None:
    """As under `nohup`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with raised(), collected() as received:
            signal.raise_signal(number)
        assert received == []
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("first", [signal.SIGINT, *ENDING])
def test_collected_signals_wait_for_the_step_and_a_second_one_does_not(
    first: int,
) -> None:
    with raised(), collected() as received:
        signal.raise_signal(first)
        assert received == [first]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        for number in ENDING:
            assert signal.getsignal(number) is AFTER_FIRST[number]


def test_a_terminal_that_closes_may_send_its_signal_twice() -> None:
    with raised(), collected() as received:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert received == [signal.SIGHUP]


class Sends(Quiet):
    """Sends a signal to its process at a validation."""

    def __init__(self, number: int, step: int) -> None:
        self.number = number
        self.at = step

    def record(self, record: dict[str, Any]) -> None:
        if record["step"] == self.at:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_in_training_saves_and_the_run_goes_on_to_the_same_bits(
    tmp_path: Path, number: int
) -> None:
    with pytest.raises(api.Stopped) as stopped:
        tb.train(
            "digits",
            out=tmp_path / "run",
            display=Sends(number, 10),
            report=False,
            settings=TRAINING,
        )
    assert stopped.value.number == number
    assert signal.Signals(number).name in str(stopped.value)
    assert sorted(p.name for p in (tmp_path / "run" / "state").glob("*.pt")) == [
        "state-10.pt"
    ]
    run = tb.train(out=tmp_path / "run", resume=True, display="none", report=False)
    whole = trained(tmp_path / "whole", "vae", **TRAINING)
    assert run.predictor.fingerprint == whole.predictor.fingerprint


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
@pytest.mark.parametrize("part", ["evaluate", "write"])
def test_a_signal_in_the_evaluation_or_the_report_leaves_nothing_half_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    part: str,
) -> None:
    """The command ends with 128 + n and prints the command that goes on."""

    def end(*args: object, **more: object) -> None:
        signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation if part == "evaluate" else report, part, end)
        words = ["train", "digits", "--out", str(tmp_path / "run"), "--set"]
        words += [f"{key}={value}" for key, value in QUICK.items()]
        assert cli.main(words) == 128 + number
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    name = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert last.startswith(f"{name}, the state is saved; go on with: tightbound train")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert "report.html" not in files and "report:" not in out
    assert not [name for name in files if "tmp" in name]
    if part == "write":
        json.loads((tmp_path / "run" / "evaluation.json").read_text())


def test_after_a_signal_in_the_evaluation_resuming_makes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(api.Stopped):
        patched.setattr(
            evaluation, "evaluate", lambda *a, **k: signal.raise_signal(signal.SIGTERM)
        )
        tb.train("digits", out=tmp_path / "run", display="none", settings=QUICK)
    tb.train(out=tmp_path / "run", resume=True, display="none")
    assert (tmp_path / "run" / "evaluation.json").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_signal_before_training_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "fit", lambda *a, **k: signal.raise_signal(signal.SIGTERM))
    assert cli.main(["train", "digits"]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "ended by SIGTERM"
