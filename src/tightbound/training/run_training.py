"""From settings and data to a trained Run in its folder: new, resumed, or refused."""

from __future__ import annotations

import json
import os
import platform
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tightbound import __version__
from tightbound import data as data_room
from tightbound.config import Config, TrainSettings
from tightbound.data import Data
from tightbound.distributions.random import seed_for
from tightbound.models.build import build, resolve, resolve_domain
from tightbound.models.compatibility import component
from tightbound.models.vae import VAE, Objective
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import Run, seeded
from tightbound.runtime import atomic_files as files
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import is_out_of_memory
from tightbound.runtime.launch_context import (
    current_launch,
)
from tightbound.runtime.lock import RunLock
from tightbound.runtime.memory import kept_memory
from tightbound.training import budget as schedule
from tightbound.training.autotune import Trial, choose_execution
from tightbound.training.batches import count
from tightbound.training.console import Display
from tightbound.training.distributed.data_parallel import is_sharded
from tightbound.training.trainer import Trainer

GUESS = 10**9  # steps, where a budget will decide them


def assemble(
    config: Config, device: torch.device, trust: bool = True
) -> tuple[VAE, Objective]:
    """The model with its initial weights, a function of the seed."""
    assert config.spec is not None
    with seeded(seed_for(config.seed, "init")):
        model, objective = build(config.recipe, config.spec, trust=trust)
    return model.to(device), objective


def asked_of_data(config: Config, trust: bool = True) -> Config:
    """The settings with what the recipe wants of its data beside x, and whether values may be
    missing.
    """
    recipe, updates = config.recipe, dict[str, Any]()
    if recipe.missing != "refused":
        updates["allow_missing"] = True
    if getattr(component("objective", recipe.objective, trust), "labels", False):
        updates["use_labels"] = True
    if recipe.conditional and config.data.condition is None:
        updates["condition"] = "labels"
    return config.model_copy(update={"data": config.data.model_copy(update=updates)})


def settle(config: Config, data: Data, trust: bool = True) -> tuple[Config, list[str]]:
    """Resolves recipe and domain against the data; the schedule is still open."""
    recipe, spec, notes = resolve_domain(config.recipe, data.spec, trust)
    recipe = resolve(recipe, spec, trust)
    read = (
        data.settings.model_copy(update={"domain": spec.domain})
        if spec.domain != data.spec.domain
        else data.settings
    )
    updates = {"recipe": recipe, "spec": spec, "data": read}
    return config.model_copy(update=updates), notes


@kept_memory()
def fit(
    config: Config,
    source: Any,
    folder: Path,
    show: Display,
    *,
    resume: bool = False,
    overwrite: bool = False,
    valid: Any = None,
    test: Any = None,
    trust: bool = False,
) -> Run:
    """Trains (or goes on training) in `folder` and returns the Run with its best weights.

    valid, test: data of their own for these splits.  An old run is removed only once the new one's
    data are read. Raises TightboundError for bad settings, data or folders; `Interrupted` after
    Ctrl-C.
    """
    started, launch = schedule.now(), current_launch()
    place = RunFolder(folder)
    device = pick_device(config.device)
    launch.on_rank_zero(
        lambda: place.check_available(resume=resume, overwrite=overwrite)
    )
    old = launch.on_rank_zero(lambda: place.read_config() if resume else None)
    asked = launch.on_rank_zero(place.read_request) if resume and old is None else None
    if resume and old is None:
        whose = (
            "these settings, as none were kept"
            if asked is None
            else "the settings that it was asked for"
        )
        config = (
            config
            if asked is None
            else asked.model_copy(update={"device": config.device})
        )
        show.note(
            f"nothing to resume in {folder}: its training had not begun, so it starts now, recipe "
            f"{config.recipe.name} with {whose}"
        )
    trust, wanted = trust or (old is None and asked is None), config
    config = (
        asked_of_data(config, trust)
        if old is None
        else old.model_copy(update={"device": config.device})
    )
    read = partial(data_room.load, source, seed=config.seed, valid=valid, test=test)
    data = launch.rank_zero_first(lambda: read(config.data))
    if old is not None and old.digest != data.digest:
        raise TightboundError(
            f"the data are not those that {folder} was trained on: give the "
            "same data to --resume, or another --out"
        )
    notes: list[str] = []
    if old is None:
        config, notes = settle(config, data, trust)
        if config.data.domain != data.settings.domain:
            data = read(config.data)
        config = config.model_copy(update={"spec": data.spec, "digest": data.digest})
    config = config.model_copy(update={"spec": _with_moments(config, data)})
    for note in [*data.notices, *notes]:
        show.note(note)
    with ExitStack() as held:
        launch.on_rank_zero(
            lambda: _hold(
                held, place, resume, overwrite, wanted if old is None else None
            )
        )
        try:
            if old is None:
                config, notes = _plan(config, data, folder, device, started, trust)
                for note in notes:
                    show.note(note)
            model, objective = assemble(config, device, trust=trust)
            trainer = Trainer(model, objective, config, data, folder, show, trust=trust)
            if overwrite:  # only now, when all that was asked for is known to work
                launch.on_rank_zero(place.clear)
            return _train(trainer, data, device, new=old is None)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            raise _memory(error, config) from error


def _hold(
    stack: ExitStack,
    place: RunFolder,
    resume: bool,
    overwrite: bool,
    requested: Config | None,
) -> None:
    """Lock the folder for the training, and keep the requested settings until it begins."""
    stack.enter_context(RunLock(place.path))
    place.check_available(resume=resume, overwrite=overwrite)
    if requested is None or place.is_run:
        return
    place.write_request(requested)

    def forget(kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None and issubclass(kind, Exception):
            place.forget_request()

    stack.push(forget)


def _with_moments(config: Config, data: Data) -> Any:
    assert config.spec is not None
    return config.spec.model_copy(
        update={
            "mean": data.spec.mean,
            "std": data.spec.std,
            "condition": data.spec.condition,
            "labels": data.spec.labels,
        }
    )


def _memory(error: BaseException, config: Config) -> BaseException:
    if is_out_of_memory(error):
        return TightboundError(
            f"out of memory with batches of {config.train.batch} and k = "
            f"{config.recipe.k}: lower train.batch "
            f"(--set train.batch={max(1, int(config.train.batch) // 2)}), recipe.k or recipe.size"
        )
    return error


def _train(trainer: Trainer, data: Data, device: torch.device, *, new: bool) -> Run:
    config, folder, show, launch = (
        trainer.config,
        trainer.folder,
        trainer.show,
        current_launch(),
    )

    def begin() -> None:
        place = RunFolder(folder)
        place.mark_launch()
        if new:
            place.write_config(config)
            text = json.dumps(environment(device), indent=2)
            files.write_atomic(place.environment_file, text)

    launch.on_rank_zero(begin)
    if not new and (found := launch.on_rank_zero(trainer.store.load)) is not None:
        state, notices = found
        for notice in notices:
            show.note(notice)
        trainer.load_state_dict(state)
        show.note(f"resumed {folder} at step {trainer.step} of {config.train.steps}")
    show.note(describe(config, data, device))
    trainer.run()
    model = trainer.model
    if is_sharded(config.train):
        model, _ = assemble(config, device, trust=True)
    model.load_state_dict(trainer.finish())
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as it is when read from the folder
    return Run(config, model, folder, data)


def _plan(
    config: Config,
    data: Data,
    folder: Path,
    device: torch.device,
    started: float,
    trust: bool,
) -> tuple[Config, list[str]]:
    """The schedule in numbers and every "auto" decided, on trainers that are thrown away; and what
    to tell of it.
    """
    n, steps = count(data.train), None
    if own := getattr(getattr(data.train, "stream", None), "batch_size", None):
        config = config.model_copy(
            update={"train": config.train.model_copy(update={"batch": own})}
        )

    def make(train: TrainSettings) -> Trainer:
        trial = config.model_copy(
            update={
                "train": schedule.resolve(train, n, GUESS if train.budget else None)
            }
        )
        return Trainer(
            *assemble(trial, device, trust), trial, data, folder, _silent(), trial=True
        )

    budget = config.train.budget
    if budget and (config.train.steps, config.train.epochs) != ("auto", "auto"):
        raise TightboundError(
            "a budget decides the steps: give --budget, or train.steps or train.epochs, not both"
        )
    settings, notes = choose_execution(
        config.train,
        0 if budget else int(schedule.resolve(config.train, n).steps),
        make,
        device,
    )
    if budget:
        with torch.random.fork_rng():
            trial = Trial(make(settings))
            per_epoch = schedule.epoch_steps(n, int(trial.trainer.settings.batch))
            steps = schedule.steps_within(
                settings, per_epoch, trial.run, trial.validate, schedule.now() - started
            )
    return config.model_copy(
        update={"train": schedule.resolve(settings, n, steps)}
    ), notes


def _silent() -> Display:
    from tightbound.training.console import Quiet

    return Quiet()


def describe(config: Config, data: Data, device: torch.device) -> str:
    """One line that says what is about to happen."""
    r, t = config.recipe, config.train
    n = count(data.train) or "unknown many"
    return (
        f"{r.name}: {r.network.name} network of size {r.size}, latent "
        f"{r.latent}, {r.likelihood.name}, on {data.name} "
        f"({n} train, {len(data.valid)} valid, {len(data.test)} test); "
        f"{t.steps} steps of {t.batch} on {device}; stops early after "
        f"{t.patience} validations without a new best"
    )


def environment(device: torch.device) -> dict[str, Any]:
    """What a bit-identical run depends on beside its config."""
    return {
        "tightbound": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processes": current_launch().world_size,
    }
