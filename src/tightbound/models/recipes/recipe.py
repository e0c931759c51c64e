"""What a recipe is: the parts of a model by name, with its paper and when to use it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

C = TypeVar("C")
Latents = Annotated[int, Field(ge=1, le=10_000_000)]


class Part(BaseModel):
    """A component by name (a registry's, or `package.module:Name`) and its options: a name, a
    class, or a table.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, object]:
        """All keys but the name."""
        return dict(self.model_extra or {})


def part(name: str, **options: object) -> Part:
    """A component with options: `part("elbo", beta=4.0)`.

    Example:
        >>> import tightbound as tb
        >>> tb.part("mixture", components=20).options
        {'components': 20}
    """
    return Part(name=name, **options)


def import_path(value: object) -> object:
    """A class as `package.module:Name`; any other value as it is."""
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    return value


def _as_part(value: object) -> object:
    value = import_path(value)
    if isinstance(value, str):
        return {"name": value}
    return value


PartLike = Annotated[Part, BeforeValidator(_as_part)]


class Recipe(BaseModel):
    """The components and sizes of a model; a plain VAE by default.

    `"auto"` is resolved by `build` from the data.

    latent: features per latent site, from z1 (next to x) up; more than one makes a hierarchy.  k:
    samples per example in training.  size: the dial of all networks, s, m or l.

    Example:
        >>> import tightbound as tb
        >>> beta_vae = tb.RECIPES["vae"].model_copy(update={"objective": tb.part("elbo", beta=4.0)})
        >>> beta_vae.objective.options
        {'beta': 4.0}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("vae", description="the recipe this began from")
    purpose: str = Field("", description="when to use it")
    paper: str = Field("", description="where it comes from")
    posterior: PartLike = Field(part("normal"), description="q(z|x)")
    prior: PartLike = Field(
        part("auto"),
        description=(
            "p(z) of the topmost latent; auto: standard, or vamp for a plain VAE of a table "
            "of mixed columns"
        ),
    )
    likelihood: PartLike = Field(
        part("auto"), description="p(x|z); auto: from the data's domain"
    )
    objective: PartLike = Field(part("elbo"), description="what training minimises")
    hierarchy: Literal["flat", "top-down", "bottom-up", "bidirectional", "labelled"] = (
        Field("flat", description="the order of the latents")
    )
    conditional: bool = Field(
        False,
        description="whether encoder and decoder read labels or columns of the data",
    )
    classes: Literal["auto"] | PositiveInt = Field(
        "auto",
        description=(
            "of hierarchy labelled: how many; auto: those of the labels that are "
            "learned from, or 10"
        ),
    )
    missing: Literal["refused", "zero", "mask"] = Field(
        "refused",
        description=(
            "NaN: refused, or a missing value, 0 for the encoder, which may read the mask too"
        ),
    )
    network: PartLike = Field(
        part("auto"),
        description="the kind of all networks: auto, linear, mlp, conv, pyramid",
    )
    size: Literal["auto", "s", "m", "l"] = Field(
        "auto", description="the size of all networks"
    )
    latent: Literal["auto"] | Latents | tuple[Latents, ...] = Field(
        "auto",
        description="features per latent site, at each place where it lies on a grid",
    )
    train: dict[str, object] = Field(
        {}, description="training settings that this recipe changes"
    )
    k: PositiveInt = Field(
        1, le=10_000_000, description="samples of z per example in training"
    )

    @property
    def has_bound(self) -> bool:
        """True where the model bounds log p(x).

        It does not where its latent is a point, or its prior has no density.
        """
        from tightbound.components.priors import PRIORS

        cls = loaded(PRIORS, self.prior.name)
        return not has_point(self) and (cls is None or cls.has_density)


def has_point(recipe: Recipe) -> bool:
    """True where the latent is a point, as of an autoencoder."""
    # imported here, so that a recipe can be read without torch
    from tightbound.components.posteriors import POSTERIORS

    cls = loaded(POSTERIORS, recipe.posterior.name)
    return cls is not None and cls.is_point_mass


def loaded(table: Mapping[str, C], name: str) -> C | None:
    """A component of the table, or a class from outside that is imported already.

    This runs no code; None where the class is not imported.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        return table.get(name)
    outside: C | None = getattr(sys.modules.get(module), attribute, None)
    return outside
