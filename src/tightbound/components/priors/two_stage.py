"""A second VAE of the latents as prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import Units
from tightbound.core.component import EncodedData, Network, Prior, width_of
from tightbound.core.draw import Context, Draw
from tightbound.distributions import diagonal, standard_normal


class TwoStagePrior(Prior):
    """Two-stage VAE: p(z) = int N(u; 0, I) N(z; m(u), gamma^2 I) du, with q(u|z).

    A VAE of z with a learned scale gamma, in units of the mean and spread of the codes. u, of as
    many features as z, is a site of its own: log p(z) is bounded as log p(x) is, and importance
    sampling over z and u tightens both bounds at once. Dai and Wipf 2019 (arXiv:1903.05789),
    section 4.
    """

    fits_by_gradient = True
    build_arguments = ("network",)
    compatible_hierarchies = ("flat",)
    extra_sites = ("u",)

    def __init__(self, latent: int, network: Network) -> None:
        super().__init__()
        self.units = Units(latent)
        self.up = network.link(latent)
        self.down = network.link(latent)
        self.code = nn.Linear(width_of(self.up), 2 * latent)
        self.mean = nn.Linear(width_of(self.down), latent)
        self.log_gamma = nn.Parameter(torch.zeros(()))

    def fit(self, data: EncodedData) -> None:
        """Set centre and spread from the codes."""
        self.units.fit(data)

    def inference_modules(self) -> list[nn.Module]:
        """The modules that belong to q(u|z)."""
        return [self.up, self.code]

    def forward(
        self, ctx: Context, draw: Draw, state: Tensor | None
    ) -> Distribution | None:
        """p(z|u), with u from q at `state` = z.

        None where z is still to be inferred; the hierarchy calls it again with z.
        """
        if ctx.infer and not draw.latents:
            return None
        centre, unit = self.units.of(ctx.n)
        q = None
        if draw.latents and state is not None:
            loc, log_scale = self.code(self.up((state - centre) / unit)).chunk(2, -1)
            q = diagonal(loc, log_scale, high=3.0)
        u = draw("u", p=standard_normal(centre), q=q)
        assert u is not None
        return diagonal(
            centre + unit * self.mean(self.down(u)), self.log_gamma + unit.log()
        )
