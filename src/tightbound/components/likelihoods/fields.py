"""Likelihood of a table: one likelihood for each kind of column, and their dependence."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from tightbound.components.likelihoods.dependence import ROWS, Dependence
from tightbound.components.likelihoods.discrete import BernoulliLikelihood
from tightbound.components.likelihoods.one_sided import (
    LogNormalLikelihood,
    StartedLikelihood,
    ZeroInflatedLikelihood,
    ZeroInflatedNormalLikelihood,
)
from tightbound.components.likelihoods.product import Chain, Dimensions, Product
from tightbound.core.component import Likelihood
from tightbound.core.data_spec import ColumnKind, DataSpec, Domain
from tightbound.core.draw import Context, Examples
from tightbound.distributions import soft_clip

RARE = 0.05  # share of the training rows, below which a category is rare


def _can_depend(spec: DataSpec) -> bool:
    """Whether columns can depend on categories: none is missing, and there are others."""
    has_categories = any(column.values for column in spec.fields)
    return has_categories and len(spec.fields) > 1 and not spec.missing


def _places_of(spec: DataSpec, kind: ColumnKind) -> list[slice]:
    """The dimensions of the columns of a kind."""
    columns = zip(spec.fields, spec.places, strict=True)
    return [place for column, place in columns if column.kind == kind]


class FieldsLikelihood(Likelihood):
    """Heterogeneous likelihood of a table: each column by its kind.

    Normal or Laplace for reals, log-normal for numbers above 0, with a probability of zero where
    the column has zeros, Bernoulli, softmax, negative binomial or Poisson for counts. Nats of a
    row are summed over its columns. Nazabal et al. 2020 (arXiv:1807.03653), section 3.

    Given z, columns may also depend on the categories of their row (`Dependence`): a rare
    category is hard to reach through a continuous z, and its numbers with it.
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
        depends: Annotated[
            Literal["rare", "all", "none"],
            Field(
                description=(
                    "categories that other columns depend on directly, beside z; none "
                    "where values may be missing"
                )
            ),
        ] = "rare",
    ) -> None:
        super().__init__()
        self.depends = depends
        self.dependence: Dependence | None = None
        is_chain = depends != "none" and _can_depend(spec)
        self.each = nn.ModuleDict()
        self.channels: dict[str, int] = {}
        self.decoded: dict[str, int] = {}
        self.constant: Tensor
        self._make_each(spec, _makers(real, count, "predicted" if is_chain else scale))
        if is_chain and scale == "learned":
            self._learn_scales(_scaled(count))
        self.params = max([1, *self.decoded.values()])
        self.choices = _places_of(spec, "categorical")
        self.base = nn.ParameterList(
            nn.Parameter(spec.centre[at].clamp(min=1e-3).log()) for at in self.choices
        )
        self.dims = spec.dims
        if is_chain:
            self._make_dependence(spec)

    def _make_each(
        self, spec: DataSpec, makers: dict[ColumnKind, Callable[[DataSpec], Likelihood]]
    ) -> None:
        """The likelihood of the columns of each kind but categories."""
        columns = list(zip(spec.fields, spec.places, strict=True))
        for kind, make in makers.items():
            at = [place.start for column, place in columns if column.kind == kind]
            if not at:
                continue
            part = DataSpec(
                shape=(len(at),),
                domain=_DOMAINS[kind],
                mean=spec.centre[at],
                std=spec.spread[at],
            )
            likelihood = make(part)
            self.each[kind] = likelihood
            self.channels[kind] = likelihood.params
            self.decoded[kind] = likelihood.params
            self.register_buffer(f"at_{kind}", torch.tensor(at), persistent=False)

    def _learn_scales(self, kinds: Collection[str]) -> None:
        """Take the scale of columns of these kinds from a parameter, not from the decoder."""
        for kind in self.each:
            if kind in kinds:
                self.decoded[kind] -= 1

    def _make_dependence(self, spec: DataSpec) -> None:
        categories = [bool(column.values) for column in spec.fields]
        channels = max([1, *self.channels.values()])
        self.dependence = Dependence(spec.places, categories, channels, spec.dims)
        constant = torch.zeros(channels, spec.dims)
        if self.decoded != self.channels:
            self.constant = nn.Parameter(constant)
        else:
            self.register_buffer("constant", constant, persistent=False)
        from_decoder = torch.zeros(channels, spec.dims)
        from_decoder[0] = 1
        for kind in self.each:
            at = self.get_buffer(f"at_{kind}")
            from_decoder[: self.decoded[kind], at] = 1
        self.register_buffer("from_decoder", from_decoder, persistent=False)

    @torch.no_grad()
    def prepare(self, examples: Examples) -> None:
        """Set one-sided columns and the dependence from training examples."""
        started = [
            (kind, part)
            for kind, part in self.each.items()
            if isinstance(part, StartedLikelihood)
        ]
        if self.dependence is None and not started:
            return
        x = examples(ROWS)[0].to(next(self.parameters()).device)
        for kind, part in started:
            part.start(x[:, self.get_buffer(f"at_{kind}")])
        if self.dependence is None:
            return
        allowed = torch.ones(self.dims, dtype=torch.bool)
        if self.depends == "rare":
            share = x.mean(0).cpu()
            allowed = share < RARE
            if "binary" in self.each:
                at = self.get_buffer("at_binary").cpu()
                allowed[at] |= share[at] > 1 - RARE
        constant = self.constant.detach()
        self.dependence.start(
            x, lambda y: Product(self._parts(constant + y), len(y), self.dims), allowed
        )

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        if self.dependence is None:
            return Product(self._parts(y), len(y), self.dims)
        channels = len(self.constant)
        if y.shape[1] < channels:
            y = nn.functional.pad(y, (0, 0, 0, channels - y.shape[1]))
        from_decoder = self.get_buffer("from_decoder")
        y = from_decoder * y + (1 - from_decoder) * self.constant
        return Chain(self._parts, y, self.dependence)

    def _parts(self, y: Tensor) -> list[tuple[Dimensions, Distribution]]:
        """The distribution of the columns of each kind, of output (n, C, D)."""
        ctx = Context(len(y))
        parts: list[tuple[Dimensions, Distribution]] = []
        for kind, likelihood in self.each.items():
            at = self.get_buffer(f"at_{kind}")
            parts.append((at, likelihood(y[:, : self.channels[kind], at], ctx, None)))
        for place, base in zip(self.choices, self.base, strict=True):
            logits = base + soft_clip(y[:, 0, place], -30, 30)
            parts.append((place, OneHotCategorical(logits=logits, validate_args=False)))
        return parts


_DOMAINS: dict[ColumnKind, Domain] = {
    "real": "real",
    "positive": "real",
    "zero-inflated": "real",
    "zero-inflated-real": "real",
    "binary": "binary",
    "count": "count",
}


def _makers(
    real: str, count: str, scale: Literal["learned", "predicted"]
) -> dict[ColumnKind, Callable[[DataSpec], Likelihood]]:
    """The likelihood of each kind of column but categories."""
    makers: dict[ColumnKind, Callable[[DataSpec], Likelihood]] = {
        "real": partial(GaussianLikelihood, scale=scale),
        "binary": BernoulliLikelihood,
        "count": partial(NegativeBinomialLikelihood, scale=scale),
        "positive": partial(LogNormalLikelihood, scale=scale),
        "zero-inflated": partial(ZeroInflatedLikelihood, scale=scale),
        "zero-inflated-real": partial(ZeroInflatedNormalLikelihood, scale=scale),
    }
    if real == "laplace":
        makers["real"] = partial(LaplaceLikelihood, scale=scale)
    if count == "poisson":
        makers["count"] = PoissonLikelihood
    return makers


def _scaled(count: str) -> tuple[str, ...]:
    """The kinds of columns whose likelihood takes a scale."""
    kinds = ("real", "positive", "zero-inflated", "zero-inflated-real")
    return kinds if count == "poisson" else (*kinds, "count")
