"""q(z|x) = N(mean(h), diag scale(h)^2), and its point-mass limit."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tightbound.core.component import Posterior
from tightbound.core.trace import Context
from tightbound.distributions import Delta, FullNormal, diagonal

# log-scale of a posterior: one much wider than its prior only makes the gradient explode
WIDEST = 3.0


class NormalPosterior(Posterior):
    """Diagonal normal: a mean and a scale per feature, linear in the encoder's features h (n, F),
    or (n, *grid, F).

    On a grid there are `latent` features at each place, and z (n, places * latent) goes place by
    place. scale: "predicted" from h, or "shared", one learned scale per feature for all x (the
    exact form for a linear model). Kingma and Welling 2014 (arXiv:1312.6114), appendix C.2.
    """

    supports_grids = True

    def __init__(
        self,
        features: int,
        latent: int,
        scale: Annotated[
            Literal["predicted", "shared"],
            Field(
                description="predicted from h, or one learned scale per feature for all x"
            ),
        ] = "predicted",
    ) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)
        self.log_scale = nn.Linear(features, latent) if scale == "predicted" else None
        self.shared = (
            None if scale == "predicted" else nn.Parameter(torch.zeros(latent))
        )

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        loc = self.mean(h)
        if self.log_scale is not None:
            return diagonal(loc.flatten(1), self.log_scale(h).flatten(1), WIDEST)
        assert self.shared is not None
        return diagonal(loc.flatten(1), self.shared.expand_as(loc).flatten(1), WIDEST)


class FullNormalPosterior(Posterior):
    """Normal with a full covariance L L', L = diag(scale) (I + strictly lower), all linear in h.

    Kingma and Welling 2019 (arXiv:1906.02691), section 2.5.1, up to the order of the product.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.diagonal = NormalPosterior(features, latent)
        self.lower = nn.Linear(features, latent * latent)
        nn.init.zeros_(self.lower.weight)
        nn.init.zeros_(self.lower.bias)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q = self.diagonal(h, ctx, p)
        square = self.lower(h).unflatten(-1, (q.mean.shape[-1], -1)).tril(-1)
        square = square + torch.eye(square.shape[-1], dtype=h.dtype, device=h.device)
        return FullNormal(
            q.mean, scale_tril=q.stddev.unsqueeze(-1) * square, validate_args=False
        )


class ResidualPosterior(Posterior):
    """q relative to p = N(m, s^2): N(m + d, (s r)^2), d and log r linear in h; at d = 0, r = 1 it
    is p itself.

    Vahdat and Kautz 2020 (arXiv:2007.03898), eq. 4.
    """

    supports_grids = True
    compatible_priors = ("standard", "learned")
    compatible_hierarchies = ("flat", "top-down")

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.change = NormalPosterior(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        change = self.change(h, ctx, None)
        assert p is not None
        scale = p.stddev * change.stddev
        return Independent(
            Normal(p.mean + change.mean, scale, validate_args=False),
            1,
            validate_args=False,
        )


class LadderPosterior(Posterior):
    """The product of what h says and of p, both normal: precisions add, means are weighted by them.

    Sonderby et al. 2016 (arXiv:1602.02282), eq. 17 to 19, where the first factor does not hear of
    the latents above, and the topmost q is not a product.
    """

    supports_grids = True
    compatible_priors = ("standard", "learned")
    compatible_hierarchies = ("flat", "top-down")

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.own = NormalPosterior(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        own = self.own(h, ctx, None)
        assert p is not None
        a = own.variance.reciprocal()
        b = p.variance.reciprocal()
        loc = (own.mean * a + p.mean * b) / (a + b)
        return Independent(
            Normal(loc, (a + b).rsqrt(), validate_args=False), 1, validate_args=False
        )


class DeltaPosterior(Posterior):
    """A point per example, linear in h: the code of an autoencoder."""

    supports_grids = True
    is_point_mass = True

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        return Delta(self.mean(h).flatten(1))
