"""The closest known figure of log p(x): exact, by AIS, or by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tightbound.evaluation.measures import BDMCGap, Method
from tightbound.evaluation.statistic import Mean, means_to_json
from tightbound.runtime.reading import Tree

CLEAR = 2.0  # standard errors by which AIS is well above importance sampling,
LEAST = 0.05  # and the least difference in nats
FROM_Q = "ais-q"


@dataclass(frozen=True)
class Headline:
    """log p(x) of all examples by the closest method, and the inference gap that follows.

    A method that was run on some of the examples counts by its difference from importance
    sampling on the same ones, which is added to importance sampling of all examples. That
    is an estimate of its mean over all examples, and neither exact nor a bound.

    Args:
        method: the method.
        kind: relation of the method's own values to the true log p(x): exact, or lower (in
            expectation).
        log_px: mean of log p(x), nats per example.
        gap: mean of the inference gap log p(x) - ELBO.
        n: examples that the method was run on.
        of: number of all examples.
        above: how much the method is above importance sampling on the same examples.
        bdmc_gap: BDMC gap of the method, which limits how much log p(x) and the inference
            gap are above these figures; None where it is exact or was not measured.
        bits_per_dim: -log p(x) in bits per dimension, for discrete data.
    """

    method: str
    kind: str
    log_px: Mean
    gap: Mean
    n: int
    of: int
    above: Mean
    bdmc_gap: float | None = None
    bits_per_dim: Mean | None = None

    @property
    def exact(self) -> bool:
        """True where the method is exact and was run on all examples."""
        return self.kind == "exact" and self.n == self.of

    def to_json(self) -> Tree:
        """All fields, as JSON."""
        means = {"log_px": self.log_px, "gap": self.gap, "above": self.above}
        bits = self.bits_per_dim and self.bits_per_dim.to_json()
        return {
            "method": self.method,
            "kind": self.kind,
            "exact": self.exact,
            "n": self.n,
            "of": self.of,
            **means_to_json(means),
            "bdmc_gap": self.bdmc_gap,
            "bits_per_dim": bits,
        }


def headline(
    terms: Mapping[str, Mean],
    methods: Mapping[str, Method],
    n: int,
    bdmc_gap: BDMCGap | None = None,
    bits_per_dim: Mapping[str, Mean] | None = None,
) -> Headline | None:
    """The closest figure of log p(x), or None where it is that of importance sampling.

    An exact method always counts, AIS where it is above importance sampling by two standard
    errors and 0.05 nats, neither with one of several examples. Of several the exact one is
    taken, else that of most examples, else AIS from q. The larger figure is not looked at:
    the larger of noisy bounds is no bound.

    Args:
        terms: the terms by importance sampling.
        methods: the other methods, by name.
        n: number of examples of the terms.
        bdmc_gap: the BDMC gap of AIS.
        bits_per_dim: log p(x) by importance sampling in bits per dimension.
    """
    candidates = {
        name: method for name, method in methods.items() if _counts(method, n)
    }
    if "gap" not in terms or not candidates:
        return None

    def rank(name: str) -> tuple[bool, int, bool]:
        method = candidates[name]
        return method.kind == "exact", method.n, name == FROM_Q

    name = max(candidates, key=rank)
    method = candidates[name]
    assert method.above is not None
    log_px = _raised("log_px", terms, method, n)
    result = Headline(
        method=name,
        kind=method.kind,
        log_px=log_px,
        gap=_raised("gap", terms, method, n),
        n=method.n,
        of=n,
        above=method.above,
    )
    if bdmc_gap is not None and name == f"ais-{bdmc_gap.settings.get('start')}":
        result = replace(result, bdmc_gap=bdmc_gap.gap.mean)
    if bits_per_dim and terms["log_px"].mean:
        unit = bits_per_dim["log_px"].mean / terms["log_px"].mean
        bits = Mean(log_px.mean * unit, log_px.se * abs(unit))
        result = replace(result, bits_per_dim=bits)
    return result


def _counts(method: Method, n: int) -> bool:
    above = method.above
    if above is None or (method.n < n and not math.isfinite(above.se)):
        return False
    if method.kind == "exact":
        return True
    error = above.se if math.isfinite(above.se) else math.inf
    return method.kind == "lower" and above.mean > max(CLEAR * error, LEAST)


def _raised(name: str, terms: Mapping[str, Mean], method: Method, n: int) -> Mean:
    """A term of all n examples, raised by the mean difference on some of them.

    The examples of the difference are among those of the term, so the variance of the sum
    has twice their covariance over n. Where the method was run on all, it is that of the
    method's own values.
    """
    term = terms[name]
    above = method.above
    assert above is not None
    covariance = math.nan if method.covariance is None else method.covariance[name]
    variance = term.se**2 + above.se**2 + 2 * covariance / n
    if variance < 0:  # by rounding
        variance = 0.0
    return Mean(term.mean + above.mean, math.sqrt(variance))
