"""Small runs with two features on the data of a run, for the scenes on theory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.distributions.random import seed_for, seeded
from tightbound.exploring.run_data import is_standard
from tightbound.models.recipes import RECIPES, Recipe, part
from tightbound.models.vae import VAE
from tightbound.runs.folder import EXPLORE
from tightbound.runs.run import Run, load, training_folder, with_data
from tightbound.runtime.atomic_files import make_folder
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, notice, phase
from tightbound.training.own_loop import TrainingBatches
from tightbound.training.run_training import assemble, settle

FEATURES = 2
STEPS = 800
LARGE = 4096  # dimensions of x, above which there are fewer steps
STEPS_OF_LARGE = 200
RATE = 2e-3
MIXTURE = "logistic-mixture"
LARGEST_MIXTURE = (
    512  # dimensions of x, above which integrals over z take minutes in a page
)
ROLES = {"scene-vae": "vae", "scene-ae": "ae"}
CPU = torch.device("cpu")


def scene_role(run: Run) -> str | None:
    """The role of a run in the scenes on theory, where it can play one itself.

    "scene-vae" is a VAE with two real features, a normal q and p(z) = N(0, I); "scene-ae" an
    autoencoder with two. Neither has a condition or missing values, nor a mixture of logistics
    over more than `LARGEST_MIXTURE` dimensions, whose integrals take too long.
    """
    if sum(run.model.site_widths.values()) != FEATURES or len(run.model.sites) != 1:
        return None
    if run.spec.condition is not None or run.spec.missing:
        return None
    is_mixture = run.config.recipe.likelihood.name == MIXTURE
    if is_mixture and run.spec.dims > LARGEST_MIXTURE:
        return None
    posterior = run.config.recipe.posterior.name
    if posterior == "delta":
        return "scene-ae"
    if posterior == "normal" and run.config.recipe.has_bound and is_standard(run):
        return "scene-vae"
    return None


def companions(run: Run, roles: Sequence[str]) -> dict[str, Run]:
    """Small runs for some roles, read from the run folder or trained now.

    They are kept in `explore/` of the run folder, where it can be written, and belong to the
    weights of the run: other weights get others. The run's own files stay as they are.

    Args:
        run: The run, whose data they are trained on.
        roles: Of `ROLES`.

    Returns:
        The run of each role.

    Raises:
        TightboundError: The data of the run are gone.
    """
    return {role: _companion(run, role) for role in roles}


def _companion(run: Run, role: str) -> Run:
    folder = None
    home = training_folder(run)
    if home is not None:
        folder = home / EXPLORE / f"{role}-{run.predictor.fingerprint}"
        kept = _read(folder, run, role)
        if kept is not None:
            return kept
    trained = _trained(run, role)
    return trained if folder is None else _keep(trained, folder, role)


def _keep(trained: Run, folder: Path, role: str) -> Run:
    """A companion saved in place of those of other weights; where it cannot be, as it is."""
    for older in folder.parent.glob(f"{role}-*"):
        shutil.rmtree(older, ignore_errors=True)
    try:
        trained.save(make_folder(folder))
    except TightboundError as error:
        notice(f"{error}; the small run {role} is not kept")
        return trained
    return Run(trained.config, trained.model, folder, trained.data)


def _read(folder: Path, run: Run, role: str) -> Run | None:
    """A companion that was kept; None where there is none or its writing was cut short."""
    if not folder.is_dir():
        return None
    try:
        kept = load(folder)
    except TightboundError as error:
        notice(f"{error}, so it is trained again")
        return None
    kept = with_data(kept, run.data)
    is_of_this_run = (kept.spec.shape, kept.spec.layout) == (
        run.spec.shape,
        run.spec.layout,
    )
    if not is_of_this_run or scene_role(kept) != role:
        notice(f"{folder} is not of this run, so it is trained again")
        return None
    return kept


def _trained(run: Run, role: str) -> Run:
    """A companion with weights of a short training, a function of the run's seed."""
    data = run.data
    config = run.config.model_copy(update={"recipe": _recipe(run, role)})
    config, _ = settle(config, data)
    assert config.spec is not None
    spec = config.spec.model_copy(update={"condition": None, "labels": None})
    config = config.model_copy(update={"spec": spec})
    model, _ = assemble(config, CPU)
    seed = seed_for(config.seed, "noise")
    steps = STEPS if spec.dims <= LARGE else STEPS_OF_LARGE
    what = f"page: training a small {ROLES[role]} of two features"
    with phase(what, steps, " steps") as count, seeded(seed):
        _train(model.train(), TrainingBatches(data, config), data.spec, count)
    return Run(config, model.eval().requires_grad_(False), data=data)


def _train(
    model: VAE, batches: TrainingBatches, given: DataSpec, count: Steady
) -> None:
    """Train in place for `count.total` steps with Adam and a rate that falls to 0."""
    assert count.total is not None
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, count.total)
    while count.done < count.total:
        for batch in batches:
            x = batch.x
            if model.spec.domain != given.domain:
                x = model.spec.to_model(given.to_raw(x))
            model.backward(model(Batch(x)), count.done / count.total)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            count.add(1)
            if count.done == count.total:
                break


def _recipe(run: Run, role: str) -> Recipe:
    """A small VAE or autoencoder with p(z) = N(0, I) and the likelihood of the run."""
    theirs = run.config.recipe
    likelihood = theirs.likelihood
    if likelihood.name == MIXTURE:  # of many outputs for each pixel
        likelihood = part("discretized-logistic")
    updates = {
        "likelihood": likelihood,
        "latent": FEATURES,
        "size": "s",
        "network": part("mlp"),
        "prior": part("standard"),
        "missing": theirs.missing,
    }
    return RECIPES[ROLES[role]].model_copy(update=updates)
