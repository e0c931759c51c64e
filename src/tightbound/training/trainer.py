"""The training loop: steps, validation, best weights, log and saved states.

All random numbers are functions of (seed, step), so a resumed run is bit-identical.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tightbound.config import Config, to_text
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Noise
from tightbound.data import Data
from tightbound.distributions.random import seed_for
from tightbound.models.vae import VAE
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError, os_reason
from tightbound.runtime.foreign_errors import last_line
from tightbound.runtime.launch_context import current_launch
from tightbound.runtime.signals import collected
from tightbound.runtime.time_budget import TimeBudget
from tightbound.training import extension
from tightbound.training.arithmetic import arithmetic, differences
from tightbound.training.batches import batches, examples
from tightbound.training.callbacks import Callback, Progress, metrics_of
from tightbound.training.checkpoint import State, StateStore
from tightbound.training.console import Display, Record
from tightbound.training.distributed import sharded_state
from tightbound.training.distributed.data_parallel import (
    distributed_execution,
    full_state_dict,
    is_sharded,
    shard,
    unsharded,
)
from tightbound.training.noise import NoiseBuffer
from tightbound.training.optimization.ema import Average
from tightbound.training.optimization.fused_adam import optimizer_step
from tightbound.training.optimization.optimizer import (
    check_cycles,
    cycle_at,
    learning_rate_factor,
    optimizer,
    schedule_at,
)
from tightbound.training.signals import Interrupted as Interrupted
from tightbound.training.step.gradient_guard import READ_EVERY, Exploded, GradientGuard
from tightbound.training.step.module import Step
from tightbound.training.step.precision import channels_last
from tightbound.training.validation import Validation, Validator

MOST_SKIPPED = 10  # steps skipped in a row that end the run
SUMS = ("n", "distortion", "rate", "elbo")


@dataclass(frozen=True)
class BestWeights:
    """The weights of the best validation, its step, and the objective there.

    plain: state dict of the model. ema: that of the averaged weights, empty without them.
    """

    objective: float = math.inf
    step: int = 0
    plain: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Solution:
    """Weights of a model whose optimum is known, and a note that says so."""

    weights: dict[str, Tensor]
    note: str


class Trainer:
    """Trains a model in its run folder.

    Args:
        step_module: the training pass, with the model and the objective in it.
        config: resolved settings, without "auto".
        data: the splits.
        folder: the run folder.
        show: the display.
        trust: whether an optimiser from outside torch may be imported.
        trial: whether the steps are only timed; then `Step.prepare` is not run.
    """

    def __init__(
        self,
        step_module: Step,
        config: Config,
        data: Data,
        folder: Path,
        show: Display,
        *,
        trust: bool = True,
        trial: bool = False,
    ) -> None:
        self.step_module = step_module
        self.model: VAE = step_module.model
        self.config = config
        self.settings = config.train
        check_cycles(self.settings)
        self.folder = folder
        self.show = show
        self.device = self.model.get_buffer("centre").device
        self.launch = current_launch()
        self._set_counters()
        self.callbacks: Sequence[Callback] = ()
        self.data = data
        self._start_clocks()
        share = self.launch.share
        self.batches = batches(
            data.train,
            int(self.settings.batch),
            config.seed,
            self.device,
            share,
            config.data.shuffle_buffer,
        )
        if not trial:
            with seeded(seed_for(config.seed, "prepare")):
                step_module.prepare(partial(examples, data.train))
        self.average = self._place_weights()
        self.execution = distributed_execution(
            step_module, self.settings, self._say, self.launch
        )
        self.noise = NoiseBuffer(
            config.seed, self.device, self._rehearse, step_module.k, share
        )
        self.optimizer = optimizer(self.model, self.settings, trust=trust)
        self.optimizer_step = optimizer_step(self.optimizer)
        self.guard = GradientGuard(self.settings, self.device)
        self.validator = Validator(data.valid, step_module.objective, config)
        self.store = StateStore(RunFolder(folder).state_folder)

    def _set_counters(self) -> None:
        """The state of a training before its first step."""
        self.sums = self._no_sums()
        self.best = BestWeights()
        self.saved_best_step = 0
        self.step = 0
        self.validations_without_improvement = 0
        self.elapsed = 0.0  # seconds of training, over all starts of the run
        self.log_bytes = 0
        self.unlogged: list[str] = []  # notes from before the log is opened
        self.logs = False
        self.solution: Solution | None = None  # in the place of all steps
        self.stops_after: TimeBudget | None = None  # the time in which steps are taken
        self.out_of_time = False
        self.validation_seconds = 0.0  # of the longest validation so far
        self.received: list[int] = []  # signals that end the training

    def _place_weights(self) -> Average | None:
        """Lay out the weights in memory, or shard them; returns their average, if any."""
        sharded = is_sharded(self.settings)
        if not sharded:
            channels_last(self.model)
        average = None
        if self.settings.ema:
            average = Average(self.model, self.settings.ema)
        if sharded:
            averaged = average.model if average else None
            shard(self.step_module, averaged, self.launch, self.device)
        return average

    def _start_clocks(self) -> None:
        now = time.perf_counter()
        self.started = now - self.elapsed
        self.saved_at = now
        self.window_step = self.step  # the speed is measured from here
        self.window_start = now

    def _no_sums(self) -> Tensor:
        names = SUMS if self.config.recipe.has_bound else SUMS[:2]
        return torch.zeros(len(names), device=self.device, dtype=torch.float64)

    def _averaged(self) -> VAE | None:
        return self.average.model if self.average else None

    # ---- one step

    def train_step(self, clock: Clock) -> None:
        """Take one step: batch, noise, losses, gradients, optimiser, averages, sums."""
        step = self.step
        batch = self.batches(step)
        noise = self.noise(step, batch)
        torch.default_generator.manual_seed(self._seed_of_parts(step))
        losses, sums = self.execution(batch, clock, noise)
        ok, divisor = self.guard.check(
            losses.values(), self.execution.gradients.values()
        )
        _, first, end = cycle_at(self.settings, step)
        factor = learning_rate_factor(self.settings, step - first, end - first)
        self.optimizer_step(factor, ok, divisor)
        self.step_module.after_step(sums, ok)
        if self.average is not None:
            self.average.update(step)
        named = torch.stack([sums[name] for name in SUMS if name in sums])
        self.sums += torch.where(ok, named, 0)
        self.step += 1

    def _seed_of_parts(self, step: int) -> int:
        """The seed of torch's global generator in a step: another one in each process."""
        if self.launch.is_rank_zero:
            return seed_for(self.config.seed, "parts", step)
        return seed_for(self.config.seed, "parts", step, self.launch.rank)

    def _rehearse(self, batch: Batch, noise: Noise) -> None:
        """Run one forward pass in eval mode to record the noise of each site."""
        mode = self.model.training
        self.model.eval()
        self.step_module(batch, Clock(), noise)
        self.model.train(mode)

    # ---- the run

    def run(self) -> None:
        """Train until the last step, early stopping or the end of the time.

        Raises:
            Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with the state saved.
            Exploded: after ten skipped steps in a row, with the state saved.
        """
        steps = int(self.settings.steps)
        self.show.start(steps, self.step)
        self._log_start()
        for callback in self._called():
            callback.start(self._progress())
        self._start_clocks()
        try:
            with collected() as self.received, torch.random.fork_rng():
                self.model.train()
                if self.solution is not None:
                    self._take(self.solution)
                while self.step < steps and not self._stops_early():
                    self.train_step(self._clock())
                    self._after_step()
                    if self.out_of_time:
                        break
            self.save()
        finally:
            self.show.stop()
            for callback in self._called():
                callback.end(self._progress())

    def _called(self) -> Sequence[Callback]:
        """The callbacks that this process calls."""
        return self.callbacks if self.launch.is_rank_zero else ()

    def _progress(self) -> Progress:
        """The state for callbacks."""
        return Progress(self._validated, self.config, self.folder, self.data, self.step)

    def _validated(self) -> VAE:
        """The model that is validated: the averaged one where there is one."""
        return self.average.current() if self.average else self.model

    def _clock(self) -> Clock:
        """Progress of the first schedule: at its end throughout an extension."""
        _, planned = schedule_at(self.settings, 0)
        return Clock(min(1.0, self.step / planned))

    def _take(self, solution: Solution) -> None:
        """Take known weights as those after the last step, and validate them."""
        self._say(solution.note)
        for model in (self.model, self._averaged()):
            if model is not None:
                model.load_state_dict(solution.weights)
        self.step = int(self.settings.steps)
        self.window_step = self.step
        self.show.step(self.step)
        self._validate()

    def _after_step(self) -> None:
        """Read the gradient norms, validate and save where that is due."""
        steps = int(self.settings.steps)
        every = int(self.settings.validate_every)
        self.out_of_time = self._is_out_of_time()
        ends = self.step == steps or self._begins_extension()
        validates = self.step % every == 0 or ends or self.out_of_time
        if self.step % READ_EVERY == 0 or validates:
            self._check_skipped()
            self.show.step(self.step)
        self._end_cycle()
        if validates:
            self._validate()
        reason, number = self._reason_to_save(validates)
        if reason:
            self.save()
        if reason == "signal":
            raise Interrupted(number)
        if self.out_of_time and self.step < steps:
            self._end_for_lack_of_time()

    def _end_cycle(self) -> None:
        """Average weights over the ends of cycles, where one ends at this step."""
        cycles = self.settings.cycles
        if cycles == 1 or self.average is None:
            return
        number, _, end = cycle_at(self.settings, self.step - 1)
        if self.step != end:
            return
        self.average.end_cycle(number)
        if number == cycles:
            self.average.take_mean_of_cycles()

    def _is_out_of_time(self) -> bool:
        """True where the time limit of training has passed; of several, rank 0 decides."""
        if self.stops_after is None:
            return False
        if self.launch.world_size > 1 and self.step % READ_EVERY:
            return False
        return self.launch.broadcast(self.stops_after.left() <= self.validation_seconds)

    def _end_for_lack_of_time(self) -> None:
        steps = int(self.settings.steps)
        self.log({"event": "out of time", "step": self.step, "steps": steps})
        self.show.note(
            f"the budget ended training at step {self.step} of {steps}: --resume takes the others"
        )

    def _reason_to_save(self, validated: bool) -> tuple[str, int]:
        """Return "time", "signal" with its number, or "" where there is nothing to save.

        The clock of rank 0 holds for all processes, and a signal to any of them, so several
        communicate here, and therefore not at every step.
        """
        decides_now = validated or self.step % READ_EVERY == 0
        if self.launch.world_size > 1 and not decides_now:
            return "", 0
        waited = time.perf_counter() - self.saved_at
        limit = self.settings.save_seconds
        if not validated:
            limit = max(5.0, 2 * limit)
        due, received = zip(
            *self.launch.gather((waited >= limit, tuple(self.received))), strict=True
        )
        signals = [number for of_process in received for number in of_process]
        if signals:
            return "signal", signals[0]
        return ("time" if due[0] else ""), 0

    def _begins_extension(self) -> bool:
        """True at a step at which an extension of a finished run begins."""
        return any(begun == self.step for begun, _ in self.settings.extensions)

    def _stops_early(self) -> bool:
        if self._begins_extension():
            self.validations_without_improvement = 0
        count = self.validations_without_improvement
        if count < int(self.settings.patience):
            return False
        self.log(
            {
                "event": "early stop",
                "step": self.step,
                "best": self.best.step,
                "validations_without_improvement": count,
            }
        )
        self.show.note(
            f"stopped early at step {self.step}: no better validation in {count} in a row "
            f"(train.patience); the best was at step {self.best.step}"
        )
        return True

    def _check_skipped(self) -> None:
        """Read the gradient norms; too many skipped steps in a row end the run."""
        self.guard.read_norms()
        if self.guard.most_skipped_in_a_row < MOST_SKIPPED:
            return
        self.log({"event": "stop", "step": self.step, "skipped": self.guard.skipped})
        self.save()
        raise Exploded(
            f"training stopped at step {self.step}: {MOST_SKIPPED} steps in a row had a "
            "loss or a gradient that was not finite or exploded; the best validated "
            "weights are kept: lower train.lr, or check the data"
        )

    # ---- validation

    def _validate(self) -> None:
        """Evaluate the validation split, keep the best weights, log and show."""
        steps = self.step - self.window_step
        start = time.perf_counter()
        seconds = start - self.window_start
        speed = steps * self.settings.batch / seconds
        model = self._validated()
        with unsharded(model):
            validation = self.validator(model)
        self.model.train()
        objective = validation.figures["objective"]
        improved = objective < self.best.objective
        if improved:
            self.validations_without_improvement = 0
            self.best = self._best(objective, model)
        else:
            self.validations_without_improvement += 1
        now = time.perf_counter()
        self.elapsed = now - self.started
        self.validation_seconds = max(self.validation_seconds, now - start)
        record = self._record(validation, speed, improved)
        if self.solution is not None:
            record["solved"] = True
        if self._called():
            record = metrics_of(self._called(), self._progress(), record)
        self.log(record)
        self.show.record(record)
        self.sums = self._no_sums()
        self.window_step = self.step
        self.window_start = time.perf_counter()

    def _best(self, objective: float, averaged: VAE) -> BestWeights:
        plain = full_state_dict(self.model)
        ema = full_state_dict(averaged) if self.average else {}
        return BestWeights(objective, self.step, plain, ema)

    def _record(self, validation: Validation, speed: float, improved: bool) -> Record:
        """The line of log.jsonl for a validation."""
        steps = int(self.settings.steps)
        n, *totals = self.sums.tolist()
        train: dict[str, float] = {}
        if n:
            named = zip(SUMS[1:], totals, strict=False)
            train = {name: total / n for name, total in named}
        seconds_per_step = self.elapsed / self.step
        return {
            "event": "epoch",
            "epoch": self.step * float(self.settings.epochs) / steps,
            "step": self.step,
            "time": round(self.elapsed, 3),
            "train": train,
            "valid": validation.figures,
            "valid_by_example": validation.logged(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": round(speed, 1),
            "left": round((steps - self.step) * seconds_per_step, 1),
            "skipped": self.guard.skipped,
            "best": improved,
        }

    # ---- the log

    def log(self, record: Record) -> None:
        """Append a line to log.jsonl.

        Lines that a killed run wrote after its last state are removed first.
        """
        if not self.launch.is_rank_zero:
            return
        path = RunFolder(self.folder).log_file
        try:
            with path.open("ab") as file:
                file.truncate(min(file.tell(), self.log_bytes))
                file.write(json.dumps(record).encode() + b"\n")
                self.log_bytes = file.tell()
        except OSError as error:
            raise TightboundError(
                f"cannot write {path} ({os_reason(error)}): mend that, and go on with --resume"
            ) from error

    def _log_start(self) -> None:
        self.log(
            {
                "event": "resume" if self.step else "start",
                "step": self.step,
                "steps": int(self.settings.steps),
                "patience": int(self.settings.patience),
            }
        )
        self.logs = True
        for line in self.unlogged:
            self._log_note(line)
        self.unlogged = []

    def _say(self, line: str) -> None:
        """Write a note to the display and to the log."""
        if self.logs:
            self._log_note(line)
        else:
            self.unlogged.append(line)
        self.show.note(line)

    def _log_note(self, line: str) -> None:
        self.log({"event": "note", "step": self.step, "note": line})

    # ---- state

    def save(self) -> None:
        """Save the best weights, then the state that a run resumes from."""
        if self.best.step != self.saved_best_step and self.launch.is_rank_zero:
            run_folder = RunFolder(self.folder)
            run_folder.write_weights(self.config, self.best.plain, self.best.ema)
        self.saved_best_step = self.best.step
        self.elapsed = time.perf_counter() - self.started
        state = self.state_dict()
        self.launch.on_rank_zero(lambda: self.store.save(self.step, state))
        self.saved_at = time.perf_counter()

    def state_dict(self) -> State:
        """The state that the remaining steps depend on.

        Tensors in shards are written to the run folder here, by all processes.
        """
        positions: State = {}
        for of_process in self.launch.gather(self.batches.state_dict()):
            positions |= of_process
        counts = {
            "config": to_text(self.config),
            "step": self.step,
            "validations_without_improvement": self.validations_without_improvement,
            "elapsed": self.elapsed,
            "log_bytes": self.log_bytes,
            "processes": self.launch.world_size,
            "arithmetic": arithmetic(self.device),
            "guard": self.guard.state_dict(),
            "sums": self.sums,
            "best": {
                "objective": self.best.objective,
                "step": self.best.step,
                "plain": self.best.plain,
                "ema": self.best.ema,
            },
            "data": positions,
        }
        if self.settings.parallel == "fsdp2":
            tensors = self._sharded_tensors()
            folder = self.store.shards(self.step)
            return counts | {"shards": sharded_state.save(folder, tensors, self.launch)}
        return counts | {
            "model": self.model.state_dict(),
            "ema": self.average.state_dict() if self.average else {},
            "cycle_ends": self.average.ends if self.average else [],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        text = state.get("config")
        RunFolder(self.folder).check_unchanged(
            extension.as_written(self.config, text),
            text,
            self.store.folder,
            training=True,
        )
        try:
            self._load_tensors(state)
            self.guard.load_state_dict(state["guard"])
            self._load_counts(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TightboundError(
                f"the state in {self.store.folder} does not fit its config.toml "
                f"({last_line(error)}): restore both from "
                "one copy, or train anew with --overwrite"
            ) from error
        note = self.batches.load_state_dict(state["data"])
        if note:
            self._say(note)
        before = state.get("arithmetic")  # missing in states of before this record
        changed = before and differences(before, arithmetic(self.device))
        if changed:
            self._say(
                f"the run goes on with {changed}: losses are those of before to rounding, "
                "not to the bit"
            )
        if state["processes"] != self.launch.world_size:
            self._say(
                f"{self.launch.world_size} processes go on where {state['processes']} "
                "saved the state: losses are those of before to rounding, not to the bit"
            )

    def _load_counts(self, state: State) -> None:
        self.sums = state["sums"].to(self.device)
        self.best = BestWeights(**state["best"])
        self.step = int(state["step"])
        self.validations_without_improvement = int(
            state["validations_without_improvement"]
        )
        self.elapsed = float(state["elapsed"])
        self.log_bytes = int(state["log_bytes"])

    def _load_tensors(self, state: State) -> None:
        if "shards" in state:
            sharded_state.first_state(self.optimizer)
            folder = self.store.shards(state["step"])
            sharded_state.load(folder, self._sharded_tensors())
        else:
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["ema"])
                self.average.ends = state.get("cycle_ends", [])
            self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer_step.reset()

    def _sharded_tensors(self) -> dict[str, Tensor]:
        return sharded_state.tensors(self.model, self._averaged(), self.optimizer)

    def finish(self) -> dict[str, Tensor]:
        """The best weights: the averaged ones where there are any.

        Raises:
            TightboundError: where no validation gave a finite figure.
        """
        if not self.best.plain:
            raise TightboundError(
                "no validation gave a finite figure, so there are no weights "
                "to keep: lower train.lr, or check the data"
            )
        return self.best.ema or self.best.plain
