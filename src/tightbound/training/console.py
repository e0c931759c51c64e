"""What a person sees while a run trains: a live table on a terminal, one plain line per validation
elsewhere.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

from tightbound.runtime.errors import lookup


class Display(Protocol):
    """Told of a run's progress; must not slow it."""

    def start(self, steps: int, done: int) -> None: ...
    def note(self, line: str) -> None: ...
    def step(self, step: int) -> None: ...
    def record(self, record: dict[str, Any]) -> None: ...
    def stop(self) -> None: ...


def line(record: dict[str, Any]) -> str:
    """One validation as one line: epoch, ELBO and its parts, log p(x), speed, time left."""
    valid = record["valid"]
    words = [f"epoch {record['epoch']:.4g}", f"step {record['step']}"]
    if "elbo" in valid:
        words += [
            (
                f"valid ELBO {valid['elbo']:.2f} (distortion "
                f"{valid['distortion']:.2f} + rate {valid['rate']:.2f})"
            ),
            f"train ELBO {record['train']['elbo']:.2f}"
            if "elbo" in record["train"]
            else "",
            f"log p(x) >= {valid['log_px']:.2f} (K = {valid['log_px_k']}, n = {valid['log_px_n']})",
        ]
    else:
        words += [
            (
                f"valid distortion {valid['distortion']:.2f}, train "
                f"{record['train'].get('distortion', 0):.2f}"
            )
        ]
    words += [
        f"{record['images_per_s']:.0f} examples/s",
        f"{clock(record['left'])} left",
    ]
    if record["skipped"]:
        words.append(f"{record['skipped']} steps skipped")
    if record["best"]:
        words.append("best")
    return ", ".join(w for w in words if w)


def clock(seconds: float) -> str:
    """71 as 1:11."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return (
        f"{hours}:{rest // 60:02}:{rest % 60:02}"
        if hours
        else f"{rest // 60}:{rest % 60:02}"
    )


class Quiet:
    """Shows nothing."""

    def start(self, steps: int, done: int) -> None: ...
    def note(self, line: str) -> None: ...
    def step(self, step: int) -> None: ...
    def record(self, record: dict[str, Any]) -> None: ...
    def stop(self) -> None: ...


class Lines(Quiet):
    """One plain line per validation, to standard error."""

    def note(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def record(self, record: dict[str, Any]) -> None:
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

    def start(self, steps: int, done: int) -> None:
        self.task = self.progress.add_task("", total=steps, completed=done, figures="")
        self.progress.start()

    def note(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False)

    def step(self, step: int) -> None:
        self.progress.update(self.task, completed=step)

    def record(self, record: dict[str, Any]) -> None:
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


def display(kind: str = "auto") -> Display:
    """The display for where standard error goes: "auto", "live", "lines" or "none"."""
    known: dict[str, type[Display]] = {"auto": Live if sys.stderr.isatty() else Lines}
    return lookup(
        known | {"live": Live, "lines": Lines, "none": Quiet}, kind, "display"
    )()
