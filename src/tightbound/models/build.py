"""Recipe x DataSpec -> model and objective."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from tightbound.components.likelihoods import AUTO
from tightbound.components.networks import Fitted, Standard
from tightbound.core.data_spec import DataSpec
from tightbound.models.build_hierarchy import (
    bidirectional,
    bottom_up,
    by_scale,
    labelled,
    top_down,
)
from tightbound.models.compatibility import check, component
from tightbound.models.hierarchy import Flat
from tightbound.models.recipes import Part, Recipe
from tightbound.models.vae import VAE, Objective
from tightbound.runtime.errors import TightboundError, nearest

POSITIVE = ("value", "scale", "curvature", "longest", "sigma", "temperature")
RANGES = {
    ("dip", "kind"): (1, 2),
    ("ciwae", "beta"): (0, 1),
    ("vector-quantized", "decay"): (0, 1),
    ("renyi", "alpha"): (-math.inf, math.inf),
    ("pyramid", "sites"): (0, math.inf),
}


def make(kind: str, part: Part, trust: bool, *args: Any, **told: Any) -> Any:
    """An instance of a part; an unknown option, or a value of the wrong kind, is refused with the
    nearest name.

    told: what parts may ask for in `needs`, beside what all of their kind are given.
    """
    cls = component(kind, part, trust)
    asked = {name: told[name] for name in getattr(cls, "needs", ())}
    known = [
        n for n in inspect.signature(cls).parameters if n != "self" and n not in asked
    ][len(args) :]
    for key in part.options:
        if key not in known:
            raise TightboundError(
                f"{kind} {part.name!r} has no option {key!r}: {nearest(key, known)}"
            )
    hints = get_type_hints(cls.__init__, include_extras=True)
    options = {
        key: _value(kind, part.name, key, v, hints.get(key, Any))
        for key, v in part.options.items()
    }
    try:
        return cls(*args, **asked, **options)
    except (TypeError, RuntimeError) as e:
        raise TightboundError(
            f"{kind} {part.name!r} does not take these options: {e}"
        ) from e


def _value(kind: str, name: str, key: str, value: Any, hint: Any) -> Any:
    """The value of an option in its type; of a part of the table, counts are 1 or more, and weights
    0 or more.
    """
    try:
        found = TypeAdapter(hint).validate_python(value)
    except ValidationError as e:
        fix = (
            nearest(value, get_args(hint))
            if get_origin(hint) is Literal
            else e.errors()[0]["msg"]
        )
        raise TightboundError(
            f"{kind} {name!r} has option {key} = {value!r}, which it does not know: {fix}"
        ) from e
    for n in found if isinstance(found, tuple | list) else (found,):
        least, most = RANGES.get(
            (name, key), (1e-6 if key in POSITIVE else type(n) is int, math.inf)
        )
        if type(n) in (int, float) and ":" not in name and not least <= n <= most:
            fix = f"give {least:g} {'or more' if most == math.inf else f'to {most:g}'}"
            raise TightboundError(
                f"{kind} {name!r} has option {key} = {value!r}: {fix}"
            )
    return found


def resolve_domain(
    recipe: Recipe, spec: DataSpec, trust: bool = True
) -> tuple[Recipe, DataSpec, list[str]]:
    """Picks the likelihood, and the domain it reads the data in; returns what a person should be
    told, a line each.

    Integers under a density on [0, 1] (continuous Bernoulli, Gaussian) are read as reals x / (L -
    1), and that is said. Raises TightboundError where the likelihood does not fit the data.
    """
    if recipe.likelihood.name == "auto":
        mixed = (
            photographs(spec) and recipe.missing == "refused"
        )  # it knows a pixel's channels together only
        chosen = (
            {"name": "logistic-mixture", "components": 5}
            if mixed
            else {"name": AUTO[spec.domain]}
        )
        return (
            recipe.model_copy(
                update={"likelihood": Part(**chosen | recipe.likelihood.options)}
            ),
            spec,
            [],
        )
    domains = component("likelihood", recipe.likelihood, trust).domains
    if spec.domain in domains:
        return recipe, spec, []
    name = recipe.likelihood.name
    if spec.domain == "levels" and "unit" in domains:
        note = (
            f"likelihood {name!r} is a density, so the {spec.levels} levels are read as reals "
            f"x / {(spec.levels or 2) - 1} in [0, 1]; its nats do not compare "
            "with those of a mass function "
            "(discretized-logistic)"
        )
        return recipe, spec.as_domain("unit"), [note]
    raise TightboundError(_misfit(name, domains, spec.domain))


def _misfit(name: str, domains: tuple[str, ...], domain: str) -> str:
    fixes = {
        "levels": (
            "set data.binarize=dynamic, or likelihood continuous-bernoulli or "
            "discretized-logistic"
        ),
        "unit": "set data.binarize=dynamic, or likelihood continuous-bernoulli or gaussian",
        "binary": "set likelihood bernoulli",
        "real": (
            "set likelihood gaussian, or data.domain if the values are levels or "
            "counts after all"
        ),
        "categorical": "set likelihood categorical",
        "count": "set likelihood negative-binomial or poisson, or data.domain=real",
        "mixed": "set likelihood fields, or data.fields so that all columns are of one kind",
    }
    return (
        f"likelihood {name!r} is for {' or '.join(domains)} data, but these are "
        f"{domain}: {fixes[domain]}"
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
    """Replaces every "auto" by what was measured to serve such data best (docs/results.md), and
    checks the rest.
    """
    prior = component("prior", recipe.prior, trust)
    relaxed = (
        recipe.posterior.name == "categorical" and recipe.objective.name != "vimco"
    )
    if not getattr(prior, "density", True) or (
        relaxed and getattr(prior, "numbers", False)
    ):
        raise TightboundError(
            f"prior {recipe.prior.name!r} gives this posterior no gradient to "
            "train by: train with another and fit it "
            f"afterwards, tightbound fit-prior RUN {recipe.prior.name}"
        )
    updates: dict[str, Any] = {}
    options, photos = dict(recipe.network.options), photographs(spec) and recipe.k == 1
    if recipe.network.name == "auto":
        conv = photos or (spec.kind != "vector" and spec.dims > 64 * 64 * 3)
        grids = getattr(component("posterior", recipe.posterior, trust), "grids", False)
        plain = (
            recipe.prior.name == "standard"
            and recipe.path == "flat"
            and recipe.latent == "auto"
        )
        if photos and grids and plain and spec.condition is None:
            options.setdefault("shrink", 4 * -(-max(spec.shape) // 64))
        updates["network"] = Part(name="conv" if conv else "mlp", **options)
    if recipe.size == "auto":
        updates["size"] = "m" if 256 < spec.dims <= 4096 else "s"
    if recipe.latent == "auto":
        updates["latent"] = (
            8
            if options.get("shrink")
            else 16
            if spec.dims <= 128
            else 40
            if spec.dims <= 1024
            else 128
        )
    if recipe.classes == "auto" and recipe.path == "labelled":
        updates["classes"] = 10 if spec.labels is None else len(spec.labels)
    recipe = recipe.model_copy(update=updates)
    check(recipe, spec, trust)
    return recipe


def build(
    recipe: Recipe, spec: DataSpec, *, trust: bool = True
) -> tuple[VAE, Objective]:
    """The model and its objective, for a recipe whose "auto" values are resolved.

    Raises TightboundError where something does not fit; `trust=False` refuses parts by import path.
    """
    check(recipe, spec, trust)
    network = make("network", recipe.network, trust, str(recipe.size))
    if ":" in recipe.network.name:
        network = Fitted(recipe.network.name, network)
    domains = component("likelihood", recipe.likelihood, trust).domains
    if spec.domain not in domains:
        raise TightboundError(_misfit(recipe.likelihood.name, domains, spec.domain))
    likelihood = make("likelihood", recipe.likelihood, trust, spec)
    if spec.missing and getattr(likelihood, "observes", False):
        raise TightboundError(
            f"likelihood {recipe.likelihood.name!r} needs all values: set likelihood.scale=learned"
        )
    out = (likelihood.params, *spec.shape)
    assert recipe.latent != "auto", "resolve the recipe first"
    latents: tuple[int, ...] = (
        (recipe.latent,) if isinstance(recipe.latent, int) else recipe.latent
    )
    scaled = getattr(network, "by_scale", False)
    scales = network.scales(spec.shape, len(latents)) if scaled else ()
    hint = spec.missing and recipe.missing == "mask"
    seen = (2 * spec.shape[0], *spec.shape[1:]) if hint else spec.shape
    encoder = network.encoder(seen, *scales[-1:])
    grids = [encoder.grids[s] for s in scales] or [getattr(encoder, "grid", ())] * len(
        latents
    )
    sizes = [
        math.prod(grid) * latent for grid, latent in zip(grids, latents, strict=True)
    ]

    def posterior(features: int, latent: int, places: int = 1) -> nn.Module:
        return make(
            "posterior",
            recipe.posterior,
            trust,
            features,
            latent,
            places=places,
            spec=spec,
        )

    above, features, told = 0, encoder.features, None
    if spec.condition is not None:
        if any(grids):
            raise TightboundError(
                "latents on grids cannot be told a condition: set network mlp, or conv, no shrink"
            )
        above = spec.condition.width
        told = network.link(features + above)
        features = told.features
    classes = (
        {"y": int(recipe.classes)}
        if recipe.path == "labelled" and recipe.classes != "auto"
        else {}
    )
    top = make(
        "prior",
        recipe.prior,
        trust,
        sizes[-1],
        spec=spec,
        above=classes.get("y", above),
        network=network,
    )
    path: nn.Module
    if recipe.path == "flat":
        q = posterior(features, latents[0], math.prod(grids[0]))
        path = Flat(top, q, network.decoder(above + latents[0], out))
    elif recipe.path == "labelled":
        path = labelled(
            network, latents[0], features, top, classes["y"], posterior, out, above
        )
    elif scaled:
        path = by_scale(network, latents, scales, encoder, top, posterior, out)
    else:
        assemble = {
            "top-down": top_down,
            "bottom-up": bottom_up,
            "bidirectional": bidirectional,
        }[recipe.path]
        path = assemble(network, latents, features, top, posterior, out, above)
    critic = None
    wants = set(
        getattr(component("objective", recipe.objective, trust), "needs", ())
    ) & {"critic", "discriminator"}
    if wants:  # of codes, or of examples
        body = (
            network.link(sizes[0])
            if wants == {"critic"}
            else network.encoder(spec.shape)
        )
        judge = nn.Sequential(nn.Linear(body.features, 1), nn.Flatten(0))
        critic = nn.Sequential(
            *([] if wants == {"critic"} else [Standard(spec)]), body, judge
        )
    known = {"rows": spec.rows, "labelled": spec.labelled, "reach": spec.reach}
    objective: Objective = make(
        "objective",
        recipe.objective,
        trust,
        **known,
        critic=critic,
        discriminator=critic,
    )
    model = VAE(spec, encoder, path, likelihood, critic, told, hint)
    level = {
        name: int(name[1:] or 1)
        for name in model.sites
        if name not in (*getattr(top, "sites", ()), *classes)
    }
    model.widths = {
        name: sizes[at - 1]
        for name, at in sorted(level.items(), key=lambda pair: pair[1])
    } | classes
    owners: list[Any] = [m for m in model.modules() if hasattr(m, "bind")]
    for owner in owners:
        owner.bind(model)
    return model, objective
