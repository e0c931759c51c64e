"""A Run: a trained model with its settings and its folder, and all that one does with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound import config as settings
from tightbound import data as data_room
from tightbound import fitted as prior_file
from tightbound.build import build
from tightbound.config import Config
from tightbound.distributions import point
from tightbound.distributions.noise import seeded as seeded
from tightbound.errors import TightboundError, at_least, nearest
from tightbound.files import load_weights, save_weights
from tightbound.fitted import Fitted
from tightbound.model import VAE
from tightbound.recipes import has_bound
from tightbound.spec import DataSpec
from tightbound.trace import Batch, Draw, Latent, Trace

VALUES_AT_ONCE = 4_000_000


class _Whole(Exception):
    """Every latent of a pass has its value."""


class _Codes(Draw):
    """The point of each latent; the pass ends when all are there, so that the decoder need not run."""

    def __init__(self) -> None:
        super().__init__(source="point")

    def begin(self, sites: Sequence[str]) -> bool:
        self.wanted = set(sites)
        return super().begin(sites)

    def __call__(self, name: str, p: Distribution | None = None, q: Distribution | None = None) -> Tensor | None:
        z = super().__call__(name, p, q)
        if self.wanted <= self.latents.keys():
            raise _Whole
        return z


class Run:
    """A trained model: encode, reconstruct, sample, vary, interpolate, decode.

    x is whatever `train` took: an array or tensor in the data's own units and layout (n, ...), a path, a built-in
    name or `DATA:ROW`.  What comes back is a tensor on the CPU, images in the same units and layout.  Nothing is random
    unless it is asked for by name and seed.
    """

    def __init__(
        self, config: Config, model: VAE, folder: Path | None = None, data: Any = None, fitted: Fitted | None = None
    ) -> None:
        self.config, self.folder, self._data, self.fitted = config, folder, data, fitted
        self.model = model.eval().requires_grad_(False)

    def __repr__(self) -> str:
        """`Run('runs/digits-vae': vae, 16 features, (1, 8, 8) levels)`."""
        widths = " + ".join(str(width) for width in self.sites.values())
        where = repr(str(self.folder)) if self.folder else "not saved"
        return f"Run({where}: {self.config.recipe.name}, {widths} features, {self.spec.shape} {self.spec.domain})"

    @property
    def spec(self) -> DataSpec:
        """What the model knows of its data."""
        return self.model.spec

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.get_buffer("centre").device

    @property
    def name(self) -> str:
        """The folder's name, or the recipe's; with that of a fitted prior."""
        own = self.home.name if self.home else self.config.recipe.name
        return f"{own}+{self.fitted.name}" if self.fitted else own

    @property
    def home(self) -> Path | None:
        """Where it was trained; `folder` is where its figures are, inside of `home` for a run with a fitted prior."""
        return self.folder.parent.parent if self.folder and self.fitted else self.folder

    @property
    def data(self) -> Any:
        """The data it was trained on, loaded again where need be; raises where they were arrays of a Python session."""
        if self._data is None:
            if not self.config.source:
                raise TightboundError(f"run {self.name!r} was trained on arrays in Python: give the data again")
            loaded = data_room.load(self.config.source, self.config.data, seed=self.config.seed)
            if self.config.digest and loaded.digest != self.config.digest:
                raise TightboundError(
                    f"the data at {self.config.source!r} are no longer those that {self.name!r} was trained on: "
                    "restore them, or name other data to evaluate on"
                )
            self._data = loaded
        return self._data

    @property
    def has_bound(self) -> bool:
        """True where the model bounds log p(x); False for an autoencoder, or a prior without a density."""
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
        reader = data_room.read_one if isinstance(x, str) and ":" in x and not Path(x).exists() else data_room.read
        split = reader(x, self.spec, self.config.data)
        return split.batch(torch.arange(len(split)))

    def _chunks(self, x: Tensor, widest: int = 1) -> Iterator[Tensor]:
        rows = max(1, VALUES_AT_ONCE // (self.spec.dims * max(widest, self.spec.levels or 1)))
        yield from (part.to(self.device) for part in x.split(rows))

    def _map(self, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.cat([f(part).cpu() for part in self._chunks(x)])

    def trace(self, x: Tensor, draw: Draw) -> Trace:
        """One pass over examples in domain units."""
        return self.model(Batch(x.to(self.device)), draw)

    # ---- latents

    def latents(self, x: Tensor) -> dict[str, Latent]:
        """q and its point at each site for examples in domain units; the decoder does not run."""
        draw = _Codes()
        with suppress(_Whole):
            self.model(Batch(x.to(self.device)), draw)
        return draw.latents

    @property
    def sites(self) -> dict[str, int]:
        """The latent sites and their widths, z1 (next to x) first: {"z": 16}."""
        latent = self.config.recipe.latent
        if self.model.widths:
            return dict(self.model.widths)
        if isinstance(latent, int):
            return {"z": latent}
        assert latent != "auto"
        return {f"z{i + 1}": width for i, width in enumerate(latent)}

    def _join(self, latents: dict[str, Any]) -> Tensor:
        return torch.cat([latents[name].z for name in self.sites], -1)

    def _part(self, z: Tensor) -> dict[str, Tensor]:
        widths = list(self.sites.values())
        if z.dim() != 2 or z.shape[1] != sum(widths):
            raise TightboundError(f"z has shape {tuple(z.shape)}, but this model wants (n, {sum(widths)})")
        return dict(zip(self.sites, z.split(widths, -1), strict=True))

    def encode(self, x: Any) -> Tensor:
        """The posterior mean of each feature, (n, latent); several sites side by side, z1 first."""
        return self._map(self.read(x), lambda part: self._join(self.latents(part)))

    def posterior(self, x: Any) -> Distribution | dict[str, Distribution]:
        """q(z|x) of each row as a distribution; where there are several sites, one each, given the others' points."""
        with torch.no_grad():
            latents = self.latents(self.read(x))
        found = {name: latents[name].q for name in self.sites}
        return next(iter(found.values())) if len(found) == 1 else found  # type: ignore[return-value]

    @property
    def prior(self) -> Distribution | dict[str, Distribution]:
        """p(z) as a distribution; for several sites, each given a draw of those above."""
        with torch.no_grad():
            latents = self.model.generate(1, Draw(source="p")).latents
        found = {name: latents[name].p for name in dict.fromkeys([*self.sites, *self.model.sites])}
        return next(iter(found.values())) if len(found) == 1 else found  # type: ignore[return-value]

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) of each row of z (n, latent), over x in domain units."""
        z = data_room.as_latents(z)
        given = {name: part.to(self.device) for name, part in self._part(z).items()}
        with torch.no_grad():
            return self.model.generate(len(z), Draw(source="p", given=given)).px

    # ---- what comes out

    def decode(self, z: Any) -> Any:
        """E[x|z] in the data's own units and layout, (n, ...); for unordered values the most likely.

        Of a table of mixed columns a DataFrame with their names, values and types (a dict of arrays without pandas).
        """
        z = data_room.as_latents(z)
        return self._out(self._map(z, lambda part: point(self.likelihood(part))))

    def _out(self, x: Tensor) -> Any:
        raw = self.spec.to_raw(x)
        return data_room.frame(raw, self.spec.fields) if self.spec.fields else raw

    def reconstruct(self, x: Any) -> Any:
        """E[x|z] at the posterior mean of each row."""
        return self.decode(self.encode(x))

    def sample(self, n: int = 64, *, seed: int = 0, temperature: float = 1.0, pixels: str = "auto") -> Any:
        """New examples: z from the prior, then E[x|z] (`pixels="mean"`) or a draw from p(x|z) (`pixels="draw"`).

        auto: a draw for a table of mixed columns, whose mean is no such row, else the mean.
        An autoencoder has no prior until one is fitted; its z come from N(0, I), to show what that gives.
        """
        at_least(1, n, "samples")
        if temperature < 0:
            raise TightboundError(f"a temperature of {temperature} has no meaning: give 0 or more")
        if pixels not in ("auto", "mean", "draw"):
            raise TightboundError(f"pixels = {pixels!r} is not known: {nearest(pixels, ('auto', 'mean', 'draw'))}")
        draws = pixels == "draw" or (pixels == "auto" and bool(self.spec.fields))

        def some(m: int) -> Tensor:
            return self._join(self.model.generate(m, Draw(source="p", temperature=temperature)).latents)

        with torch.no_grad(), seeded(seed):
            z = self._drawn_codes(n, some)
            return self._drawn(z) if draws else self.decode(z)

    def _drawn_codes(self, n: int, some: Callable[[int], Tensor]) -> Tensor:
        """n codes, made a bounded number at a time."""
        most = max(1, VALUES_AT_ONCE // self.spec.dims)
        return torch.cat([some(min(most, n - done)).cpu() for done in range(0, n, most)])

    def _drawn(self, z: Tensor) -> Any:
        return self._out(self._map(z, lambda part: self.likelihood(part).sample()))

    def vary(self, x: Any, n: int = 16, *, seed: int = 0) -> Any:
        """n variations of one example: z drawn from q(z|x), then E[x|z]; an autoencoder's are all the same."""
        at_least(1, n, "variations")
        one = self.read(x)
        if len(one) != 1:
            raise TightboundError(f"vary takes one example, but {len(one)} were given: name one, for example DATA:ROW")
        with torch.no_grad(), seeded(seed):
            z = self._drawn_codes(
                n, lambda m: self._join(self.trace(one.expand(m, *one.shape[1:]), Draw(source="q")).latents)
            )
        return self.decode(z)

    def interpolate(self, a: Any, b: Any, n: int = 10) -> Any:
        """n examples from a to b, along the straight line between their posterior means."""
        at_least(2, n, "steps from one end to the other")
        ends = torch.cat([self.encode(a), self.encode(b)])
        if len(ends) != 2:
            raise TightboundError("interpolate takes one example at each end: name one, for example DATA:ROW")
        t = torch.linspace(0, 1, n)[:, None]
        return self.decode(ends[:1] * (1 - t) + ends[1:] * t)

    # ---- the folder, and priors that are fitted after training

    def with_prior(self, prior: str | Fitted, *, trust: bool = False) -> Run:
        """The same model under a prior that was fitted to it: one of `tb.fit_prior` by name, or as it is in memory.

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
    """Writes weights with the settings in their metadata, so that the file alone says what it is."""
    save_weights(path, state, {"format": "tightbound", "config": settings.to_toml(config)})


def load(folder: Path | str, *, prior: str | None = None, trust: bool = False, device: str = "cpu") -> Run:
    """Reads a run folder: the averaged weights where there are any, else the plain ones.

    prior: the name of a fitted prior to put in the place of its own; RUN/priors/NAME as folder says the same.
    Raises TightboundError where it is not a run, is half-written, is of a newer version, or names code from outside
    tightbound without `trust`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TightboundError(f"there is no run folder {str(folder)!r}: check the path, or train one first")
    if (folder / prior_file.FILE).is_file():
        return load(folder.parent.parent, prior=prior or folder.name, trust=trust, device=device)
    if not (folder / "config.toml").is_file():
        raise TightboundError(
            f"{str(folder)!r} is not a run folder, it has no config.toml: {prior_file.nearby(folder)}"
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
