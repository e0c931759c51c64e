"""Densities of columns above 0: log-normal, and log-normal with exact zeros."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from tightbound.components.likelihoods.noise_scale import ScaleKind
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.distributions import LogNormal, ZeroInflated, soft_clip

LEAST = 0.01  # sigma, as a share of the spread of log x
WIDEST = 8.0  # sigma in units of that spread, at most, so that no mean is infinite
REACH = 40.0  # spreads of log x


class LogNormalLikelihood(Likelihood):
    """Log-normal likelihood of columns: log x_d ~ N(base_d + unit_d y_d, sigma_d^2).

    The density is that of x, with the Jacobian 1 / x. `base` and `unit` start at mean and
    standard deviation of log x.
    """

    params = 1

    def __init__(self, spec: DataSpec, scale: ScaleKind = "learned") -> None:
        super().__init__()
        mean = spec.centre.clamp(min=1e-6)
        unit = (1 + (spec.spread / mean).square()).log().sqrt()
        self.register_buffer("unit", unit)
        self.base = nn.Parameter(mean.log() - unit.square() / 2)
        self.predicts_scale = scale == "predicted"
        self.params = type(self).params + int(self.predicts_scale)
        if not self.predicts_scale:
            self.log_scale = nn.Parameter(torch.zeros(spec.shape))

    def start(self, x: Tensor) -> None:
        """Set `base` and `unit` from training values (n, d).

        Args:
            x: Values, of which those above 0 count; NaN where they are missing.
        """
        is_above = x > 0
        log_x = torch.where(is_above, x, torch.ones_like(x)).log()
        count = is_above.sum(0)
        mean = (log_x * is_above).sum(0) / count.clamp(min=1)
        square = ((log_x - mean).square() * is_above).sum(0) / count.clamp(min=1)
        known = (count > 1) & (square > 0)
        self.base.copy_(torch.where(known, mean, self.base))
        unit = self.get_buffer("unit")
        unit.copy_(torch.where(known, square.sqrt(), unit))

    def above_zero(self, y: Tensor) -> LogNormal:
        """The log-normal of the decoder's output (n, params, d); the scale is last."""
        unit = self.get_buffer("unit")
        loc = self.base + unit * soft_clip(y[:, 0], -REACH, REACH)
        log_scale: Tensor = y[:, -1] if self.predicts_scale else self.log_scale
        ratio = soft_clip(log_scale).exp().clamp(max=WIDEST)
        sigma = (unit * (ratio + LEAST)).expand_as(loc)
        return LogNormal(loc, sigma, validate_args=False)

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        return Independent(self.above_zero(y), 1, validate_args=False)


class ZeroInflatedLikelihood(LogNormalLikelihood):
    """Zero-inflated log-normal likelihood of columns with exact zeros.

    x_d is 0 with probability sigmoid(base_zero_d + y_zero_d), else log-normal. The log-odds
    start at the training share of zeros.
    """

    params = 2

    def __init__(self, spec: DataSpec, scale: ScaleKind = "learned") -> None:
        super().__init__(spec, scale)
        self.zero = nn.Parameter(torch.zeros(spec.shape))

    def start(self, x: Tensor) -> None:
        super().start(x)
        count = (~x.isnan()).sum(0).clamp(min=1)
        share = ((x == 0).sum(0) + 0.5) / (count + 1)
        self.zero.copy_(torch.logit(share))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        logits = self.zero + soft_clip(y[:, 1], -30, 30)
        px = ZeroInflated(logits, self.above_zero(y))
        return Independent(px, 1, validate_args=False)
