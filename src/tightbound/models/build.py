"""Build a VAE and its objective from a recipe and the description of the data."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from tightbound.components.likelihoods import AUTO
from tightbound.components.networks import CheckedNetwork, InRange, Standard
from tightbound.core.component import (
    Hierarchy,
    Likelihood,
    ModelPart,
    MultiscaleNetwork,
    Network,
    Objective,
    Posterior,
)
from tightbound.core.data_spec import DataSpec
from tightbound.models.build_hierarchy import HIERARCHIES, Parts, top_down_on_grids
from tightbound.models.compatibility import check, untrainable
from tightbound.models.parts import find_component, make_component
from tightbound.models.recipes import Part, Recipe
from tightbound.models.size import check_size
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

LARGE_IMAGE = 64 * 64 * 3  # more dimensions get a convolutional network
PSEUDO_INPUTS = 100  # of the learned prior of a table


def likelihood_domains(recipe: Recipe, trust: bool = True) -> tuple[str, ...]:
    """The domains that the recipe's likelihood accepts; none where it is chosen later."""
    if recipe.likelihood.name == "auto":
        return ()
    domains: tuple[str, ...] = find_component(
        "likelihood", recipe.likelihood, trust
    ).domains
    return domains


def resolve_domain(
    recipe: Recipe, spec: DataSpec, trust: bool = True
) -> tuple[Recipe, DataSpec, list[str]]:
    """Choose the likelihood with its domain, and the prior where it is "auto".

    Integers under a density on [0, 1] (continuous Bernoulli, Gaussian) are read as reals
    x / (L - 1).

    Returns:
        The recipe with a likelihood, the spec in its domain, and notices for the user.

    Raises:
        TightboundError: Where the likelihood does not fit the data.
    """
    notices: list[str] = []
    if recipe.prior.name == "auto":
        recipe = _with_prior(recipe, spec)
        if recipe.prior.name != "standard":
            notices.append(
                f"p(z) of a table of mixed columns is learned (prior {recipe.prior.name}; "
                "--set prior=standard for N(0, I))"
            )
    if recipe.likelihood.name == "auto":
        chosen: dict[str, object] = {"name": AUTO[spec.domain]}
        # the mixture needs all channels of a pixel, so no missing values
        if photographs(spec) and recipe.missing == "refused":
            chosen = {"name": "logistic-mixture", "components": 5}
        likelihood = Part(**chosen | recipe.likelihood.options)
        return recipe.model_copy(update={"likelihood": likelihood}), spec, notices
    domains = find_component("likelihood", recipe.likelihood, trust).domains
    if spec.domain in domains:
        return recipe, spec, notices
    name = recipe.likelihood.name
    if spec.domain == "levels" and "unit" in domains:
        top = (spec.levels or 2) - 1
        notice = (
            f"likelihood {name!r} is a density, so the {spec.levels} levels are read as reals "
            f"x / {top} in [0, 1]; its nats do not compare with those of a mass function "
            "(discretized-logistic)"
        )
        return recipe, spec.as_domain("unit"), [*notices, notice]
    raise TightboundError(_misfit(name, domains, spec.domain))


_FIXES = {
    "levels": (
        "set data.binarize=dynamic, or likelihood continuous-bernoulli or discretized-logistic"
    ),
    "unit": "set data.binarize=dynamic, or likelihood continuous-bernoulli or gaussian",
    "binary": "set likelihood bernoulli",
    "real": (
        "set likelihood gaussian, or data.domain if the values are levels or counts after all"
    ),
    "categorical": "set likelihood categorical",
    "count": "set likelihood negative-binomial or poisson, or data.domain=real",
    "mixed": "set likelihood fields, or data.fields so that all columns are of one kind",
}


def _misfit(name: str, domains: tuple[str, ...], domain: str) -> str:
    return (
        f"likelihood {name!r} is for {' or '.join(domains)} data, but these are {domain}: "
        f"{_FIXES[domain]}"
    )


def photographs(spec: DataSpec) -> bool:
    """True for images of three channels of levels, 32 pixels or more a side."""
    return (
        spec.domain == "levels"
        and spec.is_image
        and spec.shape[0] == 3
        and min(spec.shape[1:]) >= 32
    )


def resolve(recipe: Recipe, spec: DataSpec, trust: bool = True) -> Recipe:
    """Replace every "auto" by the value that measured best on such data (docs/results.md).

    Raises:
        TightboundError: Where components do not fit each other or the data.
    """
    recipe = _with_prior(recipe, spec)
    sentence = untrainable(recipe, find_component("prior", recipe.prior, trust))
    if sentence is not None:
        raise TightboundError(sentence)
    updates: dict[str, Any] = {}
    options = dict(recipe.network.options)
    if recipe.network.name == "auto":
        updates["network"] = _network(recipe, spec, trust)
        options = updates["network"].options
    if recipe.size == "auto":
        updates["size"] = "m" if 256 < spec.dims <= 4096 else "s"
    if recipe.latent == "auto":
        updates["latent"] = _latent(spec, on_grid=bool(options.get("shrink")))
    if recipe.classes == "auto" and recipe.hierarchy == "labelled":
        updates["classes"] = 10 if spec.labels is None else len(spec.labels)
    recipe = recipe.model_copy(update=updates)
    check(recipe, spec, trust)
    return recipe


def _with_prior(recipe: Recipe, spec: DataSpec) -> Recipe:
    """The recipe with a prior for "auto"."""
    if recipe.prior.name != "auto":
        return recipe
    return recipe.model_copy(update={"prior": _prior(recipe, spec)})


def _prior(recipe: Recipe, spec: DataSpec) -> Part:
    """The prior of "auto": a VampPrior for tables of mixed columns, else N(0, I).

    Of flat models with a normal q and the plain ELBO, whose encoder reads x alone.
    """
    plain = (
        recipe.hierarchy == "flat"
        and recipe.posterior == Part(name="normal")
        and recipe.objective == Part(name="elbo")
        and recipe.k == 1
    )
    reads_x = not recipe.conditional and not spec.missing
    if spec.is_mixed and plain and reads_x and not recipe.prior.options:
        return Part(name="vamp", components=PSEUDO_INPUTS)
    return Part(name="standard", **recipe.prior.options)


def _network(recipe: Recipe, spec: DataSpec, trust: bool) -> Part:
    """The network of "auto": convolutions for photographs and large images, else an MLP."""
    options = dict(recipe.network.options)
    photos = photographs(spec) and recipe.k == 1
    plain = (
        recipe.prior.name == "standard"
        and recipe.hierarchy == "flat"
        and recipe.latent == "auto"
        and spec.condition is None
    )
    if (
        photos
        and plain
        and find_component("posterior", recipe.posterior, trust).supports_grids
    ):
        options.setdefault("shrink", 4 * math.ceil(max(spec.shape) / 64))
    if photos or (spec.kind != "vector" and spec.dims > LARGE_IMAGE):
        return Part(name="conv", **options)
    return Part(name="mlp", **options)


def _latent(spec: DataSpec, on_grid: bool) -> int:
    """The number of latent features of "auto", at each place of a grid."""
    if on_grid:
        return 8
    if spec.dims <= 128:
        return 16
    if spec.dims <= 1024:
        return 40
    return 128


def build(
    recipe: Recipe, spec: DataSpec, *, trust: bool = True, copies: int = 1
) -> tuple[VAE, Objective]:
    """Make the model and its objective, of a recipe without "auto" values.

    Args:
        recipe: Components and sizes, see `resolve`.
        spec: Shape, domain and spread of the data.
        trust: Whether components named by import path may run.
        copies: Copies of the parameters that must fit in memory, several for training.

    Returns:
        The model, with initial weights, and its objective.

    Raises:
        TightboundError: Where something does not fit.
    """
    recipe = _with_prior(recipe, spec)
    check(recipe, spec, trust)
    check_size(recipe, spec, lambda: _make_model(recipe, spec, trust)[0], copies)
    return _make_model(recipe, spec, trust)


def _make_model(recipe: Recipe, spec: DataSpec, trust: bool) -> tuple[VAE, Objective]:
    """The model and its objective; all parts fit each other."""
    network = _make_network(recipe, trust)
    likelihood = _make_likelihood(recipe, spec, trust)
    latents = _latents(recipe)
    mask_input = spec.missing and recipe.missing == "mask"
    encoder, scales = _make_encoder(network, spec, len(latents), mask_input)
    grid = () if scales else network.grid(spec.shape)
    condition = 0 if spec.condition is None else spec.condition.width
    condition_encoder = None
    features = encoder.features
    if spec.condition is not None:
        is_vector = not grid and not scales
        condition_encoder = _make_condition_encoder(
            network, features + condition, is_vector
        )
        features = condition_encoder.features
    classes = _classes(recipe)
    grids = tuple(encoder.grids) if scales else ()
    top_places = math.prod(grids[scales[-1]] if scales else grid)
    arguments = {"spec": spec, "above": classes or condition, "network": network}
    prior = make_component(
        "prior", recipe.prior, trust, top_places * latents[-1], **arguments
    )
    parts = Parts(
        network=network,
        latents=latents,
        features=features,
        prior=prior,
        posterior=partial(_make_posterior, recipe, spec, trust),
        out=(likelihood.params, *spec.shape),
        condition=condition,
        classes=classes,
        grid=grid,
        scales=scales,
        grids=grids,
    )
    hierarchy = _make_hierarchy(recipe, parts)
    critic = _make_critic(recipe, spec, network, top_places * latents[0], trust)
    objective = _make_objective(recipe, spec, critic, trust)
    model = VAE(
        spec,
        encoder,
        hierarchy,
        likelihood,
        critic=critic,
        condition_encoder=condition_encoder,
        mask_input=mask_input,
        objective=objective,
    )
    _attach(model)
    return model, objective


def _latents(recipe: Recipe) -> tuple[int, ...]:
    """Features of each latent site, z1 first."""
    assert recipe.latent != "auto", "resolve the recipe first"
    return (recipe.latent,) if isinstance(recipe.latent, int) else recipe.latent


def _classes(recipe: Recipe) -> int:
    """Classes of the site y; 0 without one."""
    if recipe.hierarchy == "labelled" and recipe.classes != "auto":
        return int(recipe.classes)
    return 0


def _attach(model: VAE) -> None:
    """Give the complete model to each part that acts in training."""
    for module in list(model.modules()):
        if isinstance(module, ModelPart):
            module.attach(model)


def _make_condition_encoder(network: Any, inputs: int, is_vector: bool) -> Any:
    """The module that joins the features of x and the condition."""
    if not is_vector:
        raise TightboundError(
            "latents on grids take no condition: set network mlp, or conv without shrink"
        )
    return network.link(inputs)


def _make_posterior(
    recipe: Recipe,
    spec: DataSpec,
    trust: bool,
    features: int,
    latent: int,
    places: int = 1,
) -> Posterior:
    posterior: Posterior = make_component(
        "posterior",
        recipe.posterior,
        trust,
        features,
        latent,
        places=places,
        spec=spec,
    )
    return posterior


def _make_network(recipe: Recipe, trust: bool) -> Any:
    network = make_component("network", recipe.network, trust, str(recipe.size))
    if ":" in recipe.network.name and isinstance(network, Network):
        return CheckedNetwork(recipe.network.name, network)
    return network


def _make_likelihood(recipe: Recipe, spec: DataSpec, trust: bool) -> Likelihood:
    domains = find_component("likelihood", recipe.likelihood, trust).domains
    if spec.domain not in domains:
        raise TightboundError(_misfit(recipe.likelihood.name, domains, spec.domain))
    likelihood: Likelihood = make_component(
        "likelihood", recipe.likelihood, trust, spec
    )
    if spec.missing and likelihood.keeps_statistics:
        raise TightboundError(
            f"likelihood {recipe.likelihood.name!r} needs all values: set "
            "likelihood.scale=learned"
        )
    return likelihood


def _make_encoder(
    network: Network | MultiscaleNetwork, spec: DataSpec, latents: int, mask_input: bool
) -> tuple[Any, tuple[int, ...]]:
    """The encoder, and the scale of each latent of a multiscale network."""
    channels = spec.shape[0]
    if mask_input:
        channels *= 2
    shape = (channels, *spec.shape[1:])
    if isinstance(network, MultiscaleNetwork):
        scales = network.scales(spec.shape, latents)
        return network.encoder(shape, scales[-1]), scales
    encoder = network.encoder(shape)
    if network.reads_range:
        return InRange(encoder, spec), ()
    return encoder, ()


def _make_hierarchy(recipe: Recipe, parts: Parts) -> Hierarchy:
    if isinstance(parts.network, MultiscaleNetwork):
        return top_down_on_grids(parts, parts.network)
    return HIERARCHIES[recipe.hierarchy](parts)


def _make_critic(
    recipe: Recipe, spec: DataSpec, network: Any, latent: int, trust: bool
) -> nn.Module | None:
    """The critic of an adversarial objective: of codes, or of examples."""
    wanted = find_component("objective", recipe.objective, trust).build_arguments
    if "critic" in wanted:
        body = network.link(latent)
        return nn.Sequential(body, _logit(body))
    if "discriminator" in wanted:
        body = network.encoder(spec.shape)
        return nn.Sequential(Standard(spec), body, _logit(body))
    return None


def _make_objective(
    recipe: Recipe, spec: DataSpec, critic: nn.Module | None, trust: bool
) -> Objective:
    with torch.device("cpu"):  # also where the model is measured on the meta device
        reach = spec.reach
    objective: Objective = make_component(
        "objective",
        recipe.objective,
        trust,
        rows=spec.rows,
        labelled=spec.labelled,
        reach=reach,
        critic=critic,
        discriminator=critic,
    )
    return objective


def _logit(body: Any) -> nn.Module:
    """A linear map of a body's features to one number a row."""
    return nn.Sequential(nn.Linear(body.features, 1), nn.Flatten(0))
