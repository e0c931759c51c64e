"""Priors as normalising flows."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from tightbound.components.priors.encoded_data import Units
from tightbound.core.component import EncodedData, Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.options import Count
from tightbound.distributions import Flow, standard_normal, zuko_maps


class FlowPrior(Prior):
    """Flow prior: log p(z) = log N(T(z); 0, I) + log |det dT/dz|, in one pass.

    T is a chain of coupling layers (RealNVP, Dinh et al. 2017, arXiv:1605.08803), affine
    autoregressive maps (MAF, Papamakarios et al. 2017, arXiv:1705.07057) or splines (NSF, Durkan
    et al. 2019, arXiv:1906.04032). Samples of the latter two take d passes.
    """

    fits_by_gradient = True

    def __init__(
        self,
        latent: int,
        kind: Annotated[
            Literal["coupling", "affine", "spline"],
            Field(description="kind of the maps: RealNVP, MAF or a neural spline flow"),
        ] = "coupling",
        steps: Annotated[Count, Field(description="maps, one after another")] = 6,
        width: Annotated[
            Count, Field(description="hidden units of their networks")
        ] = 128,
    ) -> None:
        super().__init__()
        self.maps = zuko_maps(kind, latent, steps, width)
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        base = standard_normal(self.get_buffer("zero").expand(ctx.n, -1))
        maps = self.maps(None)
        return Flow(base, maps.inv.call_and_ladj, maps.call_and_ladj)


class MAFPrior(FlowPrior):
    """Masked autoregressive flow, in units of the codes: z = centre + spread T(e).

    e ~ N(0, I). The density takes one pass, a sample d. Papamakarios et al. 2017
    (arXiv:1705.07057), section 3.1.
    """

    inverted = False

    def __init__(
        self,
        latent: int,
        steps: Annotated[Count, Field(description="maps, one after another")] = 5,
        width: Annotated[
            Count, Field(description="hidden units of their networks")
        ] = 128,
    ) -> None:
        super().__init__(latent, "affine", steps, width)
        self.units = Units(latent)

    def fit(self, data: EncodedData) -> None:
        """Set centre and spread from the codes."""
        self.units.fit(data)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        base = standard_normal(self.get_buffer("zero").expand(ctx.n, -1))
        centre, spread = self.units.of(1)
        maps = self.maps(None)
        if self.inverted:
            maps = maps.inv

        def out(e: Tensor) -> tuple[Tensor, Tensor]:
            z, ladj = maps.inv.call_and_ladj(e)
            return centre + spread * z, ladj + spread.log().sum()

        def back(z: Tensor) -> tuple[Tensor, Tensor]:
            e, ladj = maps.call_and_ladj((z - centre) / spread)
            return e, ladj - spread.log().sum()

        return Flow(base, out, back)


class IAFPrior(MAFPrior):
    """Inverse autoregressive flow: the maps of `MAFPrior` in the other direction.

    A sample takes one pass, the density of a given z takes d, so that fitting is slow. Kingma et
    al. 2016 (arXiv:1606.04934), section 3.
    """

    inverted = True

    def __init__(
        self,
        latent: int,
        steps: Annotated[Count, Field(description="maps, one after another")] = 3,
        width: Annotated[
            Count, Field(description="hidden units of their networks")
        ] = 64,
    ) -> None:
        super().__init__(latent, steps, width)
