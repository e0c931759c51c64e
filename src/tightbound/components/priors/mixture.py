"""p(z) as a mixture: free components, or the posteriors of pseudo-inputs or of training
examples.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import start_at_clusters
from tightbound.core.component import EncodedData, ModelAware, Prior
from tightbound.core.data_spec import DataSpec
from tightbound.core.options import Count
from tightbound.core.trace import Context, Draw, Examples, Trace, scale_of
from tightbound.distributions import Mixture, soft_clip


class MixturePrior(Prior):
    """sum_m w_m N(z; mean_m, diag scale_m^2) with learned weights, means and scales.

    components: how many, M.
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
        """Starts at clusters of the draws."""
        start_at_clusters(self, data.z, data.seed)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return Mixture(
            self.mean, soft_clip(self.log_scale).exp(), self.log_weight, ctx.n
        )


class Encoded(ModelAware, Prior):
    """A mixture over the codes that the model's own encoder gives to `count` inputs (count,
    *shape).

    The inputs are kept in units of the encoder, (x - centre) / spread, so that they learn as fast
    as other weights.
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
        self._kept: tuple[Any, Any] = (None, None)

    def codes(self, inputs: Tensor) -> Distribution:
        """q(z|x) of the topmost latent at inputs in units of the encoder."""
        model = self.model
        h = scale_of(model.encoder(inputs), -1)
        q: Distribution = model.hierarchy.top_posterior(h, Context(len(h), h))
        return q

    def kept(self, inputs: Tensor) -> Distribution:
        """`codes(inputs)`, made anew only where a gradient is wanted or a weight has changed."""
        if torch.is_grad_enabled():
            return self.codes(inputs)
        version = [p._version for p in (inputs, *self.model.parameters())]
        if self._kept[0] != version:
            self._kept = (version, self.codes(inputs))
        return self._kept[1]


class VampPrior(Encoded):
    """(1/M) sum_m q(z | u_m), with M pseudo-inputs u_m that are learned, within the range of the
    data.

    They start as training examples.  components: how many, M.  Tomczak and Welling 2018
    (arXiv:1705.07120), eq. 9.
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
        """Starts the pseudo-inputs at training examples, repeated where there are fewer."""
        self.inputs.copy_(self.encoder_inputs(examples, len(self.inputs))[0])

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        return {}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Moves pseudo-inputs that left the range of the data back to its edge."""
        centre, spread = (self.model.get_buffer(name) for name in ("centre", "spread"))
        low, high = (
            (torch.as_tensor(bound).to(centre) - centre) / spread
            for bound in self.bounds
        )
        self.inputs.copy_(self.inputs.clamp(low, high))

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        q = self.kept(self.inputs)
        return Mixture(q.mean, q.stddev, self.get_buffer("log_weight"), ctx.n)


class ExemplarPrior(Encoded):
    """(1/N) sum_n N(z; mean of q(z | x_n), s^2 I) over training examples x_n other than the row's
    own; s is learned.

    An approximation of the paper's sum over all N: `count` examples spread over the training data
    stand for it, of which each training step sees `step` at random, and evaluation all. count:
    training examples that stand for all.  step: of these, data by a training step. Norouzi et al.
    2020 (arXiv:2004.04795), eq. 5.
    """

    needs_row_numbers = True

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
    ) -> None:
        super().__init__(latent, spec, count)
        self.step = min(step, count)
        self.register_buffer("inputs", 0.1 * torch.randn(self.shape))
        self.register_buffer("rows", torch.arange(count))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def prepare(self, examples: Examples) -> None:
        """Takes the exemplars and their row numbers; those of a stream have none, and are never
        left out.
        """
        inputs = self.get_buffer("inputs")
        rows = self.get_buffer("rows")
        inputs[:], rows[:] = self.encoder_inputs(examples, len(inputs))

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        inputs = self.get_buffer("inputs")
        rows = self.get_buffer("rows")
        if self.training:
            some = torch.randperm(len(inputs), device=inputs.device)[: self.step]
            rows = rows[some]
            mean = self.codes(inputs[some]).mean
        else:
            mean = self.kept(inputs).mean
        weight = torch.zeros(len(rows), device=mean.device)
        if ctx.index is not None:
            weight = weight.masked_fill(rows == ctx.index.unsqueeze(1), -1e9)
        return Mixture(
            mean, soft_clip(self.log_scale).exp().expand_as(mean), weight, ctx.n
        )
