"""Mixture priors: free components, pseudo-inputs, exemplars."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import start_at_clusters
from tightbound.core.component import EncodedData, ModelAware, Prior
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context, Draw, Examples, scale_of
from tightbound.core.options import Count
from tightbound.core.trace import Trace
from tightbound.distributions import Flow, Mixture, soft_clip, zuko_maps


class MixturePrior(Prior):
    """Mixture of diagonal normals: p(z) = sum_m w_m N(z; mean_m, diag scale_m^2).

    Weights, means and scales are learned. Tomczak and Welling 2018 (arXiv:1705.07120), section 4.
    """

    fits_by_gradient = True

    def __init__(
        self,
        latent: int,
        components: Annotated[Count, Field(description="number of components")] = 10,
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, data: EncodedData) -> None:
        """Set the components to clusters of the draws."""
        start_at_clusters(self, data.z, data.seed)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return Mixture(
            self.mean, soft_clip(self.log_scale).exp(), self.log_weight, ctx.n
        )


class EncodedMixture(ModelAware, Prior):
    """Base class of mixtures of the posteriors of `count` inputs (count, *shape).

    The inputs are kept in units of the encoder, (x - centre) / spread, so that they are learned as
    fast as other weights.
    """

    build_arguments = ("spec",)
    fits_by_gradient = True
    compatible_posteriors = ("normal",)
    compatible_hierarchies = ("flat", "top-down")
    encodes_unconditionally = True

    def __init__(self, latent: int, spec: DataSpec, count: int) -> None:
        super().__init__()
        self.shape = (count, *spec.shape)
        self.bounds = spec.bounds
        self._cached: tuple[list[int], Distribution] | None = None

    def codes(self, inputs: Tensor) -> Distribution:
        """q(z|x) of the topmost latent at inputs in units of the encoder."""
        model = self.model
        h = scale_of(model.encoder(inputs), -1)
        q: Distribution = model.hierarchy.top_posterior(h, Context(len(h), h))
        return q

    def cached_codes(self, inputs: Tensor) -> Distribution:
        """`codes(inputs)`, recomputed only with gradients or after a change of a weight."""
        if torch.is_grad_enabled():
            return self.codes(inputs)
        version = [p._version for p in (inputs, *self.model.parameters())]
        if self._cached is None or self._cached[0] != version:
            self._cached = (version, self.codes(inputs))
        return self._cached[1]


class VampPrior(EncodedMixture):
    """VampPrior: a mixture of the posteriors of learned pseudo-inputs.

        p(z) = (1/M) sum_m q(z | u_m)

    The pseudo-inputs u_m start as training examples and stay within the range of the data. Tomczak
    and Welling 2018 (arXiv:1705.07120), eq. 9.
    """

    keeps_statistics = True

    def __init__(
        self,
        latent: int,
        spec: DataSpec,
        components: Annotated[
            Count, Field(description="number of pseudo-inputs")
        ] = 500,
    ) -> None:
        super().__init__(latent, spec, components)
        self.inputs = nn.Parameter(0.1 * torch.randn(self.shape))
        self.register_buffer("log_weight", torch.zeros(components), persistent=False)

    def prepare(self, examples: Examples) -> None:
        """Set the pseudo-inputs to training examples, repeated where there are fewer."""
        self.inputs.copy_(self.encoder_inputs(examples, len(self.inputs))[0])

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        return {}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Clip pseudo-inputs to the range of the data."""
        centre = self.model.get_buffer("centre")
        spread = self.model.get_buffer("spread")
        low, high = (
            (torch.as_tensor(bound).to(centre) - centre) / spread
            for bound in self.bounds
        )
        self.inputs.copy_(self.inputs.clamp(low, high))

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        q = self.cached_codes(self.inputs)
        return Mixture(q.mean, q.stddev, self.get_buffer("log_weight"), ctx.n)


class ExemplarPrior(EncodedMixture):
    """Exemplar prior: a mixture of normals around the codes of training examples.

        p(z) = (1/N) sum_n N(z; mean of q(z | x_n), s^2 I)

    over the training examples x_n except the row's own; s is learned. The sum over all N is
    approximated by `count` examples spread over the training data, of which a training step uses
    `step` at random, and evaluation all. Norouzi et al. 2020 (arXiv:2004.04795), eq. 5.

    With `flow` coupling layers T (Dinh et al. 2017, arXiv:1605.08803) the mixture is one of their
    outputs, around the mapped codes, so that its components have any shape in the space of z:

        p(z) = |det dT/dz| (1/N) sum_n N(T(z); T(mean of q(z | x_n)), s^2 I)
    """

    needs_row_numbers = True
    holds_training_rows = True

    def __init__(
        self,
        latent: int,
        spec: DataSpec,
        count: Annotated[
            Count, Field(description="training examples that stand for all")
        ] = 1000,
        step: Annotated[
            Count, Field(description="how many of these one training step uses")
        ] = 200,
        flow: Annotated[
            int,
            Field(ge=0, description="coupling layers between mixture and z; 0: none"),
        ] = 0,
        width: Annotated[
            Count, Field(description="hidden units of their networks")
        ] = 128,
    ) -> None:
        super().__init__(latent, spec, count)
        self.step = min(step, count)
        self.maps = zuko_maps("coupling", latent, flow, width) if flow else None
        self.register_buffer("inputs", 0.1 * torch.randn(self.shape))
        self.register_buffer("rows", torch.arange(count))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def prepare(self, examples: Examples) -> None:
        """Set the exemplars and their row numbers.

        Those of a stream have none, and are never left out.
        """
        inputs = self.get_buffer("inputs")
        rows = self.get_buffer("rows")
        new_inputs, new_rows = self.encoder_inputs(examples, len(inputs))
        inputs[:] = new_inputs
        rows[:] = new_rows

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        inputs = self.get_buffer("inputs")
        rows = self.get_buffer("rows")
        if self.training:
            chosen = torch.randperm(len(inputs), device=inputs.device)[: self.step]
            rows = rows[chosen]
            mean = self.codes(inputs[chosen]).mean
        else:
            mean = self.cached_codes(inputs).mean
        weight = mean.new_zeros(len(rows))
        if ctx.index is not None:
            weight = weight.masked_fill(rows == ctx.index.unsqueeze(1), -1e9)
        scale = soft_clip(self.log_scale).exp().expand_as(mean)
        if self.maps is None:
            return Mixture(mean, scale, weight, ctx.n)
        maps = self.maps(None)
        centres = maps.call_and_ladj(mean)[0]
        mixture = Mixture(centres, scale, weight, ctx.n)
        return Flow(mixture, maps.inv.call_and_ladj, maps.call_and_ladj)
