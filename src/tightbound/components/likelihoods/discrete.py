"""Mass functions: Bernoulli, discretised logistic, categorical."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent

from tightbound.components.likelihoods.noise_scale import Scale
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.core.options import Positive
from tightbound.distributions import BernoulliPixels, DiscretizedLogistic, soft_clip


class BernoulliLikelihood(Likelihood):
    """Bernoulli likelihood: p(x|z) = prod_d Bernoulli(x_d; sigmoid(base_d + y_d)).

    The bias starts at the logit of the training mean.
    """

    domains = ("binary",)
    params = 1

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.logit(spec.centre.clamp(1e-3, 1 - 1e-3)))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        return BernoulliPixels(self.base + y.squeeze(1))


class DiscretizedLogisticLikelihood(Likelihood):
    """Discretised logistic likelihood over levels 0..L-1, around base + unit * y.

    Kingma et al. 2016 (arXiv:1606.04934), appendix.
    """

    domains = ("levels",)

    def __init__(
        self,
        spec: DataSpec,
        scale: Annotated[
            Literal["predicted", "learned", "shared", "fixed"],
            Field(
                description="predicted by the decoder, learned per dimension, shared or fixed"
            ),
        ] = "predicted",
        value: Annotated[
            Positive, Field(description="of a fixed scale, in levels")
        ] = 1.0,
    ) -> None:
        super().__init__()
        assert spec.levels is not None
        self.levels = spec.levels
        self.base = nn.Parameter(spec.centre)
        self.scale = Scale(scale, spec.spread, value=value, start=0.5, floor=1e-3)
        self.params = 1 + self.scale.params

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        centre, *width = y.unbind(1)
        loc = self.base + self.scale.get_buffer("unit") * centre
        px = DiscretizedLogistic(loc, self.scale(*width).reciprocal(), self.levels)
        return Independent(px, loc.dim() - 1, validate_args=False)


class CategoricalLikelihood(Likelihood):
    """Categorical likelihood: p(x|z) = prod_d softmax(y_d)[x_d], unordered values."""

    domains = ("categorical", "levels", "binary")

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        levels = spec.levels
        if spec.domain == "binary":
            levels = 2
        assert levels is not None
        self.params = levels
        self.base = nn.Parameter(torch.zeros(levels, *spec.shape))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        logits = (self.base + soft_clip(y, -30, 30)).movedim(1, -1)
        return Independent(
            Categorical(logits=logits, validate_args=False),
            logits.dim() - 2,
            validate_args=False,
        )
