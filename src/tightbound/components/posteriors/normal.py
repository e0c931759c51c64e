"""Normal posteriors, and their point-mass limit."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tightbound.core.component import Posterior
from tightbound.core.draw import Context
from tightbound.distributions import Delta, FullNormal, LogScaleNormal, diagonal

# bound on the log-scale of a posterior: with one much wider than the prior, gradients diverge
WIDEST = 3.0
CUT = (-15.0, 10.0)


class NormalPosterior(Posterior):
    """Diagonal normal: q(z|x) = N(mean(h), diag scale(h)^2), linear in h (n, F).

    On a grid, h (n, *grid, F), there are `latent` features at each place, and z (n, places *
    latent) is ordered by place. A shared scale is the exact form for a linear model. Kingma and
    Welling 2014 (arXiv:1312.6114), appendix C.2.
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
        clip: Annotated[
            Literal["soft", "hard"],
            Field(
                description="log-scale bounded softly to (-8, 3), or cut at -15 and 10 as in "
                "AutoencoderKL"
            ),
        ] = "soft",
    ) -> None:
        super().__init__()
        self.clip = clip
        self.mean = nn.Linear(features, latent)
        self.log_scale: nn.Linear | None = None
        self.shared: nn.Parameter | None = None
        if scale == "predicted":
            self.log_scale = nn.Linear(features, latent)
        else:
            self.shared = nn.Parameter(torch.zeros(latent))

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        loc = self.mean(h)
        if self.log_scale is not None:
            log_scale = self.log_scale(h)
        else:
            assert self.shared is not None
            log_scale = self.shared.expand_as(loc)
        if self.clip == "hard":
            q = LogScaleNormal(loc.flatten(1), log_scale.flatten(1).clamp(*CUT))
            return Independent(q, 1, validate_args=False)
        return diagonal(loc.flatten(1), log_scale.flatten(1), WIDEST)


class FullNormalPosterior(Posterior):
    """Full-covariance normal: N(mean, L L'), L = diag(scale) (I + strictly lower).

    All parts are linear in h. Kingma and Welling 2019 (arXiv:1906.02691), section 2.5.1, up to the
    order of the product.
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
    """Residual normal: q = N(m + d, (s r)^2) relative to the prior p = N(m, s^2).

    d and log r are linear in h; d = 0, r = 1 gives p. Vahdat and Kautz 2020 (arXiv:2007.03898),
    eq. 4.
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
        q = Normal(p.mean + change.mean, scale, validate_args=False)
        return Independent(q, 1, validate_args=False)


class LadderPosterior(Posterior):
    """Precision-weighted product of a normal from h and the prior (ladder VAE).

    Precisions add, means are weighted by them. Sonderby et al. 2016 (arXiv:1602.02282), eq. 17 to
    19, where the first factor does not depend on the latents above, and the topmost q is not a
    product.
    """

    supports_grids = True
    compatible_priors = ("standard", "learned")
    compatible_hierarchies = ("flat", "top-down")

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.own = NormalPosterior(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        factor = self.own(h, ctx, None)
        assert p is not None
        a = factor.variance.reciprocal()
        b = p.variance.reciprocal()
        loc = (factor.mean * a + p.mean * b) / (a + b)
        q = Normal(loc, (a + b).rsqrt(), validate_args=False)
        return Independent(q, 1, validate_args=False)


class DeltaPosterior(Posterior):
    """Point mass: one value per example, linear in h, as in an autoencoder."""

    supports_grids = True
    is_point_mass = True

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        return Delta(self.mean(h).flatten(1))
