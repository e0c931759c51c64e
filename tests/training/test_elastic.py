"""Workers of torchrun that are killed at any moment: the run goes on by itself, to the very weights
of a quiet one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.scale_page import commands

LONG = bool(os.environ.get("TIGHTBOUND_LONG"))
KILLS = {"ddp": 10 if LONG else 2, "fsdp2": 10}
STEPS = 120
SETTINGS = {
    "recipe.size": "s",
    "latent": 4,
    "train.batch": 32,
    "train.validate_every": 10,
    "train.validate_n": 4,
    "train.steps": STEPS,
    "train.save_seconds": 0,
    "data.binarize": "dynamic",
}
EVALUATES = "diagnosis ..."  # the line with which the evaluation begins


def start(folder: Path, out: str, parallel: str) -> subprocess.Popen[str]:
    """The second command of docs/scale.md on one machine, with small data and settings."""
    words = commands()[1]
    words = words[words.index("-m") :]
    for word, value in (("DATA", "x.npy"), ("/shared/runs/big", out)):
        words[words.index(word)] = str(folder / value)
    words[words.index("train.parallel=fsdp2")] = f"train.parallel={parallel}"
    words += [f"{key}={value}" for key, value in SETTINGS.items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "--max-restarts", str(3 * KILLS[parallel])]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / f"{out}.err").open("w") as stderr:
        return subprocess.Popen(
            [*torchrun, "--monitor-interval", "0.1", *words, "--device", "cpu"],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )


def said(folder: Path, out: str) -> str:
    return (folder / f"{out}.err").read_text()


def workers(agent: int) -> list[int]:
    """The processes that torchrun has started and not lost."""
    children = Path(f"/proc/{agent}/task/{agent}/children")
    return (
        [int(pid) for pid in children.read_text().split()] if children.exists() else []
    )


def reached(run: Path) -> int:
    return max(
        (
            int(p.stem.removeprefix("state-"))
            for p in (run / "state").glob("state-*.pt")
        ),
        default=0,
    )


def resumptions(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count('"event": "resume"') if log.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in /proc"
)
@pytest.mark.parametrize(
    "parallel",
    ["ddp", pytest.param("fsdp2", marks=pytest.mark.skipif(not LONG, reason="long"))],
)
def test_killed_workers_end_with_the_weights_of_a_quiet_run(
    tmp_path: Path, parallel: str
) -> None:
    wanted = KILLS[parallel]
    np.save(
        tmp_path / "x.npy",
        np.random.RandomState(0).randint(0, 256, (300, 8, 8)).astype(np.uint8),
    )
    quiet = start(tmp_path, "quiet", parallel)
    chance = random.Random(20261124)
    loud = start(tmp_path, "loud", parallel)
    try:
        kills = kill_workers(tmp_path, loud, wanted, chance)
        for name, process in (("quiet", quiet), ("loud", loud)):
            process.wait(timeout=120)
            assert process.returncode == 0, (name, said(tmp_path, name)[-3000:])
    finally:
        quiet.kill()
        loud.kill()
    assert kills == wanted, "the run ended before it was disturbed"
    assert resumptions(tmp_path / "loud") >= wanted - 1, (
        "one after each kill in training"
    )
    for name in ("model.safetensors", "ema.safetensors"):
        assert (tmp_path / "loud" / name).read_bytes() == (
            tmp_path / "quiet" / name
        ).read_bytes(), name
    pair = [
        json.loads((tmp_path / out / "evaluation.json").read_text())
        for out in ("quiet", "loud")
    ]
    assert pair[0]["terms"] == pair[1]["terms"]
    assert (tmp_path / "loud" / "report.html").is_file()


def kill_workers(
    folder: Path, loud: subprocess.Popen[str], wanted: int, chance: random.Random
) -> int:
    """Kill workers at random steps of the training, the last one in the evaluation.

    Each only after the run has gone on from the kill before.
    """
    began = time.monotonic()
    kills = 0
    while loud.poll() is None and time.monotonic() < began + 60 + 30 * wanted:
        at = chance.randrange(10, STEPS - 20)
        last = kills == wanted - 1
        while loud.poll() is None and not (
            EVALUATES in said(folder, "loud")
            if last
            else reached(folder / "loud") >= at
            and resumptions(folder / "loud") >= kills
        ):
            time.sleep(0.02)
        alive = workers(loud.pid)
        if kills < wanted and alive and loud.poll() is None:
            os.kill(chance.choice(alive), signal.SIGKILL)
            kills += 1
        if kills == wanted:
            break
        while loud.poll() is None and not (set(workers(loud.pid)) - set(alive)):
            time.sleep(0.02)  # until torchrun has started others
    return kills
