"""A Run: a trained model with its settings and its folder, and all that one does with it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound import config as settings
from tightbound import data as data_room
from tightbound.config import Config
from tightbound.core.data_spec import Condition
from tightbound.core.trace import Batch, Draw
from tightbound.data import Split
from tightbound.distributions.random import seeded as seeded
from tightbound.models.build import build
from tightbound.models.recipes import has_bound
from tightbound.models.vae import VAE
from tightbound.runs import fitted_prior as prior_file
from tightbound.runs.fitted_prior import Fitted
from tightbound.runs.imputation import Imputed, impute, spreads
from tightbound.runs.predictor import Trained
from tightbound.runtime.atomic_files import load_weights, save_weights
from tightbound.runtime.errors import TightboundError, at_least, nearest


class Run(Trained):
    """A trained model: encode, reconstruct, sample, vary, interpolate, decode.

    x is whatever `train` took: an array or tensor in the data's own units and layout (n, ...), a
    path, a built-in name or `DATA:ROW`.  What comes back is a tensor on the CPU, images in the same
    units and layout.  Nothing is random unless it is asked for by name and seed.
    """

    def __init__(
        self,
        config: Config,
        model: VAE,
        folder: Path | None = None,
        data: Any = None,
        fitted: Fitted | None = None,
    ) -> None:
        super().__init__(model)
        self.config, self.folder, self._data, self.fitted = config, folder, data, fitted

    def __repr__(self) -> str:
        """`Run('runs/digits-vae': vae, 16 features, (1, 8, 8) levels)`."""
        widths = " + ".join(str(width) for width in self.sites.values())
        where = repr(str(self.folder)) if self.folder else "not saved"
        return (
            f"Run({where}: {self.config.recipe.name}, {widths} features, "
            f"{self.spec.shape} {self.spec.domain})"
        )

    @property
    def name(self) -> str:
        """The folder's name, or the recipe's; with that of a fitted prior."""
        own = self.home.name if self.home else self.config.recipe.name
        return f"{own}+{self.fitted.name}" if self.fitted else own

    @property
    def home(self) -> Path | None:
        """Where it was trained; `folder` is where its figures are, inside of `home` for a run with
        a fitted prior.
        """
        return self.folder.parent.parent if self.folder and self.fitted else self.folder

    @property
    def data(self) -> Any:
        """The data it was trained on, loaded again where need be; raises where they were arrays of
        a Python session.
        """
        if self._data is None:
            if not self.config.source:
                raise TightboundError(
                    f"run {self.name!r} was trained on arrays in Python: give the data again"
                )
            loaded = data_room.load(
                self.config.source, self.config.data, seed=self.config.seed
            )
            if self.config.digest and loaded.digest != self.config.digest:
                raise TightboundError(
                    f"the data at {self.config.source!r} are no longer those "
                    f"that {self.name!r} was trained on: "
                    "restore them, or name other data to evaluate on"
                )
            self._data = loaded
        return self._data

    @property
    def has_bound(self) -> bool:
        """True where the model bounds log p(x); False for an autoencoder, or a prior without a
        density.
        """
        return has_bound(self.config.recipe)

    @property
    def fingerprint(self) -> str:
        """A short hash of the weights, so that figures can say which ones they belong to."""
        return prior_file.fingerprint(self.model.state_dict())

    def history(self) -> list[dict[str, Any]]:
        """The validations in `log.jsonl`; a line that a kill or a full disk tore is left out."""
        path = self.home / "log.jsonl" if self.home else None
        if path is None or not path.exists():
            return []
        found = []
        for line in path.read_text(errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return [line for line in found if line.get("event") == "epoch"]

    # ---- what goes in

    def read(self, x: Any) -> Tensor:
        """Any x as examples in domain units, (n, *shape)."""
        split = self._split(x)
        return split.batch(torch.arange(len(split)))

    def examples(self, x: Any, condition: Any = None) -> Batch:
        """Any x as examples in domain units with what the model is told of each: `condition`, or
        what stands beside x.

        condition: one for all rows or one for each, a class by name or number, or a vector of
        numbers.
        """
        split = self._split(x)
        rows = torch.arange(len(split))
        c = None if condition is None else self.condition(condition, len(split))
        return split.examples(rows) if c is None else Batch(split.batch(rows), c)

    def _split(self, x: Any) -> Split:
        reader = (
            data_room.read_one
            if isinstance(x, str) and ":" in x and not Path(x).exists()
            else data_room.read
        )
        return reader(x, self.spec, self.config.data)

    def condition(self, value: Any, n: int) -> Tensor:
        """What a user names as the condition of n rows, as c (n, C); TightboundError where the
        model takes none.
        """
        if self.spec.condition is None:
            raise TightboundError(
                f"run {self.name!r} is not conditional, so it takes no "
                "condition: train --recipe conditional"
            )
        return self.spec.condition.read(value, n)

    # ---- latents

    def encode(self, x: Any, condition: Any = None) -> Tensor:
        """The posterior mean of each feature, (n, latent); several sites side by side, z1 first."""
        return self.codes(self.examples(x, condition))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of a model's classes: of labels that it learned from, else the numbers of its
        clusters.
        """
        if not self.model.classes:
            raise TightboundError(
                f"run {self.name!r} has no classes: train recipe m2 with some labels, or gm-vae"
            )
        return self.spec.labels or tuple(map(str, range(self.model.classes["y"])))

    def predict(self, x: Any, condition: Any = None) -> Tensor:
        """q(y|x): the chance of each class or cluster, (n, classes), in the order of `classes`."""
        _ = self.classes
        return self.chances(self.examples(x, condition))

    def posterior(
        self, x: Any, condition: Any = None
    ) -> Distribution | dict[str, Distribution]:
        """q(z|x) of each row as a distribution; where there are several sites, one each, given the
        others' points.
        """
        with torch.no_grad():
            latents = self.latents(self.examples(x, condition))
        found = {name: latents[name].q for name in self.sites}
        return next(iter(found.values())) if len(found) == 1 else found  # type: ignore[return-value]

    @property
    def prior(self) -> Distribution | dict[str, Distribution]:
        """p(z) as a distribution; for several sites, each given a draw of those above, and a
        condition of training.
        """
        with torch.no_grad():
            latents = self.model.generate(1, Draw(source="p")).latents
        found = {
            name: latents[name].p
            for name in dict.fromkeys([*self.sites, *self.model.sites])
        }
        return next(iter(found.values())) if len(found) == 1 else found  # type: ignore[return-value]

    def likelihood(self, z: Tensor, condition: Any = None) -> Distribution:
        """p(x|z) of each row of z (n, latent), over x in domain units."""
        return self.px(self._given(z, condition))

    def _given(self, z: Any, condition: Any) -> Batch:
        """Codes, with the condition that a conditional model needs to decode them."""
        z = data_room.as_latents(z)
        if condition is None and self.spec.condition is not None:
            raise TightboundError(
                f"run {self.name!r} is conditional, so features alone do not "
                "say what x is: give a condition too"
            )
        return Batch(
            z, None if condition is None else self.condition(condition, len(z))
        )

    # ---- what comes out

    def decode(self, z: Any, condition: Any = None) -> Any:
        """E[x|z] in the data's own units and layout, (n, ...); for unordered values the most
        likely.

        Of a table of mixed columns a DataFrame with their names, values and types (a dict of arrays
        without pandas). condition: of a conditional model, one for all rows or one for each.
        """
        return self._out(self.decoded(self._given(z, condition)))

    def _out(self, x: Tensor) -> Any:
        raw = self.spec.to_raw(x)
        return data_room.frame(raw, self.spec.fields) if self.spec.fields else raw

    def impute(
        self,
        x: Any,
        k: int = 1000,
        *,
        draws: int = 0,
        seed: int | None = None,
        condition: Any = None,
    ) -> Imputed:
        """Fills in missing values (NaN) by their mean given the observed ones, with its spread, and
        by draws.

        k: importance samples.  draws: multiple imputations.  All in the data's own units and
        layout; of a table of mixed columns x, sd and each of the draws are tables.
        """
        at_least(1, k, "importance samples")
        at_least(0, draws, "imputations")
        if not self.spec.missing:
            raise TightboundError(
                f"run {self.name!r} takes no missing values: train --recipe missing-data"
            )
        found = impute(
            self.model,
            self.examples(x, condition),
            k,
            self.config.seed if seed is None else seed,
            draws,
        )
        if self.spec.fields:
            spread = data_room.plain_frame(spreads(found, self.spec), self.spec.fields)
            return Imputed(
                self._out(found.x),
                spread,
                [self._out(drawn) for drawn in found.draws],
                found.ess,
            )
        raw = self.spec.to_raw
        drawn = (
            raw(found.draws.flatten(0, 1)).unflatten(0, (draws, len(found.x)))
            if draws
            else found.draws
        )
        return Imputed(raw(found.x), raw(found.sd), drawn, found.ess)

    def reconstruct(self, x: Any, condition: Any = None) -> Any:
        """E[x|z] at the posterior mean of each row; of a model for missing values, x with those
        filled in.
        """
        if self.spec.missing:
            return self.impute(x, condition=condition).x
        rows = self.examples(x, condition)
        return self._out(self.decoded(Batch(self.codes(rows), rows.c)))

    def sample(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        pixels: str = "auto",
        condition: Any = None,
    ) -> Any:
        """New examples: z from the prior, then E[x|z] (`pixels="mean"`) or a draw from p(x|z)
        (`pixels="draw"`).

        auto: a draw for a table of mixed columns, whose mean is no such row, else the mean.
        condition: of a conditional model, one for all or one for each; drawn from those of training
        where None. An autoencoder has no prior until one is fitted; its z come from N(0, I), to
        show what that gives.
        """
        at_least(1, n, "samples")
        if temperature < 0:
            raise TightboundError(
                f"a temperature of {temperature} has no meaning: give 0 or more"
            )
        if pixels not in ("auto", "mean", "draw"):
            raise TightboundError(
                f"pixels = {pixels!r} is not known: {nearest(pixels, ('auto', 'mean', 'draw'))}"
            )
        draws = pixels == "draw" or (pixels == "auto" and bool(self.spec.fields))
        y = None
        if condition is not None and self.model.classes and self.spec.condition is None:
            y, condition = Condition(names=self.classes).read(condition, n), None
        c = None if condition is None else self.condition(condition, n).to(self.device)
        if temperature != 1 and self._uniform():
            raise TightboundError(
                "this prior is uniform and knows no temperature: leave it at 1"
            )
        with torch.no_grad(), seeded(seed):
            if c is None and self.spec.condition is not None:
                known = self.model.get_buffer("conditions")
                c = known[torch.randint(len(known), (n,))]
            return self._out(
                self.decoded(self.prior_codes(n, temperature, c, y), drawn=draws)
            )

    def _uniform(self) -> bool:
        """Whether draws from the prior are the same at a temperature near 0: they are on a sphere,
        or of even codes.
        """
        known = (
            None
            if self.spec.condition is None
            else self.model.get_buffer("conditions")[:1].expand(8, -1)
        )
        found = []
        for temperature in (0.01, 1.0):
            with torch.no_grad(), seeded(0):
                found.append(self.prior_codes(8, temperature, known).x)
        cool, warm = found
        return torch.allclose(cool, warm)

    def vary(self, x: Any, n: int = 16, *, seed: int = 0, condition: Any = None) -> Any:
        """n variations of one example: z drawn from q(z|x), then E[x|z]; an autoencoder's are all
        the same.
        """
        at_least(1, n, "variations")
        one = self.examples(x, condition)
        if len(one) != 1:
            raise TightboundError(
                f"vary takes one example, but {len(one)} were given: name one, for example DATA:ROW"
            )
        with torch.no_grad(), seeded(seed):
            z = self.drawn_codes(one.expand(n))
        return self._out(self.decoded(Batch(z, one.expand(n).c)))

    def interpolate(self, a: Any, b: Any, n: int = 10, *, condition: Any = None) -> Any:
        """n examples from a to b, along the straight line between their posterior means (and their
        conditions).
        """
        at_least(2, n, "steps from one end to the other")
        ends = Batch.cat([self.examples(a, condition), self.examples(b, condition)])
        if len(ends) != 2:
            raise TightboundError(
                "interpolate takes one example at each end: name one, for example DATA:ROW"
            )
        t = torch.linspace(0, 1, n)[:, None]
        way = Batch(self.codes(ends), ends.c).map(
            lambda end: end[:1] * (1 - t) + end[1:] * t
        )
        return self._out(self.decoded(way))

    # ---- the folder, and priors that are fitted after training

    def with_prior(self, prior: str | Fitted, *, trust: bool = False) -> Run:
        """The same model under a prior that was fitted to it: one of `tb.fit_prior` by name, or as
        it is in memory.

        Raises TightboundError where there is none of that name, or it was fitted to other weights.
        """
        prior = prior_file.read(self.home, prior) if isinstance(prior, str) else prior
        folder = self.home / prior_file.FOLDER / prior.name if self.home else None
        state = prior.joined(self.model.state_dict())
        recipe = self.config.recipe.model_copy(update={"prior": prior.part})
        model, _ = build(recipe, self.spec, trust=trust)
        prior_file.fill(model, state, folder or Path(prior.name))
        config = self.config.model_copy(update={"recipe": recipe})
        return Run(config, model.to(self.device), folder, self._data, prior)

    def save(self, folder: Path | str) -> None:
        """Writes config.toml and model.safetensors to a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings.write(folder / "config.toml", self.config)
        weights(folder / "model.safetensors", self.config, self.model.state_dict())


def weights(path: Path, config: Config, state: dict[str, Tensor]) -> None:
    """Writes weights with the settings in their metadata, so that the file alone says what
    it is.
    """
    save_weights(
        path, state, {"format": "tightbound", "config": settings.to_toml(config)}
    )


def load(
    folder: Path | str,
    *,
    prior: str | None = None,
    trust: bool = False,
    device: str = "cpu",
) -> Run:
    """Reads a run folder: the averaged weights where there are any, else the plain ones.

    prior: the name of a fitted prior to put in the place of its own; RUN/priors/NAME as folder says
    the same.
    Raises TightboundError where it is not a run, is half-written, is of a newer version, or names
    code from outside
    tightbound without `trust`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TightboundError(
            f"there is no run folder {str(folder)!r}: check the path, or train one first"
        )
    if (folder / prior_file.FILE).is_file():
        return load(
            folder.parent.parent, prior=prior or folder.name, trust=trust, device=device
        )
    if not (folder / "config.toml").is_file():
        raise TightboundError(
            f"{str(folder)!r} is not a run folder, it has no config.toml: "
            f"{prior_file.nearby(folder)}"
        )
    config = settings.read(folder / "config.toml")
    ema, plain = folder / "ema.safetensors", folder / "model.safetensors"
    path = ema if ema.is_file() else plain
    if config.spec is None or not path.is_file():
        raise TightboundError(
            f"run {str(folder)!r} is half-written, it has no weights yet: resume it with "
            f"tightbound train {config.source or 'DATA'} --out {folder} --resume"
        )
    model, _ = build(config.recipe, config.spec, trust=trust)
    prior_file.fill(model, load_weights(path)[0], path)
    run = Run(config, model.to(device), folder)
    return run if prior is None else run.with_prior(prior, trust=trust)
