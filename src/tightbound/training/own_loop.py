"""Models for a training loop of your own: build one from data, and save it as a run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import torch

from tightbound import data as data_room
from tightbound.config import Config, configure, keyed
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data import Data, Split
from tightbound.distributions.random import seed_for, seeded
from tightbound.models.recipes import Recipe
from tightbound.models.vae import VAE
from tightbound.runs.data_source import stored_source
from tightbound.runs.folder import Mode, RunFolder
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.training import initial_weights
from tightbound.training.batches import batches, count, examples
from tightbound.training.run_training import Domains, assemble, read_for_recipe
from tightbound.training.settings import Settings
from tightbound.training.step.module import Step

CPU = torch.device("cpu")


class TrainingBatches:
    """Training batches in model units, in a new random order in each epoch.

    Iterating gives the batches of one epoch, and the next iteration those of the next; their
    order is that of `tb.train` with the same seed and batch size. A stream without a known
    length has no end.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> batch = next(iter(data.train))
        >>> batch.x.shape
        torch.Size([128, 1, 8, 8])
    """

    def __init__(self, data: Data, config: Config) -> None:
        self._split = data.train
        self._size = int(config.train.batch)
        self._batches = batches(
            data.train, self._size, config.seed, CPU, (0, 1), config.data.shuffle_buffer
        )
        self._step = 0

    def __len__(self) -> int:
        n = count(self._split)
        if n is None:
            raise TypeError("a stream of unknown length has no number of batches")
        return max(1, n // self._size)

    def __iter__(self) -> Iterator[Batch]:
        left = None if count(self._split) is None else len(self)
        while left is None or left > 0:
            yield self._batches(self._step)
            self._step += 1
            if left is not None:
                left -= 1

    def examples(self, n: int) -> Batch:
        """Up to n training examples, spread evenly over the split, as they are evaluated.

        Args:
            n: Number of examples.

        Returns:
            A batch with all that the model reads of each example, in model units.
        """
        x, rows = examples(self._split, n)
        if rows is None or not isinstance(self._split, Split):
            return Batch(x)
        batch = self._split.examples(rows)
        return Batch(batch.x, batch.c, batch.y, rows, batch.mask)


@dataclass(frozen=True)
class TrainingData:
    """The data of a model made by `tb.build`.

    Args:
        train: Batches to train on.
        splits: All splits; `splits.valid` and `splits.test` are evaluation views.
        notices: What was decided in reading the data, one sentence each.
    """

    train: TrainingBatches
    splits: Data
    notices: tuple[str, ...] = ()

    @property
    def spec(self) -> DataSpec:
        """Shape, domain and spread of the data."""
        return self.splits.spec

    @property
    def valid(self) -> Split:
        """The validation split."""
        return self.splits.valid

    @property
    def test(self) -> Split:
        """The test split."""
        return self.splits.test


def build(
    recipe: str | Recipe = "vae",
    data: object = None,
    *,
    valid: object = None,
    test: object = None,
    seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    **more: Unpack[Settings],
) -> tuple[VAE, TrainingData]:
    """Make a VAE with initial weights, for a training loop of your own.

    The data are read, split and described as by `tb.train`, "auto" values are resolved, and
    components that start from data (pseudo-inputs, codebooks, exemplars) look at them. The
    model is an `nn.Module` on the CPU that works in model units: batches of `data.train` are,
    and `model.spec.to_model(raw)` converts.

    Args:
        recipe: Name of a recipe, or a Recipe.
        data: A built-in name, a path, an array, a tensor, a Dataset or a DataLoader.
        valid: Validation data of their own; part of `data` where None.
        test: Test data of their own; part of `data` where None.
        seed: Seed of initial weights and of the order of batches.
        settings: Keys of the config, with or without section: {"latent": 16, "train.batch": 64}.
        **more: Further keys, such as latent=16; those of `tb.train`.

    Returns:
        The model, and its data.

    Raises:
        TightboundError: For unknown settings, data that cannot be read, or parts that do not
            fit each other.

    Example:
        >>> import torch, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=4, seed=0)
        >>> optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        >>> first = model.loss(model(data.train.examples(200))).item()
        >>> for batch in data.train:
        ...     losses = model.backward(model(batch))
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     model.after_step()
        >>> model.loss(model(data.train.examples(200))).item() < first
        True
    """
    if data is None:
        raise TightboundError(
            "build needs data: a built-in name such as digits, or the path of your own"
        )
    values = keyed(settings, more)
    if seed is not None:
        values["seed"] = seed
    config = configure(stored_source(data, valid, test), recipe, values=values)

    def read(settings: Config, domains: Domains) -> Data:
        return data_room.load(
            data,
            settings.data,
            seed=settings.seed,
            valid=valid,
            test=test,
            domains=domains,
        )

    config, splits, notices = read_for_recipe(config, read)
    config = initial_weights.pinned(config)
    model, objective = assemble(config, CPU)
    step = Step(model, objective, config.recipe.k)
    initial_weights.set_initial(step, config)
    with seeded(seed_for(config.seed, "prepare")):
        step.prepare(partial(examples, splits.train))
    model.run_settings = config
    return model, TrainingData(TrainingBatches(splits, config), splits, notices)


def save(model: VAE, folder: str | Path, *, overwrite: bool = False) -> Run:
    """Save a model made by `tb.build` as a run, and return the Run.

    The run has a copy of the model, so the model can be trained further.

    Args:
        model: A model of `tb.build`.
        folder: A new folder.
        overwrite: Whether an older run in the folder is replaced.

    Returns:
        The Run, for `tb.evaluate`, `tb.compare` and the command line.

    Raises:
        TightboundError: Where the folder holds a run already, or other files.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/mine")
        ...     tb.load(folder + "/mine").model.site_widths
        {'z': 2}
    """
    config = model.run_settings
    if not isinstance(config, Config):
        raise TightboundError(
            "this model was not made by tb.build, so it has no settings to save"
        )
    path = Path(folder)
    mode: Mode = "overwrite" if overwrite else "new"
    run_folder = RunFolder(path)
    run_folder.check(mode)
    with run_folder.reserve(mode):
        if overwrite:
            run_folder.clear()
        run = Run(config, copy.deepcopy(model).cpu(), path)
        run.save(path)
    return run
