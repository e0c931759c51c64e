"""p(z) as a second VAE, on the latent of the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import Units
from tightbound.core.component import EncodedData, Prior
from tightbound.core.trace import Context, Draw
from tightbound.distributions import diagonal, standard_normal


class TwoStagePrior(Prior):
    """p(z) = int N(u; 0, I) N(z; m(u), gamma^2 I) du, with q(u|z) beside it: a VAE of z with a
    learned scale gamma.

    u, of as many features as z, is a site of its own: log p(z) is bounded, as log p(x) is, and
    importance sampling, which draws z and u, tightens both bounds at once.  In units of the mean
    and spread of the codes. Dai and Wipf 2019 (arXiv:1903.05789), section 4.
    """

    fits_by_gradient = True
    build_arguments = ("network",)
    compatible_hierarchies = ("flat",)
    extra_sites = ("u",)

    def __init__(self, latent: int, network: Any) -> None:
        super().__init__()
        self.units = Units(latent)
        self.up = network.link(latent)
        self.down = network.link(latent)
        self.code = nn.Linear(self.up.features, 2 * latent)
        self.mean = nn.Linear(self.down.features, latent)
        self.log_gamma = nn.Parameter(torch.zeros(()))

    def fit(self, data: EncodedData) -> None:
        """Takes the units of the codes."""
        self.units.fit(data)

    def inference_modules(self) -> list[nn.Module]:
        """The modules that belong to q(u|z)."""
        return [self.up, self.code]

    def forward(
        self, ctx: Context, draw: Draw, state: Tensor | None
    ) -> Distribution | None:
        """p(z|u); u from q at `state` = z.

        None where z is still to be inferred: then it is called again, with z.
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
