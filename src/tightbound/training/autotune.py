"""The choice of precision and compilation, by timing steps that are discarded."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from statistics import median

import torch

from tightbound.config import TrainSettings
from tightbound.core.draw import Clock
from tightbound.runtime.launch_context import current_launch
from tightbound.runtime.progress import Steady, phase
from tightbound.training.budget import TRIALS, now
from tightbound.training.step.precision import has_bfloat16
from tightbound.training.trainer import Trainer

LEAST_STEPS = 2000  # shorter runs are not timed
LONG = 240.0  # seconds of a run from which compiling, which takes 20 to 60 s, is timed
FORWARD_PASSES = 3  # about as many take as long as a step with its gradients
WINDOW = 0.4  # seconds of one measurement
ROUNDS = 3  # measurements of each trainer
COMPILING = 60.0  # seconds that compiling takes, at most
PAYS = 1.1  # least speed-up of bfloat16 products for which training in it is timed

Make = Callable[[TrainSettings], Trainer]


class Trial:
    """A trainer whose steps are timed and discarded.

    `first_step` is the time of its first step in seconds, with compilation; three more are
    taken to warm up, unless the first one took longer than `patience` seconds.
    """

    def __init__(self, trainer: Trainer, patience: float = math.inf) -> None:
        self.trainer = trainer
        start = now()
        self.run(1)
        self.first_step = now() - start
        if self.first_step < patience:
            self.run(3)

    def run(self, steps: int) -> None:
        """Take steps, and wait until the device has executed them."""
        self.trainer.model.train()
        for _ in range(steps):
            self.trainer.train_step(Clock(0.5))
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()

    def validate(self) -> object:
        """Run one validation."""
        return self.trainer.validator(self.trainer.model)

    def steps_of_a_validation(self) -> float:
        """About how many steps take as long as a validation."""
        settings = self.trainer.settings
        decoded = int(settings.batch) * self.trainer.config.recipe.k
        return self.trainer.validator.decoded / (FORWARD_PASSES * decoded)

    def seconds_per_step(self) -> float:
        """Seconds per step, over at least WINDOW seconds."""
        steps = 0
        start = now()
        elapsed = 0.0
        while elapsed < WINDOW:
            chunk = 1 if steps == 0 else 5
            self.run(chunk)
            steps += chunk
            elapsed = now() - start
        return elapsed / steps


def time_in_turn(
    trials: list[Trial], until: float = math.inf, count: Steady | None = None
) -> list[float]:
    """Seconds per step of each trial, the median of three windows.

    The trials take turns, so that a drift of the machine's speed affects all alike.

    Args:
        until: the time, as of `now`, after which no further windows are begun.
        count: counts the windows.
    """
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        if rounds and now() >= until:
            break
        rounds.append([trial.seconds_per_step() for trial in trials])
        if count is not None:
            count.add(1)
    return [median(column) for column in zip(*rounds, strict=True)]


def bfloat16_pays(device: torch.device) -> bool:
    """True where products of 512 x 512 matrices are clearly faster in bfloat16."""
    if not has_bfloat16(device):
        return False
    pair = [
        torch.ones(512, 512, device=device, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    ]

    def seconds(x: torch.Tensor) -> float:
        start = now()
        for _ in range(10):
            x @ x
        if device.type == "cuda":
            torch.cuda.synchronize()
        return now() - start

    rounds = []
    for _ in range(5):
        rounds.append([seconds(x) for x in pair])
    full, half = (median(column) for column in zip(*rounds, strict=True))
    pays: bool = current_launch().broadcast(full > PAYS * half)
    return pays


def choose_execution(
    settings: TrainSettings, steps: int, make: Make, device: torch.device
) -> tuple[TrainSettings, list[str]]:
    """Replace "auto" in `precision` and `compile`; returns notes for the user as well.

    Short runs are not timed, nor are choices that cannot pay on this machine: the
    default is eager execution in float32.

    Args:
        steps: the length of the run, where no budget decides it.
        make: creates a trainer for settings; its steps are discarded.
    """
    chosen = _without_auto(settings)
    times_bfloat16, times_compiled = _worth_timing(settings, steps, device)
    if not times_bfloat16 and not times_compiled:
        return chosen, []
    notes: list[str] = []
    allowed = TRIALS * settings.budget if settings.budget else math.inf
    until = now() + allowed / 2  # the other half is for timing the chosen way
    with torch.random.fork_rng():
        with phase("timing steps, to choose precision and compilation"):
            base = Trial(make(chosen), allowed / 4)
        if times_bfloat16 and base.first_step < allowed / 4:
            chosen, base, note = _fastest_precision(chosen, base, make, until)
            notes += note
        enough = allowed / 2 >= COMPILING and now() < until
        if times_compiled and enough and _seconds_of_run(settings, steps, base) > LONG:
            chosen, note = _compiled_if_it_pays(chosen, base, make, steps)
            notes += note
    return chosen, notes


def _fastest_precision(
    chosen: TrainSettings, base: Trial, make: Make, until: float
) -> tuple[TrainSettings, Trial, list[str]]:
    """The faster of float32 and bfloat16, its trial, and a note if it is bfloat16."""
    in_bfloat16 = chosen.model_copy(update={"precision": "bfloat16"})
    with phase("timing steps in float32 and bfloat16", ROUNDS, " windows") as count:
        trial = Trial(make(in_bfloat16))
        full, half = time_in_turn([base, trial], until, count)
    if half >= full:
        return chosen, base, []
    note = (
        f"products in bfloat16: {1e3 * half:.1f} ms a step instead of {1e3 * full:.1f}"
    )
    return in_bfloat16, trial, [note]


def _compiled_if_it_pays(
    chosen: TrainSettings, base: Trial, make: Make, steps: int
) -> tuple[TrainSettings, list[str]]:
    """Compiled steps where they save more time than compiling takes, with a note."""
    compiled = chosen.model_copy(update={"compile": "on"})
    # How long compiling takes is not known before it: its start and end are reported.
    with phase("compiling a step"):
        trial = Trial(make(compiled))
    with phase("timing compiled steps", ROUNDS, " windows") as count:
        slow, fast = time_in_turn([base, trial], count=count)
    steps_at_most = float(steps)
    if chosen.budget:
        steps_at_most = chosen.budget / slow
    if (slow - fast) * steps_at_most <= trial.first_step:
        return chosen, []
    note = f"steps are compiled: {1e3 * fast:.1f} ms each instead of {1e3 * slow:.1f}"
    return compiled, [note]


def _without_auto(settings: TrainSettings) -> TrainSettings:
    defaults = {"precision": "float32", "compile": "off"}
    updates = {
        name: default
        for name, default in defaults.items()
        if getattr(settings, name) == "auto"
    }
    return settings.model_copy(update=updates)


def _worth_timing(
    settings: TrainSettings, steps: int, device: torch.device
) -> tuple[bool, bool]:
    """Whether to time training in bfloat16, and compiled training."""
    long = steps >= LEAST_STEPS
    if settings.budget:
        long = settings.budget > LONG / 4
    if not long:
        return False, False
    times_bfloat16 = settings.precision == "auto" and bfloat16_pays(device)
    times_compiled = (
        settings.compile == "auto"
        and current_launch().world_size == 1
        and can_compile(device)
    )
    return times_bfloat16, times_compiled


def _seconds_of_run(settings: TrainSettings, steps: int, trial: Trial) -> float:
    return settings.budget or trial.seconds_per_step() * steps


def can_compile(device: torch.device) -> bool:
    """True where a compiler for `torch.compile` is installed."""
    if device.type == "cuda":
        return True
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))
