"""A run that is killed with SIGKILL at any moment resumes to the very weights of a run that nobody
disturbed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tightbound.config import configure
from tightbound.training.console import display
from tightbound.training.run_training import fit

KILLS = 20
STEPS = 60
SETTINGS = {
    "recipe.size": "s",
    "latent": 3,
    "train.steps": STEPS,
    "train.validate_every": 5,
    "train.batch": 32,
    "train.validate_n": 4,
    "train.save_seconds": 0,
    "data.limit": 200,
    "data.binarize": "dynamic",
}


def train(folder: Path, resume: bool) -> None:
    fit(
        configure("digits", "vae", values=SETTINGS),
        "digits",
        folder,
        display("none"),
        mode="resume" if resume else "new",
    )


def child(folder: Path, resume: bool, kill_after: float | None) -> float:
    """Trains in a forked process, kills it after so many seconds; returns how long it lived."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            train(folder, resume)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if kill_after is None:
        assert status == 0, f"the run in {folder} failed"
    return time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigkill_at_random_moments_resumes_bit_identical(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(
        tmp_path / "warm", False
    )  # in this process, so that the children find everything imported
    whole = child(tmp_path / "whole", False, None)
    chance = random.Random(20261123)
    between = 0
    for i in range(KILLS):
        folder = tmp_path / f"run{i}"
        child(folder, False, chance.uniform(0.02, 0.98) * whole)
        states = [
            int(path.stem.removeprefix("state-"))
            for path in (folder / "state").glob("state-*.pt")
        ]
        between += 0 < max(states, default=0) < STEPS
        child(folder, True, None)
        for name in ("model.safetensors", "ema.safetensors"):
            assert (folder / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes(), (i, name)
    assert between >= KILLS // 4, (
        "too few kills fell between the first state and the last: the test shows little"
    )
