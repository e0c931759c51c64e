"""Priors fitted after training: the model stays as it is, p(z) moves to where its encoder puts the
training data.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.components.objectives.elbo import Elbo
from tightbound.components.priors import PRIORS, Seen
from tightbound.config import Config, TrainSettings, parse
from tightbound.core.trace import Batch, Clock, Draw, Latent, Trace
from tightbound.distributions import moments
from tightbound.distributions.random import StepNoise, seed_for
from tightbound.models.build import build
from tightbound.models.recipes import Part
from tightbound.models.vae import VAE, Objective
from tightbound.runs import fitted_prior as prior_file
from tightbound.runs.fitted_prior import Fitted, fittable
from tightbound.runs.run import Run, load, seeded
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.runtime.progress import listening
from tightbound.training import budget as schedule
from tightbound.training.batches import count, examples
from tightbound.training.console import Display, Quiet
from tightbound.training.console import display as made_display
from tightbound.training.step.gradient_guard import Exploded
from tightbound.training.trainer import Trainer

SHORT = {
    "gmm": "gaussian-mixture",
    "sphere": "sphere-mixture",
    "poincare": "poincare-mixture",
}
MOST, MOST_VALUES = (
    50_000,
    200_000_000,
)  # training examples, and numbers of theirs, that a prior is shown the codes of
AT_ONCE = 1000
SETTINGS: dict[str, Any] = {
    "precision": "float32",
    "compile": "off",
    "validate_k": 1,
    "validate_n": 1,
}


def fit_prior(
    run: Run | str | Path,
    prior: str,
    *,
    name: str | None = None,
    overwrite: bool = False,
    display: str | Display = "auto",
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Run:
    """Fits another prior to a trained model and returns the model with it; nothing else of the
    model changes.

    p(z) becomes what maximises E[log p(z)] over draws of q(z|x) of the training split.  log p(x)
    under it is bounded as before; an autoencoder, which has no prior, can be sampled with one.
    Ghosh et al. 2020 (arXiv:1903.12436), sec. 4. Of a conditional run, p(z) for all conditions
    alike, or with prior "conditional" p(z|c). prior: "normal", "gaussian-mixture" ("gmm"),
    "two-stage", ...; one that does not fit the latent is refused, with those that do.  settings,
    more: its options and, as train.*, those of its training: components=10. name: under which it is
    saved, in RUN/priors/NAME, and found by `tb.load(RUN, prior=NAME)`; the prior's where None.
    Raises TightboundError where there is one of that name and `overwrite` is False.
    """
    show = made_display(display) if isinstance(display, str) else display
    run = run if isinstance(run, Run) else load(run, device=str(pick_device("auto")))
    with listening(show.note):
        return _fitted(
            run,
            SHORT.get(prior, prior),
            name,
            overwrite,
            {**(settings or {}), **more},
            show,
        )


def _fitted(
    run: Run,
    prior: str,
    name: str | None,
    overwrite: bool,
    values: Mapping[str, Any],
    show: Display,
) -> Run:
    options, own = _parted(values)
    was = run.config.recipe.prior.options
    options |= {
        key: was[key]
        for key in getattr(PRIORS.get(prior), "inherits", ())
        if key in was
    }
    recipe = run.config.recipe.model_copy(update={"prior": Part(name=prior, **options)})
    _check_fits(run, prior)
    name = name or prior
    folder = (
        prior_file.new_folder(run.home, name, overwrite=overwrite) if run.home else None
    )
    seed = seed_for(run.config.seed, "prior", prior)
    with seeded(seed):
        model, _ = build(recipe, run.spec)
    rest = prior_file.split(run.model.state_dict())[1]
    model.load_state_dict({**prior_file.split(model.state_dict())[0], **rest})
    model = model.to(run.device).eval().requires_grad_(False)
    config = run.config.model_copy(update={"recipe": recipe, "train": own})
    n = _fit(model, config, run, seed, show)
    found = Fitted(
        name,
        recipe.prior,
        prior_file.split(model.state_dict())[0],
        n,
        prior_file.fingerprint(rest),
    )
    made = run.with_prior(found, trust=True)
    if folder is not None:
        prior_file.save(folder, found)
    return made


def _parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], TrainSettings]:
    """Options of the prior, and settings of its training: the keys that begin with `train.`."""
    train = {
        key.removeprefix("train."): value
        for key, value in values.items()
        if key.startswith("train.")
    }
    options = {
        key.removeprefix("prior."): v
        for key, v in values.items()
        if not key.startswith("train.")
    }
    return options, parse(TrainSettings, SETTINGS | train, "the setting train:")


def _check_fits(run: Run, prior: str) -> None:
    """Raises TightboundError where the prior is not one, or not one for this latent, naming those
    that are.
    """
    if ":" in prior:
        return
    lookup(PRIORS, prior, "prior")
    if prior not in (known := fittable(run.config.recipe, run.spec)):
        posterior, fit = (
            run.config.recipe.posterior.name,
            f"choose {' or '.join(known)}" if known else "none fits it",
        )
        raise TightboundError(
            f"prior {prior!r} cannot be fitted to the latent of {run.name!r} "
            f"(posterior {posterior!r}, path "
            f"{run.config.recipe.path!r}): {fit}"
        )


def _fit(model: VAE, config: Config, run: Run, seed: int, show: Display) -> int:
    """Fits the prior of `model` in place; returns the number of examples that it was fitted to."""
    part: Any = prior_of(model)
    train, learns = run.data.train, getattr(part, "learns", False)
    if not (learns or hasattr(part, "fit")):
        raise TightboundError(
            f"prior {config.recipe.prior.name!r} cannot be fitted: give it a "
            "method fit(seen), or learns = True"
        )
    n = count(train) if learns else None
    if hasattr(part, "fit"):
        x, rows = examples(train, max(AT_ONCE, min(MOST, MOST_VALUES // run.spec.dims)))
        n = len(x) if n is None else n
        with torch.no_grad():
            part.fit(
                _seen(
                    run.model, Batch(x) if rows is None else train.examples(rows), seed
                )
            )
    if learns:
        _learn(model, config, run, seed, show)
    return n or 0


def prior_of(model: VAE) -> nn.Module:
    """The prior of the topmost latent."""
    path: Any = model.path
    return path.prior if hasattr(path, "prior") else path.priors[0]


def top_site(model: VAE) -> str:
    """The name of the topmost continuous latent, whose prior it is."""
    return next(name for name in model.sites if name not in model.classes)


def _seen(model: VAE, batch: Batch, seed: int) -> Seen:
    """Draws of q of the topmost latent, and on demand its means and scales; of a point, its place
    and a scale of 0.
    """

    def sites() -> Iterator[Latent]:
        for i, some in enumerate(batch.split(AT_ONCE)):
            some = some.to(model.get_buffer("centre").device)
            yield model(some, Draw(noise=StepNoise(seed, "seen", i))).latents[
                top_site(model)
            ]

    def widths() -> tuple[Tensor, Tensor]:
        with seeded(seed):
            mean, variance = zip(
                *(moments(site.q) for site in sites() if site.q is not None),
                strict=True,
            )
        return torch.cat(mean), torch.cat(variance).sqrt()

    return Seen(torch.cat([site.z for site in sites()]), widths, seed)


# ---- priors that are networks: the one training loop, all but the prior held


class Unseen:
    """What is left of p(x|z) where x does not matter: log p = 0."""

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), device=x.device)

    def log_prob_each(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class NoLikelihood(nn.Module):
    """The likelihood of a model whose latents alone are trained; its decoder is the identity."""

    def forward(self, y: Tensor, ctx: Any, p: Any) -> Any:
        return Unseen()


class CrossEntropy:
    """-E_q[log p(z)] of the topmost latent, in nats; with a second stage, the bound on it."""

    per_example = True

    def __init__(self, site: str, own: tuple[str, ...]) -> None:
        self.site, self.own = site, own

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        stage = sum((trace.latents[name].kl for name in self.own), torch.zeros(()))
        return trace.mean(stage - trace.latents[self.site].log_p).mean()


class Progress(Quiet):
    """One line per validation of a fit; what: is lowered."""

    def __init__(self, show: Display, steps: int, what: str) -> None:
        self.show, self.steps, self.what = show, steps, what

    def note(self, line: str) -> None:
        self.show.note(line)

    def record(self, record: dict[str, Any]) -> None:
        best = ", best" if record["best"] else ""
        value = record["valid"]["objective"]
        self.note(
            f"step {record['step']} of {self.steps}, {self.what} {value:.3f} "
            f"on the validation split{best}"
        )


def _learn(model: VAE, config: Config, run: Run, seed: int, show: Display) -> None:
    """Trains the prior of `model` in place, on fresh draws of q in each step; keeps the best by
    validation.

    A q that reads log p(x, z) moves with the prior: then it is the whole bound that rises.
    """
    train = schedule.resolve(config.train, count(run.data.train))
    config = config.model_copy(
        update={
            "train": train,
            "seed": seed,
            "recipe": config.recipe.model_copy(update={"k": 1}),
        }
    )
    trained = copy.deepcopy(model)
    part = prior_of(trained).requires_grad_(True)
    moved = any(hasattr(module, "reads_joint") for module in trained.modules())
    objective: Objective = (
        Elbo()
        if moved
        else CrossEntropy(top_site(trained), tuple(getattr(part, "sites", ())))
    )
    if not moved:
        trained.path.decoder, trained.likelihood = nn.Identity(), NoLikelihood()
    with tempfile.TemporaryDirectory(prefix="tightbound-prior-") as folder:
        told = Progress(show, int(train.steps), "-ELBO" if moved else "-log p(z)")
        trainer = Trainer(
            trained, objective, config, run.data, Path(folder), told, only=part
        )
        try:
            trainer.run()
        except Exploded as stop:
            if trainer.best["step"] == 0:
                raise
            show.note(str(stop))
        state = prior_file.split(trainer.finish())[0]
    model.load_state_dict(state, strict=False)
