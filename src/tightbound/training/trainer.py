"""The one training loop.

Everything random in it is a function of (seed, step), so a resumed run is bit-identical.
"""

from __future__ import annotations

import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.config import Config
from tightbound.core.trace import Batch, Clock, Noise
from tightbound.data import Data
from tightbound.distributions.random import seed_for
from tightbound.models.recipes import has_bound
from tightbound.models.vae import VAE, Objective
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import seeded
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.foreign_errors import last_line
from tightbound.runtime.launch_context import current_launch
from tightbound.training.batches import batches, examples
from tightbound.training.checkpoint import StateStore
from tightbound.training.console import Display
from tightbound.training.distributed import sharded_state as sharded
from tightbound.training.distributed.data_parallel import (
    distributed_execution,
    full_state_dict,
    is_sharded,
    shard,
    unsharded,
)
from tightbound.training.noise import NoiseBuffer
from tightbound.training.optimization.ema import Average
from tightbound.training.optimization.fused_adam import Updates
from tightbound.training.optimization.optimizer import level, optimizer
from tightbound.training.signals import Interrupted as Interrupted
from tightbound.training.signals import ctrl_c
from tightbound.training.step.gradient_guard import READ_EVERY, Exploded, GradientGuard
from tightbound.training.step.module import Step
from tightbound.training.step.precision import channels_last
from tightbound.training.validation import Validator

MOST_SKIPS = 10
SUMS = ("n", "distortion", "rate", "elbo")


class Trainer:
    """Trains a model in its run folder: steps, validation, the best weights, the log, and the state
    to resume from.

    only: the part of the model that is trained.  trial: a few steps are timed and thrown away, so
    that no part need look at data to find its start.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        config: Config,
        data: Data,
        folder: Path,
        show: Display,
        trust: bool = True,
        only: nn.Module | None = None,
        trial: bool = False,
    ) -> None:
        self.model, self.config, self.settings, self.folder, self.show = (
            model,
            config,
            config.train,
            folder,
            show,
        )
        self.device = model.get_buffer("centre").device
        self.launch, k = current_launch(), config.recipe.k
        batch, share = int(self.settings.batch), self.launch.share
        self.batches = batches(
            data.train,
            batch,
            config.seed,
            self.device,
            share,
            config.data.shuffle_buffer,
        )
        self.step_module = Step(model, objective, k, only)
        if not trial:
            with seeded(seed_for(config.seed, "prepare")):
                self.step_module.prepare(partial(examples, data.train))
        apart = is_sharded(self.settings)
        if not apart:
            channels_last(model)
        self.average = Average(model, self.settings.ema) if self.settings.ema else None
        if apart:
            shard(self.step_module, self._averaged(), self.launch, self.device)
        self.execution = distributed_execution(
            self.step_module, self.settings, self._say, self.launch
        )
        self.noise = NoiseBuffer(config.seed, self.device, self._rehearse, k, share)
        self.optimizer = optimizer(model, self.settings, trust=trust)
        self.update, self.guard = (
            Updates(self.optimizer),
            GradientGuard(self.settings, self.device),
        )
        self.validator = Validator(data.valid, objective, config)
        self.store = StateStore(RunFolder(folder).state_folder)
        self.sums = self._no_sums()
        self.best: dict[str, Any] = {
            "objective": math.inf,
            "step": 0,
            "plain": {},
            "ema": {},
        }
        (
            self.step,
            self.validations_without_improvement,
            self.elapsed,
            self.log_bytes,
        ) = 0, 0, 0.0, 0
        self.saved_best_step = 0

    def _no_sums(self) -> Tensor:
        names = SUMS if has_bound(self.config.recipe) else SUMS[:2]
        return torch.zeros(len(names), device=self.device, dtype=torch.float64)

    def _averaged(self) -> VAE | None:
        return self.average.model if self.average else None

    # ---- one step

    def train_step(self, clock: Clock) -> None:
        """One step: batch, noise, losses and gradients, their health, optimiser, averages, sums."""
        seed, step = self.config.seed, self.step
        batch = self.batches(step)
        noise = self.noise(step, batch)
        torch.default_generator.manual_seed(
            seed_for(
                seed,
                "parts",
                step,
                *self.launch.share[:1] * (not self.launch.is_rank_zero),
            )
        )
        losses, sums = self.execution(batch, clock, noise)
        ok, divisor = self.guard.check(
            losses.values(), self.execution.gradients.values()
        )
        self.update(level(self.settings, step, int(self.settings.steps)), ok, divisor)
        self.step_module.after_step(sums, ok)
        if self.average is not None:
            self.average.update(step)
        named = torch.stack([sums[name] for name in SUMS if name in sums])
        self.sums += torch.where(ok, named, 0)
        self.step += 1

    def _rehearse(self, batch: Batch, noise: Noise) -> None:
        """A pass that leaves no trace in the model, to learn which noise it asks for."""
        mode = self.model.training
        self.model.eval()
        self.step_module(batch, Clock(), noise)
        self.model.train(mode)

    # ---- the run

    def run(self) -> None:
        """Trains to the end, or to early stopping; raises `Interrupted` after Ctrl-C, with the
        state saved.
        """
        steps, every = int(self.settings.steps), int(self.settings.validate_every)
        patience = int(self.settings.patience)
        self.show.start(steps, self.step)
        self.log(
            {
                "event": "resume" if self.step else "start",
                "step": self.step,
                "steps": steps,
                "patience": patience,
            }
        )
        self.started, self.saved_at = (
            time.perf_counter() - self.elapsed,
            time.perf_counter(),
        )
        self.speed_from = (self.step, time.perf_counter())
        try:
            with ctrl_c() as pressed, torch.random.fork_rng():
                self.model.train()
                while self.step < steps and not self._finished():
                    self.train_step(Clock(self.step / steps))
                    validates = self.step % every == 0 or self.step == steps
                    if self.step % READ_EVERY == 0 or validates:
                        self._look()
                        self.show.step(self.step)
                    if validates:
                        self._validate()
                    if stop := self._due(validates, bool(pressed)):
                        self.save()
                    if stop == "pressed":
                        raise Interrupted
            self.save()
        finally:
            self.show.stop()

    def _due(self, validated: bool, pressed: bool) -> str:
        """Whether to save now, and why; several processes ask the first one, and not at
        every step.
        """
        if self.launch.world_size > 1 and not (
            validated or self.step % READ_EVERY == 0
        ):
            return ""
        waited = time.perf_counter() - self.saved_at
        due = waited >= (
            self.settings.save_seconds
            if validated
            else max(5.0, 2 * self.settings.save_seconds)
        )
        return self.launch.broadcast("pressed" if pressed else "time" if due else "")

    def _say(self, line: str) -> None:
        """A line for the person who watches, and for the log."""
        self.log({"event": "note", "step": self.step, "note": line})
        self.show.note(line)

    def _finished(self) -> bool:
        if self.validations_without_improvement < int(self.settings.patience):
            return False
        self.log(
            {
                "event": "early stop",
                "step": self.step,
                "best": self.best["step"],
                "stale": self.validations_without_improvement,
            }
        )
        self.show.note(
            f"stopped early at step {self.step}: no better validation in {self.stale} in a row "
            f"(train.patience); the best was at step {self.best['step']}"
        )
        return True

    def _look(self) -> None:
        """Reads the health of the last steps; ten skipped ones in a row end the run, the last good
        weights stay.
        """
        self.guard.read_norms()
        if self.guard.most_skipped_in_a_row >= MOST_SKIPS:
            self.log(
                {"event": "stop", "step": self.step, "skipped": self.guard.skipped}
            )
            self.save()
            raise Exploded(
                f"training stopped at step {self.step}: {MOST_SKIPS} steps in "
                "a row had a loss or a gradient that "
                "was not finite or exploded; the best validated weights are "
                "kept: lower train.lr, or check the data"
            )

    def _validate(self) -> None:
        speed = (
            (self.step - self.speed_from[0])
            * self.settings.batch
            / (time.perf_counter() - self.speed_from[1])
        )
        model = self.average.current() if self.average else self.model
        with unsharded(model):
            valid = self.validator(model)
        self.model.train()
        best = valid["objective"] < self.best["objective"]
        if best:
            keep, ema = (
                full_state_dict(self.model),
                full_state_dict(model) if self.average else {},
            )
            self.best = {
                "objective": valid["objective"],
                "step": self.step,
                "plain": keep,
                "ema": ema,
            }
        self.validations_without_improvement = (
            0 if best else self.validations_without_improvement + 1
        )
        now = time.perf_counter()
        self.elapsed = now - self.started
        n, *totals = self.sums.tolist()
        train = (
            {name: total / n for name, total in zip(SUMS[1:], totals, strict=False)}
            if n
            else {}
        )
        per_step = self.elapsed / self.step
        record = {
            "event": "epoch",
            "epoch": self.step * float(self.settings.epochs) / int(self.settings.steps),
            "step": self.step,
            "time": round(self.elapsed, 3),
            "train": train,
            "valid": valid,
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": round(speed, 1),
            "left": round((int(self.settings.steps) - self.step) * per_step, 1),
            "skipped": self.guard.skipped,
            "best": best,
        }
        self.log(record)
        self.show.record(record)
        self.sums = self._no_sums()
        self.speed_from = (self.step, time.perf_counter())

    def log(self, record: dict[str, Any]) -> None:
        """Appends a line to log.jsonl; what a killed run wrote after its last state is cut off
        first.
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
                f"cannot write {path} ({error.strerror}): free some space"
            ) from error

    # ---- state

    def save(self) -> None:
        """The best weights, then the state to resume from."""
        if self.best["step"] != self.saved_best_step and self.launch.is_rank_zero:
            place = RunFolder(self.folder)
            place.write_weights(self.config, self.best["plain"])
            if self.best["ema"]:
                place.write_weights(self.config, self.best["ema"], averaged=True)
        self.saved_best_step = self.best["step"]
        self.elapsed = time.perf_counter() - self.started
        state = self.state_dict()
        self.launch.on_rank_zero(lambda: self.store.save(self.step, state))
        self.saved_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on; tensors in shards are written now, by all
        processes.
        """
        places = self.launch.gather(self.batches.state_dict())
        numbers = {
            "step": self.step,
            "stale": self.validations_without_improvement,
            "spent": self.elapsed,
            "log_bytes": self.log_bytes,
            "processes": self.launch.world_size,
            "guard": self.guard.state_dict(),
            "sums": self.sums,
            "best": self.best,
            "data": {lane: place for own in places for lane, place in own.items()},
        }
        if self.settings.parallel == "fsdp2":
            own = sharded.tensors(self.model, self._averaged(), self.optimizer)
            return numbers | {
                "shards": sharded.save(self.store.shards(self.step), own, self.launch)
            }
        return numbers | {
            "model": self.model.state_dict(),
            "ema": self.average.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` left off."""
        try:
            if "shards" in state:
                sharded.first_state(self.optimizer)
                own = sharded.tensors(self.model, self._averaged(), self.optimizer)
                sharded.load(self.store.shards(state["step"]), own)
            else:
                self.model.load_state_dict(state["model"])
                if self.average is not None:
                    self.average.load_state_dict(state["ema"])
                self.optimizer.load_state_dict(state["optimizer"])
            self.update.reset()
            self.guard.load_state_dict(state["guard"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TightboundError(
                f"the state in {self.store.folder} does not fit its config.toml "
                f"({last_line(error)}): restore both from "
                "one copy, or train anew with --overwrite"
            ) from error
        self.sums = state["sums"].to(self.device)
        self.best = state["best"]
        for name in ("step", "stale", "spent", "log_bytes"):
            setattr(self, name, state[name])
        for note in (
            self.batches.load_state_dict(state["data"]),
            self._other(state["processes"]),
        ):
            if note:
                self._say(note)

    def _other(self, processes: int) -> str:
        if processes == self.launch.world_size:
            return ""
        return (
            f"{self.launch.world_size} processes go on where {processes} saved the "
            "state: losses are those of before to "
            "rounding, not to the bit"
        )

    def finish(self) -> dict[str, Tensor]:
        """The best weights: averaged where there are any; raises where no validation was finite."""
        if not self.best["plain"]:
            raise TightboundError(
                "no validation gave a finite figure, so there are no weights "
                "to keep: lower train.lr, or check the data"
            )
        return self.best["ema"] or self.best["plain"]
