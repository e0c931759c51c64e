"""Seconds of a training step on a quiet machine, from which minutes become steps.

A row is trained for so many steps as its minutes hold on the machine when nothing else runs. So a
training that others disturb takes longer by the clock and is the same training: equal minutes can
be compared. The steps are

    steps = the package's own rule for a budget (`steps_within`) of 60 x minutes seconds,
            from the seconds of a step and of a validation

Only a reference model, `REFERENCE`, is measured by the clock alone: in ten windows of two seconds,
of which the fastest counts among those under 0.12 core of foreign load, since the cores of a
virtual machine are slower from one window to the next by a fifth. If none was quiet, the
measurement is refused; with `busy` the processor seconds over all threads, divided by the number
of threads, stand for those of the clock, and all that follows is marked as such.

Every other model is measured in turn with the reference, window by window, and

    seconds of a step = seconds of the reference's step x median of the ratios of a round,

so that the speed of the machine at that moment cancels. A machine on which others run does not
cancel (threads that wait for one another delay small operations most), so the rounds need a quiet
machine too, or `busy`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
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

WINDOW = 2.0  # seconds
TRIES = 10  # windows of the reference
TURN = 1.0  # seconds of a window in turn
ROUNDS = 9  # of windows in turn
LONG = 100_000  # steps, so that compiling and bfloat16 are tried where they may pay
Model = tuple[str, str, dict[str, Any]]  # data, recipe and settings
# Settings that do not change the time of a step.
SAME_TIME = (
    "train.cycles",
    "train.ema",
    "train.lr",
    "train.warmup",
    "train.weight_decay",
)
# The model beside which all others are measured.
REFERENCE: Model = ("mnist", "flow-prior", {"data.binarize": "dynamic"})


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
        quiet: Whether they used less than 0.12 core, then and while the reference was measured.
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

    A time that rests on a busy machine is measured again.

    Raises:
        TightboundError: The reference is not known, the machine is not quiet, and `busy` is False.
    """
    timed = {key: value for key, value in settings.items() if key not in SAME_TIME}
    wanted = (source, recipe, timed)
    found = _kept(path, wanted, device)
    if found and (found.quiet or busy):
        return found
    reference = _kept(path, REFERENCE, device)
    if reference is None or not (reference.quiet or busy):
        reference = measure(*REFERENCE, device, busy)
        _keep(path, REFERENCE, device, reference)
    if wanted == REFERENCE:
        return reference
    found = measure_in_turn(wanted, REFERENCE, reference, device, busy)
    _keep(path, wanted, device, found)
    return found


def _key(about: Model, device: str) -> str:
    """The name of a model on this device with so many threads, in the file of times."""
    parts = [*about, device_name(device), torch.get_num_threads()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _kept(path: Path, about: Model, device: str) -> StepTime | None:
    """The time in the file, or None."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    key = _key(about, device)
    return StepTime(**kept[key]) if key in kept else None


def _keep(path: Path, about: Model, device: str, found: StepTime) -> None:
    """Add a time to the file."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    kept[_key(about, device)] = asdict(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(kept, indent=1) + "\n")


@dataclass(frozen=True)
class Live:
    """A model whose steps can be timed, and what its trial chose.

    Attributes:
        trial: The trainer.
        precision: "float32" or "bfloat16".
        compile: "on" or "off".
        per_epoch: Steps of an epoch.
    """

    trial: Trial
    precision: str
    compile: str
    per_epoch: int

    def time(
        self, step: float, validation: float, foreign: float, quiet: bool, device: str
    ) -> StepTime:
        """The times found, with the choices."""
        return StepTime(
            step=step,
            validation=validation,
            per_epoch=self.per_epoch,
            precision=self.precision,
            compile=self.compile,
            foreign=round(foreign, 3),
            quiet=quiet,
            threads=torch.get_num_threads(),
            device=device_name(device),
        )


def live(
    source: str,
    recipe: str,
    settings: Mapping[str, Any],
    device: str = "cpu",
    choices: Mapping[str, str] | None = None,
) -> Live:
    """A model with its data, in the precision and compilation given or chosen by a trial.

    Args:
        source: Data set by its name, or a file.
        recipe: Recipe of the package.
        settings: Settings by their keys.
        device: "cpu" or "cuda".
        choices: Settings `train.precision` and `train.compile`; None for the package's trial.
    """
    requested = configure("", recipe, values={**settings, **(choices or {})})

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

    train = config.train.model_copy(update={"steps": LONG})
    if choices is None:
        train, _ = choose_execution(train, LONG, make, place)
    with torch.random.fork_rng():
        trial = Trial(make(train))
    batch = int(trial.trainer.settings.batch)
    per_epoch = budget.epoch_steps(n, batch)
    return Live(trial, str(train.precision), str(train.compile), per_epoch)


def measure(
    source: str,
    recipe: str,
    settings: Mapping[str, Any],
    device: str = "cpu",
    busy: bool = False,
    load: harness.Load | None = None,
) -> StepTime:
    """Seconds of a step and of a validation of these settings, by the clock.

    Raises:
        TightboundError: The machine is not quiet, and `busy` is False.
    """
    model = live(source, recipe, settings, device)
    load = load or harness.Load()
    with torch.random.fork_rng():
        step, foreign = _fastest(lambda: model.trial.run(1), load, busy)
        validation, _ = _fastest(model.trial.validate, load, True)
    quiet = foreign <= harness.QUIET
    return model.time(step, validation, foreign, quiet, device)


def measure_in_turn(
    wanted: Model,
    beside: Model,
    reference: StepTime,
    device: str = "cpu",
    busy: bool = False,
    load: harness.Load | None = None,
) -> StepTime:
    """Seconds of a step and of a validation of a model, in turn with another one.

    Args:
        wanted: Data, recipe and settings of the model.
        beside: Those of the reference.
        reference: Its times on a quiet machine.
        device: "cpu" or "cuda".
        busy: Whether a busy machine is taken.
        load: What measures the foreign load.

    Raises:
        TightboundError: The machine is not quiet, and `busy` is False.
    """
    standard = live(*beside, device, reference.settings)
    model = live(*wanted, device)
    load = load or harness.Load()
    calls = [lambda: model.trial.run(1), lambda: standard.trial.run(1)]
    with torch.random.fork_rng():
        load.start()
        rounds = [[_window(call) for call in calls] for _ in range(ROUNDS)]
        foreign = load.foreign()
        validation = _window(model.trial.validate)
    quiet = foreign <= harness.QUIET
    if not quiet and not busy:
        raise _too_busy(foreign)
    ratio = median(ours / standards for ours, standards in rounds)
    slower = median(standards for _, standards in rounds) / reference.step
    quiet = quiet and reference.quiet
    step = reference.step * ratio
    return model.time(step, validation / slower, foreign, quiet, device)


def _window(call: Callable[[], object]) -> float:
    """Seconds of a call by the clock, over a window."""
    calls = 0
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < TURN or not calls:
        call()
        calls += 1
    return seconds / calls


def _fastest(
    call: Callable[[], object], load: harness.Load, busy: bool
) -> tuple[float, float]:
    """Seconds of a call in the fastest quiet window, and the foreign load.

    With `busy` one window is enough, and where it is not quiet, processor seconds stand for those
    of the clock.
    """
    quiet: list[tuple[float, float]] = []
    best = (0.0, math.inf)
    for _ in range(TRIES):
        load.start()
        calls, cpu, start = 0, time.process_time(), time.perf_counter()
        while (wall := time.perf_counter() - start) < WINDOW or not calls:
            call()
            calls += 1
        cpu = time.process_time() - cpu
        foreign = load.foreign()
        if foreign <= harness.QUIET:
            quiet.append((wall / calls, foreign))
        elif foreign < best[1]:
            best = (cpu / torch.get_num_threads() / calls, foreign)
        if busy:
            break
    if quiet:
        return min(quiet)
    if not busy:
        raise _too_busy(best[1])
    return best


def _too_busy(foreign: float) -> TightboundError:
    return TightboundError(
        f"other programs use {foreign:.2f} cores, more than {harness.QUIET}, so the steps "
        "that the minutes hold cannot be measured: wait for a quiet machine, or give --busy, "
        "which marks the result"
    )
