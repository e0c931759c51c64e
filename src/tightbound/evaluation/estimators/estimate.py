"""What every way to log p(x) returns, and what it has a right to say.

The contract, for those who call `likelihood.log_px(model, x, method, ...)`:

- x is (n, *shape) in model units, or a `Batch` of such with their conditions; values and se are
  (n,), float64, on the
  CPU, in nats per example, in the order of x.
- kind: "exact" (se is a bound on the numerical error), "lower" or "upper" (a bound on log p(x) in
  expectation over the
  method's own noise), "estimate" (neither).
- diagnostic: further figures of each example, every one with n rows; a method documents its names.
- settings: all that is needed to repeat the figures, as plain numbers and strings that JSON can
  hold.
- A figure is a function of (model, seed, the example's content, settings), not of its neighbours:
  so a long evaluation
  may be cut by examples, interrupted, continued, and put together again with `Estimate.join`.
- tick(m) is called with the examples finished since the last call, as a real number: the calls sum
  to n.
- A model without a density or a bound (an autoencoder) is refused by TightboundError with the
  reason.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise
from tightbound.models.recipes import Recipe, has_point
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

Kind = Literal["exact", "lower", "upper", "estimate"]
Tick = Callable[[float], None]
Options = Mapping[str, Any]  # settings by name, or facts: values that JSON can hold

# decoded values of one pass: a processor's cache holds them, which is what makes it fast
VALUES_AT_ONCE = 1_000_000
NO_BOUND = (
    "its latent is a point, so there is no bound on log p(x): an autoencoder "
    "has only the distortion -log p(x|z) at "
    "that point, which is not to be compared with an ELBO"
)
NO_DENSITY = (
    "its prior can be sampled but has no density, so there is no log p(x): "
    "only the distortion -log p(x|z), which is "
    "not to be compared with an ELBO; another prior gives one"
)


@dataclass(frozen=True)
class Estimate:
    """log p(x) of n examples by one method: values and their standard errors se, (n,) float64, in
    nats.
    """

    method: str
    kind: Kind
    values: Tensor
    se: Tensor
    diagnostic: dict[str, Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over examples."""
        return float(self.values.mean())

    @property
    def noise(self) -> float:
        """The part of the mean's standard error that is the method's own: sqrt(sum se^2) / n; more
        x do not help it.
        """
        return float(self.se.square().sum().sqrt() / len(self))

    @property
    def warnings(self) -> list[str]:
        """Why the figures are not to be trusted, a sentence each; empty where nothing speaks
        against them.
        """
        found = [
            rule(self.diagnostic[name])
            for name, rule in RULES.items()
            if name in self.diagnostic
        ]
        return [f"{self.method}: {text}" for text in found if text]

    @classmethod
    def join(cls, parts: Sequence[Estimate]) -> Estimate:
        """The estimate of all examples, from those of its parts, in order."""
        first = parts[0]
        if any((p.method, p.settings) != (first.method, first.settings) for p in parts):
            raise ValueError(
                "these estimates were made in different ways and are not one"
            )
        diagnostic = {
            name: torch.cat([p.diagnostic[name] for p in parts])
            for name in first.diagnostic
        }
        values, se = (
            torch.cat([p.values for p in parts]),
            torch.cat([p.se for p in parts]),
        )
        return cls(first.method, first.kind, values, se, diagnostic, first.settings)


def _share(bad: Tensor, text: str) -> str | None:
    count = int(bad.sum())
    return f"{text} for {count} of {len(bad)} examples" if count else None


# When a figure is not to be trusted.  Pareto k: Vehtari et al. 2024 (arXiv:1507.02646), section
# 3.2.4.
RULES: Mapping[str, Callable[[Tensor], str | None]] = {
    "pareto_k": lambda k: _share(
        k > 0.7, "the weights have too heavy a tail (Pareto k above 0.7)"
    ),
    "ess": lambda e: _share(e < 5, "fewer than 5 effective samples carry the estimate"),
    "acceptance": lambda a: _share(
        (a < 0.4) | (a > 0.95), "the acceptance rate is outside 0.4 to 0.95"
    ),
    "quadrature_error": lambda e: _share(
        e > 1e-3, "the grid is not fine enough (error above 0.001 nats)"
    ),
}


def need_bound(model: VAE, x: Batch) -> None:
    """Raises TightboundError where the model has no log p(x) that could be estimated or bounded."""
    with torch.no_grad():
        trace = model(x[:1], Draw(noise=ContentNoise(0, x.x[:1], 0, 1)))
    if not trace.bound:
        held = all(getattr(site.p, "density", True) for site in trace.latents.values())
        raise TightboundError(
            f"log p(x) of this model is not defined: {NO_BOUND if held else NO_DENSITY}"
        )


def no_bound(recipe: Recipe) -> str:
    """Why a model of this recipe has no bound on log p(x)."""
    return NO_BOUND if has_point(recipe) else NO_DENSITY


def in_double(model: VAE) -> VAE:
    """A copy of the model in float64, for grids and tests."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def rows_at_once(model: VAE) -> int:
    """How many rows (examples times samples) one pass may hold, so that memory is bounded and
    caches are used.
    """
    spec = model.spec
    width = spec.dims * (spec.levels or 1 if spec.domain == "categorical" else 1)
    return max(1, VALUES_AT_ONCE // width)


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log of the mean weight over a dimension."""
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])
