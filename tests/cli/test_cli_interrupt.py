"""Ctrl-C: the step is finished, the state saved, and the printed command goes on to the same
weights.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from support.small import SMALL, small_run

PROGRAM = [sys.executable, "-m", "tightbound"]
SETTINGS: dict[str, Any] = {"steps": 90, "save_seconds": 1000}
TRAIN = [
    "train",
    "digits",
    "--set",
    *(f"{k}={v}" for k, v in (SMALL | SETTINGS).items()),
]


def started(words: list[str], until: str, cwd: Path) -> subprocess.Popen[str]:
    """A process that has printed a line with `until` to standard error."""
    process = subprocess.Popen(
        [*PROGRAM, *words],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if until in line:
            return process
    raise AssertionError(f"the process ended before it printed {until!r}")


def test_ctrl_c_saves_and_prints_the_command_that_goes_on(tmp_path: Path) -> None:
    out = "a run"
    process = started([*TRAIN, "--out", out], "step 30,", tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    last = err.splitlines()[-1]
    command = shlex.split(last.partition("go on with: ")[2])
    assert command == ["tightbound", "train", "digits", "--out", out, "--resume"]
    done = subprocess.run(
        [*PROGRAM, *command[1:], "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    small_run(tmp_path / "whole", "vae", **SETTINGS)
    runs = [tmp_path / "whole", tmp_path / out]
    logs = [(run / "log.jsonl").read_text().count('"event": "epoch"') for run in runs]
    whole, resumed = (load_file(run / "ema.safetensors") for run in runs)
    assert logs[0] == logs[1] and whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)


def test_ctrl_c_before_training_says_so(tmp_path: Path) -> None:
    code = "import sys; from tightbound import cli\ndef stop(*a, **k): raise KeyboardInterrupt\n"
    code += "from tightbound import api; api.fit = stop\nsys.exit(cli.main(['train', 'digits']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 130 and done.stderr.strip() == "interrupted"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.Popen(
        [*PROGRAM, "show", "vae"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    _, err = done.communicate(timeout=60)
    assert err == "" and done.returncode in (0, 141)
