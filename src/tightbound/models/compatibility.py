"""Whether the components of a recipe fit each other and the data: every rule and its sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.component import Objective, Posterior, Prior
from tightbound.core.data_spec import DataSpec
from tightbound.models.parts import KINDS, find_component
from tightbound.models.recipes import Part, Recipe
from tightbound.runtime.errors import TightboundError

_MOST_CATEGORIES = 1024
_MOST_OUTPUTS = 1 << 22


@dataclass(frozen=True)
class Chosen:
    """A recipe, the data, and the classes of the components that the recipe names."""

    recipe: Recipe
    spec: DataSpec
    posterior: type[Posterior]
    prior: type[Prior]
    objective: type[Objective]
    advises: bool = True

    def fits_with(self, kind: str, name: str) -> bool:
        """True if no rule would refuse the recipe with another value of a setting."""
        value: str | Part = Part(name=name) if kind in KINDS else name
        recipe = self.recipe.model_copy(update={kind: value})
        other = replace(self, recipe=recipe, advises=False)
        if kind == "posterior" and name in POSTERIORS:
            other = replace(other, posterior=POSTERIORS[name])
        elif kind == "prior" and name in PRIORS:
            other = replace(other, prior=PRIORS[name])
        elif kind in KINDS:
            return False
        if untrainable(other.recipe, other.prior) is not None:
            return False
        return all(rule(other) is None for rule in RULES)

    def advice(self, kind: str, names: Sequence[str]) -> str:
        """`normal or learned`: those of some values that would not be refused next.

        All of them where each needs further changes.
        """
        fitting = []
        if self.advises:
            fitting = [name for name in names if self.fits_with(kind, name)]
        return " or ".join(fitting or names)


def untrainable(recipe: Recipe, prior: type[Prior]) -> str | None:
    """Why a prior gives the posterior no gradient, or None."""
    relaxed = (
        recipe.posterior.name == "categorical" and recipe.objective.name != "vimco"
    )
    if prior.has_density and not (relaxed and prior.reads_code_indices):
        return None
    return (
        f"prior {recipe.prior.name!r} gives this posterior no gradient to train by: train "
        "with another and fit it afterwards, tightbound fit-prior RUN "
        f"{recipe.prior.name}"
    )


def check(recipe: Recipe, spec: DataSpec, trust: bool) -> None:
    """Check that the components of a recipe fit each other and the data.

    Raises:
        TightboundError: With the first reason why they do not, and what to set instead.
    """
    classes = {
        kind: find_component(kind, getattr(recipe, kind), trust) for kind in KINDS
    }
    chosen = Chosen(
        recipe, spec, classes["posterior"], classes["prior"], classes["objective"]
    )
    for rule in RULES:
        sentence = rule(chosen)
        if sentence:
            raise TightboundError(sentence)


def _network_and_data(c: Chosen) -> str | None:
    """Convolutions need neighbours."""
    name = c.recipe.network.name
    if name == "autoencoder-kl" and c.spec.kind != "image":
        return (
            f"network {name!r} is for images, but an example here has shape {c.spec.shape}: take "
            "recipe vae"
        )
    if name in ("conv", "pyramid") and c.spec.kind == "vector":
        return (
            f"network {name!r} needs signals, images or volumes, but these are vectors of "
            f"{c.spec.dims} numbers: set network mlp, or data.kind=signal if neighbours belong "
            "together"
        )
    return None


def _grids(c: Chosen) -> str | None:
    """Latents on grids need their hierarchy and a posterior that handles grids."""
    name = c.recipe.network.name
    options = c.recipe.network.options
    if options.get("shrink") and options.get("decoder") == "mlp":
        return (
            f"network {name!r} cannot keep a grid of places (shrink) for a decoder that is a "
            "perceptron: leave out one of network.shrink and network.decoder"
        )
    if name == "pyramid":
        hierarchy = "top-down"
    elif options.get("shrink"):
        hierarchy = "flat"
    else:
        return None
    if hierarchy != c.recipe.hierarchy:
        return (
            f"this network {name!r} has latents on grids, which need hierarchy {hierarchy}: "
            f"set hierarchy {hierarchy}"
        )
    if not c.posterior.supports_grids:
        names = [key for key, cls in POSTERIORS.items() if cls.supports_grids]
        return (
            f"posterior {c.recipe.posterior.name!r} is for vectors, not for latents on grids: "
            f"set posterior {c.advice('posterior', names)}"
        )
    return None


def _objective_and_posterior(c: Chosen) -> str | None:
    """An objective is defined for some posteriors."""
    name = c.recipe.objective.name
    posterior = c.recipe.posterior.name
    served = c.objective.compatible_posteriors
    if served == "all":
        return None
    if served is None:
        outside = ":" in name
        served = tuple(key for key in POSTERIORS if outside or key != "delta")
    point = c.posterior.is_point_mass
    if served == ("delta",) and not point:
        return (
            f"objective {name!r} would train the posterior to a point: set posterior delta, or "
            "objective elbo"
        )
    if point and "delta" not in served:
        return (
            f"posterior {posterior!r} is a point and has no {name!r}: set objective distortion, "
            "or posterior normal"
        )
    if posterior in POSTERIORS and posterior not in served:
        fitting = c.advice("posterior", served).partition(" or ")[0]
        return (
            f"objective {name!r} is not defined for posterior {posterior!r}: set posterior "
            f"{fitting}"
        )
    return None


def _log_q_at_given_z(c: Chosen) -> str | None:
    """Path derivatives evaluate log q again at the z of a pass."""
    if not c.objective.needs_log_q_at_given_z:
        return None
    name = c.recipe.objective.name
    if not c.posterior.evaluates_given_z:
        return (
            f"objective {name!r} needs log q at a given z, which posterior "
            f"{c.recipe.posterior.name!r} cannot evaluate: set objective iwae or elbo, or "
            "posterior inverse-autoregressive, of codes categorical"
        )
    if c.recipe.hierarchy == "labelled" or c.prior.encodes_unconditionally:
        return (
            f"objective {name!r} has no meaning along hierarchy 'labelled', nor with a prior "
            "made of q: set objective elbo or iwae"
        )
    return None


def _objective_and_data(c: Chosen) -> str | None:
    """An objective may be defined for some hierarchies, domains and numbers of samples."""
    recipe = c.recipe
    name = recipe.objective.name
    hierarchies = c.objective.compatible_hierarchies
    if hierarchies is not None and recipe.hierarchy not in hierarchies:
        return (
            f"objective {name!r} has no meaning along hierarchy {recipe.hierarchy!r}: set "
            f"hierarchy {hierarchies[0]}"
        )
    if c.objective.domains is not None and c.spec.domain not in c.objective.domains:
        return (
            f"objective {name!r} compares numbers that can move by a little, and these data "
            f"are {c.spec.domain}: set objective elbo"
        )
    if c.spec.missing and c.objective.needs_all_values:
        return (
            f"objective {name!r} compares every value of x, and some are missing: set "
            "objective iwae"
        )
    m = recipe.objective.options.get("m", c.objective.default_bounds)
    if isinstance(m, int) and (m < 1 or recipe.k % m):
        return (
            f"objective {name!r} cannot share k = {recipe.k} samples out among m = {m} bounds: "
            "set k to a multiple of m"
        )
    return None


def _spaces(c: Chosen) -> str | None:
    """Posterior and prior describe a latent in the same space."""
    posterior = c.recipe.posterior.name
    space = c.posterior.latent_space
    if space != c.prior.latent_space:
        names = [name for name, cls in PRIORS.items() if cls.latent_space == space]
        return (
            f"posterior {posterior!r} and prior {c.recipe.prior.name!r} have different spaces: "
            f"set prior {c.advice('prior', names)}"
        )
    if space != "real" and c.recipe.hierarchy != "flat":
        return f"posterior {posterior!r} is for one latent: set hierarchy flat"
    return None


def _pairs(c: Chosen) -> str | None:
    """A prior or posterior may go with some posteriors, priors and hierarchies."""
    prior = ("prior", c.recipe.prior.name)
    posterior = ("posterior", c.recipe.posterior.name)
    hierarchy = ("hierarchy", c.recipe.hierarchy)
    for (owner, name), (kind, value), served in (
        (prior, posterior, c.prior.compatible_posteriors),
        (prior, hierarchy, c.prior.compatible_hierarchies),
        (posterior, prior, c.posterior.compatible_priors),
        (posterior, hierarchy, c.posterior.compatible_hierarchies),
    ):
        if served is not None and value not in served and ":" not in value:
            return (
                f"{owner} {name!r} does not go with {kind} {value!r}: set {kind} "
                f"{c.advice(kind, served)}"
            )
    if c.prior.extra_sites and c.posterior.uses_log_joint:
        names = [
            name
            for name, cls in PRIORS.items()
            if cls.latent_space == c.posterior.latent_space and not cls.extra_sites
        ]
        return (
            f"posterior {c.recipe.posterior.name!r} follows the gradient of log p(x, z), and "
            f"prior {c.recipe.prior.name!r}, which has latents of its own, has no closed form "
            f"of it: set prior {c.advice('prior', names)}"
        )
    return None


def _conditions(c: Chosen) -> str | None:
    """A conditional recipe needs conditions, and conditions need such a recipe."""
    recipe = c.recipe
    if recipe.conditional and c.spec.condition is None:
        return (
            f"recipe {recipe.name!r} is conditional, and these data have no labels: give some, "
            "or name data.condition"
        )
    if c.spec.condition is not None and not recipe.conditional:
        return (
            f"data.condition is for conditional models, and recipe {recipe.name!r} is none: set "
            "recipe.conditional=true"
        )
    if (
        c.prior.depends_on_state
        and not recipe.conditional
        and recipe.hierarchy != "labelled"
    ):
        return (
            f"prior {recipe.prior.name!r} needs a condition to depend on: set "
            "recipe.conditional=true"
        )
    return None


def _classes(c: Chosen) -> str | None:
    """The number of classes is that of the labels, and of the labelled hierarchy."""
    recipe = c.recipe
    labels = len(c.spec.labels or ())
    if recipe.classes not in ("auto", labels) and c.objective.learns_from_labels:
        return (
            f"classes = {recipe.classes} are not as many as the labels have, {labels}: leave "
            "them out"
        )
    if recipe.classes != "auto" and recipe.hierarchy != "labelled":
        return (
            f"classes are of hierarchy 'labelled', and recipe {recipe.name!r} has hierarchy "
            f"{recipe.hierarchy!r}: set recipe gm-vae or m2"
        )
    return None


def _outputs_of_categorical(c: Chosen) -> str | None:
    """A categorical likelihood has one output for each value of each dimension."""
    levels = c.spec.levels or 2
    outputs = levels * c.spec.dims
    is_small = levels <= _MOST_CATEGORIES and outputs < _MOST_OUTPUTS
    if c.recipe.likelihood.name != "categorical" or is_small:
        return None
    return (
        f"likelihood 'categorical' would have {outputs:,} outputs an example, one for each of "
        f"{levels:,} values in {c.spec.dims:,} dimensions: set likelihood "
        "discretized-logistic with data.domain=levels, or fewer values"
    )


def _missing_values(c: Chosen) -> str | None:
    """Missing values need a recipe that takes them."""
    if c.spec.missing and c.recipe.missing == "refused":
        return (
            f"recipe {c.recipe.name!r} takes no missing values (data.allow_missing): set "
            "recipe.missing=zero, or recipe missing-data"
        )
    return None


def _unconditional_encoders(c: Chosen) -> str | None:
    """A component that encodes x alone knows neither condition nor mask."""
    if c.recipe.conditional:
        without = "without their condition"
    elif c.spec.missing:
        without = "of which nothing may be missing"
    else:
        return None
    for kind, cls, other in (
        ("prior", c.prior, "standard"),
        ("posterior", c.posterior, "normal"),
    ):
        if cls.encodes_unconditionally:
            name = getattr(c.recipe, kind).name
            return f"{kind} {name!r} encodes examples {without}: set {kind} {other}"
    return None


def _number_of_latents(c: Chosen) -> str | None:
    """A hierarchy has its number of latents."""
    hierarchy = c.recipe.hierarchy
    latent = c.recipe.latent
    count = 1 if isinstance(latent, int) else len(latent)
    single = hierarchy in ("flat", "labelled")
    if single and latent != "auto" and count != 1:
        return (
            f"hierarchy {hierarchy!r} has one latent, but latent names {count}: set hierarchy "
            "top-down or bottom-up"
        )
    if not single and (latent == "auto" or count < 2):
        return f"hierarchy {hierarchy!r} needs two latents or more: set latent to, say, [32, 16]"
    return None


RULES = (
    _network_and_data,
    _grids,
    _objective_and_posterior,
    _log_q_at_given_z,
    _objective_and_data,
    _spaces,
    _pairs,
    _conditions,
    _classes,
    _missing_values,
    _outputs_of_categorical,
    _unconditional_encoders,
    _number_of_latents,
)
