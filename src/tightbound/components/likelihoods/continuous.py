"""Densities: Gaussian and Laplace for reals, continuous Bernoulli for [0, 1]."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace, Normal

from tightbound.components.likelihoods.noise_scale import Scale, ScaleKind
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.core.options import Positive, Weight
from tightbound.core.trace import Trace
from tightbound.distributions import ContinuousBernoulli
from tightbound.runtime.errors import TightboundError


class GaussianLikelihood(Likelihood):
    """Gaussian likelihood: p(x|z) = prod_d N(x_d; base_d + unit_d y_d, sigma_d^2)."""

    domains = ("real", "unit")
    family: type[Normal] | type[Laplace] = Normal

    def __init__(
        self,
        spec: DataSpec,
        scale: Annotated[
            ScaleKind,
            Field(
                description="learned per dimension, shared, predicted, optimal (RMS error) or fixed"
            ),
        ] = "learned",
        value: Annotated[
            Positive, Field(description="of a fixed scale, in model units")
        ] = 1.0,
        floor: Annotated[
            Weight, Field(description="least sigma, as a share of the data's spread")
        ] = 0.01,
        output: Annotated[
            Literal["standardised", "range"],
            Field(
                description="y standardised by mean and spread of the data, or scaled from "
                "[-1, 1] to the range of the domain"
            ),
        ] = "standardised",
    ) -> None:
        super().__init__()
        self.half_range: float | None = None
        if output == "range":
            self.half_range = _half_range(spec)
            low = spec.bounds[0]
            self.register_buffer("base", torch.full(spec.shape, low + self.half_range))
        else:
            self.base = nn.Parameter(spec.centre)
        self.scale = Scale(scale, spec.spread, value=value, floor=floor)
        self.params = 1 + self.scale.params
        self.keeps_statistics = scale == "optimal"

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        centre, *width = y.unbind(1)
        unit = (
            self.scale.get_buffer("unit")
            if self.half_range is None
            else self.half_range
        )
        loc = self.base + unit * centre
        sigma = self.scale(*width).expand_as(loc)
        return Independent(
            self.family(loc, sigma, validate_args=False),
            loc.dim() - 1,
            validate_args=False,
        )

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Squared errors of a pass, as sums over the batch."""
        loc = trace.px.mean
        x = trace.batch.x
        return self.scale.sums(x - loc.reshape(trace.k, *x.shape))

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Update an optimal scale by the error of an accepted step."""
        self.scale.follow(sums)


def _half_range(spec: DataSpec) -> float:
    """Half the range of a domain with bounds."""
    low, high = spec.bounds
    if not math.isfinite(high - low):
        raise TightboundError(
            f"likelihood.output=range needs values with bounds, and domain {spec.domain!r} has "
            "none: set likelihood.output=standardised"
        )
    return (high - low) / 2


class LaplaceLikelihood(GaussianLikelihood):
    """Laplace likelihood: p(x|z) = prod_d Laplace(x_d; base_d + unit_d y_d, sigma_d).

    The mean distance is sigma; outliers count by their distance instead of its square.
    """

    family = Laplace

    def __init__(
        self,
        spec: DataSpec,
        scale: Annotated[
            Literal["fixed", "learned", "shared", "predicted"],
            Field(
                description="mean distance: learned per dimension, shared, predicted or fixed"
            ),
        ] = "learned",
        value: Annotated[
            Positive, Field(description="of a fixed scale, in model units")
        ] = 1.0,
        floor: Annotated[
            Weight, Field(description="least scale, as a share of the data's spread")
        ] = 0.01,
    ) -> None:
        super().__init__(spec, scale, value, floor)


class ContinuousBernoulliLikelihood(Likelihood):
    """Continuous Bernoulli: prod_d C(l_d) l_d^x_d (1 - l_d)^(1 - x_d) on [0, 1].

    l = sigmoid(base + y): binary cross-entropy on grey values, normalised. Loaiza-Ganem and
    Cunningham 2019 (arXiv:1907.06845).
    """

    domains = ("unit",)
    params = 1

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.logit(spec.centre.clamp(0.02, 0.98)))

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        logits = self.base + y.squeeze(1)
        px = ContinuousBernoulli(logits)
        return Independent(px, logits.dim() - 1, validate_args=False)
