"""Whether the parts of a recipe fit each other and the data: every rule, and the sentence that says
what to do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from itertools import chain, product
from typing import Any

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.components.networks import NETWORKS
from tightbound.components.objectives import OBJECTIVES
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.data_spec import DataSpec
from tightbound.models.recipes import Part, Recipe
from tightbound.runtime.errors import TightboundError, lookup

PLACES: dict[str, Mapping[str, Any]] = {
    "posterior": POSTERIORS,
    "prior": PRIORS,
    "likelihood": LIKELIHOODS,
    "objective": OBJECTIVES,
    "network": NETWORKS,
}


def component(kind: str, part: Part, trust: bool) -> Any:
    """The class that a part names: in its registry, or at `package.module:Name`, which runs only
    with `trust`.
    """
    if ":" not in part.name:
        return lookup(PLACES[kind], part.name, kind)
    if not trust:
        raise TightboundError(
            f"{kind} {part.name!r} is code from outside tightbound, named in a "
            "file that you did not write now: "
            "read it, then load with trust=True (on the command line: --trust)"
        )
    module, _, name = part.name.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise TightboundError(f"{kind} {part.name!r} cannot be imported: {e}") from e


def check(recipe: Recipe, spec: DataSpec, trust: bool) -> None:
    """Raises TightboundError with the first reason why parts do not fit each other or the data."""
    parts = {kind: component(kind, getattr(recipe, kind), trust) for kind in PLACES}
    for sentence in chain(
        _network(recipe, spec, parts["posterior"]),
        _objective(recipe, spec, parts),
        _latents(recipe, parts),
        _told(recipe, spec, parts),
        _sites(recipe),
    ):
        raise TightboundError(sentence)


def _network(recipe: Recipe, spec: DataSpec, posterior: Any) -> Iterator[str]:
    """Where a network does not fit the data, or its grids the path or the posterior."""
    name = recipe.network.name
    if name in ("conv", "pyramid") and spec.kind == "vector":
        yield (
            f"network {name!r} needs signals, images or volumes, but these are "
            f"vectors of {spec.dims} numbers: "
            "set network mlp, or data.kind=signal if neighbours belong together"
        )
    path = (
        "top-down"
        if name == "pyramid"
        else "flat"
        if recipe.network.options.get("shrink")
        else None
    )
    if path not in (None, recipe.path):
        yield f"this network {name!r} has latents on grids, which need path {path}: set path {path}"
    if path and not getattr(posterior, "grids", False):
        fit = " or ".join(
            key for key, cls in POSTERIORS.items() if getattr(cls, "grids", False)
        )
        yield (
            f"posterior {recipe.posterior.name!r} is for vectors, not for latents "
            f"on grids: set posterior {fit}"
        )


def _objective(
    recipe: Recipe, spec: DataSpec, parts: Mapping[str, Any]
) -> Iterator[str]:
    """Where the objective would be wrong, or not defined, for posterior, path, k or the data."""
    q, cls, point = (
        recipe.posterior.name,
        parts["objective"],
        getattr(parts["posterior"], "point", False),
    )
    name = f"objective {recipe.objective.name!r}"
    usual = tuple(n for n in POSTERIORS if n != "delta" or ":" in recipe.objective.name)
    serves = getattr(cls, "posteriors", usual) or tuple(POSTERIORS)
    if serves == ("delta",) and not point:
        yield f"{name} would train the posterior to a point: set posterior delta, or objective elbo"
    if point and "delta" not in serves:
        yield (
            f"posterior {q!r} is a point and has no {name[10:]}: set objective "
            "distortion, or posterior normal"
        )
    if q in POSTERIORS and q not in serves:
        yield f"{name} is not defined for posterior {q!r}: set {serves[0]}"
    again = getattr(cls, "asks_again", False)
    if again and not getattr(parts["posterior"], "density", True):
        yield (
            f"{name} asks how log q changes at a given z, which posterior {q!r} does not know: "
            "set objective iwae or elbo, or posterior inverse-autoregressive, of codes categorical"
        )
    if again and (recipe.path == "labelled" or getattr(parts["prior"], "bare", False)):
        yield (
            f"{name} has no meaning along path 'labelled', nor with a prior made "
            "of q: set objective elbo or iwae"
        )
    paths = getattr(cls, "paths", (recipe.path,))
    if recipe.path not in paths:
        yield f"{name} has no meaning along path {recipe.path!r}: set path {paths[0]}"
    if spec.domain not in getattr(cls, "domains", (spec.domain,)):
        yield (
            f"{name} compares numbers that can move by a little, and these data "
            f"are {spec.domain}: set objective elbo"
        )
    if spec.missing and hasattr(cls, "domains"):
        yield f"{name} compares every value of x, and some are missing: set objective iwae"
    m = recipe.objective.options.get("m", getattr(cls, "m", 1))
    if isinstance(m, int) and (m < 1 or recipe.k % m):
        yield (
            f"{name} cannot share k = {recipe.k} samples out among m = {m} bounds: "
            "set k to a multiple of m"
        )


def _latents(recipe: Recipe, parts: Mapping[str, Any]) -> Iterator[str]:
    """Where posterior, prior and path do not describe the same latent."""
    names = {
        "prior": recipe.prior.name,
        "posterior": recipe.posterior.name,
        "path": recipe.path,
    }
    space = getattr(parts["posterior"], "space", "real")
    if space != getattr(parts["prior"], "space", "real"):
        fit = " or ".join(
            name
            for name, cls in PRIORS.items()
            if getattr(cls, "space", "real") == space
        )
        yield (
            f"posterior {names['posterior']!r} and prior {names['prior']!r} have "
            f"different spaces: set prior {fit}"
        )
    if space != "real" and recipe.path != "flat":
        yield f"posterior {names['posterior']!r} is for one latent: set path flat"
    for owner, kind in (
        (owner, kind)
        for owner, kind in product(("prior", "posterior"), names)
        if owner != kind
    ):
        serves, chosen = getattr(parts[owner], f"{kind}s", None), names[kind]
        if serves is not None and chosen not in serves and ":" not in chosen:
            yield (
                f"{owner} {names[owner]!r} does not go with {kind} {chosen!r}: set "
                f"{kind} {' or '.join(serves)}"
            )


def _told(recipe: Recipe, spec: DataSpec, parts: Mapping[str, Any]) -> Iterator[str]:
    """Where they do not agree on what a model is told beside x: conditions, and which values are
    missing.
    """
    name, prior = recipe.name, recipe.prior.name
    if recipe.conditional and spec.condition is None:
        yield (
            f"recipe {name!r} is conditional, and these data have no labels: give "
            "some, or name data.condition"
        )
    if spec.condition is not None and not recipe.conditional:
        yield (
            f"data.condition is for conditional models, and recipe {name!r} is "
            "none: set recipe.conditional=true"
        )
    if (
        getattr(parts["prior"], "reads_state", False)
        and not recipe.conditional
        and recipe.path != "labelled"
    ):
        yield f"prior {prior!r} needs a condition to depend on: set recipe.conditional=true"
    if recipe.classes not in ("auto", len(spec.labels or ())) and getattr(
        parts["objective"], "labels", False
    ):
        yield (
            f"classes = {recipe.classes} are not as many as the labels have, "
            f"{len(spec.labels or ())}: leave them out"
        )
    if recipe.classes != "auto" and recipe.path != "labelled":
        yield (
            f"classes are of path 'labelled', and recipe {name!r} has path "
            f"{recipe.path!r}: set recipe gm-vae or m2"
        )
    if spec.missing and recipe.missing == "refused":
        yield (
            f"recipe {name!r} takes no missing values (data.allow_missing): set "
            "recipe.missing=zero, or recipe missing-data"
        )
    for kind, other in (("prior", "standard"), ("posterior", "normal")):
        part = getattr(recipe, kind).name
        if getattr(parts[kind], "bare", False) and (recipe.conditional or spec.missing):
            what = (
                "without their condition"
                if recipe.conditional
                else "of which nothing may be missing"
            )
            yield f"{kind} {part!r} encodes examples {what}: set {kind} {other}"


def _sites(recipe: Recipe) -> Iterator[str]:
    """Where a path has another number of latents than the recipe."""
    sites, one = (
        1 if isinstance(recipe.latent, int) else len(recipe.latent),
        recipe.path in ("flat", "labelled"),
    )
    if one and sites != 1:
        yield (
            f"path {recipe.path!r} has one latent, but latent names {sites}: set "
            "path top-down or bottom-up"
        )
    if not one and sites < 2:
        yield f"path {recipe.path!r} needs two latents or more: set latent to, say, [32, 16]"
