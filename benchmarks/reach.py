"""Trains until a figure is reached, and says how long that took."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Stopwatch:
    """Seconds of the wall and of this process, that can be held."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def go(self) -> None:
        self.since = time.perf_counter(), time.process_time()

    def hold(self) -> None:
        self.wall += time.perf_counter() - self.since[0]
        self.cpu += time.process_time() - self.since[1]


class Until:
    """A display that stops training, as Ctrl-C does, once a validation's figure reaches a mark."""

    def __init__(self, figure: str, mark: float) -> None:
        self.figure, self.mark, self.at, self.steps = figure, mark, 0, 0

    def start(self, steps: int, done: int) -> None:
        self.steps = steps

    def record(self, record: dict[str, Any]) -> None:
        self.at = record["step"]
        if record["valid"][self.figure] >= self.mark:
            os.kill(os.getpid(), signal.SIGINT)

    def note(self, line: str) -> None: ...
    def step(self, step: int) -> None: ...
    def stop(self) -> None: ...


def reach(
    source: str,
    figure: str,
    target: float,
    judge: Callable[[Any], tuple[float, float]],
    **arguments: Any,
) -> list[dict[str, Any]]:
    """Trains by `tb.train(source, **arguments)` until `judge(run)`, (value, error) on test data, is
    the target or more.

    Training stops where the validation's `figure` says so; if the test says no, the same run goes
    on to a higher mark, to the end of its steps. The time is that of the calls of `tb.train`, all
    that they do; judging is not in it.
    """
    import tightbound as tb
    from tightbound.api import Stopped

    watch, mark, found = Stopwatch(), target, list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        while True:
            show = Until(figure, mark)
            watch.go()
            with suppress(Stopped):
                tb.train(source, out=place, display=show, report=False, **arguments)
            watch.hold()
            value, error = judge(tb.load(place, device=arguments.get("device", "cpu")))
            found.append(
                {
                    "step": show.at,
                    "value": value,
                    "se": error,
                    "seconds": watch.wall,
                    "cpu": watch.cpu,
                }
            )
            print(found[-1], flush=True)
            if value >= target or show.at >= show.steps:
                return found
            mark += target - value + 0.1
            arguments = {"resume": True, "device": arguments.get("device")}
