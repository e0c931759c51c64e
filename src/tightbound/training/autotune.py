"""What is decided by timing steps that do not count: precision and compilation, before the first
step that does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from statistics import median

import torch

from tightbound.config import TrainSettings
from tightbound.core.trace import Clock
from tightbound.runtime.launch_context import current_launch
from tightbound.training.budget import now
from tightbound.training.step.precision import has_bfloat16
from tightbound.training.trainer import Trainer

LEAST_STEPS = 2000  # a shorter run is not worth the timing
# seconds from which compiling is tried: it takes some 20 to 60 s, and gives back a part of the rest
LONG = 240.0
WINDOW, ROUNDS = 0.4, 3
PAYS = (
    1.1  # how much faster products must be in bfloat16 for training in it to be timed
)

Make = Callable[[TrainSettings], Trainer]


class Trial:
    """A trainer whose steps do not count; `first` is how many seconds its first step took,
    compiling included.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        start = now()
        self.run(1)
        self.first = now() - start
        self.run(3)

    def run(self, steps: int) -> None:
        """Takes steps, and waits until the device has done them."""
        self.trainer.model.train()
        for _ in range(steps):
            self.trainer.train_step(Clock(0.5))
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()

    def validate(self) -> object:
        """Runs one validation."""
        return self.trainer.validator(self.trainer.model)

    def window(self) -> float:
        """Seconds of a step, over steps that take 0.4 s or more."""
        start, done = now(), 0
        while (spent := now() - start) < WINDOW:
            self.run(5)
            done += 5
        return spent / done


def in_turn(trials: list[Trial]) -> list[float]:
    """Seconds of a step of each trial, the median of three windows, measured in turn so that a
    drift hits all alike.
    """
    rounds = [[trial.window() for trial in trials] for _ in range(ROUNDS)]
    return [median(column) for column in zip(*rounds, strict=True)]


def bfloat16_pays(device: torch.device) -> bool:
    """True where the hardware has bfloat16 and multiplies two matrices of 512 x 512 clearly faster
    in it.
    """
    if not has_bfloat16(device):
        return False
    pair = [
        torch.ones(512, 512, device=device, dtype=kind)
        for kind in (torch.float32, torch.bfloat16)
    ]

    def seconds(x: torch.Tensor) -> float:
        start = now()
        for _ in range(10):
            x @ x
        if device.type == "cuda":
            torch.cuda.synchronize()
        return now() - start

    rounds = [[seconds(x) for x in pair] for _ in range(5)]
    full, half = (median(column) for column in zip(*rounds, strict=True))
    return current_launch().broadcast(full > PAYS * half)


def choose_execution(
    settings: TrainSettings, steps: int, make: Make, device: torch.device
) -> tuple[TrainSettings, list[str]]:
    """`precision` and `compile` without "auto", and what to tell of it; steps: how many, where no
    budget decides that.

    A short run, and one where neither can pay, is timed not at all, and trains eagerly in float32.
    """
    plain = {
        name: default if getattr(settings, name) == "auto" else getattr(settings, name)
        for name, default in (("precision", "float32"), ("compile", "off"))
    }
    chosen, notes = settings.model_copy(update=plain), list[str]()
    long = settings.budget > LONG / 4 if settings.budget else steps >= LEAST_STEPS
    half = long and settings.precision == "auto" and bfloat16_pays(device)
    whole = (
        long
        and settings.compile == "auto"
        and current_launch().world_size == 1
        and compiler(device)
    )
    if not (half or whole):
        return chosen, notes
    with torch.random.fork_rng():
        base = Trial(make(chosen))
        if half:
            other = chosen.model_copy(update={"precision": "bfloat16"})
            full, less = in_turn([base, trial := Trial(make(other))])
            if less < full:
                chosen, base = other, trial
                notes.append(
                    f"products in bfloat16: {1e3 * less:.1f} ms a step instead of {1e3 * full:.1f}"
                )
        if whole and (settings.budget or base.window() * steps) > LONG:
            other = chosen.model_copy(update={"compile": "on"})
            trial = Trial(make(other))
            slow, fast = in_turn([base, trial])
            if (slow - fast) * (
                settings.budget / slow if settings.budget else steps
            ) > trial.first:
                chosen = other
                notes.append(
                    f"steps are compiled: {1e3 * fast:.1f} ms each instead of {1e3 * slow:.1f}"
                )
    return chosen, notes


def compiler(device: torch.device) -> bool:
    """True where there is what `torch.compile` needs."""
    return device.type == "cuda" or any(
        shutil.which(name) for name in ("c++", "g++", "clang++")
    )
