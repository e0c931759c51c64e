"""Small specs, data and models for the tests of the core, so that each registry is walked in the
same way.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.components.objectives import OBJECTIVES
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.batch import Batch
from tightbound.core.component import Objective, Posterior, Prior
from tightbound.core.data_spec import Condition, DataSpec
from tightbound.core.draw import Clock, Context
from tightbound.core.trace import Trace
from tightbound.models.build import build, resolve, resolve_domain
from tightbound.models.recipes import Part, Recipe, part
from tightbound.models.vae import VAE

B = 5
LEVELS = {"binary": 2, "levels": 17, "categorical": 5}
PARTS = [
    (name, domain)
    for name, cls in LIKELIHOODS.items()
    for domain in cls.domains
    if name != "logistic-mixture" and domain != "mixed"
]  # those of colour images: components/test_colour.py, of tables: components/test_fields.py


def rows(domain: str, shape: tuple[int, ...], n: int) -> Tensor:
    """n examples in model units."""
    if domain in LEVELS:
        return torch.randint(0, LEVELS[domain], (n, *shape)).float()
    if domain == "count":
        return torch.poisson(torch.full((n, *shape), 4.0))
    return torch.rand(n, *shape) if domain == "unit" else 3 + 2 * torch.randn(n, *shape)


def spec_of(domain: str, shape: tuple[int, ...]) -> DataSpec:
    """A spec with the mean and spread of such data."""
    x = rows(domain, shape, 50)
    levels = LEVELS.get(domain)
    return DataSpec(
        shape=shape, domain=domain, levels=levels, mean=x.mean(0), std=x.std(0)
    )


def suited(recipe: Recipe, spec: DataSpec) -> DataSpec:
    """The spec with what a recipe wants of its data beside x."""
    told = (
        (spec.condition or Condition(names=("a", "b", "c")))
        if recipe.conditional
        else None
    )
    objective = OBJECTIVES.get(recipe.objective.name)
    learns = objective is not None and objective.learns_from_labels
    labels = tuple("abc") if learns else None
    return spec.model_copy(
        update={
            "condition": told,
            "missing": recipe.missing != "refused",
            "labels": spec.labels or labels,
        }
    )


def batch_of(spec: DataSpec, n: int) -> Batch:
    """n examples with what else the spec says is known of them, every third value missing where
    some may be.
    """
    x, told = rows(spec.domain, spec.shape, n), spec.condition
    if spec.missing:
        x = x.masked_fill(torch.arange(x.numel()).reshape(x.shape) % 3 == 1, torch.nan)
    y = None if spec.labels is None else torch.arange(n) % (len(spec.labels) + 1) - 1
    return Batch(
        x, None if told is None else told.encode(torch.arange(n) % told.width), y
    )


def model_of(recipe: Recipe, spec: DataSpec, size: str = "s") -> tuple[VAE, Objective]:
    """As a run does it: likelihood and domain, then the other "auto" values, then the model."""
    recipe, spec, _ = resolve_domain(
        recipe.model_copy(update={"size": size}), suited(recipe, spec)
    )
    return build(resolve(recipe, spec), spec)


def losses_of(
    objective: Objective, trace: Trace, clock: Clock | None = None
) -> dict[str, Tensor]:
    """An objective's losses by parameter group; "all" where it has one for all."""
    loss = objective(trace, clock or Clock())
    return loss if isinstance(loss, dict) else {"all": loss}


def shared(objective: Objective, k: int) -> int:
    """k samples, or the least that an objective of m bounds can share out two by two."""
    m = getattr(objective, "m", 1)
    return 2 * m if m > 1 else k


def plain(objective: str | Part = "elbo", **changes: object) -> Recipe:
    """A small flat recipe; with the posterior that the objective needs."""
    objective = part(objective) if isinstance(objective, str) else objective
    cls = OBJECTIVES.get(objective.name)
    serves = None if cls is None else cls.compatible_posteriors
    own: dict[str, object] = (
        {"posterior": part("delta")} if serves == ("delta",) else {}
    )
    if serves == ("vector-quantized",):
        own = {
            "posterior": part(serves[0], codes=4, dim=3),
            "prior": part("codes"),
            "latent": 6,
        }
    if objective.name in (
        "vae-gan",
        "msssim",
    ):  # the scale of p(x|z) has no part in them
        own = {"likelihood": part("gaussian", scale="optimal")}
    return Recipe(
        objective=objective, latent=3, network=part("mlp"), size="s"
    ).model_copy(update=own | changes)


def shake(module: nn.Module, by: float = 0.1) -> nn.Module:
    """Moves every parameter away from where it starts, so that no gradient is zero by
    construction.
    """
    with torch.no_grad():
        for p in module.parameters():
            p += by * torch.randn_like(p)
    return module


def grads_ok(module: nn.Module) -> None:
    """Every parameter took part: its gradient exists, is finite and is not zero throughout."""
    for name, p in module.named_parameters():
        if not p.requires_grad:
            continue
        assert p.grad is not None, f"{name} got no gradient"
        assert p.grad.isfinite().all(), f"{name} got a non-finite gradient"
        assert p.grad.abs().sum() > 0, f"{name} got a gradient of zero"


SMALL_PRIORS: dict[str, dict[str, object]] = {
    "mixture": {"components": 4},
    "gaussian-mixture": {"components": 4},
    "vamp": {"components": 7},
    "exemplar": {"count": 9, "step": 4},
    "flow": {"steps": 2, "width": 8},
    "maf": {"steps": 2, "width": 8},
    "iaf": {"steps": 2, "width": 8},
    "sphere-mixture": {"components": 3},
    "poincare-mixture": {"components": 3},
}


def space_of(cls: type[Prior] | type[Posterior] | None) -> str:
    """The space of the latent of a posterior or prior."""
    return "real" if cls is None else cls.latent_space


def prior_of(name: str, latent: int, **options: object) -> nn.Module:
    """A small prior of a registry's name; one that reads the model comes with a model around it."""
    options = SMALL_PRIORS.get(name, {}) | options
    if not PRIORS[name].build_arguments:
        return PRIORS[name](latent, **options)
    model, _ = model_of(
        plain(prior=part(name, **options), latent=latent), spec_of("real", (6,))
    )
    return model.hierarchy.prior  # type: ignore[return-value]


def partner(posterior: str) -> str:
    """The first prior that goes with a posterior."""
    cls = POSTERIORS[posterior]
    fit = [name for name, p in PRIORS.items() if space_of(p) == space_of(cls)]
    served = cls.compatible_priors or tuple(fit)
    return next(name for name in fit if name in served)


class Around:
    """What a posterior that reads the model around it may ask of one."""

    def __init__(self, spec: DataSpec, features: int) -> None:
        self.weight = torch.randn(spec.dims, features)
        self.get_buffer = {"centre": spec.centre, "spread": spec.spread}.__getitem__

    def encoder(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x)


def posterior_of(name: str, features: int, latent: int, **options: object) -> nn.Module:
    """A posterior of a registry's name; one that reads the data and the model has some of each
    around it.
    """
    spec, cls = spec_of("real", (6,)), POSTERIORS[name]
    told = {"spec": spec} if "spec" in cls.build_arguments else {}
    made = cls(features, latent, **told, **options)
    made.attach(Around(spec, features))
    return made


def bent(at: Mapping[str, Tensor]) -> Tensor:
    """A smooth log p(x, z), for posteriors that ask for one."""
    z = at["z"]
    return z.sin().prod(-1) - z.square().sum(-1) / 8


def context(n: int, h: Tensor | None = None) -> Context:
    return Context(n, h, joint=bent)
