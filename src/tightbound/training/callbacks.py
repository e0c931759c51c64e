"""Callbacks of a training: called at its start, at each validation, and at its end."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from numbers import Real
from pathlib import Path

from tightbound.config import Config
from tightbound.data import Data
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, cut
from tightbound.training.console import Record
from tightbound.training.distributed.data_parallel import is_sharded


class Progress:
    """The state of a training that a callback sees.

    Attributes:
        step: Steps taken.
        steps: Steps of the whole training.
        folder: The run folder.
        config: All settings.
        data: The splits.
    """

    def __init__(
        self,
        model: Callable[[], VAE],
        config: Config,
        folder: Path,
        data: Data,
        step: int,
    ) -> None:
        self._model = model
        self.step = step
        self.steps = int(config.train.steps)
        self.folder = folder
        self.config = config
        self.data = data

    @cached_property
    def run(self) -> Run:
        """A Run with a copy of the weights at this step, averaged where training averages.

        Raises:
            TightboundError: Parameters are in shards, `train.parallel=fsdp2`.
        """
        if is_sharded(self.config.train):
            raise TightboundError(
                "a callback gets no run with train.parallel=fsdp2, whose parameters are in "
                "shards: leave it out, or train with ddp"
            )
        model = copy.deepcopy(self._model())
        return Run(self.config, model, self.folder, self.data)


class Callback:
    """Base class of callbacks of `tb.train`; its methods do nothing.

    In a launch by torchrun they are called by rank 0 alone. They may use `progress.run`, a copy
    of the model, as any Run. A training with callbacks has the same weights as without.

    Example:
        >>> import tempfile, tightbound as tb
        >>> class Brightness(tb.Callback):
        ...     def validation(self, progress, record):
        ...         return {"brightness": float(progress.run.sample(8).mean())}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.train(
        ...         "digits", latent=2, out=folder + "/run", display="none", report=False,
        ...         settings={"train.steps": 5}, callbacks=[Brightness()],
        ...     )
        ...     list(run.history()[-1]["metrics"])
        ['brightness']
    """

    def start(self, progress: Progress) -> None:
        """Called before the first step, and before the first one after a resumption.

        Args:
            progress: The state of the training.
        """

    def validation(
        self, progress: Progress, record: Record
    ) -> Mapping[str, float] | None:
        """Called after each validation.

        Args:
            progress: The state of the training.
            record: The line of `log.jsonl`: "step", "epoch", "train", "valid", "lr", ...; under
                "metrics" those of callbacks before this one. It is not for changing.

        Returns:
            Metrics by name, which are added to the line under "metrics"; or None.
        """
        return None

    def end(self, progress: Progress) -> None:
        """Called when training has ended, also when it was interrupted or failed.

        Args:
            progress: The state of the training.
        """


def metrics_of(
    callbacks: Sequence[Callback], progress: Progress, record: Record
) -> Record:
    """The record with the metrics that callbacks return.

    Raises:
        TightboundError: A value is not a number, or a name was taken before.
    """
    for callback in callbacks:
        metrics = callback.validation(progress, record)
        for name, value in (metrics or {}).items():
            record = _with_metric(record, callback, name, value)
    return record


def _with_metric(
    record: Record, callback: Callback, name: object, value: object
) -> Record:
    where = f"callback {type(callback).__name__} returned"
    if not isinstance(name, str) or not isinstance(value, Real):
        raise TightboundError(
            f"{where} {cut(repr(name))}: {cut(repr(value))}: return numbers by name, such as "
            '{"accuracy": 0.9}'
        )
    metrics = record.get("metrics", {})
    if name in metrics:
        raise TightboundError(
            f"{where} metric {name!r}, which another callback has returned: rename one"
        )
    number = float(value)
    metric = number if math.isfinite(number) else None
    return {**record, "metrics": {**metrics, name: metric}}


def check_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """The callbacks that a user gives.

    Raises:
        TightboundError: One of them is none.
    """
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise TightboundError(
            f"callbacks = {cut(repr(callbacks))} cannot be used: give a list of tb.Callback"
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TightboundError(
                f"callback {cut(repr(callback))} is not an instance of a subclass of "
                "tb.Callback: derive its class from it"
            )
    return tuple(callbacks)
