"""The diagonal normal, with bounded log-scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, constraints
from torch.nn import functional as F

from tightbound.distributions.base import register_kl

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# of log-scales; symmetric, so that 0 stays 0
LOW = -8.0
HIGH = 8.0


def soft_clip(s: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Smooth clamp to (low, high): s + softplus(low - s) - softplus(s - high).

    Close to the identity well inside.
    """
    return s + F.softplus(low - s) - F.softplus(s - high)


def diagonal(
    loc: Tensor, log_scale: Tensor, high: float = HIGH
) -> Independent[LogScaleNormal]:
    """Diagonal normal N(loc, diag exp(log_scale)^2) over the last dimension, (n, d).

    The log-scale is softly clipped to (-8, high).
    """
    return Independent(
        LogScaleNormal(loc, soft_clip(log_scale, high=high)), 1, validate_args=False
    )


class LogScaleNormal(Normal):
    """Normal N(loc, exp(log_scale)^2), whose density and KL need no logarithm."""

    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012
        "loc": constraints.real,
        "log_scale": constraints.real,
    }

    def __init__(
        self, loc: Tensor, log_scale: Tensor, validate_args: bool = False
    ) -> None:
        self.log_scale = log_scale
        super().__init__(loc, log_scale.exp(), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * ((value - self.loc) / self.scale).square() - (
            self.log_scale + HALF_LOG_TAU
        )


class UnitNormal(Normal):
    """Standard normal of the shape of `zero`, without a division by the scale."""

    def __init__(self, zero: Tensor) -> None:
        super().__init__(zero, torch.ones_like(zero), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * value.square() - HALF_LOG_TAU


def standard_normal(like: Tensor) -> Independent[UnitNormal]:
    """N(0, I) over the last dimension, of the shape of `like` (n, d)."""
    return Independent(UnitNormal(torch.zeros_like(like)), 1, validate_args=False)


@register_kl(LogScaleNormal, LogScaleNormal)
def _kl(q: LogScaleNormal, p: LogScaleNormal) -> Tensor:
    """KL of each dimension of two normals.

    ((s_q / s_p)^2 + ((m_q - m_p) / s_p)^2 - 1) / 2 + log s_p - log s_q.
    """
    square = (q.scale / p.scale).square() + ((q.loc - p.loc) / p.scale).square()
    return 0.5 * (square - 1) + p.log_scale - q.log_scale


@register_kl(LogScaleNormal, UnitNormal)
def _kl_to_unit(q: LogScaleNormal, p: UnitNormal) -> Tensor:
    """KL of each dimension: (s_q^2 + m_q^2 - 1) / 2 - log s_q.

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (q.scale.square() + q.loc.square() - 1) - q.log_scale
