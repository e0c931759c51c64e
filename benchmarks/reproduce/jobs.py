"""One training of a row and its evaluation, each of which goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness
import machine
import torch

import tightbound as tb
from reproduce import step_time
from reproduce.rows import Row
from tightbound.api import Stopped
from tightbound.evaluation import score
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError

Found = dict[str, Any]
# (K, images) of the evaluation: the first that takes no longer than the training. None: all.
PROTOCOLS = ((5000, None), (1000, 2000), (100, 1000), (20, 500))
TRIED = 4  # images of the timed trial
LEFT = 3  # exit status where work is left


@dataclass(frozen=True)
class Work:
    """Where a job keeps its files, and on what it runs.

    Attributes:
        folder: Folder of all jobs.
        times: File of the step times.
        device: "cpu" or "cuda".
        busy: Whether a step time may be measured beside other programs.
        minutes: Minutes in the place of those of the row; None for those of the row.
    """

    folder: Path
    times: Path
    device: str = "cpu"
    busy: bool = False
    minutes: float | None = None

    def place(self, row: Row, seed: int) -> Path:
        """The folder of one training."""
        device = "" if self.device == "cpu" else f"-{self.device}"
        minutes = "" if self.minutes is None else f"-{self.minutes:g}min"
        return self.folder / f"{row.name}{device}{minutes}" / f"seed{seed}"

    def minutes_of(self, row: Row) -> float:
        """The minutes of training of a row."""
        if self.minutes is not None:
            return self.minutes
        return row.minutes if self.device == "cpu" else row.minutes_gpu


class LoadLog(tb.Callback):
    """Adds a line to a file at each validation: the foreign load since the one before."""

    def __init__(self, path: Path, load: harness.Load | None = None) -> None:
        self.path = path
        self.load = load or harness.Load()

    def start(self, progress: Any) -> None:
        self.began = time.perf_counter()
        self.load.start()

    def validation(self, progress: Any, record: Mapping[str, Any]) -> None:
        seconds = time.perf_counter() - self.began
        line = {
            "step": record["step"],
            "seconds": round(seconds, 2),
            "foreign": round(self.load.foreign(), 3),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        bound = record["valid"].get("log_px") or record["valid"].get("elbo")
        said = f"step {record['step']:,} of {progress.steps:,}, validation {bound:.2f}"
        print(f"{said}, others use {line['foreign']} cores", flush=True)
        self.start(progress)


def load_seen(path: Path) -> Found | None:
    """The foreign load of a training, weighted by time; None where nothing was written."""
    if not path.is_file():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seconds = sum(line["seconds"] for line in lines)
    mean = sum(line["seconds"] * line["foreign"] for line in lines) / max(seconds, 1e-9)
    return {
        "windows": len(lines),
        "foreign_mean": round(mean, 3),
        "foreign_most": max(line["foreign"] for line in lines),
        "quiet": mean <= harness.QUIET,
    }


@contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Interrupt this process as Ctrl-C does, after so many seconds; None: never."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def exit_status(
    command: Callable[[argparse.Namespace], None], options: argparse.Namespace
) -> int:
    """Run a command whose work goes on when it is given again.

    Returns:
        0; LEFT where it was stopped; 2 after an error, which is printed as one sentence.
    """
    torch.set_num_threads(options.threads)
    try:
        command(options)
    except (Stopped, KeyboardInterrupt):
        print("stopped; the same command goes on", file=sys.stderr)
        return LEFT
    except TightboundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


# ---- training


def plan(row: Row, seed: int, work: Work) -> Found:
    """The steps of each stage, decided once and kept beside the training."""
    path = work.place(row, seed) / "plan.json"
    if path.is_file():
        return json.loads(path.read_text())
    minutes = work.minutes_of(row)
    stages = []
    for number, stage in enumerate(row.stages):
        found = step_time.known_or_measured(
            work.times,
            row.file(),
            row.recipe,
            row.settings_of(number),
            work.device,
            work.busy,
        )
        steps = found.steps(stage.share * minutes)
        stages.append(
            {"steps": steps, "settings": found.settings, "time": asdict(found)}
        )
    decided = {
        "minutes": minutes,
        "stages": stages,
        "machine": machine.describe(torch.get_num_threads()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(decided, indent=1) + "\n")
    return decided


def train(row: Row, seed: int, work: Work) -> Found:
    """Train all stages of a row, from where they were left.

    Returns:
        The plan, the curve of validations, the load, and the seconds by the clock.

    Raises:
        Stopped: After a signal, with the state saved.
    """
    place = work.place(row, seed)
    decided = plan(row, seed, work)
    curve: list[Found] = []
    minutes = seconds = 0.0
    for number, stage in enumerate(decided["stages"]):
        folder = place / f"stage{number}"
        if not (place / f"stage{number}.done").is_file():
            _train_stage(row, seed, work, number, stage)
            (place / f"stage{number}.done").touch()
        lines = _validations(folder)
        per_step = stage["time"]["step"] / 60
        curve += [_point(line, minutes, per_step) for line in lines]
        minutes += stage["steps"] * per_step
        seconds += lines[-1]["time"] if lines else 0.0
    return {
        **decided,
        "curve": curve,
        "load": load_seen(place / "load.jsonl"),
        "train_seconds": round(seconds, 1),
    }


def _train_stage(row: Row, seed: int, work: Work, number: int, stage: Found) -> None:
    place = work.place(row, seed)
    folder = place / f"stage{number}"
    callbacks = [LoadLog(place / "load.jsonl")]
    common: Found = {"display": "none", "report": False, "callbacks": callbacks}
    if folder.exists():
        tb.train(row.file(), out=folder, resume=True, device=work.device, **common)
        return
    settings = {
        "train.save_seconds": 60.0,
        **row.settings_of(number),
        **stage["settings"],
        "train.steps": stage["steps"],
    }
    init = place / f"stage{number - 1}" if number else None
    tb.train(
        row.file(),
        row.recipe,
        out=folder,
        seed=seed,
        device=work.device,
        init=init,
        settings=settings,
        **common,
    )


def _validations(folder: Path) -> list[Found]:
    path = folder / "log.jsonl"
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]


def _point(line: Found, minutes: float, per_step: float) -> Found:
    """A point of the curve: minutes on a quiet machine, and figures of the validation set."""
    valid = line["valid"]
    return {
        "step": line["step"],
        "minutes": round(minutes + line["step"] * per_step, 3),
        "elbo": valid.get("elbo"),
        "log_px": valid.get("log_px"),
    }


# ---- evaluation


def evaluate(row: Row, seed: int, work: Work) -> Found:
    """The figures of the trained model on test images, by the protocol of the row."""
    place = work.place(row, seed)
    path = place / "evaluation.json"
    if path.is_file():
        return json.loads(path.read_text())
    last = len(row.stages) - 1
    run = tb.load(place / f"stage{last}", device=work.device)
    k, images = _protocol(row, place, run, 60 * work.minutes_of(row))
    found = tb.evaluate(run, k=k, limit=images, diagnosis=False)
    result = {
        "k": k,
        "images": found.n,
        "seconds": round(found.seconds, 1),
        "terms": {name: mean.to_json() for name, mean in found.terms.items()},
        "bits_per_dim": {
            name: mean.to_json() for name, mean in (found.bits_per_dim or {}).items()
        },
        "curve": [{"k": at, **mean.to_json()} for at, mean in found.curve.items()],
    }
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    return result


def _protocol(
    row: Row, place: Path, run: tb.Run, seconds: float
) -> tuple[int, int | None]:
    """K and the number of images: the first protocol that takes no longer than training.

    Decided once: an evaluation that goes on keeps to it.
    """
    if row.k:
        return row.k, row.images or None
    path = place / "protocol.json"
    if path.is_file():
        k, images = json.loads(path.read_text())
        return k, images
    x = run.data.test.batch(run.data.test.spread(TRIED))
    n = len(run.data.test)
    start = time.process_time()
    score(run, x, PROTOCOLS[1][0], seed=0)
    spent = (time.process_time() - start) / torch.get_num_threads()
    per_sample = spent / (TRIED * PROTOCOLS[1][0])
    chosen = PROTOCOLS[-1]
    for k, images in reversed(PROTOCOLS):
        if per_sample * k * min(images or n, n) <= seconds:
            chosen = (k, images)
    write_atomic(path, json.dumps(chosen) + "\n")
    return chosen


# ---- all of a row


def run(row: Row, seed: int, work: Work) -> Found:
    """Train and evaluate; what is done already is read."""
    place = work.place(row, seed)
    trained = train(row, seed, work)
    found = {**trained, "commit": machine.commit()}
    with suppress(OSError):
        write_atomic(place / "trained.json", json.dumps(found, indent=1) + "\n")
    return {**found, "evaluation": evaluate(row, seed, work)}
