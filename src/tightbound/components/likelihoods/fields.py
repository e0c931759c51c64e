"""p(x|z) of a table: a product of one likelihood for each kind of column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

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
from tightbound.core.data_spec import DataSpec
from tightbound.core.trace import Context
from tightbound.distributions import log_prob_each, point, soft_clip


class Product(Distribution):
    """A product over (n, D) of distributions over some of the dimensions each; parts: (dimensions,
    distribution).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own attribute)

    def __init__(
        self, parts: Sequence[tuple[Any, Distribution]], n: int, dims: int
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
                out[..., at.start] = dist.log_prob(value[..., at])
            else:
                out[..., at] = log_prob_each(dist, value[..., at])
        return out

    def _joined(self, of: Callable[[Any], Tensor]) -> Tensor:
        """What `of` says of each part, put side by side, (..., n, D)."""
        said = [of(dist) for _, dist in self.parts]
        out = said[0].new_empty(*said[0].shape[:-1], *self.event_shape)
        for (at, _), x in zip(self.parts, said, strict=True):
            out[..., at] = x
        return out

    def sample(self, sample_shape: Any = ()) -> Tensor:
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
        """The mean; of categories the most likely, as 0s and a 1."""
        return self._joined(
            lambda dist: (
                dist.mode if isinstance(dist, OneHotCategorical) else point(dist)
            )
        )


class FieldsLikelihood(Likelihood):
    """p(x|z) = prod over columns of N, Bernoulli, softmax or NB, by their kind; nats of a row add
    over its columns.

    real: "gaussian" or "laplace".  count: "negative-binomial" or "poisson".  scale: of reals and
    counts, "learned" per column, or "predicted" by the decoder.  Nazabal et al. 2020
    (arXiv:1807.03653), section 3.
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
        reals: Any = GaussianLikelihood if real == "gaussian" else LaplaceLikelihood
        counts: Any = (
            PoissonLikelihood if count == "poisson" else NegativeBinomialLikelihood
        )
        options = {} if count == "poisson" else {"scale": scale}
        self.each = nn.ModuleDict()
        columns = list(zip(spec.fields, spec.places, strict=True))
        for kind, cls, own in (
            ("real", reals, {"scale": scale}),
            ("binary", BernoulliLikelihood, {}),
            ("count", counts, options),
        ):
            if at := [place.start for column, place in columns if column.kind == kind]:
                part = DataSpec(
                    shape=(len(at),),
                    domain=kind,
                    mean=spec.centre[at],
                    std=spec.spread[at],
                )
                self.each[kind] = cls(part, **own)
                self.register_buffer(f"at_{kind}", torch.tensor(at), persistent=False)
        self.choices = [
            place for column, place in columns if column.kind == "categorical"
        ]
        self.base = nn.ParameterList(
            nn.Parameter(spec.centre[at].clamp(min=1e-3).log()) for at in self.choices
        )
        counts = [int(part.params) for part in self.each.values()]  # type: ignore[arg-type]
        self.params = max([1, *counts])
        self.dims = spec.dims

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        parts: list[tuple[Any, Distribution]] = []
        for kind, likelihood in self.each.items():
            at = self.get_buffer(f"at_{kind}")
            parts.append((at, likelihood(y[:, : likelihood.params, at], ctx, None)))
        for place, base in zip(self.choices, self.base, strict=True):
            logits = base + soft_clip(y[:, 0, place], -30, 30)
            parts.append((place, OneHotCategorical(logits=logits, validate_args=False)))
        return Product(parts, len(y), self.dims)
