"""Mass functions over counts 0, 1, 2, ... without an upper bound."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, NegativeBinomial, Poisson

from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.distributions import soft_clip


def log_mean(base: Tensor, y: Tensor) -> Tensor:
    """Log of the mean count, softly clipped to (-10, 14)."""
    return soft_clip(base + y, -10, 14)


class PoissonLikelihood(Likelihood):
    """Poisson likelihood: p(x|z) = prod_d Poisson(x_d; exp(base_d + y_d))."""

    domains = ("count",)
    params = 1

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.base = nn.Parameter(spec.centre.clamp(min=1e-2).log())

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        rate = log_mean(self.base, y.squeeze(1)).exp()
        return Independent(
            Poisson(rate, validate_args=False), rate.dim() - 1, validate_args=False
        )


class NegativeBinomialLikelihood(Likelihood):
    """Negative binomial likelihood for overdispersed counts.

        p(x|z) = prod_d NB(x_d; mean m_d = exp(base_d + y_d), variance m_d + m_d^2 / r_d)

    Lopez et al. 2018 (doi:10.1038/s41592-018-0229-2), without library size and zero inflation.
    """

    domains = ("count",)

    def __init__(
        self,
        spec: DataSpec,
        scale: Annotated[
            Literal["learned", "predicted"],
            Field(
                description="dispersion r: learned per dimension, or predicted by the decoder"
            ),
        ] = "learned",
    ) -> None:
        super().__init__()
        self.params = 2 if scale == "predicted" else 1
        self.base = nn.Parameter(spec.centre.clamp(min=1e-2).log())
        self.log_r = nn.Parameter(torch.zeros(spec.shape))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        centre, *predicted = y.unbind(1)
        mean = log_mean(self.base, centre)
        log_r: Tensor = self.log_r
        if predicted:
            log_r = log_r + predicted[0]
        log_r = soft_clip(log_r, -7, 7).expand_as(mean)
        px = NegativeBinomial(
            total_count=log_r.exp(), logits=mean - log_r, validate_args=False
        )
        return Independent(px, mean.dim() - 1, validate_args=False)
