"""Run: a trained model with its settings and its folder, in raw units."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound import data as data_room
from tightbound.config import Config
from tightbound.core.batch import Batch
from tightbound.core.data_spec import Condition, DataSpec
from tightbound.core.draw import Draw
from tightbound.distributions.random import seeded as seeded
from tightbound.models.build import build
from tightbound.models.vae import VAE
from tightbound.runs import diffusers_folder, fitted_prior, hub
from tightbound.runs.fitted_prior import Fitted
from tightbound.runs.folder import RunFolder
from tightbound.runs.imputation import Imputed, impute, spreads
from tightbound.runs.inputs import batch_of, read_batch, read_condition, read_split
from tightbound.runs.predictor import Predictor
from tightbound.runs.raw_likelihood import RawLikelihood
from tightbound.runtime.atomic_files import make_folder
from tightbound.runtime.errors import (
    TightboundError,
    at_least,
    finite_number,
    nearest,
)
from tightbound.runtime.memory import check_memory
from tightbound.runtime.progress import phase
from tightbound.runtime.reading import Tree

if TYPE_CHECKING:
    from pandas import DataFrame

    from tightbound.data import Data, Split
    from tightbound.data.tables.table import Table

PIXELS = ("auto", "mean", "draw")


class Run:
    """A trained model with its settings and its folder.

    All methods take and return raw units: the values and the layout of the data that
    `train` was given. x is an array or tensor (n, ...), a table, a path, a built-in name or
    `DATA:ROW`; results are tensors on the CPU. Where the data have named columns (a DataFrame, a
    dict of columns, CSV, TSV, parquet), new data are matched by these names, and results are
    DataFrames with the names, types, order and index of the data. Nothing is random except
    `sample`, `vary` and the draws of `impute`, which take a seed.

    Attributes:
        config: All settings; `config.recipe` names the parts of the model.
        folder: The run folder, with evaluation and report; None where it is not saved.
        fitted: The prior that was fitted after training, if any.
        predictor: The same in model units, for code that works with the module.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     x = run.read("digits")  # the test digits, grey levels 0 to 16
        ...     run.encode(x).shape, run.reconstruct(x).shape, run.sample(5, seed=0).shape
        (torch.Size([180, 2]), torch.Size([180, 8, 8]), torch.Size([5, 8, 8]))
    """

    def __init__(
        self,
        config: Config,
        model: VAE,
        folder: Path | None = None,
        data: Data | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        self.predictor = Predictor(model)
        self.config = config
        self.folder = folder
        self.fitted = fitted
        self._data = data

    def __repr__(self) -> str:
        """`Run('runs/digits-vae': vae, 16 features, (1, 8, 8) levels)`."""
        widths = " + ".join(str(width) for width in self.model.site_widths.values())
        where = repr(str(self.folder)) if self.folder else "not saved"
        return (
            f"Run({where}: {self.config.recipe.name}, {widths} features, "
            f"{self.spec.shape} {self.spec.domain})"
        )

    def _repr_html_(self) -> str:
        """A table for notebooks: recipe, data, latents, training, the best validation."""
        recipe = self.config.recipe
        spec = self.spec
        size = " x ".join(map(str, spec.shape))
        rows = {
            "recipe": f"{recipe.name}: {recipe.purpose}",
            "data": f"{self.config.data.source or 'arrays'}, {size} {spec.domain}",
            "latents": ", ".join(
                f"{name}: {n}" for name, n in self.model.site_widths.items()
            ),
            "training": f"{self.config.train.steps} steps, seed {self.config.seed}",
            "best validation": self._best_validation(),
            "folder": str(self.folder or "not saved"),
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        title = html.escape(self.name)
        return f"<table><caption>{title}</caption><tbody>{cells}</tbody></table>"

    def _best_validation(self) -> str:
        """The figures of the best validation in words, from the log."""
        best = [line for line in self.history() if line["best"]][-1:]
        if not best:
            return "not known"
        valid = best[0]["valid"]
        figures = [
            f"{name} {valid[name]:.2f}"
            for name in ("elbo", "distortion", "rate", "log_px")
            if valid.get(name) is not None
        ]
        return f"step {best[0]['step']}: {', '.join(figures)} nats"

    @property
    def model(self) -> VAE:
        """The trained nn.Module, in eval mode and without gradients."""
        return self.predictor.model

    @property
    def spec(self) -> DataSpec:
        """The shape, domain and units of the data."""
        return self.predictor.spec

    @property
    def name(self) -> str:
        """The folder's name, or the recipe's; with that of a fitted prior."""
        home = training_folder(self)
        name = home.name if home else self.config.recipe.name
        if self.fitted:
            return f"{name}+{self.fitted.name}"
        return name

    @property
    def data(self) -> Data:
        """The data that the run was trained on, read again where needed.

        Raises:
            TightboundError: They were arrays in Python, or have changed.
        """
        if self._data is None:
            self._data = self._load_data()
        return self._data

    def _load_data(self) -> Data:
        source = self.config.data.source
        digest = self.config.digest
        if not source:
            raise TightboundError(
                f"run {self.name!r} was trained on arrays in Python: give the data again"
            )
        with phase(f"reading {source}"):
            loaded = data_room.load(source, self.config.data, seed=self.config.seed)
        if digest and loaded.digest != digest:
            raise TightboundError(
                f"the data at {source!r} are no longer those that {self.name!r} was trained "
                "on: restore them, or name other data to evaluate on"
            )
        return loaded

    def history(self) -> list[Tree]:
        """The validations of its training, from `log.jsonl`.

        Returns:
            One dict for each validation, the first one first; empty for a run without a folder.
        """
        if home := training_folder(self):
            return RunFolder(home).history()
        return []

    # ---- examples in raw units

    def read(self, x: object) -> Tensor | DataFrame:
        """Read examples from any source that `encode` takes, in raw units and layout.

        The values are those that the model is given: images are resized as in training, and
        grey levels that training binarises are returned as 0 and 1.

        Args:
            x: An array or tensor (n, ...), a path, a built-in name or `DATA:ROW`.

        Returns:
            float32 (n, ...) on the CPU, NaN where a value is missing, float64 where the data
            have an offset (see `DataSpec`); of a table a DataFrame.

        Raises:
            TightboundError: x cannot be read, or is not of the kind that the run was trained on.
        """
        split = read_split(x, self.spec, self.config.data)
        raw = _raw(split)
        if not self.spec.is_table:
            return raw if self.spec.offset else raw.float()
        return self._filled(raw, split.table)

    def _filled(self, raw: Tensor, given: Table | None) -> DataFrame:
        """Raw numbers as a table in which the cells that were given are as they were."""
        if given is None:
            return data_room.frame(raw, self.spec.fields)
        return data_room.filled_frame(raw, self.spec.fields, given)

    def _to_raw(self, x: Tensor, given: Table | None = None) -> Tensor | DataFrame:
        """Model units as they are returned to the user; a table has the index of `given`."""
        raw = self.spec.to_raw(x)
        if self.spec.is_table:
            return data_room.frame(raw, self.spec.fields, given)
        return raw

    def _examples(self, x: object, condition: object) -> Batch:
        return read_batch(x, self.spec, self.config.data, condition)

    def _condition(self, condition: object, n: int) -> Tensor | None:
        if condition is None:
            return None
        return read_condition(condition, self.spec, n)

    # ---- latents

    def encode(self, x: object, condition: object = None) -> Tensor:
        """The posterior mean of each example.

        Args:
            x: Examples in raw units: an array or tensor (n, ...), a path or a built-in name.
            condition: Of a conditional model, one for all rows or one for each; read beside
                x where None.

        Returns:
            (n, latent), the sites side by side, z1 (next to x) first.
        """
        return self.predictor.encode_mean(self._examples(x, condition))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the model's classes: its labels, or the numbers of its clusters."""
        if not self.model.classes:
            raise TightboundError(
                f"run {self.name!r} has no classes: train recipe m2 with some labels, or gm-vae"
            )
        return self.spec.labels or tuple(map(str, range(self.model.classes["y"])))

    def predict(self, x: object, condition: object = None) -> Tensor:
        """q(y|x), the probability of each class or cluster.

        Args:
            x: Examples in raw units, as in `encode`.
            condition: As in `encode`.

        Returns:
            (n, classes), in the order of `classes`.

        Raises:
            TightboundError: The model has no classes.
        """
        _ = self.classes
        return self.predictor.class_probabilities(self._examples(x, condition))

    def posterior(self, x: object, condition: object = None) -> dict[str, Distribution]:
        """q(z|x) of each site as a distribution with batch shape (n,).

        Args:
            x: Examples in raw units, as in `encode`.
            condition: As in `encode`.

        Returns:
            The distribution of each site by its name, such as `posterior(x)["z"]`; of several
            sites given the posterior means of the others.
        """
        with torch.no_grad():
            latents = self.predictor.latents(self._examples(x, condition))
        return _present({name: latents[name].q for name in self.model.site_widths})

    @property
    def prior(self) -> dict[str, Distribution]:
        """p(z) of each site as a distribution, such as `prior["z"]`.

        Of several sites each is given a draw of those above; of a conditional model they are
        given a condition of its training data.
        """
        with torch.no_grad():
            latents = self.model.generate(1, Draw(source="p")).latents
        sites = dict.fromkeys([*self.model.site_widths, *self.model.sites])
        return _present({name: latents[name].p for name in sites})

    def likelihood(self, z: object, condition: object = None) -> RawLikelihood:
        """p(x|z) as a distribution over x in raw units and layout.

        Args:
            z: Latents (n, latent), as `encode` gives them.
            condition: Of a conditional model, one for all rows or one for each.

        Returns:
            A distribution with batch shape (n,): `likelihood(z).log_prob(run.read(x))` is the
            log-density in nats of the raw values.

        Raises:
            TightboundError: z has another shape or is not finite, or the condition is missing.
        """
        return RawLikelihood(
            self.predictor.decode(self._latents(z, condition)),
            self.spec,
            lambda x: self._examples(x, None).x,
        )

    def _latents(self, z: object, condition: object) -> Batch:
        """Latents to decode, with the condition that a conditional model needs."""
        z = data_room.as_latents(z)
        if condition is None and self.spec.condition is not None:
            raise TightboundError(
                f"run {self.name!r} is conditional, so features alone do not "
                "say what x is: give a condition too"
            )
        return Batch(z, self._condition(condition, len(z)))

    # ---- what comes out, in raw units

    def decode(self, z: object, condition: object = None) -> Tensor | DataFrame:
        """E[x|z] in raw units and layout; the most probable value of unordered values.

        Args:
            z: Latents (n, latent).
            condition: Of a conditional model, one for all rows or one for each.

        Returns:
            (n, ...); of a table a DataFrame with its names, values and types.
        """
        return self._to_raw(self.predictor.decode_mean(self._latents(z, condition)))

    def impute(
        self,
        x: object,
        k: int = 1000,
        *,
        draws: int = 0,
        seed: int | None = None,
        condition: object = None,
    ) -> Imputed:
        """Fill in missing values (NaN) by their mean given the observed ones.

        Args:
            x: Examples in raw units, as in `encode`.
            k: Importance samples.
            draws: Number of multiple imputations.
            seed: Of the draws; the run's own where None.
            condition: As in `encode`.

        Returns:
            Means, standard deviations and draws in raw units and layout, with the observed
            values as they were given; of a table each of them is a DataFrame.

        Raises:
            TightboundError: The model takes no missing values.
        """
        at_least(1, k, "importance samples")
        at_least(0, draws, "imputations")
        if not self.spec.missing:
            raise TightboundError(
                f"run {self.name!r} takes no missing values: train --recipe missing-data"
            )
        seed = self.config.seed if seed is None else seed
        split = read_split(x, self.spec, self.config.data)
        rows = batch_of(split, condition)
        imputed = impute(self.model, rows, k, seed, draws)
        raw = _raw(split)
        x_filled = self._completed(imputed.x, raw, split)
        sd = spreads(imputed, self.spec)
        drawn = [
            self._completed(draw, raw, split, is_drawn=True) for draw in imputed.draws
        ]
        if self.spec.is_table:
            sd = data_room.plain_frame(sd, self.spec.fields, split.table)
            return Imputed(x_filled, sd, drawn, imputed.ess)
        empty = raw.new_empty(0, *raw.shape)
        return Imputed(
            x_filled, sd, torch.stack(drawn) if drawn else empty, imputed.ess
        )

    def _completed(
        self, x: Tensor, raw: Tensor, split: Split, *, is_drawn: bool = False
    ) -> Tensor | DataFrame:
        """Raw rows with their gaps filled from x in model units, others as they were given."""
        values = self.spec.to_raw(x).double()
        if is_drawn and self.spec.is_table:
            values = data_room.rounded(values, self.spec.fields)
        filled = torch.where(raw.isnan(), values, raw.double())
        if self.spec.is_table:
            return self._filled(filled, split.table)
        is_wide = raw.dtype in (torch.float64, torch.int32, torch.int64)
        return filled if is_wide or self.spec.offset else filled.float()

    def reconstruct(self, x: object, condition: object = None) -> Tensor | DataFrame:
        """E[x|z] at the posterior mean of each example, in raw units and layout.

        A model for missing values returns x with those filled in.

        Args:
            x: Examples in raw units, as in `encode`.
            condition: As in `encode`.

        Returns:
            (n, ...), or a table, as `decode` gives it.
        """
        if self.spec.missing:
            return self.impute(x, condition=condition).x
        split = read_split(x, self.spec, self.config.data)
        rows = batch_of(split, condition)
        z = self.predictor.encode_mean(rows)
        means = self.predictor.decode_mean(Batch(z, rows.c))
        return self._to_raw(means, split.table)

    def sample(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        pixels: str = "auto",
        condition: object = None,
    ) -> Tensor | DataFrame:
        """Draw z from the prior and return x in raw units and layout.

        Args:
            n: Number of samples.
            seed: Of the draws.
            temperature: Factor of the prior's standard deviation.
            pixels: "mean" for E[x|z], "draw" for a draw from p(x|z), "auto" for a draw of a
                table or of vectors of numbers, whose means have less spread than the data, and
                for the mean of all others, such as images.
            condition: Of a conditional model, or a model with classes, one for all samples
                or one for each; drawn from those of training where None.

        Returns:
            (n, ...), or a table. An autoencoder has no prior until one is fitted; its z are
            drawn from N(0, I), which it was never trained to match.

        Raises:
            TightboundError: An argument is out of its range, or the prior has no temperature.
        """
        at_least(1, n, "samples")
        temperature = finite_number("temperature", temperature, 0)
        check_memory(
            f"a sample of {n} examples", 8 * n * self.spec.dims, "ask for fewer at once"
        )
        if pixels not in PIXELS:
            raise TightboundError(
                f"pixels = {pixels!r} is not known: {nearest(pixels, PIXELS)}"
            )
        y = None
        if condition is not None and self.model.classes and self.spec.condition is None:
            y = Condition(names=self.classes).read(condition, n)
            condition = None
        c = self._condition(condition, n)
        if temperature != 1 and self._ignores_temperature():
            raise TightboundError(
                "this prior is uniform and has no temperature: leave it at 1"
            )
        with torch.no_grad(), seeded(seed):
            if c is None and self.spec.condition is not None:
                conditions = self.model.get_buffer("conditions")
                c = conditions[torch.randint(len(conditions), (n,))]
            z = self.predictor.sample_prior(n, temperature, c, y)
            if pixels == "draw" or (pixels == "auto" and self._draws_values()):
                return self._drawn(self.predictor.decode_sample(z))
            return self._to_raw(self.predictor.decode_mean(z))

    def _drawn(self, x: Tensor) -> Tensor | DataFrame:
        """Draws in model units as they are returned, with the decimals of the columns."""
        if not self.spec.is_table:
            return self._to_raw(x)
        raw = data_room.rounded(self.spec.to_raw(x), self.spec.fields)
        return data_room.frame(raw, self.spec.fields)

    def _draws_values(self) -> bool:
        """True for tables and vectors of numbers; levels and 0/1 may be flat images."""
        if self.spec.is_table:
            return True
        numbers = ("real", "count", "mixed")
        return self.spec.kind == "vector" and self.spec.domain in numbers

    def _ignores_temperature(self) -> bool:
        """True if the prior is uniform: on a sphere, or over the codes of a codebook."""
        c = None
        if self.spec.condition is not None:
            c = self.model.get_buffer("conditions")[:1].expand(8, -1)
        draws = []
        for temperature in (0.01, 1.0):
            with torch.no_grad(), seeded(0):
                draws.append(self.predictor.sample_prior(8, temperature, c).x)
        cold, warm = draws
        return torch.allclose(cold, warm)

    def vary(
        self, x: object, n: int = 16, *, seed: int = 0, condition: object = None
    ) -> Tensor | DataFrame:
        """n variations of one example: z drawn from q(z|x), then E[x|z].

        Args:
            x: One example in raw units, or `DATA:ROW`.
            n: Number of variations; those of an autoencoder are all the same.
            seed: Of the draws.
            condition: As in `encode`.

        Returns:
            (n, ...) in raw units and layout, or a table.

        Raises:
            TightboundError: x holds more than one example.
        """
        at_least(1, n, "variations")
        one = self._examples(x, condition)
        if len(one) != 1:
            raise TightboundError(
                f"vary takes one example, but {len(one)} were given: name one, for example DATA:ROW"
            )
        rows = one.expand(n)
        with torch.no_grad(), seeded(seed):
            z = self.predictor.sample_posterior(rows)
        return self._to_raw(self.predictor.decode_mean(Batch(z, rows.c)))

    def interpolate(
        self, a: object, b: object, n: int = 10, *, condition: object = None
    ) -> Tensor | DataFrame:
        """n examples along the line between two posterior means (and conditions).

        Args:
            a: One example in raw units, or `DATA:ROW`.
            b: Another one.
            n: Number of examples, the reconstructions of both ends included.
            condition: As in `encode`, for both ends.

        Returns:
            (n, ...) in raw units and layout, or a table.

        Raises:
            TightboundError: a or b holds more than one example.
        """
        at_least(2, n, "steps from one end to the other")
        ends = Batch.cat([self._examples(a, condition), self._examples(b, condition)])
        if len(ends) != 2:
            raise TightboundError(
                "interpolate takes one example at each end: name one, for example DATA:ROW"
            )
        t = torch.linspace(0, 1, n)[:, None]
        line = Batch(self.predictor.encode_mean(ends), ends.c).map(
            lambda end: end[:1] * (1 - t) + end[1:] * t
        )
        return self._to_raw(self.predictor.decode_mean(line))

    # ---- priors that are fitted after training, and the folder

    def with_prior(self, prior: str | Fitted, *, trust: bool = False) -> Run:
        """The same model under a prior that was fitted to it.

        Args:
            prior: The name of a prior in the run folder, or one in memory.
            trust: Run code that the prior names by import path.

        Raises:
            TightboundError: There is no prior of that name, or it was fitted to other weights.
        """
        home = training_folder(self)
        if isinstance(prior, str):
            prior = fitted_prior.read(home, prior)
        folder = RunFolder(home).prior_folder(prior.name) if home else None
        state = prior.joined(self.model.state_dict())
        recipe = self.config.recipe.model_copy(update={"prior": prior.part})
        model, _ = build(recipe, self.spec, trust=trust)
        fitted_prior.fill(model, state, folder or Path(prior.name))
        config = self.config.model_copy(update={"recipe": recipe})
        return Run(config, model.to(self.predictor.device), folder, self._data, prior)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = False,
        overwrite: bool = False,
        folder: Path | str | None = None,
    ) -> str:
        """Publish the run on the Hugging Face Hub with a model card, as `tb.push_to_hub`.

        Args:
            repo: The repository, "user/name".
            private: Whether a new repository is private.
            overwrite: Whether a run in the repository is replaced.
            folder: A new or empty folder: the files are written there, and nothing is sent.

        Returns:
            The address of the commit; the path of the folder where one is given.

        Raises:
            TightboundError: The repository holds a run, or cannot be written.
        """
        from tightbound import push_to_hub

        return push_to_hub(
            self, repo, private=private, overwrite=overwrite, folder=folder
        )

    def save(self, folder: Path | str) -> None:
        """Write the settings and the weights to a folder that `load` reads.

        Args:
            folder: The folder; it is made where it does not exist.

        Raises:
            TightboundError: It cannot be written.
        """
        place = RunFolder(make_folder(folder))
        place.write_config(self.config)
        place.write_weights(self.config, self.model.state_dict())


def training_folder(run: Run) -> Path | None:
    """The folder of the training of a run.

    `run.folder` holds the evaluation and the report; with a fitted prior it is inside this one.
    """
    if run.folder is not None and run.fitted is not None:
        return run.folder.parent.parent
    return run.folder


def with_data(run: Run, data: Data) -> Run:
    """The same run with its data in memory, such as `splits` of those of `tb.build`."""
    return Run(run.config, run.model, run.folder, data, run.fitted)


def _raw(split: Split) -> Tensor:
    """All rows of a split in raw units."""
    return split.raw(torch.arange(len(split)))


def _present(sites: Mapping[str, Distribution | None]) -> dict[str, Distribution]:
    """The distributions of the sites that have one."""
    return {name: site for name, site in sites.items() if site is not None}


def load(
    folder: Path | str,
    *,
    prior: str | None = None,
    trust: bool = False,
    device: str = "cpu",
) -> Run:
    """Read a run folder: the averaged weights if there are any, else the plain ones.

    Args:
        folder: The run folder, or RUN/priors/NAME for the run with that fitted prior; or
            "hub:user/name" for one on the Hugging Face Hub, "hub:user/name@revision"; or a
            folder of diffusers' AutoencoderKL.
        prior: The name of a fitted prior to use in place of the run's own.
        trust: Run code that the run's config names by import path.
        device: "cpu" or "cuda".

    Raises:
        TightboundError: The folder is not a run, has no weights yet, is damaged, is of
            another format version, or names code and `trust` is False.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=3, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     tb.load(folder + "/run").model.site_widths
        {'z': 3}
    """
    folder = hub.download(folder) if hub.is_on_hub(folder) else Path(folder)
    place = RunFolder(folder)
    place.check_name()
    if not folder.is_dir():
        raise TightboundError(
            f"there is no run folder {str(folder)!r}: check the path, or train one first"
        )
    if place.is_fitted_prior:
        return load(
            folder.parent.parent, prior=prior or folder.name, trust=trust, device=device
        )
    config = place.settings()
    if config is None:
        run = _of_diffusers(place, trust, device)
        return run if prior is None else run.with_prior(prior, trust=trust)
    if config.spec is None or not place.has_weights:
        raise TightboundError(
            f"run {str(folder)!r} is half-written, it has no weights yet: resume it with "
            f"tightbound train {config.data.source or 'DATA'} --out {folder} --resume"
        )
    model, _ = build(config.recipe, config.spec, trust=trust)
    state, path = place.read_weights(config)
    fitted_prior.fill(model, state, path)
    run = Run(config, model.to(device), folder)
    if prior is None:
        return run
    return run.with_prior(prior, trust=trust)


def _of_diffusers(place: RunFolder, trust: bool, device: str) -> Run:
    """The run of a folder of diffusers' AutoencoderKL; raises TightboundError of another one."""
    if not diffusers_folder.is_one(place.path):
        raise TightboundError(
            f"{str(place.path)!r} is not a run folder, it has no config.toml: {_nearby(place)}"
        )
    config, model = diffusers_folder.read(place.path, trust=trust)
    return Run(config, model.to(device))


def _nearby(place: RunFolder) -> str:
    """The runs inside a folder that is none itself, for a message."""
    inner = place.inner_runs()
    if not inner:
        return "name a folder that tightbound train wrote"
    names = " or ".join(str(path) for path in inner[:3])
    more = " or another one in it" if len(inner) > 3 else ""
    return f"did you mean {names}{more}?"
