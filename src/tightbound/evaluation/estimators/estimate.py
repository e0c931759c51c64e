"""Estimate: log p(x) of examples by one method, and the interface of all methods.

A method is called as `log_px(model, x, method, **settings)`:

- x is (n, *shape) in model units, or a `Batch` of such with their conditions.
- The values are a function of the model, the seed, the content of the example and the
  settings, and not of other examples. So a long evaluation may be cut by examples,
  interrupted, continued, and put together again with `Estimate.join`.
- tick(m) is called with the number of examples finished since the last call, as a real
  number; the calls sum to n.
- A model without a density or a bound (an autoencoder) is refused with the reason.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import ReparameterisedDistribution
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.estimators.pareto import HEAVY
from tightbound.models.recipes import Recipe, has_point
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Tree

Kind = Literal["exact", "lower", "upper", "estimate"]
Tick = Callable[[float], None]

# Decoded values of one pass, few enough for the processor's cache.
VALUES_AT_ONCE = 1_000_000
Z = 1.96  # standard errors on each side of an interval of 95 %
MARKOV = math.log(
    20
)  # nats by which an unbiased estimate is too high in 5 % at the most
NO_BOUND = (
    "its latent is a point, so there is no bound on log p(x): an autoencoder has only "
    "the distortion -log p(x|z) at that point, which is not to be compared with an ELBO"
)
NO_DENSITY = (
    "its prior can be sampled but has no density, so there is no log p(x): only the "
    "distortion -log p(x|z), which is not to be compared with an ELBO; another prior "
    "gives one"
)


@dataclass(frozen=True)
class Estimate:
    """log p(x) of n examples by one method, in nats per example.

    Args:
        method: name of the method.
        kind: "exact" (se bounds the numerical error), "lower" or "upper" (a bound on
            log p(x) in expectation over the method's own noise), or "estimate".
        values: log p(x) of each example, (n,) float64 on the CPU.
        se: standard error of each value, (n,) float64; not a number where the value is a
            bound of unknown error (`one_sided`).
        diagnostic: further numbers of each example, with n rows each; a method
            documents their names.
        settings: all that is needed to repeat the estimate, as JSON.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> estimate = tb.log_px(model.eval(), data.train.examples(3).x, "importance", seed=0, k=50)
        >>> estimate.method, estimate.kind, estimate.se.shape
        ('importance', 'lower', torch.Size([3]))
    """

    method: str
    kind: Kind
    values: Tensor
    se: Tensor
    diagnostic: dict[str, Tensor] = field(default_factory=dict)
    settings: Tree = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over examples."""
        return float(self.values.mean())

    @property
    def noise(self) -> float:
        """The part of the mean's standard error that comes from the method's own draws.

        It is sqrt(sum se^2) / n, and does not include the variation between examples; not a
        number where the error of any example is not known.
        """
        return float(self.se.square().sum().sqrt() / len(self))

    @property
    def one_sided(self) -> Tensor:
        """True for each example whose value is a bound without an interval, (n,)."""
        return self.se.isnan()

    def interval(self) -> Tensor:
        """Interval of log p(x) of each example with a confidence of 95 %, (n, 2).

        Two-sided, value +- 1.96 se, where the error is known. Elsewhere a lower bound v has
        the one-sided interval from v - log 20 to infinity: v is the log of an unbiased
        estimate, which by Markov's inequality exceeds 20 p(x) with a probability of at
        most 1/20. An upper bound has one from -infinity to v + log 20.

        Returns:
            Lower and upper end, in nats.
        """
        low = self.values - Z * self.se
        high = self.values + Z * self.se
        if self.kind == "lower":
            low = torch.where(self.one_sided, self.values - MARKOV, low)
            high = torch.where(self.one_sided, torch.inf, high)
        if self.kind == "upper":
            low = torch.where(self.one_sided, -torch.inf, low)
            high = torch.where(self.one_sided, self.values + MARKOV, high)
        return torch.stack([low, high], 1)

    @property
    def warnings(self) -> list[str]:
        """Reasons to distrust the estimate, a sentence each."""
        sentences = []
        for name, rule in RULES.items():
            sentence = None
            if name in self.diagnostic:
                sentence = rule(self.diagnostic[name])
            if sentence:
                sentences.append(f"{self.method}: {sentence}")
        return sentences

    @classmethod
    def join(cls, parts: Sequence[Estimate]) -> Estimate:
        """The estimate of all examples, from those of its parts.

        Args:
            parts: Estimates of one method with equal settings, in the order of the examples.

        Returns:
            One estimate of all their examples.

        Raises:
            ValueError: Their methods or settings differ.
        """
        first = parts[0]
        if any((p.method, p.settings) != (first.method, first.settings) for p in parts):
            raise ValueError("these estimates have different methods or settings")
        diagnostic = {}
        for name in first.diagnostic:
            diagnostic[name] = torch.cat([p.diagnostic[name] for p in parts])
        values = torch.cat([p.values for p in parts])
        se = torch.cat([p.se for p in parts])
        return cls(first.method, first.kind, values, se, diagnostic, first.settings)


def _share(bad: Tensor, text: str) -> str | None:
    count = int(bad.sum())
    return f"{text} for {count} of {len(bad)} examples" if count else None


# Thresholds of the warnings. Pareto k: Vehtari et al. 2024 (arXiv:1507.02646), 3.2.4.
RULES: Mapping[str, Callable[[Tensor], str | None]] = {
    "pareto_k": lambda k: _share(
        k > HEAVY, "the weights have too heavy a tail (Pareto k above 0.7)"
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
    """Checks that log p(x) of a model can be estimated or bounded.

    Raises:
        TightboundError: if it cannot, with the reason.
    """
    with torch.no_grad():
        trace = model(x[:1], Draw(noise=ContentNoise(0, x.x[:1], 0, 1)))
    if not trace.bound:
        dense = all(has_density(site.p) for site in trace.latents.values())
        reason = NO_BOUND if dense else NO_DENSITY
        raise TightboundError(f"log p(x) of this model is not defined: {reason}")


def has_density(p: Distribution | None) -> bool:
    """False for a prior that can be sampled but has no log p(z)."""
    return not isinstance(p, ReparameterisedDistribution) or p.has_density


def is_discrete(dist: Distribution) -> bool:
    """True for a distribution over discrete values."""
    support = dist.support
    return isinstance(support, Constraint) and support.is_discrete


def no_bound(recipe: Recipe) -> str:
    """The reason why a model of this recipe has no bound on log p(x)."""
    return NO_BOUND if has_point(recipe) else NO_DENSITY


def in_double(model: VAE) -> VAE:
    """A copy of the model in float64, for grids and tests."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def rows_at_once(model: VAE) -> int:
    """Rows (examples times samples) of one pass, so that memory is bounded."""
    spec = model.spec
    width = spec.dims
    if spec.domain == "categorical":
        width *= spec.levels or 1
    return max(1, VALUES_AT_ONCE // width)


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log of the mean weight over a dimension."""
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])
