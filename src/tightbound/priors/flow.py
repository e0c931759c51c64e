"""p(z) as a flow."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tightbound.distributions import Flow, zuko_maps
from tightbound.trace import Context, Draw


class FlowPrior(nn.Module):
    """N(0, I) pulled back through maps: log p(z) = log N(T(z)) + log |det dT/dz|, in one pass.

    kind: "coupling" (RealNVP, Dinh et al. 2017, arXiv:1605.08803), "affine" (MAF, Papamakarios et al. 2017,
    arXiv:1705.07057) or "spline" (NSF, Durkan et al. 2019, arXiv:1906.04032), whose samples take d passes.
    steps: maps, one after another.  width: hidden units of their networks.
    """

    def __init__(
        self,
        latent: int,
        kind: Literal["coupling", "affine", "spline"] = "coupling",
        steps: int = 6,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.maps = zuko_maps(kind, latent, steps, width)
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        zero, maps = self.get_buffer("zero").expand(ctx.n, -1), self.maps(None)
        base = Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)
        return Flow(base, maps.inv.call_and_ladj, maps.call_and_ladj)
