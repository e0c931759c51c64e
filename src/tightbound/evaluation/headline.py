"""The closest known figure of log p(x): exact, by AIS, or by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tightbound.evaluation.measures import BDMCGap, Method
from tightbound.evaluation.statistic import Mean, means_to_json

CLEAR = 2.0  # standard errors by which AIS is well above importance sampling,
LEAST = 0.05  # and the least difference in nats


@dataclass(frozen=True)
class Headline:
    """log p(x) of all examples by the closest method, and the inference gap that follows.

    A method that was run on some of the examples counts by its difference from importance
    sampling on the same ones, which is added to importance sampling of all examples.

    Args:
        method: the method.
        exact: True where its values are exact; else they are lower bounds in expectation.
        log_px: mean of log p(x), nats per example.
        gap: mean of the inference gap log p(x) - ELBO.
        n: examples that the method was run on.
        above: how much the method is above importance sampling on the same examples.
        bdmc_gap: BDMC gap of the method, which limits how much log p(x) and the inference
            gap are above these figures; None where it is exact or was not measured.
        bits_per_dim: -log p(x) in bits per dimension, for discrete data.
    """

    method: str
    exact: bool
    log_px: Mean
    gap: Mean
    n: int
    above: Mean
    bdmc_gap: float | None = None
    bits_per_dim: Mean | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON."""
        means = {"log_px": self.log_px, "gap": self.gap, "above": self.above}
        bits = self.bits_per_dim and self.bits_per_dim.to_json()
        return {
            "method": self.method,
            "exact": self.exact,
            "n": self.n,
            **means_to_json(means),
            "bdmc_gap": self.bdmc_gap,
            "bits_per_dim": bits,
        }


def headline(
    terms: Mapping[str, Mean],
    methods: Mapping[str, Method],
    bdmc_gap: BDMCGap | None = None,
    bits_per_dim: Mapping[str, Mean] | None = None,
) -> Headline | None:
    """The closest figure of log p(x), or None where it is that of importance sampling.

    An exact method always counts, AIS where it is above importance sampling by two standard
    errors and 0.05 nats. Of several, the exact one, or the highest.

    Args:
        terms: the terms by importance sampling.
        methods: the other methods, by name.
        bdmc_gap: the BDMC gap of AIS.
        bits_per_dim: log p(x) by importance sampling in bits per dimension.
    """
    candidates = {}
    for name, method in methods.items():
        if method.above is not None and _counts(method):
            candidates[name] = method.above
    if "gap" not in terms or not candidates:
        return None

    def rank(name: str) -> tuple[bool, float]:
        return methods[name].kind == "exact", candidates[name].mean

    name = max(candidates, key=rank)
    above = candidates[name]
    log_px = _raised(terms["log_px"], above)
    result = Headline(
        method=name,
        exact=methods[name].kind == "exact",
        log_px=log_px,
        gap=_raised(terms["gap"], above),
        n=methods[name].n,
        above=above,
    )
    if bdmc_gap is not None and name == f"ais-{bdmc_gap.settings.get('start')}":
        result = replace(result, bdmc_gap=bdmc_gap.gap.mean)
    if bits_per_dim and terms["log_px"].mean:
        unit = bits_per_dim["log_px"].mean / terms["log_px"].mean
        bits = Mean(log_px.mean * unit, log_px.se * abs(unit))
        result = replace(result, bits_per_dim=bits)
    return result


def _counts(method: Method) -> bool:
    if method.kind == "exact":
        return True
    above = method.above
    assert above is not None
    error = above.se if math.isfinite(above.se) else math.inf
    return method.kind == "lower" and above.mean > max(CLEAR * error, LEAST)


def _raised(mean: Mean, above: Mean) -> Mean:
    """A mean over all examples, raised by a mean difference on some of them."""
    error = above.se if math.isfinite(above.se) else 0.0
    return Mean(mean.mean + above.mean, math.hypot(mean.se, error))
