"""The diagonal normal, and bounded log-scales that keep every variance finite and its gradient alive."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Independent, Normal
from torch.nn import functional as F

LOW, HIGH = -8.0, 8.0  # symmetric, so that 0 stays 0


def soft_clip(s: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """A smooth clamp to (low, high), close to the identity well inside: s + softplus(low - s) - softplus(s - high)."""
    return s + F.softplus(low - s) - F.softplus(s - high)


def diagonal(loc: Tensor, log_scale: Tensor, high: float = HIGH) -> Independent:
    """N(loc, diag exp(log_scale)^2) over the last dimension, (n, d); the log-scale is softly bounded to (-8, high)."""
    scale = soft_clip(log_scale, high=high).exp()
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
