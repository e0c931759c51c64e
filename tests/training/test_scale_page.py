"""The commands of docs/scale.md as they stand, by two processes on small data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.scale_page import commands

import tightbound as tb

SETTINGS = ["recipe.size=s", "latent=4", "train.batch=32", "train.steps=12"]
SETTINGS += ["train.validate_every=6", "train.validate_n=4"]
# What a test changes of a launch over several machines.
ONE_MACHINE = {
    "--nnodes": "1",
    "--nproc-per-node": "2",
    "--rdzv-endpoint": "localhost:0",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    rng = np.random.RandomState(0)
    np.save(folder / "x.npy", rng.randint(0, 256, (300, 8, 8)).astype(np.uint8))
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the page in a folder; DATA is small, --out is inside the folder."""
    words = [{"DATA": "x.npy"}.get(word, word) for word in words]
    words = [word.replace("/shared/", "") for word in words]
    for option, value in ONE_MACHINE.items():
        if option in words:
            words[words.index(option) + 1] = value
    programs = {"torchrun": "torch.distributed.run", "tightbound": "tightbound"}
    words = [sys.executable, "-m", programs[words[0]], *words[1:]]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=250
    )


def test_the_page_has_these_commands() -> None:
    starts = [words[0] for words in commands()]
    assert starts == ["torchrun", "torchrun", "tightbound", "torchrun", "torchrun"]


@pytest.mark.parametrize("place", [0, 1], ids=["ddp", "fsdp2"])
def test_training_ends_with_evaluation_and_report(folder: Path, place: int) -> None:
    """It once ended with exit status 1: only rank 0 evaluated, and waited for the others."""
    words = commands()[place]
    out = folder / words[words.index("--out") + 1].removeprefix("/shared/")
    if "--set" not in words:
        words.append("--set")
    done = run([*words, *SETTINGS, "--device", "cpu"], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("report: ") == 1, f"a restart? {done.stderr[-3000:]}"
    assert (out / "report.html").is_file()
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["n"] == 30 and evaluation["diagnosis"]
    lone = tb.evaluate(tb.load(out), k=100, subset=0)
    kept = evaluation["terms"]["log_px"]["mean"]
    assert lone.terms["log_px"].mean == pytest.approx(kept, rel=1e-6)


@pytest.mark.parametrize("place", [2, 3, 4], ids=["encode", "score", "evaluate"])
@pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="long: TIGHTBOUND_LONG=1"
)
def test_the_other_commands_of_the_page(folder: Path, place: int) -> None:
    """Short forms of them are in tests/cli/test_sharded_output.py."""
    if not (folder / "runs" / "vae").exists():
        values = dict(setting.split("=") for setting in SETTINGS)
        tb.train(
            folder / "x.npy",
            out=folder / "runs" / "vae",
            display="none",
            report=False,
            settings=values,
        )
    done = run(commands()[place], folder)
    assert done.returncode == 0, done.stderr[-3000:]
