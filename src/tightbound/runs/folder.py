"""RunFolder: the files of a run; rules for new, resumed and replaced runs."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from tightbound import config as settings
from tightbound.config import Config, value_at
from tightbound.runs.data_source import is_builtin, short_name, stored_source
from tightbound.runtime.atomic_files import (
    LONGEST_NAME,
    load_weights,
    make_folder,
    save_weights,
    write_atomic,
)
from tightbound.runtime.errors import TightboundError, cut, os_reason
from tightbound.runtime.launch_context import launch_id, started_by_torchrun
from tightbound.runtime.lock import RunLock
from tightbound.runtime.reading import (
    Options,
    Tree,
    check_regular,
    exists,
    parse_json,
    read_bytes,
    read_text,
)

if TYPE_CHECKING:
    from torch import Tensor

Environment = Mapping[str, str | int | None]
Mode = Literal["new", "resume", "overwrite"]

CONFIG = "config.toml"
# The settings of a run until its training begins, while its data are read.
REQUESTED = "requested.toml"
LOCK = ".lock"
WEIGHTS = "model.safetensors"
AVERAGED_WEIGHTS = "ema.safetensors"
_HAS_AVERAGES = "averaged"  # a key of the metadata of the plain weights
LOG = "log.jsonl"
ENVIRONMENT = "environment.json"
EVALUATION = "evaluation.json"
EVALUATION_LOCK = ".evaluation.lock"
EVALUATION_PARTS = "evaluation.parts"
REPORT = "report.html"
STATE = "state"  # everything that resuming needs
LAUNCH = Path(STATE) / "launch"  # the launch by torchrun that trains here
PRIORS = "priors"
PRIOR = "prior.safetensors"  # of priors/NAME
EXPORTS = "exports"  # files for other programs
EXPLORE = "explore"  # small runs that the page of `explore` shows beside this one
TENSORBOARD = "tensorboard"  # event files of a tracked training
EARLIER = "earlier"  # the run as it was before each of its extensions

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: its files, its choice, its checks, reading and writing."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    # ---- files

    @property
    def config_file(self) -> Path:
        """The complete settings; a folder with this file is a run."""
        return self.path / CONFIG

    @property
    def requested_file(self) -> Path:
        """The settings of a training that has not begun yet."""
        return self.path / REQUESTED

    @property
    def weights_file(self) -> Path:
        """The weights of the best validation."""
        return self.path / WEIGHTS

    @property
    def averaged_weights_file(self) -> Path:
        """The averaged weights of the best validation, where training averages."""
        return self.path / AVERAGED_WEIGHTS

    @property
    def log_file(self) -> Path:
        """One line of JSON for each validation."""
        return self.path / LOG

    @property
    def evaluation_file(self) -> Path:
        """The evaluation of most samples so far."""
        return self.path / EVALUATION

    @property
    def report_file(self) -> Path:
        """The report of the first evaluation."""
        return self.path / REPORT

    @property
    def state_folder(self) -> Path:
        """Everything that resuming needs."""
        return self.path / STATE

    @property
    def priors_folder(self) -> Path:
        """The priors that were fitted after training, each in a folder of its name."""
        return self.path / PRIORS

    def prior_folder(self, name: str) -> Path:
        """The folder of a prior that was fitted after training."""
        return self.priors_folder / name

    def prior_file(self, name: str) -> Path:
        """The weights of a prior that was fitted after training."""
        return self.prior_folder(name) / PRIOR

    def prior_names(self) -> list[str]:
        """The names of the priors that were fitted after training."""
        return sorted(
            path.parent.name for path in self.path.glob(f"{PRIORS}/*/{PRIOR}")
        )

    @property
    def is_fitted_prior(self) -> bool:
        """True if this is the folder of a fitted prior, RUN/priors/NAME."""
        return (self.path / PRIOR).is_file()

    @property
    def is_run(self) -> bool:
        """True if training has begun here."""
        return self.config_file.is_file()

    # ---- which folder

    @classmethod
    def choose(
        cls, path: Path | None, data: object, recipe: str, mode: Mode
    ) -> RunFolder:
        """The folder of a training: the given one, or `runs/<data>-<recipe>`.

        A new training without a given folder takes the first free name; one that torchrun
        has started again takes the folder of its earlier start.
        """
        if path is not None:
            return cls(path)
        named = cls(RUNS / f"{short_name(data)}-{recipe}")
        for begun in named.path.parent.glob(f"{named.path.name}*"):
            if cls(begun).is_of_this_launch():
                return cls(begun)
        if mode == "new":
            return named.next_free()
        return named

    def next_free(self) -> RunFolder:
        """This folder, or with `-2`, `-3`, ... the first name that is not taken.

        An empty folder is free.
        """
        number = 1
        candidate = self.path
        while candidate.exists() and not _is_empty(candidate):
            number += 1
            candidate = self.path.with_name(f"{self.path.name}-{number}")
        return RunFolder(candidate)

    def inner_runs(self) -> list[Path]:
        """The runs inside a folder that is none itself, such as `demo/vae` of `demo`."""
        return sorted(path.parent for path in self.path.glob(f"*/{CONFIG}"))

    # ---- new, resumed or overwritten

    def check_name(self) -> None:
        """Refuse a path that no disk takes, and one that is a device or a pipe.

        Raises:
            TightboundError: With the name that is too long, or the reason.
        """
        check_regular(self.path, "the run folder ")
        for name in self.path.parts:
            if len(os.fsencode(name)) > LONGEST_NAME:
                raise TightboundError(
                    f"the name {cut(repr(name))} has {len(os.fsencode(name))} bytes and a "
                    f"disk takes {LONGEST_NAME}: choose a shorter --out"
                )
        exists(self.path)

    def check(self, mode: Mode) -> None:
        """Refuse to replace a run unless asked to, and any other files always.

        Raises:
            TightboundError: With the options that the user has.
        """
        self.check_name()
        if mode == "resume" or not self.path.exists():
            return
        if not self.path.is_dir():
            raise TightboundError(f"{str(self)!r} is a file: choose another --out")
        if all(path.name in (LOCK, REQUESTED) for path in self.path.iterdir()):
            return
        if not self.is_run:
            raise TightboundError(
                f"folder {str(self)!r} holds files and is not a run: choose another --out"
            )
        if mode != "overwrite":
            raise TightboundError(
                f"run {str(self)!r} exists: add --resume to go on with it, "
                "--overwrite to replace it, or choose another --out"
            )

    @contextmanager
    def reserve(self, mode: Mode, requested: Config | None = None) -> Iterator[None]:
        """Lock the folder for the block, and write the requested settings if any.

        They are removed when training begins, or when an error ends the block of a new run;
        they stay after Ctrl-C or a kill. An existing run is not changed.
        """
        with RunLock(self.path):
            self.check(mode)
            if requested is None or self.is_run:
                yield
                return
            settings.write(self.requested_file, requested)
            try:
                yield
            except Exception:
                if mode != "resume":
                    self._remove_request()
                raise

    def begin(self, config: Config, environment: Environment) -> None:
        """Write the resolved settings and the environment of a run that begins."""
        self.note_launch()
        self.write_config(config)
        text = json.dumps(environment, indent=2)
        write_atomic(self.path / ENVIRONMENT, text)

    def check_resumable(
        self,
        data: object,
        recipe: object,
        file: object,
        requested: Config,
        values: Options,
    ) -> str:
        """The `data.source` of the run to resume.

        Args:
            data: The data that the caller names, or None.
            recipe: The recipe that the caller names, or None.
            file: The settings file that the caller names, or None.
            requested: The settings that the caller's arguments result in.
            values: The single settings among them.

        Raises:
            TightboundError: There is no such run, or an argument would change it.
        """
        if not self.path.is_dir():
            raise TightboundError(
                f"there is no run {str(self)!r} to resume: check --out, or leave out --resume"
            )
        begun = self.settings() or self.requested()
        if begun is None:
            if data is None:
                raise TightboundError(
                    f"{str(self)!r} is not a run folder, it has no config.toml: "
                    "name the data to start"
                )
            return ""
        if file is not None:
            raise TightboundError(
                f"run {str(self)!r} keeps the settings it was begun with: leave out --config"
            )
        if recipe is not None and requested.recipe.name != begun.recipe.name:
            raise TightboundError(
                f"run {str(self)!r} was begun with recipe {begun.recipe.name!r}, "
                f"not {requested.recipe.name!r}: leave out --recipe"
            )
        for key in values:
            if _differs(begun, requested, key):
                raise TightboundError(
                    f"run {str(self)!r} was begun with another {key} "
                    f"({value_at(begun, key)}): leave it out, or choose another --out"
                )
        return self._source_to_resume(begun.data.source, data)

    def _source_to_resume(self, source: str, data: object) -> str:
        """The `data.source` that a run was begun with; refuses other data."""
        # The path of a file may have changed; its digest is compared once it is read.
        if is_builtin(data) and is_builtin(source) and stored_source(data) != source:
            raise TightboundError(
                f"run {str(self)!r} was begun with {source}, not {data}: "
                "leave the data out, or choose another --out"
            )
        if data is None and not source:
            raise TightboundError(
                f"run {str(self)!r} was trained on arrays in Python: give the data again"
            )
        return source

    def keep_earlier(self, step: int) -> Path:
        """Copy the finished run to `earlier/step-N`, a run folder of its own.

        The copy is complete or absent; one of the same step is replaced.

        Args:
            step: The step at which the run ended.

        Raises:
            TightboundError: The disk refuses.
        """
        target = self.path / EARLIER / f"step-{step}"
        names = (
            CONFIG,
            WEIGHTS,
            AVERAGED_WEIGHTS,
            LOG,
            ENVIRONMENT,
            EVALUATION,
            REPORT,
        )
        temporary = make_folder(target.with_name(f".{target.name}.tmp"))
        try:
            for name in names:
                if (self.path / name).is_file():
                    shutil.copy2(self.path / name, temporary / name)
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise TightboundError(
                f"cannot keep the run in {cut(target)} ({os_reason(error)}): mend that, and "
                "run the command again"
            ) from error
        return target

    def clear(self) -> None:
        """Remove the run in this folder, and no other files."""
        self.config_file.unlink(missing_ok=True)
        self._remove_request()
        made_by_others = (PRIORS, EXPORTS, EXPLORE, EARLIER, TENSORBOARD)
        for folder in (STATE, EVALUATION_PARTS, *made_by_others):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        files = (
            WEIGHTS,
            AVERAGED_WEIGHTS,
            LOG,
            ENVIRONMENT,
            EVALUATION,
            EVALUATION_LOCK,
            REPORT,
        )
        for name in files:
            (self.path / name).unlink(missing_ok=True)

    # ---- launches by torchrun

    def note_launch(self) -> None:
        """Write the id of this launch by torchrun, for its restarted processes."""
        if started_by_torchrun():
            make_folder(self.state_folder)
            write_atomic(self.path / LAUNCH, launch_id())

    def is_of_this_launch(self) -> bool:
        """True if an earlier start of this same launch has begun to train here."""
        try:
            noted = read_text(self.path / LAUNCH)
        except (OSError, ValueError):
            return False
        return started_by_torchrun() and noted == launch_id()

    # ---- reading and writing

    def settings(self) -> Config | None:
        """The settings of a run whose training has begun."""
        if self.is_run:
            return settings.read(self.config_file)
        return None

    def requested(self) -> Config | None:
        """The requested settings of a run whose training has not begun."""
        if not self.requested_file.is_file():
            return None
        return settings.read(self.requested_file)

    def check_code(self, requested: Config) -> None:
        """Refuse a run whose settings name code that the requested ones do not name.

        The caller has those from a command line or a program, so their code may run.

        Raises:
            TightboundError: With the import path of that code.
        """
        for file in (self.config_file, self.requested_file):
            if file.is_file():
                names = settings.code_names(settings.read(file))
                settings.refuse_code(names - settings.code_names(requested), file)

    def write_config(self, config: Config) -> None:
        """Write config.toml, with which the folder is a run."""
        settings.write(self.config_file, config)
        self._remove_request()

    def _remove_request(self) -> None:
        self.requested_file.unlink(missing_ok=True)

    def write_weights(
        self,
        config: Config,
        state: Mapping[str, Tensor],
        averaged: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write weights, and their averages, with the settings in the metadata of the files."""
        about = {"format": "tightbound", "config": settings.to_text(config)}
        if averaged:
            save_weights(self.averaged_weights_file, averaged, about)
            about[_HAS_AVERAGES] = "yes"
        save_weights(self.weights_file, state, about)

    def read_weights(self, config: Config) -> tuple[dict[str, Tensor], Path]:
        """The averaged weights if there are any, else the plain ones, and their file.

        Args:
            config: The settings in config.toml.

        Raises:
            TightboundError: The file is damaged, or was written with other settings.
        """
        path = self.averaged_weights_file
        if not path.is_file():
            path = self.weights_file
        state, about = load_weights(path)
        if path == self.weights_file and _HAS_AVERAGES in about:
            raise TightboundError(
                f"{cut(self.averaged_weights_file)} is missing, the averaged weights of "
                "this run: restore it from a copy or train again"
            )
        self.check_unchanged(config, about.get("config"), path, training=False)
        return state, path

    def check_unchanged(
        self, config: Config, text: str | None, written_in: Path, *, training: bool
    ) -> None:
        """Refuse a config.toml that was changed after weights or a state were written.

        Args:
            config: The settings in config.toml.
            text: The settings in the weights or the state; None where they have none.
            written_in: The file of these.
            training: Whether the settings of training must be equal, too, as for a state.

        Raises:
            TightboundError: With the first key that differs.
        """
        if text is None:
            return
        key = settings.changed_key(config, text, training=training)
        if key is not None:
            name, now, before = key
            raise TightboundError(
                f"{cut(self.config_file)} says {name} = {cut(now)}, but {cut(written_in)} was "
                f"written with {cut(before)}: set it back, or train a new run"
            )

    @property
    def has_weights(self) -> bool:
        """True if a validation has written weights."""
        return self.averaged_weights_file.is_file() or self.weights_file.is_file()

    def history(self) -> list[Tree]:
        """The validations in the log, without lines that are damaged or cut short.

        Raises:
            TightboundError: The log cannot be read.
        """
        if not self.log_file.exists():
            return []
        try:
            text = read_bytes(self.log_file).decode("utf-8", "replace")
        except OSError as error:
            raise TightboundError(
                f"cannot read {cut(self.log_file)} ({os_reason(error)}): check the file"
            ) from error
        validations = []
        for line in text.splitlines():
            with suppress(ValueError):
                validations.append(_validation(parse_json(line)))
        return validations


_Figures = dict[str, float | None]


class _ByExample(BaseModel):
    """The bound of single validation examples; of: their number in the split."""

    of: int
    bound: list[float]


class _Validation(BaseModel):
    """A line of log.jsonl about a validation; figures that are not numbers are null."""

    event: Literal["epoch"]
    epoch: float
    step: int
    time: float
    train: _Figures
    valid: _Figures
    best: bool
    valid_by_example: _ByExample | None = None
    lr: float = 0.0
    images_per_s: float = 0.0
    left: float = 0.0
    skipped: int = 0


def _validation(line: object) -> Tree:
    """A line of the log, as it is, if it is that of a validation; else a ValueError."""
    _Validation.model_validate(line)
    if not isinstance(line, dict):
        raise ValueError("it is no table")
    return line


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


_OF_STEPS = ("train.steps", "train.epochs", "train.validate_every", "train.budget")


def _differs(begun: Config, requested: Config, key: str) -> bool:
    """True if a key has another value than the run was begun with.

    "auto" stands for the value that it was resolved to, and the device may change.
    """
    old = value_at(begun, key)
    new = value_at(requested, key)
    if key == "device" or new == "auto":
        return False
    full_key = ".".join(settings.key_path(key))
    if full_key == "train.validate_n" and begun.train.budget:
        return int(new) < int(
            old
        )  # a short budget estimates log p(x) on fewer examples
    if full_key in _OF_STEPS and begun.recipe.name == "ppca" and begun.train.steps == 1:
        return (
            False  # it was solved in closed form, without the steps that were asked for
        )
    if isinstance(old, int | float) and isinstance(new, int | float):
        return not math.isclose(old, new, rel_tol=1e-6)
    return bool(old != new)
