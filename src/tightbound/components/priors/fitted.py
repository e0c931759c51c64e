"""Priors that are fitted after training: full normals and their mixtures."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import need_enough
from tightbound.core.component import EncodedData, Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.options import Count
from tightbound.distributions import Blend, FullNormal

# bounds of a log-scale
LOW = -12.0
HIGH = 12.0


class GaussianMixturePrior(Prior):
    """Gaussian mixture: p(z) = sum_m w_m N(z; mean_m, L_m L_m'), full covariances.

    Fitted by expectation maximisation (scikit-learn). L has the diagonal exp(log_scale). Ghosh et
    al. 2020 (arXiv:1903.12436), section 4, fit 10 components to the codes of an RAE.
    """

    def __init__(
        self,
        latent: int,
        components: Annotated[Count, Field(description="number of components")] = 10,
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))
        self.lower = nn.Parameter(torch.zeros(components, latent, latent))
        self.log_weight = nn.Parameter(torch.zeros(components))

    def fit(self, data: EncodedData) -> None:
        """Set all parameters from the draws; TightboundError where they are too few."""
        from sklearn.mixture import GaussianMixture

        count = len(self.mean)
        need_enough(data.z, count)
        z = data.z.double().cpu().numpy()
        seed = data.seed % 2**32
        mixture = GaussianMixture(count, max_iter=300, random_state=seed).fit(z)
        root = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
        self.mean.copy_(torch.from_numpy(mixture.means_))
        self.lower.copy_(root.tril(-1))
        self.log_scale.copy_(root.diagonal(dim1=-2, dim2=-1).log())
        self.log_weight.copy_(torch.from_numpy(mixture.weights_).log())

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        root = self.lower.tril(-1) + torch.diag_embed(
            self.log_scale.clamp(LOW, HIGH).exp()
        )

        def make(at: slice | Tensor) -> Distribution:
            return FullNormal(self.mean[at], scale_tril=root[at], validate_args=False)

        return Blend(make, self.log_weight, ctx.n)


class FullNormalPrior(GaussianMixturePrior):
    """Full normal: p(z) = N(z; mean, L L'), with mean and covariance of the draws."""

    def __init__(self, latent: int) -> None:
        super().__init__(latent, 1)
        self.log_weight.requires_grad_(False)
