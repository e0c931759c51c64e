"""Trackers of trainings: TensorBoard, and modules with the interface of wandb."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from tightbound.core.batch import Batch
from tightbound.report.figures.pictures import picture
from tightbound.runs.folder import TENSORBOARD
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.training.callbacks import Callback, Progress
from tightbound.training.console import Record

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURED = 16  # examples of a picture
PROJECT = "tightbound"
MOST_OF_PARAMETER = 500  # characters of a parameter of MLflow


def figures(record: Record) -> dict[str, float]:
    """The numbers of a validation by name: "valid/elbo", "train/rate", "lr", ..."""
    named: dict[str, float] = {}
    for group in ("train", "valid", "metrics"):
        for name, value in record.get(group, {}).items():
            if isinstance(value, int | float):
                named[f"{group}/{name}"] = float(value)
    for name in ("epoch", "lr", "images_per_s", "skipped"):
        named[name] = float(record[name])
    return named


def pictures(progress: Progress) -> dict[str, Image]:
    """Reconstructions of validation examples below them, and samples; of images alone."""
    spec = progress.config.spec
    valid = progress.data.valid
    if spec is None or spec.kind not in ("image", "volume") or not len(valid):
        return {}
    run = progress.run
    rows = torch.arange(min(PICTURED, len(valid)))
    examples = valid.examples(rows)
    z = run.predictor.encode_mean(examples)
    rebuilt = run.predictor.decode_mean(Batch(z, examples.c))
    both = spec.to_raw(torch.cat([examples.x, rebuilt]))
    return {
        "reconstructions": picture(run, both, columns=len(rows)),
        "samples": picture(run, run.sample(PICTURED)),
    }


class Tracker(Callback):
    """Base class of trackers: figures and pictures of each validation."""

    def validation(self, progress: Progress, record: Record) -> None:
        """Send the figures and pictures of a validation."""
        self.send(progress.step, figures(record), pictures(progress))

    def send(
        self, step: int, named: Mapping[str, float], images: Mapping[str, Image]
    ) -> None:
        """Send numbers and pictures of a step, by name."""
        raise NotImplementedError


class TensorBoard(Tracker):
    """Event files in `tensorboard/` of the run folder: `tensorboard --logdir RUN`."""

    def start(self, progress: Progress) -> None:
        """Open an event file; events of a resumed run after its step are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(
            str(progress.folder / TENSORBOARD), purge_step=progress.step + 1
        )

    def send(
        self, step: int, named: Mapping[str, float], images: Mapping[str, Image]
    ) -> None:
        """Write scalars and images."""
        for name, value in named.items():
            self.writer.add_scalar(name, value, step)
        for name, image in images.items():
            pixels = np.asarray(image.convert("RGB"))
            self.writer.add_image(name, pixels, step, dataformats="HWC")

    def end(self, progress: Progress) -> None:
        """Close the event file."""
        self.writer.close()


class ModuleTracker(Tracker):
    """A module with `init`, `Image` and runs with `log` and `finish`: wandb, trackio.

    A resumed training is a further run of the same group.

    Args:
        name: The name of the module.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, progress: Progress) -> None:
        """Begin a run with the name of the folder and all settings."""
        self.module = importlib.import_module(self.name)
        name = progress.folder.name
        self.run = self.module.init(
            project=PROJECT,
            group=name,
            name=f"{name}-{progress.step}" if progress.step else name,
            config=progress.config.model_dump(mode="json"),
        )

    def send(
        self, step: int, named: Mapping[str, float], images: Mapping[str, Image]
    ) -> None:
        """Log numbers and pictures in one call."""
        shown = {name: self.module.Image(image) for name, image in images.items()}
        self.run.log({**named, **shown}, step=step)

    def end(self, progress: Progress) -> None:
        """Finish the run."""
        self.run.finish()


class MLflow(Tracker):
    """A run of MLflow, at the tracking address that `MLFLOW_TRACKING_URI` names.

    A resumed training is a further run with the same tag `group`.
    """

    def start(self, progress: Progress) -> None:
        """Begin a run with the name of the folder and all settings as parameters."""
        module = importlib.import_module("mlflow")
        self.client = module.MlflowClient()
        experiment = self.client.get_experiment_by_name(PROJECT)
        number = (
            self.client.create_experiment(PROJECT)
            if experiment is None
            else experiment.experiment_id
        )
        group = progress.folder.name
        name = f"{group}-{progress.step}" if progress.step else group
        run = self.client.create_run(number, run_name=name, tags={"group": group})
        self.number = run.info.run_id
        for key, value in flat(progress.config.model_dump(mode="json")).items():
            self.client.log_param(self.number, key, str(value)[:MOST_OF_PARAMETER])

    def send(
        self, step: int, named: Mapping[str, float], images: Mapping[str, Image]
    ) -> None:
        """Log numbers and pictures."""
        for name, value in named.items():
            self.client.log_metric(self.number, name, value, step=step)
        for name, image in images.items():
            self.client.log_image(self.number, image, key=name, step=step)

    def end(self, progress: Progress) -> None:
        """Finish the run; one that was interrupted or failed before its last step is killed."""
        is_finished = progress.step >= progress.steps
        status = "FINISHED" if is_finished else "KILLED"
        self.client.set_terminated(self.number, status)


def flat(settings: Mapping[str, object], before: str = "") -> dict[str, object]:
    """Settings by their keys with dots: {"train": {"lr": 0.1}} as {"train.lr": 0.1}."""
    values: dict[str, object] = {}
    for key, value in settings.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            values.update(flat(value, f"{name}."))
        else:
            values[name] = value
    return values


TRACKERS = {
    "tensorboard": TensorBoard,
    "wandb": lambda: ModuleTracker("wandb"),
    "trackio": lambda: ModuleTracker("trackio"),
    "mlflow": MLflow,
}


def tracker(name: str) -> Tracker:
    """The tracker of a name.

    Raises:
        TightboundError: It is unknown, or its package is not installed.
    """
    make = lookup(TRACKERS, name, "tracker")
    if importlib.util.find_spec(name) is None:
        raise TightboundError(
            f"--track {name} needs {name}: pip install 'tightbound[{name}]'"
        )
    return make()
