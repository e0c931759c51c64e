"""q(z|x) = N(mean(h), diag scale(h)^2), and its point-mass limit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.distributions import Delta, diagonal
from tightbound.trace import Context

WIDEST = 3.0  # log-scale of a posterior: one much wider than its prior only makes the gradient explode


class NormalPosterior(nn.Module):
    """Diagonal normal: a mean and a scale per feature, linear in the encoder's features h (n, F).

    scale: "predicted" from h, or "shared", one learned scale per feature for all x (the exact form for a linear model).
    Kingma and Welling 2014 (arXiv:1312.6114), appendix C.2.
    """

    def __init__(self, features: int, latent: int, scale: Literal["predicted", "shared"] = "predicted") -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)
        self.log_scale = nn.Linear(features, latent) if scale == "predicted" else None
        self.shared = None if scale == "predicted" else nn.Parameter(torch.zeros(latent))

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        loc = self.mean(h)
        if self.log_scale is not None:
            return diagonal(loc, self.log_scale(h), WIDEST)
        assert self.shared is not None
        return diagonal(loc, self.shared.expand_as(loc), WIDEST)


class DeltaPosterior(nn.Module):
    """A point per example, linear in h: the code of an autoencoder."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        return Delta(self.mean(h))
