"""Long work that is not training tells how far it is, on a clock that the test winds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tightbound.data as td
from tightbound.data.formats import download
from tightbound.runtime import progress
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, listening, steadily


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
    assert said[-1].startswith("counting: 1,") and said[-1].endswith(" of 1,400")
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


def test_a_folder_of_images_and_a_download_tell(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    said: list[str] = []
    with listening(said.append):
        td.load(str(tmp_path))
    assert any(
        line.startswith("reading images: ") and line.endswith(" of 40") for line in said
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
        "downloading http://127.0.0.1/x: " in line and line.endswith("2,621,440 bytes")
        for line in said
    ), said
