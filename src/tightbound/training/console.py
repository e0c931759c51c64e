"""Displays of training progress: a progress bar, or one plain line per validation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from tightbound.runtime.errors import lookup, without_controls
from tightbound.runtime.progress import Reporter, Steady, clock

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Record = dict[str, Any]  # a line of log.jsonl


class Display(Protocol):
    """Shows the progress of a run; its methods return quickly."""

    def start(self, steps: int, done: int) -> None: ...
    def note(self, line: str) -> None: ...
    def step(self, step: int) -> None: ...
    def record(self, record: Record) -> None: ...
    def stop(self) -> None: ...


def line(record: Record) -> str:
    """One validation as one line: epoch, ELBO and its parts, log p(x), speed, time left."""
    words = [f"epoch {record['epoch']:.4g}", f"step {record['step']}"]
    if "elbo" in record["valid"]:
        words += _bound(record["valid"], record["train"])
    else:
        train = record["train"].get("distortion", 0)
        valid = record["valid"]["distortion"]
        words.append(f"valid distortion {valid:.2f}, train {train:.2f}")
    words.append(f"{record['images_per_s']:.0f} examples/s")
    words.append(f"{clock(record['left'])} left")
    if record["skipped"]:
        words.append(f"{record['skipped']} steps skipped")
    if record["best"]:
        words.append("best")
    return ", ".join(words)


def _bound(valid: dict[str, float], train: dict[str, float]) -> list[str]:
    words = [
        f"valid ELBO {valid['elbo']:.2f} (distortion {valid['distortion']:.2f} + "
        f"rate {valid['rate']:.2f})"
    ]
    if "elbo" in train:
        words.append(f"train ELBO {train['elbo']:.2f}")
    words.append(
        f"log p(x) >= {valid['log_px']:.2f} "
        f"(K = {valid['log_px_k']}, n = {valid['log_px_n']})"
    )
    return words


class Quiet:
    """Shows nothing."""

    def start(self, steps: int, done: int) -> None: ...
    def note(self, line: str) -> None: ...
    def step(self, step: int) -> None: ...
    def record(self, record: Record) -> None: ...
    def stop(self) -> None: ...


class Lines(Quiet):
    """One plain line per validation, to standard error."""

    def note(self, line: str) -> None:
        print(without_controls(line), file=sys.stderr, flush=True)

    def record(self, record: Record) -> None:
        self.note(line(record))


class Live(Quiet):
    """A progress bar with the latest figures under it, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self.phases = Bars(self.progress)

    def start(self, steps: int, done: int) -> None:
        self.task = self.progress.add_task("", total=steps, completed=done, figures="")
        self.progress.start()

    def note(self, line: str) -> None:
        console = self.progress.console
        console.print(without_controls(line), markup=False, highlight=False)

    def step(self, step: int) -> None:
        self.progress.update(self.task, completed=step)

    def record(self, record: Record) -> None:
        valid = record["valid"]
        if "elbo" in valid:
            text = f"ELBO {valid['elbo']:.2f} = -({valid['distortion']:.2f} + {valid['rate']:.2f})"
        else:
            text = f"distortion {valid['distortion']:.2f}"
        self.progress.update(
            self.task,
            completed=record["step"],
            figures=f"{text}  {record['images_per_s']:.0f}/s",
        )

    def stop(self) -> None:
        self.progress.stop()


class Bars(Reporter):
    """A bar for each phase of a command that is not training, on a terminal.

    Work that is counted outside of a phase is reported by lines.

    Args:
        training: the bar of training, whose console the lines share.
    """

    every = 0.2

    def __init__(self, training: Progress) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        super().__init__(self._print)
        self.console = training.console
        self.training = training
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.open: list[TaskID] = []

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False)

    def begin(self, count: Steady) -> None:
        if self.training.live.is_started:
            return
        self.open.append(self.progress.add_task("", total=count.total, amount=""))
        self._show(count)
        self.progress.start()

    def advance(self, count: Steady) -> None:
        if self.open:
            self._show(count)
        else:
            super().advance(count)

    def end(self, count: Steady, seconds: float) -> None:
        self.cancel(count)
        super().end(count, seconds)

    def cancel(self, count: Steady) -> None:
        if self.open:
            self.progress.remove_task(self.open.pop())
        if not self.open:
            self.progress.stop()

    def _show(self, count: Steady) -> None:
        from rich.markup import escape

        self.progress.update(
            self.open[-1],
            description=escape(count.what),
            completed=count.done,
            total=count.total,
            amount=count.progress if count.done else "",
        )


def reporter(show: Display) -> Reporter:
    """The reporter of phases that belongs to a display: its bars, or its lines."""
    if isinstance(show, Live):
        return show.phases
    return Reporter(show.note)


def display(kind: str = "auto") -> Display:
    """Create a display: "auto", "live", "lines" or "none".

    auto: live where standard error is a terminal, lines elsewhere.
    """
    displays: dict[str, type[Display]] = {
        "auto": Live if sys.stderr.isatty() else Lines,
        "live": Live,
        "lines": Lines,
        "none": Quiet,
    }
    return lookup(displays, kind, "display")()
