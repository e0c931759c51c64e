"""Likelihood of a table: a product of one likelihood for each kind of column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, OneHotCategorical

from tightbound.components.likelihoods.continuous import (
    GaussianLikelihood,
    LaplaceLikelihood,
)
from tightbound.components.likelihoods.counts import (
    NegativeBinomialLikelihood,
    PoissonLikelihood,
)
from tightbound.components.likelihoods.discrete import BernoulliLikelihood
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec, Domain
from tightbound.core.draw import Context
from tightbound.distributions import (
    ExtendedDistribution,
    log_prob_each,
    point,
    soft_clip,
)
from tightbound.distributions.base import SampleShape

Dimensions = slice | Tensor


class Product(ExtendedDistribution):
    """Product of distributions over disjoint sets of dimensions, (n, D).

    parts: pairs of dimensions and their distribution.
    """

    def __init__(
        self, parts: Sequence[tuple[Dimensions, Distribution]], n: int, dims: int
    ) -> None:
        self.parts = parts
        super().__init__(torch.Size([n]), torch.Size([dims]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        terms = [dist.log_prob(value[..., at]) for at, dist in self.parts]
        return torch.stack(terms).sum(0)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """log p of each value, (..., n, D); that of a category stands at its first place."""
        out = torch.zeros_like(value)
        for at, dist in self.parts:
            if isinstance(dist, OneHotCategorical):
                assert isinstance(at, slice)
                out[..., at.start] = dist.log_prob(value[..., at])
            else:
                out[..., at] = log_prob_each(dist, value[..., at])
        return out

    def _joined(self, value_of: Callable[[Distribution], Tensor]) -> Tensor:
        """Values of each part side by side, (..., n, D)."""
        values = [value_of(dist) for _, dist in self.parts]
        out = values[0].new_empty(*values[0].shape[:-1], *self.event_shape)
        for (at, _), value in zip(self.parts, values, strict=True):
            out[..., at] = value
        return out

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            return self._joined(lambda dist: dist.sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        return self._joined(lambda dist: dist.mean)

    @property
    def variance(self) -> Tensor:
        return self._joined(lambda dist: dist.variance)

    @property
    def point(self) -> Tensor:
        """The mean; of categories the most likely, one-hot."""
        return self._joined(_point)


def _point(dist: Distribution) -> Tensor:
    if isinstance(dist, OneHotCategorical):
        mode: Tensor = dist.mode
        return mode
    return point(dist)


class FieldsLikelihood(Likelihood):
    """Heterogeneous likelihood of a table: each column by its kind.

    Normal or Laplace for reals, Bernoulli, softmax, negative binomial or Poisson for counts. Nats
    of a row are summed over its columns. Nazabal et al. 2020 (arXiv:1807.03653), section 3.
    """

    domains = ("mixed",)

    def __init__(
        self,
        spec: DataSpec,
        real: Annotated[
            Literal["gaussian", "laplace"],
            Field(description="distribution of columns of real numbers"),
        ] = "gaussian",
        count: Annotated[
            Literal["negative-binomial", "poisson"],
            Field(description="distribution of columns of counts"),
        ] = "negative-binomial",
        scale: Annotated[
            Literal["learned", "predicted"],
            Field(
                description="of reals and counts: learned per column, or predicted by the decoder"
            ),
        ] = "learned",
    ) -> None:
        super().__init__()
        makers: dict[Domain, Callable[[DataSpec], Likelihood]] = {
            "real": partial(GaussianLikelihood, scale=scale),
            "binary": BernoulliLikelihood,
            "count": partial(NegativeBinomialLikelihood, scale=scale),
        }
        if real == "laplace":
            makers["real"] = partial(LaplaceLikelihood, scale=scale)
        if count == "poisson":
            makers["count"] = PoissonLikelihood
        self.each = nn.ModuleDict()
        self.params = 1
        columns = list(zip(spec.fields, spec.places, strict=True))
        for kind, make in makers.items():
            at = [place.start for column, place in columns if column.kind == kind]
            if not at:
                continue
            part = DataSpec(
                shape=(len(at),),
                domain=kind,
                mean=spec.centre[at],
                std=spec.spread[at],
            )
            likelihood = make(part)
            self.each[kind] = likelihood
            self.params = max(self.params, likelihood.params)
            self.register_buffer(f"at_{kind}", torch.tensor(at), persistent=False)
        self.choices = [
            place for column, place in columns if column.kind == "categorical"
        ]
        self.base = nn.ParameterList(
            nn.Parameter(spec.centre[at].clamp(min=1e-3).log()) for at in self.choices
        )
        self.dims = spec.dims

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        parts: list[tuple[Dimensions, Distribution]] = []
        for kind, likelihood in self.each.items():
            at = self.get_buffer(f"at_{kind}")
            parts.append((at, likelihood(y[:, : likelihood.params, at], ctx, None)))
        for place, base in zip(self.choices, self.base, strict=True):
            logits = base + soft_clip(y[:, 0, place], -30, 30)
            parts.append((place, OneHotCategorical(logits=logits, validate_args=False)))
        return Product(parts, len(y), self.dims)
