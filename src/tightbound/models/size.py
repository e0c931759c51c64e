"""The memory that the parameters of a model need, known before they are made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from tightbound.core.data_spec import DataSpec
from tightbound.models.recipes import Recipe
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.memory import check_memory

LARGE = 20_000  # dimensions or latents from which a model is measured first
MOST_VALUES = 2**31  # numbers of one example
# Posteriors and priors with a matrix of the latents among each other.
QUADRATIC = ("full-normal", "inverse-autoregressive", "flow", "maf", "iaf", "sylvester")
BYTES = 4  # of a number


def is_large(recipe: Recipe, spec: DataSpec) -> bool:
    """True for a model that might not fit in memory."""
    return max(spec.dims, number_of_latents(recipe)) > LARGE


def number_of_latents(recipe: Recipe) -> int:
    """The features of all latent sites together; 0 where they are not chosen yet."""
    if recipe.latent == "auto":
        return 0
    if isinstance(recipe.latent, int):
        return recipe.latent
    return sum(recipe.latent)


def check_size(
    recipe: Recipe, spec: DataSpec, make: Callable[[], nn.Module], copies: int = 1
) -> None:
    """Refuse a model whose parameters do not fit in memory.

    Args:
        recipe: components and sizes.
        spec: the shape of the data.
        make: makes the model; it is made once on the meta device, without memory.
        copies: of the parameters; training keeps gradients and two moments beside them.

    Raises:
        TightboundError: with the memory that they need.
    """
    if spec.dims > MOST_VALUES:
        raise TightboundError(
            f"an example of shape {spec.shape} has {spec.dims:,} numbers, and a model takes "
            f"{MOST_VALUES:,} at the most: cut the examples into smaller ones"
        )
    if not is_large(recipe, spec):
        return
    latents = number_of_latents(recipe)
    for part in (recipe.posterior, recipe.prior):
        if part.name in QUADRATIC:
            check_memory(
                f"{part.name!r} with latent = {recipe.latent}",
                2 * BYTES * latents**2,
                "lower latent",
            )
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = make()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return  # a part that reads its numbers while it is made
    count = sum(parameter.numel() for parameter in model.parameters())
    check_memory(
        f"a model with latent = {recipe.latent} for {spec.dims:,} numbers an example",
        count * BYTES * copies,
        "lower latent or recipe.size, or take smaller examples",
    )


def check_step(recipe: Recipe, spec: DataSpec, rows: int, what: str) -> None:
    """Refuse a training step whose examples and samples do not fit in memory.

    Args:
        recipe: components and sizes, with the samples k of an example.
        spec: the shape of the data.
        rows: examples that go through the model at once.
        what: the settings that decide it, for messages.

    Raises:
        TightboundError: with the memory of x, z and p(x|z) and their gradients alone.
    """
    values = rows * recipe.k * (spec.dims + number_of_latents(recipe))
    check_memory(what, 2 * values * BYTES, "lower train.batch or recipe.k")
