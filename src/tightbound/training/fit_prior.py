"""Priors fitted after training to the posterior draws of the training data."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.objectives.elbo import Elbo
from tightbound.components.priors import PRIORS
from tightbound.config import Config, TrainSettings, keyed, parse
from tightbound.core.batch import Batch
from tightbound.core.component import (
    EncodedData,
    Likelihood,
    Objective,
    Posterior,
    Prior,
)
from tightbound.core.draw import Clock, Context, Draw
from tightbound.core.latent import Latent
from tightbound.core.trace import Trace
from tightbound.data import Split
from tightbound.distributions import ExtendedDistribution, moments
from tightbound.distributions.random import StepNoise, seed_for
from tightbound.models.build import build
from tightbound.models.recipes import Part
from tightbound.models.vae import VAE
from tightbound.runs import fitted_prior as prior_file
from tightbound.runs.fitted_prior import Fitted, fittable
from tightbound.runs.run import Run, load, seeded, training_folder
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.runtime.progress import listening
from tightbound.training import budget
from tightbound.training.batches import count, examples
from tightbound.training.console import Display, Quiet, Record
from tightbound.training.console import display as create_display
from tightbound.training.step.gradient_guard import Exploded
from tightbound.training.step.module import Step
from tightbound.training.trainer import Trainer

SHORT = {
    "gmm": "gaussian-mixture",
    "sphere": "sphere-mixture",
    "poincare": "poincare-mixture",
}
# a prior is fitted to the codes of at most so many training examples, and values of theirs
MOST = 50_000
MOST_VALUES = 200_000_000
AT_ONCE = 1000
SETTINGS: dict[str, object] = {
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
    settings: Mapping[str, object] | None = None,
    **more: object,
) -> Run:
    """Fit another prior to a trained model; encoder and decoder stay unchanged.

    p(z) becomes the maximiser of E[log p(z)] over draws of q(z|x) of the training
    split (Ghosh et al. 2020, arXiv:1903.12436, sec. 4). log p(x) under it is bounded as
    before. An autoencoder, which has no prior, can be sampled with one. Of a
    conditional run it is p(z) for all conditions alike, or p(z|c) with the prior
    "conditional".

    Args:
        run: a Run or its folder.
        prior: "normal", "gaussian-mixture" ("gmm"), "two-stage", ...
        name: the name under which it is saved in RUN/priors/NAME and found by
            `tb.load(RUN, prior=NAME)`; that of the prior where None.
        overwrite: whether a fitted prior of that name is replaced.
        display: "auto", "live", "lines", "none", or a display.
        settings: options of the prior, and settings of its training as `train.*`.
        **more: as `settings`: components=10.

    Returns:
        The run with the fitted prior.

    Raises:
        TightboundError: for a prior that does not fit the latent, bad settings, or a
            name that is taken.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     fitted = tb.fit_prior(run, "gaussian-mixture", components=3, display="none")
        ...     fitted.name
        'run+gaussian-mixture'
    """
    show = create_display(display) if isinstance(display, str) else display
    if not isinstance(run, Run):
        run = load(run, device=str(pick_device("auto")))
    values = keyed(settings, more)
    with listening(show.note):
        return _fitted(run, SHORT.get(prior, prior), name, overwrite, values, show)


def _fitted(
    run: Run,
    prior: str,
    name: str | None,
    overwrite: bool,
    values: Mapping[str, object],
    show: Display,
) -> Run:
    options, train = _split_settings(values)
    options |= _inherited_options(run, prior)
    recipe = run.config.recipe.model_copy(update={"prior": Part(name=prior, **options)})
    _check_fits(run, prior)
    name = name or prior
    folder = None
    if home := training_folder(run):
        folder = prior_file.new_folder(home, name, overwrite=overwrite)
    seed = seed_for(run.config.seed, "prior", prior)
    with seeded(seed):
        model, _ = build(recipe, run.spec)
    _, encoder_and_decoder = prior_file.split(run.model.state_dict())
    initial_prior, _ = prior_file.split(model.state_dict())
    model.load_state_dict({**initial_prior, **encoder_and_decoder})
    model = model.to(run.predictor.device).eval().requires_grad_(False)
    config = run.config.model_copy(update={"recipe": recipe, "train": train})
    n = _fit(model, config, run, seed, show)
    weights, _ = prior_file.split(model.state_dict())
    fingerprint = prior_file.fingerprint(encoder_and_decoder)
    fitted = Fitted(name, recipe.prior, weights, n, fingerprint)
    result = run.with_prior(fitted, trust=True)
    if folder is not None:
        prior_file.save(folder, fitted)
    return result


def _split_settings(
    values: Mapping[str, object],
) -> tuple[dict[str, object], TrainSettings]:
    """Options of the prior, and settings of its training (the keys `train.*`)."""
    train: dict[str, object] = dict(SETTINGS)
    options: dict[str, object] = {}
    for key, value in values.items():
        if key.startswith("train."):
            train[key.removeprefix("train.")] = value
        else:
            options[key.removeprefix("prior.")] = value
    return options, parse(TrainSettings, train, "the setting train:")


def _inherited_options(run: Run, prior: str) -> dict[str, object]:
    """The options that a prior takes over from the prior of training."""
    options = run.config.recipe.prior.options
    names = PRIORS[prior].inherited_options if prior in PRIORS else ()
    return {key: options[key] for key in names if key in options}


def _check_fits(run: Run, prior: str) -> None:
    """Refuse an unknown prior, and one that does not fit the latent."""
    if ":" in prior:
        return
    lookup(PRIORS, prior, "prior")
    recipe = run.config.recipe
    names = fittable(recipe, run.spec)
    if prior in names:
        return
    choice = f"choose {' or '.join(names)}" if names else "none fits it"
    raise TightboundError(
        f"prior {prior!r} cannot be fitted to the latent of {run.name!r} "
        f"(posterior {recipe.posterior.name!r}, hierarchy {recipe.hierarchy!r}): {choice}"
    )


def _fit(model: VAE, config: Config, run: Run, seed: int, show: Display) -> int:
    """Fit the prior of a model in place; returns the number of examples used."""
    part = prior_of(model)
    train = run.data.train
    learns = part.fits_by_gradient
    if not part.can_be_fitted():
        raise TightboundError(
            f"prior {config.recipe.prior.name!r} cannot be fitted: give it a method fit(data), "
            "or fits_by_gradient = True"
        )
    n = count(train) if learns else None
    if part.has_fit():
        x, rows = examples(train, max(AT_ONCE, min(MOST, MOST_VALUES // run.spec.dims)))
        if n is None:
            n = len(x)
        batch = Batch(x)
        if rows is not None:
            assert isinstance(train, Split)
            batch = train.examples(rows)
        with torch.no_grad():
            part.fit(_encode(run.model, batch, seed))
    if learns:
        _train_prior(model, config, run, seed, show)
    return n or 0


def prior_of(model: VAE) -> Prior:
    """The prior of the topmost latent."""
    return model.hierarchy.top_prior


def top_site(model: VAE) -> str:
    """The name of the topmost continuous latent, the one whose prior is fitted."""
    return next(name for name in model.sites if name not in model.classes)


def _encode(model: VAE, batch: Batch, seed: int) -> EncodedData:
    """Draws of q(z|x) of the topmost latent; its means and scales on demand.

    A point posterior has a scale of 0.
    """
    site = top_site(model)
    device = model.get_buffer("centre").device

    def latents() -> Iterator[Latent]:
        for i, part in enumerate(batch.split(AT_ONCE)):
            draw = Draw(noise=StepNoise(seed, "seen", i))
            yield model(part.to(device), draw).latents[site]

    def mean_and_scale() -> tuple[Tensor, Tensor]:
        means = []
        variances = []
        with seeded(seed):
            for latent in latents():
                if latent.q is not None:
                    mean, variance = moments(latent.q)
                    means.append(mean)
                    variances.append(variance)
        return torch.cat(means), torch.cat(variances).sqrt()

    return EncodedData(
        torch.cat([latent.z for latent in latents()]), mean_and_scale, seed
    )


# ---- priors that are networks: trained by the training loop, with all else frozen


class NoData(ExtendedDistribution):
    """A distribution of x that does not depend on z: log p = 0."""

    def __init__(self) -> None:
        super().__init__(validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros(len(value), device=value.device)

    def log_prob_each(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)


class NoLikelihood(Likelihood):
    """The likelihood of a model of which only the prior is trained.

    The decoder of the model is the identity.
    """

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        return NoData()


class CrossEntropy(Objective):
    """-E_q[log p(z)] of the topmost latent, in nats.

    For a prior with latents of its own it is the bound on that.
    """

    def __init__(self, site: str, prior_sites: tuple[str, ...]) -> None:
        self.site = site
        self.prior_sites = prior_sites

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        kl = sum((trace.latents[name].kl for name in self.prior_sites), torch.zeros(()))
        return trace.mean_over_samples(kl - trace.latents[self.site].log_p).mean()


class Progress(Quiet):
    """One line per validation of a fit, with the figure that is minimised."""

    def __init__(self, show: Display, steps: int, figure: str) -> None:
        self.show = show
        self.steps = steps
        self.figure = figure

    def note(self, line: str) -> None:
        self.show.note(line)

    def record(self, record: Record) -> None:
        best = ", best" if record["best"] else ""
        value = record["valid"]["objective"]
        self.note(
            f"step {record['step']} of {self.steps}, {self.figure} {value:.3f} "
            f"on the validation split{best}"
        )


def _train_prior(
    model: VAE, config: Config, run: Run, seed: int, show: Display
) -> None:
    """Train the prior of a model, in place, on new draws of q in each step.

    The best weights by validation are kept. A posterior that uses log p(x, z) changes
    with the prior, so then the whole bound is maximised.
    """
    train = budget.resolve(config.train, count(run.data.train))
    recipe = config.recipe.model_copy(update={"k": 1})
    config = config.model_copy(update={"train": train, "seed": seed, "recipe": recipe})
    trained = copy.deepcopy(model)
    part = prior_of(trained).requires_grad_(True)
    moved = any(
        isinstance(m, Posterior) and m.uses_log_joint for m in trained.modules()
    )
    objective: Objective
    if moved:
        objective = Elbo()
        figure = "-ELBO"
    else:
        objective = CrossEntropy(top_site(trained), part.extra_sites)
        figure = "-log p(z)"
        trained.hierarchy.decoder = nn.Identity()
        trained.likelihood = NoLikelihood()
    with tempfile.TemporaryDirectory(prefix="tightbound-prior-") as folder:
        progress = Progress(show, int(train.steps), figure)
        step = Step(trained, objective, only=part)
        trainer = Trainer(step, config, run.data, Path(folder), progress)
        try:
            trainer.run()
        except Exploded as error:
            if trainer.best.step == 0:
                raise
            show.note(str(error))
        weights, _ = prior_file.split(trainer.finish())
    model.load_state_dict(weights, strict=False)
