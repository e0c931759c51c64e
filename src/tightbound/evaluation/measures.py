"""Parts of an evaluation: methods for log p(x), inference gap, BDMC gap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.pareto import HEAVY
from tightbound.evaluation.statistic import Mean, means_to_json
from tightbound.runtime.reading import Options, Tree


@dataclass(frozen=True)
class Method:
    """log p(x) of n examples by one method, in nats.

    Args:
        kind: relation to the true log p(x): exact, lower, upper or estimate.
        n: number of examples.
        log_px: the mean over the examples.
        noise: the part of its standard error that comes from the method's own draws; not
            a number where it is not known for an example.
        above: difference from importance sampling on the same examples.
        settings: all that is needed to repeat the estimate.
        warnings: reasons to distrust the estimate, a sentence each.
        seconds: time that it took.
        pareto_k: median of the Pareto k over examples, and the share above 0.7.
        covariance: of the difference `above` with importance sampling's log_px and gap,
            over the same examples.
    """

    kind: str
    n: int
    log_px: Mean
    noise: float
    above: Mean | None
    settings: Options
    warnings: list[str]
    seconds: float
    pareto_k: Mapping[str, float] | None = None
    covariance: Mapping[str, float] | None = None

    @classmethod
    def of(
        cls, estimate: Estimate, seconds: float, base: Estimate | None = None
    ) -> Method:
        """From an estimate; base: importance sampling of the same examples."""
        above = None
        covariance = None
        if base is not None:
            difference = estimate.values - base.values
            above = Mean.of(difference)
            gap = base.values - base.diagnostic["elbo"]
            covariance = {
                "log_px": _covariance(difference, base.values),
                "gap": _covariance(difference, gap),
            }
        return cls(
            kind=estimate.kind,
            n=len(estimate),
            log_px=Mean.of(estimate.values),
            noise=estimate.noise,
            above=above,
            settings=estimate.settings,
            warnings=estimate.warnings,
            seconds=seconds,
            pareto_k=_summarise_pareto_k(estimate.diagnostic.get("pareto_k")),
            covariance=covariance,
        )

    def to_json(self) -> Tree:
        """All fields, as JSON."""
        return {
            "kind": self.kind,
            "n": self.n,
            **self.log_px.to_json(),
            "noise": self.noise if math.isfinite(self.noise) else None,
            "above_importance": self.above and self.above.to_json(),
            "pareto_k": self.pareto_k,
            "covariance": self.covariance and _finite(self.covariance),
            "settings": dict(self.settings),
            "warnings": self.warnings,
            "seconds": round(self.seconds, 2),
        }


def _covariance(a: Tensor, b: Tensor) -> float:
    """The covariance over examples; not a number for a single one."""
    if len(a) < 2:
        return math.nan
    return float(((a - a.mean()) * (b - b.mean())).sum() / (len(a) - 1))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: x if math.isfinite(x) else None for k, x in values.items()}


def _summarise_pareto_k(k: Tensor | None) -> dict[str, float] | None:
    if k is None or bool(k.isnan().all()):
        return None
    share = float((k > HEAVY).double().mean())
    return {"median": float(k.nanmedian()), "above_0.7": share}


@dataclass(frozen=True)
class InferenceGap:
    """The inference gap KL(q(z|x), p(z|x)) = log p(x) - ELBO of n examples, in nats.

    Args:
        method: the method that gave log p(x); several, if the best was chosen by example.
        exact: True where log p(x) is exact. Otherwise log p(x) is a lower bound, and so
            are the gap and the approximation gap.
        n: number of examples.
        terms: log_px, elbo and gap; also approximation and amortisation, its two
            parts, where they were measured (Cremer, Li and Duvenaud 2018).
        settings: all that is needed to repeat it.
        seconds: time that it took.
    """

    method: str
    exact: bool
    n: int
    terms: Mapping[str, Mean]
    settings: Options
    seconds: float

    def to_json(self) -> Tree:
        """All fields, as JSON."""
        return {
            "method": self.method,
            "exact": self.exact,
            "n": self.n,
            **means_to_json(self.terms),
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class BDMCGap:
    """Gap between AIS's bounds on log p(x) of n simulated examples, in nats.

    It bounds the error of annealed importance sampling with the same settings, on data
    like the model's own (Grosse et al. 2015; Wu et al. 2017).

    Args:
        n: number of simulated examples.
        lower: mean lower bound.
        upper: mean upper bound.
        gap: mean of upper - lower.
        gaps: upper - lower of each example.
        settings: settings of AIS.
        seconds: time that it took.
    """

    n: int
    lower: Mean
    upper: Mean
    gap: Mean
    gaps: list[float]
    settings: Options
    seconds: float

    def to_json(self) -> Tree:
        """All fields, as JSON."""
        means = {"lower": self.lower, "upper": self.upper, "gap": self.gap}
        return {
            "n": self.n,
            **means_to_json(means),
            "gaps": self.gaps,
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 2),
        }
