"""Whether the parts of a recipe fit each other and the data: every rule, and the sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product

from tightbound.errors import TightboundError
from tightbound.objectives import OBJECTIVES
from tightbound.posteriors import POSTERIORS
from tightbound.priors import PRIORS
from tightbound.recipes import Recipe
from tightbound.spec import DataSpec


def check(recipe: Recipe, spec: DataSpec) -> None:
    """Raises TightboundError with the first reason why parts do not fit each other or the data."""
    rules = (_network(recipe, spec), _objective(recipe, spec), _latents(recipe), _told(recipe, spec), _sites(recipe))
    for sentence in chain(*rules):
        raise TightboundError(sentence)


def _network(recipe: Recipe, spec: DataSpec) -> Iterator[str]:
    """Where a network does not fit the data, or its grids the path or the posterior."""
    name, posterior = recipe.network.name, POSTERIORS.get(recipe.posterior.name)
    if name in ("conv", "pyramid") and spec.kind == "vector":
        yield (
            f"network {name!r} needs signals, images or volumes, but these are vectors of {spec.dims} numbers: "
            "set network mlp, or data.kind=signal if neighbours belong together"
        )
    path = "top-down" if name == "pyramid" else "flat" if recipe.network.options.get("shrink") else None
    if path not in (None, recipe.path):
        yield f"this network {name!r} has latents on grids, which need path {path}: set path {path}"
    if path and posterior and not getattr(posterior, "grids", False):
        fit = " or ".join(key for key, cls in POSTERIORS.items() if getattr(cls, "grids", False))
        yield (
            f"posterior {recipe.posterior.name!r} is for vectors, and this network has latents on grids: "
            f"set posterior {fit}"
        )


def _objective(recipe: Recipe, spec: DataSpec) -> Iterator[str]:
    """Where the objective would be wrong, or not defined, for posterior, path, k or the data."""
    posterior, cls = recipe.posterior.name, OBJECTIVES.get(recipe.objective.name)
    name = f"objective {recipe.objective.name!r}"
    serves = getattr(cls, "posteriors", tuple(n for n in POSTERIORS if n != "delta")) if cls else None
    if serves == ("delta",) and posterior != "delta":
        yield f"{name} would train the posterior to a point: set posterior delta, or objective elbo"
    if posterior == "delta" and serves is not None and "delta" not in serves:
        yield f"posterior 'delta' is a point and has no {name[10:]}: set objective distortion, or posterior normal"
    if serves is not None and posterior in POSTERIORS and posterior not in serves:
        yield f"{name} is not defined for posterior {posterior!r}: set {serves[0]}"
    again = getattr(cls, "asks_again", False)
    if again and not getattr(POSTERIORS.get(posterior), "density", True):
        yield (
            f"{name} asks how log q changes at a given z, which posterior {posterior!r} does not know: "
            "set objective iwae or elbo, or posterior inverse-autoregressive, of codes categorical"
        )
    if again and (recipe.path == "labelled" or getattr(PRIORS.get(recipe.prior.name), "bare", False)):
        yield f"{name} has no meaning along path 'labelled', nor with a prior made of q: set objective elbo or iwae"
    paths = getattr(cls, "paths", (recipe.path,))
    if recipe.path not in paths:
        yield f"{name} has no meaning along path {recipe.path!r}: set path {paths[0]}"
    if spec.domain not in getattr(cls, "domains", (spec.domain,)):
        yield f"{name} compares numbers that can move by a little, and these data are {spec.domain}: set objective elbo"
    if spec.missing and hasattr(cls, "domains"):
        yield f"{name} compares every value of x, and some are missing: set objective iwae"
    m = recipe.objective.options.get("m", getattr(cls, "m", 1))
    if isinstance(m, int) and (m < 1 or recipe.k % m):
        yield f"{name} cannot share k = {recipe.k} samples out among m = {m} bounds: set k to a multiple of m"


def _latents(recipe: Recipe) -> Iterator[str]:
    """Where posterior, prior and path do not describe the same latent."""
    parts = {"prior": PRIORS.get(recipe.prior.name), "posterior": POSTERIORS.get(recipe.posterior.name)}
    names = {"prior": recipe.prior.name, "posterior": recipe.posterior.name, "path": recipe.path}
    space = getattr(parts["posterior"], "space", "real")
    if all(parts.values()) and space != getattr(parts["prior"], "space", "real"):
        fit = " or ".join(name for name, cls in PRIORS.items() if getattr(cls, "space", "real") == space)
        yield (
            f"posterior {names['posterior']!r} and prior {names['prior']!r} live in different spaces: set prior {fit}"
        )
    if space != "real" and recipe.path != "flat":
        yield f"posterior {names['posterior']!r} is for one latent: set path flat"
    for owner, kind in ((owner, kind) for owner, kind in product(parts, names) if owner != kind):
        serves, chosen = getattr(parts[owner], f"{kind}s", None), names[kind]
        if serves is not None and chosen not in serves and ":" not in chosen:
            yield f"{owner} {names[owner]!r} does not go with {kind} {chosen!r}: set {kind} {' or '.join(serves)}"


def _told(recipe: Recipe, spec: DataSpec) -> Iterator[str]:
    """Where they do not agree on what a model is told beside x: conditions, and which values are missing."""
    name, prior = recipe.name, recipe.prior.name
    if recipe.conditional and spec.condition is None:
        yield (
            f"recipe {name!r} is conditional, and these data have nothing to condition on: give labels, or name "
            "columns by data.condition"
        )
    if spec.condition is not None and not recipe.conditional:
        yield f"data.condition is for conditional models, and recipe {name!r} is none: set recipe.conditional=true"
    if getattr(PRIORS.get(prior), "reads_state", False) and not recipe.conditional and recipe.path != "labelled":
        yield f"prior {prior!r} needs a condition to depend on: set recipe.conditional=true"
    if spec.missing and recipe.missing == "refused":
        yield (
            f"recipe {name!r} takes no missing values (data.masked): set recipe.missing=zero, or train recipe "
            "missing-data"
        )
    for kind, table, other in (("prior", PRIORS, "standard"), ("posterior", POSTERIORS, "normal")):
        part = getattr(recipe, kind).name
        if getattr(table.get(part), "bare", False) and (recipe.conditional or spec.missing):
            what = "without their condition" if recipe.conditional else "of which nothing may be missing"
            yield f"{kind} {part!r} encodes examples {what}: set {kind} {other}"


def _sites(recipe: Recipe) -> Iterator[str]:
    """Where a path has another number of latents than the recipe."""
    sites, one = 1 if isinstance(recipe.latent, int) else len(recipe.latent), recipe.path in ("flat", "labelled")
    if one and sites != 1:
        yield f"path {recipe.path!r} has one latent, but latent names {sites}: set path top-down or bottom-up"
    if not one and sites < 2:
        yield f"path {recipe.path!r} needs two latents or more: set latent to, say, [32, 16]"
