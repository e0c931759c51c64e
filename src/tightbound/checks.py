"""Whether a recipe and its data agree on what a model is told of an example beside x."""

from __future__ import annotations

from tightbound.errors import TightboundError
from tightbound.posteriors import POSTERIORS
from tightbound.priors import PRIORS
from tightbound.recipes import Recipe
from tightbound.spec import DataSpec


def check_data(recipe: Recipe, spec: DataSpec) -> None:
    """Raises TightboundError where they do not: conditions, missing values, and parts that look at x alone."""
    prior = PRIORS.get(recipe.prior.name)
    if recipe.conditional and spec.condition is None:
        raise TightboundError(
            f"recipe {recipe.name!r} is conditional, and these data have nothing to condition on: give labels, or name "
            "columns by data.condition"
        )
    if spec.condition is not None and not recipe.conditional:
        raise TightboundError(
            f"data.condition is for conditional models, and recipe {recipe.name!r} is none: set recipe.conditional=true"
        )
    if getattr(prior, "reads_state", False) and not recipe.conditional and recipe.path != "labelled":
        raise TightboundError(
            f"prior {recipe.prior.name!r} needs a condition to depend on: set recipe.conditional=true"
        )
    if spec.missing and recipe.missing == "refused":
        raise TightboundError(
            f"recipe {recipe.name!r} takes no missing values (data.masked): set recipe.missing=zero, or train recipe "
            "missing-data"
        )
    for kind, table, other in (("prior", PRIORS, "standard"), ("posterior", POSTERIORS, "normal")):
        name = getattr(recipe, kind).name
        if getattr(table.get(name), "bare", False) and (recipe.conditional or spec.missing):
            what = "without their condition" if recipe.conditional else "of which nothing may be missing"
            raise TightboundError(f"{kind} {name!r} encodes examples {what}: set {kind} {other}")
