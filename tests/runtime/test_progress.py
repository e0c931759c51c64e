"""Long work that is not training tells how far it is, on a clock that the test winds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.small import trained

import tightbound as tb
import tightbound.data as td
from tightbound.data.formats import download
from tightbound.evaluation.budget import budgeted_plan
from tightbound.report.render import write
from tightbound.runtime import progress
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, listening, phase, steadily


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a look at it moves by one second."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", monotonic)
    return now


def test_nobody_listens_by_default_and_short_work_says_nothing(
    clock: list[float],
) -> None:
    said: list[str] = []
    assert list(steadily("counting", range(20), 20)) == list(range(20))
    with listening(said.append):
        steady = Steady("counting", 2)
        clock[0] -= 10
        steady.add(2)
    assert said == []


def test_lines_come_a_few_seconds_apart_and_count_right(clock: list[float]) -> None:
    said: list[str] = []
    with listening(said.append):
        list(steadily("counting", range(1400), 1400))
    done = [int(line.split(": ")[1].split(" of ")[0].replace(",", "")) for line in said]
    assert re.fullmatch(r"counting: 1,\d+ of 1,400, 0:\d\d left", said[-1])
    gaps = np.diff(done)
    assert (
        len(done) > 100
        and done[0] >= progress.FIRST
        and gaps.min() >= progress.EVERY / 2 - 1
    ), gaps[:5]
    with listening(said.append):
        pass
    Steady("after", None).add(1)
    assert not any("after" in line for line in said)


def test_the_time_left_is_that_of_the_mean_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    said: list[str] = []
    with listening(said.append), phase("estimate", 400, " examples") as count:
        assert count.left is None, "nothing is finished"
        now[0] = 30.0
        count.add(100)
        assert count.left == 90.0
    with listening(said.append), phase("reading x") as count:
        now[0] = 70.0
        count.add(5)
        assert count.left is None, "of no known total"
    assert said == [
        "estimate ...",
        "estimate: 100 of 400 examples, 1:30 left",
        "estimate: 30 s",
        "reading x ...",
        "reading x: 5",
        "reading x: 40 s",
    ]


def test_phases_of_an_evaluation_and_a_report_have_a_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the metrics one by one, whose start and end are reported."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", monotonic)
    run = trained(tmp_path / "run", "vae", steps=2)
    x = run.data.test.examples(torch.arange(2))
    said: list[str] = []
    with listening(said.append):
        evaluation = tb.evaluate(run, k=2, limit=24, subset=0, metrics="novelty")
        budgeted_plan(run, x, 16, 1.0, train=False)
        write([run], tmp_path / "report.html", evaluations=[evaluation])
    begun = {line[:-4] for line in said if line.endswith(" ...")}
    counted = {line.rpartition(": ")[0] for line in said if line.endswith(" left")}
    assert begun >= {
        "diagnosis",
        "log p(x) by importance sampling",
        "metrics",
        "report: examples of the model",
        "report: sections",
        "timing the estimates",
    }
    assert begun - counted == {"metrics: novelty"}
    assert any(re.fullmatch(r"metrics: novelty: \d+ s", line) for line in said)


def test_a_folder_of_images_and_a_download_tell(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    said: list[str] = []
    with listening(said.append):
        td.load(str(tmp_path))
    assert any(
        re.fullmatch(r"reading images: \d+ of 40, 0:\d\d left", line) for line in said
    ), said

    class Reply:
        headers = {"Content-Length": str(40 << 16)}  # noqa: RUF012

        def __enter__(self) -> Reply:
            self.left = 40
            return self

        def __exit__(self, *args: object) -> None: ...

        def read(self, size: int) -> bytes:
            self.left -= 1
            return bytes(size) if self.left >= 0 else b""

    monkeypatch.setattr(
        download.urllib.request, "urlopen", lambda *args, **more: Reply()
    )
    with listening(said.append), pytest.raises(TightboundError, match="sha256"):
        download.fetch("http://127.0.0.1/x", tmp_path / "x", "0" * 64)
    assert any(
        "downloading http://127.0.0.1/x: " in line and "2,621,440 bytes, 0:" in line
        for line in said
    ), said
