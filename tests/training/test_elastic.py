"""Workers of torchrun that are killed at any moment: the run goes on by itself, to the very weights
of a quiet one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

LONG = bool(os.environ.get("TIGHTBOUND_LONG"))
KILLS = {"ddp": 20 if LONG else 2, "fsdp2": 5}
STEPS = 120
PROGRAM = """
import sys, torch
torch.set_num_threads(1)
import tightbound as tb
keys = {"recipe.size": "s", "latent": 3, "train.batch": 32}
keys |= {"train.validate_every": 10, "train.validate_n": 4}
keys |= {"train.steps": int(sys.argv[3]), "train.save_seconds": 0, "data.binarize": "dynamic"}
keys |= {"train.parallel": sys.argv[4]}
tb.train(sys.argv[1], out=sys.argv[2], display="none", report=False, settings=keys)
"""


def start(folder: Path, out: str, parallel: str) -> subprocess.Popen[str]:
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    torchrun += [
        "--max-restarts",
        str(3 * KILLS[parallel]),
        "--monitor-interval",
        "0.1",
    ]
    words = [
        str(folder / "program.py"),
        str(folder / "x.npy"),
        str(folder / out),
        str(STEPS),
        parallel,
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*torchrun, *words],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


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
    (tmp_path / "program.py").write_text(PROGRAM)
    np.save(
        tmp_path / "x.npy",
        np.random.RandomState(0).randint(0, 256, (300, 8, 8)).astype(np.uint8),
    )
    quiet, chance, kills = (
        start(tmp_path, "quiet", parallel),
        random.Random(20261124),
        0,
    )
    loud = start(tmp_path, "loud", parallel)
    began = time.monotonic()
    while loud.poll() is None and time.monotonic() < began + 60 + 30 * wanted:
        at = (
            chance.randrange(0, STEPS - 20)
            if kills
            else chance.randrange(10, STEPS // 2)
        )
        while loud.poll() is None and reached(tmp_path / "loud") < at:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        alive = workers(loud.pid)
        if kills < wanted and alive and loud.poll() is None:
            os.kill(chance.choice(alive), signal.SIGKILL)
            kills += 1
        time.sleep(0.2)
    for name, process in (("quiet", quiet), ("loud", loud)):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, (name, said[-3000:])
    assert kills == wanted, "the run ended before it was disturbed"
    resumed = (tmp_path / "loud" / "log.jsonl").read_text().count('"event": "resume"')
    assert resumed >= 1, "some kill came after the first state"
    for name in ("model.safetensors", "ema.safetensors"):
        assert (tmp_path / "loud" / name).read_bytes() == (
            tmp_path / "quiet" / name
        ).read_bytes(), name
