"""p(z) over the codes of the model's posterior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.distributions import UniformCodes
from tightbound.trace import Context, Draw


class UniformCodesPrior(nn.Module):
    """Every code alike. van den Oord et al. 2017 (arXiv:1711.00937), section 3.1."""

    space = "codes"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        self._model: list[Any] = []  # a list, so that the model is no part of its part

    def bind(self, model: Any) -> None:
        """Called by `build`: the codes are those of the posterior."""
        self._model[:] = [model]

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return UniformCodes(ctx.n, self._model[0].path.top.codebook, self.get_buffer("zero"))
