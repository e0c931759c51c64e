"""Short trainings on digits, and a display that records them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tightbound.config import Config, configure
from tightbound.runs.run import Run
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

SMALL: dict[str, Any] = {
    "recipe.size": "s",
    "latent": 3,
    "train.steps": 60,
    "train.batch": 32,
    "train.validate_every": 20,
    "train.validate_n": 8,
    "train.save_seconds": 0,
    "data.limit": 200,
}


class Listener(Quiet):
    """Keeps what is said, and presses Ctrl-C when a validation reaches a step."""

    def __init__(self, press_at: int | None = None) -> None:
        self.press_at, self.said, self.records = (
            press_at,
            list[str](),
            list[dict[str, Any]](),
        )

    def note(self, line: str) -> None:
        self.said.append(line)

    def record(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        if record["step"] == self.press_at:
            os.kill(os.getpid(), signal.SIGINT)


def train(
    folder: Path,
    show: Quiet | None = None,
    recipe: str = "vae",
    *,
    resume: bool = False,
    **values: Any,
) -> Run:
    settings = SMALL | {key.replace("__", "."): value for key, value in values.items()}
    config: Config = configure("digits", recipe, values=settings)
    return fit(
        config, "digits", folder, show or Quiet(), mode="resume" if resume else "new"
    )


def weights(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))
    }
