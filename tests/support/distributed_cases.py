"""Trainings that give the same curve with any number of processes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tightbound.config import configure
from tightbound.core.component import Network, Objective
from tightbound.core.draw import Clock
from tightbound.core.trace import Trace
from tightbound.runs.run import Run
from tightbound.runtime.launch_context import current_launch
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit
from tightbound.training.signals import Interrupted

STEPS, CUT = 30, 20
SMALL: dict[str, Any] = {
    "recipe.size": "s",
    "latent": 3,
    "train.steps": STEPS,
    "train.batch": 32,
    "train.validate_every": 10,
    "train.validate_n": 16,
    "train.save_seconds": 0,
}


class Two(Objective):
    """A loss for each group, the generative one over the whole batch; one process meets a loss that
    is not finite.
    """

    @property
    def per_example(self) -> bool:
        return False

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        spread = trace.gather(trace.latents["z"].z).var(0).sum()
        bad = (
            float("nan")
            if clock.progress == 7 / STEPS
            and current_launch().rank == current_launch().world_size - 1
            else 0.0
        )
        return {
            "inference": -trace.elbo.mean() + 0.1 * spread,
            "generative": trace.distortion.mean() + bad,
        }


class Normed(Network):
    """Batch normalisation on both sides; no biases before it, whose gradients would be rounding
    alone.
    """

    def __init__(self, size: str) -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        conv = nn.Conv2d(shape[0], 6, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten())

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        hidden = nn.BatchNorm1d(12, momentum=None)
        return nn.Sequential(
            nn.Linear(inputs, 12, bias=False),
            hidden,
            nn.Tanh(),
            nn.Linear(12, math.prod(out)),
        )


NORMED = "support.distributed_cases:Normed"
TWO = "support.distributed_cases:Two"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "binarised, moved": (
        "vae",
        {"data.binarize": "dynamic", "data.augment": "flip,shift"},
    ),
    "free bits": ("vae", {"objective": {"name": "elbo", "free_bits": 0.3}}),
    "batch norm": ("iwae", {"k": 3, "network": NORMED}),
    "batch norm, bad step": (
        "vae",
        {
            "network": NORMED,
            "objective": TWO,
        },
    ),
    "samples in shards": ("iwae", {"k": 3, "train.parallel": "fsdp2"}),
    "two losses": ("vae", {"objective": TWO}),
    "two losses in shards": (
        "vae",
        {"objective": TWO, "train.parallel": "fsdp2"},
    ),
    "running scale, in parts": (
        "hvae",
        {
            "latent": (3, 2),
            "likelihood": "gaussian",
            "likelihood.scale": "optimal",
            "train.accumulate": 2,
        },
    ),
    "from the disk": (
        "vae",
        {"data.memory": 1, "data.valid": 40, "data.shuffle_buffer": 64},
    ),
}


FOUR = ("binarised, moved", "free bits", "batch norm")


class Press(Quiet):
    """Presses Ctrl-C when a validation reaches a step."""

    def record(self, record: dict[str, Any]) -> None:
        if record["step"] == CUT:
            os.kill(os.getpid(), signal.SIGINT)


def images(folder: Path, n: int = 600) -> Path:
    """A file of small grey images, the same each time."""
    path = folder / f"{n}.npy"
    if not path.exists():
        blobs = np.random.RandomState(0).rand(n, 1, 8) * np.random.RandomState(1).rand(
            n, 8, 1
        )
        np.save(path, (blobs * 255).astype(np.uint8))
    return path


def train(
    folder: Path, case: str, out: str, show: Quiet | None = None, **changes: Any
) -> Run:
    recipe, values = CASES[case]
    source = images(folder, 20_000 if case == "from the disk" else 600)
    config = configure(str(source), recipe, values=SMALL | values | changes)
    return fit(
        config,
        str(source),
        folder / out,
        show or Quiet(),
        mode="resume" if (folder / out).exists() else "new",
    )


def cut(folder: Path, case: str, out: str) -> None:
    """The same, interrupted."""
    try:
        train(folder, case, out, Press() if current_launch().is_rank_zero else None)
    except Interrupted:
        return
    raise AssertionError("all processes stop when the first one is told to")


def rows_of_all() -> None:
    """The gradient of rows that every process used, each its own way."""
    from tightbound.training.distributed.data_parallel import _AllRows

    launch = current_launch()
    rows = torch.arange(3.0).add(launch.rank).requires_grad_()
    every = _AllRows.apply(rows, launch)
    assert every.tolist() == [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]
    (every * (1.0 + launch.rank)).sum().backward()  # d/d rows = 1 + 2, from both
    assert rows.grad is not None and rows.grad.tolist() == [3.0] * 3


def train_all(folder: Path) -> None:
    """All cases one after another, in each process of a launch."""
    from tightbound.runtime.launch_context import join_launch

    todo: list[Callable[[], object]] = [rows_of_all]
    of = int(os.environ["WORLD_SIZE"])
    todo += [
        lambda case=case: train(folder, case, f"{case} {of}")
        for case in (CASES if of == 2 else FOUR)
    ]
    if of == 2:
        both = ("samples in shards", "from the disk")
        todo += [lambda case=case: cut(folder, case, f"{case} 2 to 1") for case in both]
        todo += [lambda: train(folder, "samples in shards", "samples in shards 1 to 2")]
    with join_launch("cpu"):
        for do in todo:
            do()
