"""Densities of columns above 0, and of columns with exact zeros."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from tightbound.components.likelihoods.noise_scale import ScaleKind
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.distributions import (
    LogNormal,
    ZeroInflated,
    ZeroInflatedNormal,
    soft_clip,
)

LEAST = 0.01  # sigma, as a share of the spread of log x
WIDEST = 8.0  # sigma in units of that spread, at most, so that no mean is infinite
REACH = 40.0  # spreads of log x


class StartedLikelihood(Likelihood):
    """Base class of likelihoods of columns whose location and scale start at training values.

    `base` and `unit` are mean and standard deviation of `known(x)`, over the values that it
    does not give as NaN. A predicted scale is the last value of the decoder.
    """

    params = 1

    def __init__(self, base: Tensor, unit: Tensor, scale: ScaleKind) -> None:
        super().__init__()
        self.register_buffer("unit", unit)
        self.base = nn.Parameter(base)
        self.predicts_scale = scale == "predicted"
        self.params = type(self).params + int(self.predicts_scale)
        if not self.predicts_scale:
            self.log_scale = nn.Parameter(torch.zeros_like(base))

    def known(self, x: Tensor) -> Tensor:
        """The values (n, d) whose mean and spread are taken, NaN for others."""
        raise NotImplementedError

    def start(self, x: Tensor) -> None:
        """Set `base` and `unit` from training values (n, d), NaN where they are missing."""
        values = self.known(x)
        count = values.isfinite().sum(0)
        mean = values.nanmean(0)
        spread = (values - mean).square().nanmean(0).sqrt()
        is_known = (count > 1) & (spread > 0)
        self.base.copy_(torch.where(is_known, mean, self.base))
        unit = self.get_buffer("unit")
        unit.copy_(torch.where(is_known, spread, unit))

    def location_and_scale(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale (n, d) of the decoder's output (n, params, d)."""
        unit = self.get_buffer("unit")
        loc = self.base + unit * soft_clip(y[:, 0], -REACH, REACH)
        log_scale: Tensor = y[:, -1] if self.predicts_scale else self.log_scale
        ratio = soft_clip(log_scale).exp().clamp(max=WIDEST)
        return loc, (unit * (ratio + LEAST)).expand_as(loc)


class LogNormalLikelihood(StartedLikelihood):
    """Log-normal likelihood of columns: log x_d ~ N(base_d + unit_d y_d, sigma_d^2).

    The density is that of x, with the Jacobian 1 / x.
    """

    def __init__(self, spec: DataSpec, scale: ScaleKind = "learned") -> None:
        mean = spec.centre.clamp(min=1e-6)
        unit = (1 + (spec.spread / mean).square()).log().sqrt()
        super().__init__(mean.log() - unit.square() / 2, unit, scale)

    def known(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, torch.nan).log()

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        loc, scale = self.location_and_scale(y)
        return Independent(
            LogNormal(loc, scale, validate_args=False), 1, validate_args=False
        )


class ZeroInflatedLikelihood(LogNormalLikelihood):
    """Zero-inflated log-normal likelihood of columns with exact zeros.

    x_d is 0 with probability sigmoid(zero_d + y_zero_d), else log-normal. The log-odds start
    at the training share of zeros.
    """

    params = 2

    def __init__(self, spec: DataSpec, scale: ScaleKind = "learned") -> None:
        super().__init__(spec, scale)
        self.zero = nn.Parameter(torch.zeros(spec.shape))

    def start(self, x: Tensor) -> None:
        super().start(x)
        self.zero.copy_(log_odds_of_zero(x))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        logits = self.zero + soft_clip(y[:, 1], -30, 30)
        others = LogNormal(*self.location_and_scale(y), validate_args=False)
        return Independent(ZeroInflated(logits, others), 1, validate_args=False)


class ZeroInflatedNormalLikelihood(StartedLikelihood):
    """Zero-inflated normal likelihood of columns of both signs with exact zeros.

    x_d is 0 with probability sigmoid(zero_d + y_zero_d), else N(base_d + unit_d y_d, sigma_d^2).
    """

    params = 2

    def __init__(self, spec: DataSpec, scale: ScaleKind = "learned") -> None:
        super().__init__(spec.centre, spec.spread, scale)
        self.zero = nn.Parameter(torch.zeros(spec.shape))

    def known(self, x: Tensor) -> Tensor:
        return torch.where(x == 0, torch.nan, x)

    def start(self, x: Tensor) -> None:
        super().start(x)
        self.zero.copy_(log_odds_of_zero(x))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        logits = self.zero + soft_clip(y[:, 1], -30, 30)
        px = ZeroInflatedNormal(logits, *self.location_and_scale(y))
        return Independent(px, 1, validate_args=False)


def log_odds_of_zero(x: Tensor) -> Tensor:
    """Log-odds of the share of zeros among the values (n, d) that are not missing."""
    count = (~x.isnan()).sum(0)
    return torch.logit(((x == 0).sum(0) + 0.5) / (count + 1))
