"""Seconds of a training step on a quiet machine, from which minutes become steps.

A row is trained for so many steps as its minutes hold on the machine when nothing else runs. So a
training that others disturb takes longer by the clock and is the same training: equal minutes can
be compared. The steps are

    steps = the package's own rule for a budget (`steps_within`) of 60 x minutes seconds,
            from the seconds of a step and of a validation

both measured in windows of two seconds, of which the one with the least foreign load counts. A
window under more than 0.12 core of foreign load is measured again, ten times at the most. If none
was quiet, the measurement is refused; with `busy` the processor seconds over all threads, divided
by the number of threads, stand for those of the clock, and all that follows is marked as such.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness
import machine
import torch

from tightbound import data as data_room
from tightbound.config import Config, TrainSettings, configure
from tightbound.data import Data
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError
from tightbound.training import budget
from tightbound.training.autotune import Trial, choose_execution
from tightbound.training.batches import count
from tightbound.training.console import Quiet
from tightbound.training.run_training import assemble_step, read_for_recipe
from tightbound.training.trainer import Trainer

WINDOW, TRIES = 2.0, 10
LONG = 100_000  # steps, so that compiling and bfloat16 are tried where they may pay


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step and of a validation, and how they were measured.

    Attributes:
        step: Seconds of a step.
        validation: Seconds of a validation.
        per_epoch: Steps of an epoch.
        precision: What the trial of products chose.
        compile: What the trial of compilation chose.
        foreign: Cores that other programs used meanwhile.
        quiet: Whether they used less than 0.12 core.
        threads: Threads of the products.
        device: Name of the device.
    """

    step: float
    validation: float
    per_epoch: int
    precision: str
    compile: str
    foreign: float
    quiet: bool
    threads: int
    device: str

    def steps(self, minutes: float) -> int:
        """The steps of a training of so many minutes."""
        times = budget.Timing(self.step, self.validation)
        return budget.steps_within(60 * minutes, self.per_epoch, times)

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the trials chose."""
        return {"train.precision": self.precision, "train.compile": self.compile}


def device_name(device: str) -> str:
    """The processor or graphics processor by name."""
    if pick_device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return str(machine.processor()["name"])


def known_or_measured(
    path: Path,
    source: str,
    recipe: str,
    settings: Mapping[str, Any],
    device: str = "cpu",
    busy: bool = False,
) -> StepTime:
    """The step time of these settings on this machine: from the file, else measured and kept.

    A time from a busy machine is measured again.

    Raises:
        TightboundError: The machine is not quiet, and `busy` is False.
    """
    kept = json.loads(path.read_text()) if path.is_file() else {}
    about = [
        source,
        recipe,
        dict(settings),
        device_name(device),
        torch.get_num_threads(),
    ]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    if key in kept and (kept[key]["quiet"] or busy):
        return StepTime(**kept[key])
    found = measure(source, recipe, settings, device, busy)
    kept[key] = asdict(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(kept, indent=1) + "\n")
    return found


def measure(
    source: str,
    recipe: str,
    settings: Mapping[str, Any],
    device: str = "cpu",
    busy: bool = False,
    load: harness.Load | None = None,
) -> StepTime:
    """Seconds of a step and of a validation of these settings.

    Raises:
        TightboundError: The machine is not quiet, and `busy` is False.
    """
    requested = configure("", recipe, values=settings)

    def read_data(config: Config, domains: tuple[str, ...]) -> Data:
        return data_room.load(source, config.data, seed=config.seed, domains=domains)

    config, data, _ = read_for_recipe(requested, read_data)
    place = pick_device(device)
    n = count(data.train)

    def make(train: TrainSettings) -> Trainer:
        resolved = budget.resolve(train, n)
        trial_config = config.model_copy(update={"train": resolved})
        step = assemble_step(trial_config, place)
        return Trainer(step, trial_config, data, Path(), Quiet(), trial=True)

    load = load or harness.Load()
    train = config.train.model_copy(update={"steps": LONG})
    chosen, _ = choose_execution(train, LONG, make, place)
    with torch.random.fork_rng():
        trial = Trial(make(chosen))
        step, foreign = _quietest(lambda: trial.run(1), load, busy)
        validation, _ = _quietest(trial.validate, load, True, tries=1)
    batch = int(trial.trainer.settings.batch)
    return StepTime(
        step=step,
        validation=validation,
        per_epoch=budget.epoch_steps(n, batch),
        precision=str(chosen.precision),
        compile=str(chosen.compile),
        foreign=round(foreign, 3),
        quiet=foreign <= harness.QUIET,
        threads=torch.get_num_threads(),
        device=device_name(device),
    )


def _quietest(
    call: Callable[[], object], load: harness.Load, busy: bool, tries: int = TRIES
) -> tuple[float, float]:
    """Seconds of a call in the window with the least foreign load, and that load."""
    best = (0.0, float("inf"))
    for _ in range(tries):
        load.start()
        calls, cpu, start = 0, time.process_time(), time.perf_counter()
        while (wall := time.perf_counter() - start) < WINDOW or not calls:
            call()
            calls += 1
        cpu = time.process_time() - cpu
        foreign = load.foreign()
        seconds = wall if foreign <= harness.QUIET else cpu / torch.get_num_threads()
        if foreign < best[1]:
            best = (seconds / calls, foreign)
        if foreign <= harness.QUIET:
            return best
        if busy:
            break
    if not busy:
        raise TightboundError(
            f"other programs use {best[1]:.2f} cores, more than {harness.QUIET}, so the steps "
            "that the minutes hold cannot be measured: wait for a quiet machine, or give --busy, "
            "which marks the result"
        )
    return best
