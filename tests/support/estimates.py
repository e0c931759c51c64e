"""Errors of estimates of log p(x), for tests that compare two estimates."""

from __future__ import annotations

from torch import Tensor

from tightbound.evaluation.estimators.estimate import Estimate


def error_of(estimate: Estimate) -> Tensor:
    """The standard error of each example, (n,), in nats.

    Where it is unknown, as of weights with a heavy tail, that of the delta method,
    1 / sqrt(effective sample size).
    """
    ess = estimate.diagnostic.get("ess")
    if ess is None:
        return estimate.se
    return estimate.se.where(~estimate.se.isnan(), ess.to(estimate.se).rsqrt())
