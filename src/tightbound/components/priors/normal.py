"""Normal priors: standard, learned, and given the latents above."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.core.component import Prior
from tightbound.core.draw import Context, Draw
from tightbound.distributions import diagonal, standard_normal


class StandardNormal(Prior):
    """Standard normal: p(z) = N(0, I), (n, d)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return standard_normal(self.get_buffer("zero").expand(ctx.n, -1))


class LearnedNormal(Prior):
    """Diagonal normal p(z) = N(mean, diag scale^2), mean and scale learned."""

    fits_by_gradient = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return diagonal(self.mean.expand(ctx.n, -1), self.log_scale.expand(ctx.n, -1))


class ConditionalNormal(Prior):
    """Conditional normal: p(z | above) = N(mean(state), diag scale(state)^2).

    Linear in the state that the latents above left, (n, F), or (n, *grid, F) with z place by place.
    It starts as N(0, I), so that deep stacks are stable at the start.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, 2 * latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        assert state is not None
        loc, log_scale = self.head(state).chunk(2, -1)
        return diagonal(loc.flatten(1), log_scale.flatten(1))


class TopConditional(ConditionalNormal):
    """Conditional normal p(z | c) = N(mean(c), diag scale(c)^2), linear in c.

    c is the condition, or the class. Sohn, Lee and Yan 2015 (NeurIPS 28), section 4.1.
    """

    build_arguments = ("above",)
    depends_on_state = True
    fits_by_gradient = True

    def __init__(self, latent: int, above: int) -> None:
        super().__init__(above, latent)
