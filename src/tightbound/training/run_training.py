"""Training of a run in its folder: new, resumed, or in the place of an older run."""

from __future__ import annotations

import dataclasses
import gc
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tightbound import __version__
from tightbound import data as data_room
from tightbound.config import Config, TrainSettings
from tightbound.core.component import Objective
from tightbound.core.data_spec import DataSpec
from tightbound.data import Data, LoaderSplit
from tightbound.distributions.random import seed_for
from tightbound.models.build import (
    build,
    likelihood_domains,
    resolve,
    resolve_domain,
)
from tightbound.models.parts import find_component
from tightbound.models.size import check_step
from tightbound.models.vae import VAE
from tightbound.runs.folder import Environment, Mode, RunFolder
from tightbound.runs.run import Run, seeded
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.foreign_errors import is_out_of_memory
from tightbound.runtime.launch_context import current_launch
from tightbound.runtime.memory import kept_memory
from tightbound.runtime.progress import FIRST, phase
from tightbound.runtime.time_budget import TimeBudget, current_limit
from tightbound.training import budget, closed_form, extension, initial_weights
from tightbound.training.autotune import LEAST_STEPS, Trial, choose_execution
from tightbound.training.batches import count
from tightbound.training.callbacks import Callback
from tightbound.training.checkpoint import StateStore
from tightbound.training.console import Display, Quiet
from tightbound.training.distributed.data_parallel import is_sharded
from tightbound.training.step.module import Step
from tightbound.training.step.precision import set_memory_format
from tightbound.training.trainer import Solution, Trainer

Splits = Mapping[str, Any]
UNKNOWN_STEPS = 10**9  # for trials of a run whose steps a budget will decide


COPIES = 4  # of the parameters in training: gradients and two moments beside them

Domains = tuple[str, ...]


@dataclass(frozen=True)
class FitOptions:
    """Options of a training that have a default.

    Args:
        splits: data of their own for the splits "valid" and "test".
        trust: whether code that the settings of a resumed run name may be imported.
        extend: further steps of a finished run that is resumed; 0 for none.
        callbacks: called at the start, at each validation and at the end.
    """

    splits: Splits = field(default_factory=dict)
    trust: bool = False
    extend: int = 0
    callbacks: Sequence[Callback] = ()


PLAIN = FitOptions()


@dataclass(frozen=True)
class Job:
    """The inputs of a training that are the same whether it begins or is resumed.

    Attributes:
        source: the training data.
        options: options that have a default.
    """

    source: object
    options: FitOptions
    folder: RunFolder
    show: Display
    device: torch.device

    def read(self, config: Config, domains: Domains = ()) -> Data:
        """Read the data with the settings of a run, in a domain of the likelihood."""
        with phase(f"reading {config.data.source or 'the data'}"):
            return data_room.load(
                self.source,
                config.data,
                seed=config.seed,
                domains=domains,
                **self.options.splits,
            )

    def note(self, lines: Iterable[str]) -> None:
        """Show lines to the user."""
        for line in lines:
            self.show.note(line)


@kept_memory()
def fit(
    config: Config,
    source: object,
    folder: Path,
    show: Display,
    options: FitOptions = PLAIN,
    *,
    mode: Mode = "new",
) -> Run:
    """Train in a folder and return the Run with its best weights.

    Args:
        config: the settings; of a resumed run only the device is taken from them.
        source: the training data.
        folder: the run folder.
        show: the display.
        options: options that have a default.
        mode: "new", "resume", or "overwrite". An old run is removed only when the data
            of the new one are read and its model is built.

    Raises:
        TightboundError: for bad settings, data or folders.
        Interrupted: after Ctrl-C, with the state saved.
    """
    launch = current_launch()
    device = pick_device(config.device)
    run_folder = RunFolder(folder)
    launch.on_rank_zero(lambda: run_folder.check(mode))
    job = Job(source, options, run_folder, show, device)
    if mode != "resume":
        return _train_new(job, config, mode, trust=True)
    settings = launch.on_rank_zero(run_folder.settings)
    if settings is None:
        return _train_requested(job, config, options.trust)
    settings = settings.model_copy(update={"device": config.device})
    return _resume(job, settings, options.trust)


def _train_new(job: Job, requested: Config, mode: Mode, trust: bool) -> Run:
    """Train a run from its first step; the mode "overwrite" removes an older run."""
    launch = current_launch()
    config, data = _resolve_for_data(job, requested, trust)
    config = initial_weights.pinned(config, trust=job.options.trust)
    with ExitStack() as stack:
        launch.on_rank_zero(
            lambda: stack.enter_context(job.folder.reserve(mode, requested))
        )
        with _out_of_memory_explained(config):
            plan = _plan(job, config, data, trust)
        if plan.was_timed:
            gc.collect()  # trials hold buffers of data, and refer to themselves
        config = closed_form.one_step(plan.config, data)
        _check_init_is_used(config, data)
        job.note(plan.notes)
        with _out_of_memory_explained(config):
            trainer = _trainer(job, config, data, trust)
            if mode == "overwrite":  # only now: everything requested is known to work
                launch.on_rank_zero(job.folder.clear)
            about = environment(job.device)
            launch.on_rank_zero(lambda: job.folder.begin(config, about))
            trainer.stops_after = plan.stops_after()
            trainer.validation_seconds = plan.validation_seconds
            return _run_to_end(job, trainer, data)


def _train_requested(job: Job, config: Config, trust: bool) -> Run:
    """Train a run whose training had not begun, with the settings once requested.

    Where the folder has none, these are the settings of this call.
    """
    requested = current_launch().on_rank_zero(job.folder.requested)
    if job.options.extend:
        raise TightboundError(
            f"training in {cut(job.folder.path)} had not begun, so there is nothing to add "
            "steps to: train it with --resume first"
        )
    if requested is None and job.folder.has_weights:
        raise TightboundError(
            f"{cut(job.folder.path)} holds weights and no config.toml: restore that file, or "
            "train anew with --overwrite"
        )
    if requested is None:
        which = "these settings, as none were kept"
        trust = True
    else:
        which = "the settings that it was asked for"
        config = requested.model_copy(update={"device": config.device})
    job.show.note(
        f"nothing to resume in {job.folder.path}: its training had not begun, so it "
        f"starts now, recipe {config.recipe.name} with {which}"
    )
    return _train_new(job, config, "resume", trust)


def _resume(job: Job, config: Config, trust: bool) -> Run:
    """Train a run on from its newest saved state.

    Raises:
        TightboundError: where the data are not those of the run.
    """
    launch = current_launch()
    data = launch.rank_zero_first(lambda: job.read(config))
    if config.digest != data.digest:
        raise TightboundError(
            f"the data are not those that {job.folder.path} was trained on: give the "
            "same data to --resume, or another --out"
        )
    config = _with_statistics(config, data)
    job.note(data.notices)
    with ExitStack() as stack:
        launch.on_rank_zero(lambda: stack.enter_context(job.folder.reserve("resume")))
        config = _extended(job, config)
        with _out_of_memory_explained(config):
            trainer = _trainer(job, config, data, trust)
            launch.on_rank_zero(job.folder.note_launch)
            loaded = launch.on_rank_zero(trainer.store.load)
            if loaded is not None:
                state, notices = loaded
                job.note(notices)
                trainer.load_state_dict(state)
                job.show.note(
                    f"resumed {job.folder.path} at step {trainer.step} of "
                    f"{config.train.steps}"
                )
            limit = current_limit()
            if limit is not None:
                trainer.stops_after = _for_training(limit, budget.reserved(limit, None))
            return _run_to_end(job, trainer, data)


def _extended(job: Job, config: Config) -> Config:
    """The settings of a run with the further steps that were asked for.

    The finished run is kept in the folder before config.toml is replaced, which alone
    begins the extension.
    """
    more = job.options.extend
    if not more:
        return config
    folder = job.folder

    def extend() -> tuple[int, int]:
        loaded = StateStore(folder.state_folder).load()
        if loaded is not None:
            job.note(loaded[1])
        state = extension.check_finished(folder, config, loaded[0] if loaded else None)
        begun = int(state["step"])
        kept = folder.keep_earlier(begun)
        folder.write_config(extension.extended(config, begun, more))
        job.show.note(
            f"{more} steps more, to step {begun + more}, at a learning rate that rises and "
            f"falls again; the run up to step {begun} is kept in {kept}"
        )
        return begun, more

    return extension.extended(config, *current_launch().on_rank_zero(extend))


def _check_init_is_used(config: Config, data: Data) -> None:
    if config.train.init and closed_form.applies(config, data):
        raise TightboundError(
            "ppca is solved in closed form and needs no initial weights: leave --init out"
        )


def _run_to_end(job: Job, trainer: Trainer, data: Data) -> Run:
    config = trainer.config
    trainer.callbacks = job.options.callbacks
    job.show.note(describe(config, data, job.device))
    if trainer.step == 0 and closed_form.applies(config, data):
        weights = closed_form.solution(trainer.model, config, data)
        trainer.solution = Solution(weights, closed_form.NOTE)
    start = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - start
    if seconds >= FIRST:
        job.show.note(f"training: {seconds:.0f} s")
    model = trainer.model
    if is_sharded(config.train):
        model, _ = assemble(config, job.device, trust=True)
    model.load_state_dict(trainer.finish())
    # as in a model that is read from the folder
    set_memory_format(model, torch.contiguous_format)
    return Run(config, model, job.folder.path, data)


@contextmanager
def _out_of_memory_explained(config: Config) -> Iterator[None]:
    """Raise errors for lack of memory as a sentence that names the settings to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        batch = int(config.train.batch)
        raise TightboundError(
            f"out of memory with batches of {batch} and k = {config.recipe.k}: lower "
            f"train.batch (--set train.batch={max(1, batch // 2)}), recipe.k or recipe.size"
        ) from error


# ---- from settings to a trainer


def assemble(
    config: Config, device: torch.device, trust: bool = True
) -> tuple[VAE, Objective]:
    """The model with its initial weights, a function of the seed, and the objective."""
    assert config.spec is not None
    with seeded(seed_for(config.seed, "init")):
        model, objective = build(config.recipe, config.spec, trust=trust, copies=COPIES)
    return model.to(device), objective


def assemble_step(config: Config, device: torch.device, trust: bool = True) -> Step:
    """The training pass of a new model."""
    model, objective = assemble(config, device, trust)
    return Step(model, objective, config.recipe.k)


def _trainer(job: Job, config: Config, data: Data, trust: bool) -> Trainer:
    step = assemble_step(config, job.device, trust)
    initial_weights.set_initial(step, config, trust=trust)
    return Trainer(step, config, data, job.folder.path, job.show, trust=trust)


def _resolve_for_data(job: Job, requested: Config, trust: bool) -> tuple[Config, Data]:
    """Read the data of a new run, and resolve its recipe for them."""

    def read(config: Config, domains: Domains) -> Data:
        return current_launch().rank_zero_first(lambda: job.read(config, domains))

    config, data, notices = read_for_recipe(requested, read, trust)
    job.note(notices)
    return config, data


def read_for_recipe(
    requested: Config, read: Callable[[Config, Domains], Data], trust: bool = True
) -> tuple[Config, Data, tuple[str, ...]]:
    """Read data once, in the domain of the recipe's likelihood, and resolve the recipe.

    Args:
        requested: The settings as they were requested.
        read: Reads the data with some settings, in one of some domains.
        trust: Whether components named by import path may run.

    Returns:
        The settings with recipe, spec and digest, the data, and notices for the user.
    """
    config = with_required_data(requested, trust)
    data = read(config, likelihood_domains(config.recipe, trust))
    config, notes = settle(config, data, trust)
    config = config.model_copy(update={"spec": data.spec, "digest": data.digest})
    return config, data, (*data.notices, *notes)


def with_required_data(config: Config, trust: bool = True) -> Config:
    """The settings with the data that the recipe needs beside x.

    These are labels, conditions, and permission for missing values.
    """
    recipe = config.recipe
    updates: dict[str, Any] = {}
    if recipe.missing != "refused":
        updates["allow_missing"] = True
    if find_component("objective", recipe.objective, trust).learns_from_labels:
        updates["use_labels"] = True
    if recipe.conditional and config.data.condition is None:
        updates["condition"] = "labels"
    return config.model_copy(update={"data": config.data.model_copy(update=updates)})


def settle(config: Config, data: Data, trust: bool = True) -> tuple[Config, list[str]]:
    """Resolve recipe and domain for the data; returns notes for the user as well.

    The length of the training stays open.
    """
    recipe, spec, notes = resolve_domain(config.recipe, data.spec, trust)
    recipe = resolve(recipe, spec, trust)
    settings = data.settings
    if spec.domain != data.spec.domain:
        settings = settings.model_copy(update={"domain": spec.domain})
    updates = {"recipe": recipe, "spec": spec, "data": settings}
    return config.model_copy(update=updates), notes


def _with_statistics(config: Config, data: Data) -> Config:
    """The settings of a run with what config.toml leaves out of its spec."""
    assert config.spec is not None
    updates = {
        "mean": data.spec.mean,
        "std": data.spec.std,
        "condition": data.spec.condition,
        "labels": data.spec.labels,
    }
    spec = config.spec.model_copy(update=updates)
    return config.model_copy(update={"spec": spec})


# ---- the length of a run


@dataclass(frozen=True)
class Plan:
    """The resolved settings of a training, and how long it may take.

    Attributes:
        config: the settings without "auto".
        notes: notes for the user.
        reserved: seconds of a total budget that are kept for what follows training.
        validation_seconds: the time of a validation, where one was timed.
        was_timed: whether steps were timed, by trainers of their own.
    """

    config: Config
    notes: list[str]
    reserved: float = 0.0
    validation_seconds: float = 0.0
    was_timed: bool = False

    def stops_after(self) -> TimeBudget | None:
        """The time in which steps are taken, where there is a budget."""
        limit = current_limit()
        own = self.config.train.budget
        if limit is None:
            return TimeBudget(own) if own else None
        training = _for_training(limit, self.reserved)
        if own and own < training.left():
            return TimeBudget(own)
        return training


def _for_training(limit: TimeBudget, reserved: float) -> TimeBudget:
    """The part of a total budget up to the end of training."""
    return dataclasses.replace(limit, seconds=limit.seconds - reserved)


def _plan(job: Job, config: Config, data: Data, trust: bool) -> Plan:
    """The settings without "auto".

    Precision, compilation and the steps of a budget are decided by trials.
    """
    settings = _with_batch_of_loader(config.train, data)
    limit = current_limit()
    _check_budget(settings, limit)
    own = settings.budget  # of training alone, beside a total budget
    if limit is not None:
        seconds = _least(own, _left_to_train(limit, None))
        settings = settings.model_copy(update={"budget": seconds})
    config = config.model_copy(update={"train": settings})
    n = count(data.train)
    _check_memory_of_step(config, data.spec, n)

    def make_trial(trial_settings: TrainSettings) -> Trainer:
        steps = UNKNOWN_STEPS if trial_settings.budget else None
        resolved = budget.resolve(trial_settings, n, steps)
        trial_config = config.model_copy(update={"train": resolved})
        step = assemble_step(trial_config, job.device, trust)
        path = job.folder.path
        return Trainer(step, trial_config, data, path, Quiet(), trust=trust, trial=True)

    steps = 0
    if not settings.budget:
        steps = int(budget.resolve(settings, n).steps)
    settings, notes = choose_execution(settings, steps, make_trial, job.device)
    if not settings.budget:
        resolved = budget.resolve(settings, n)
        was_timed = steps >= LEAST_STEPS
        return Plan(
            config.model_copy(update={"train": resolved}), notes, was_timed=was_timed
        )
    settings, times, few = _timed(settings, make_trial)
    notes += few
    reserved = 0.0
    if limit is not None:
        reserved = budget.reserved(limit, times)
        seconds = _least(own, _left_to_train(limit, times))
        settings = settings.model_copy(update={"budget": seconds})
    seconds = settings.budget or 0.0
    per_epoch = budget.epoch_steps(n, _batch_of(settings, n))
    allowed = budget.steps_within(seconds, per_epoch, times)
    notes += budget.too_short(seconds, allowed, times)
    settings = budget.resolve(settings, n, allowed)
    if own:  # so that the same command with --resume finds its own value
        settings = settings.model_copy(update={"budget": own})
    config = config.model_copy(update={"train": settings})
    return Plan(config, notes, reserved, times.validation, was_timed=True)


def _batch_of(settings: TrainSettings, n: int | None) -> int:
    """Examples of a step; all of fewer data."""
    batch = int(settings.batch)
    return min(batch, n or batch)


def _check_memory_of_step(config: Config, spec: DataSpec, n: int | None) -> None:
    """Raise TightboundError where a step cannot fit in memory."""
    settings = config.train
    words = f"a step with train.batch = {int(settings.batch)} and k = {config.recipe.k}"
    rows = _batch_of(settings, n) // settings.accumulate
    check_step(config.recipe, spec, rows, words)


def _timed(
    settings: TrainSettings, make_trial: Callable[[TrainSettings], Trainer]
) -> tuple[TrainSettings, budget.Timing, list[str]]:
    """The times of a step and of a validation; settings and notes where these are short."""
    seconds = settings.budget or 0.0
    with (
        phase("timing steps and a validation, to fit the budget"),
        torch.random.fork_rng(),
    ):
        trial = Trial(make_trial(settings), budget.TIMED_STEPS * seconds)
        times = budget.timing(trial, seconds)
        return _with_short_validations(settings, trial, times)


def _least(own: float | None, left: float) -> float:
    """The seconds of training: its own budget, where a total one leaves more."""
    return min(own, left) if own else left


def _with_short_validations(
    settings: TrainSettings, trial: Trial, times: budget.Timing
) -> tuple[TrainSettings, budget.Timing, list[str]]:
    """Estimate log p(x) on fewer examples where a validation is long for the budget."""
    validator = trial.trainer.validator
    before = validator.log_px_examples
    after = budget.examples_of_log_px(before, settings.budget or 0.0, times)
    if after == before:
        return settings, times, []
    saved = (before - after) * settings.validate_k / validator.decoded
    shorter = dataclasses.replace(times, validation=times.validation * (1 - saved))
    note = f"validations estimate log p(x) on {after} examples, to fit the budget"
    return settings.model_copy(update={"validate_n": after}), shorter, [note]


def _left_to_train(limit: TimeBudget, times: budget.Timing | None) -> float:
    """Seconds of a total budget for training; a hundredth where none are left."""
    return round(max(0.01, limit.left() - budget.reserved(limit, times)), 3)


def _with_batch_of_loader(settings: TrainSettings, data: Data) -> TrainSettings:
    """A user's DataLoader decides the size of the batches."""
    if not isinstance(data.train, LoaderSplit):
        return settings
    batch = getattr(data.train.stream, "batch_size", None)
    return settings.model_copy(update={"batch": batch}) if batch else settings


def _check_budget(settings: TrainSettings, limit: TimeBudget | None) -> None:
    fixed = settings.steps != "auto" or settings.epochs != "auto"
    if fixed and (settings.budget or limit is not None):
        raise TightboundError(
            "a budget decides the steps: give --budget, or train.steps or train.epochs, "
            "not both"
        )


# ---- descriptions


def describe(config: Config, data: Data, device: torch.device) -> str:
    """One line on the model, the data and the length of a training."""
    recipe = config.recipe
    train = config.train
    n = count(data.train) or "unknown many"
    return (
        f"{recipe.name}: {recipe.network.name} network of size {recipe.size}, latent "
        f"{recipe.latent}, {recipe.likelihood.name}, on {data.name} "
        f"({n} train, {len(data.valid)} valid, {len(data.test)} test); "
        f"{train.steps} steps of {train.batch} on {device}; stops early after "
        f"{train.patience} validations without a new best"
    )


def environment(device: torch.device) -> Environment:
    """Versions and hardware, on which the bits of a run depend beside its settings."""
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
