"""The three orders in which a model visits its latents. A path never samples: it asks `draw`.

Sites are named z1 (next to x) to zL (the top); a flat model has one, z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.trace import Context, Draw

Conditional = Callable[[Tensor, Context, Distribution | None], Distribution]
Prior = Callable[[Context, Draw, Tensor | None], Distribution]


def _value(name: str, z: Tensor | None) -> Tensor:
    if z is None:
        raise ValueError(f"latent {name!r} is needed before anything can fill it: give it, or let it come from q")
    return z


class Flat(nn.Module):
    """z ~ p(z); x ~ p(x | decoder(z)); q(z | h)."""

    def __init__(self, prior: nn.Module, posterior: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.prior, self.posterior, self.decoder = prior, posterior, decoder

    sites = ("z",)

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        p = self.prior(ctx, draw, None)
        q = None if ctx.h is None else self.posterior(ctx.h, ctx, p)
        z = _value("z", draw("z", p=p, q=q))
        chart = getattr(self.prior, "chart", None)  # how the decoder reads a z that is not a vector of R^d
        return self.decoder(z if chart is None else chart(z))

    @property
    def top(self) -> nn.Module:
        """q of the topmost latent, where it reads h alone."""
        return self.posterior

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posterior]


class TopDown(nn.Module):
    """z_L ~ p(z_L), ..., z_1 ~ p(z_1 | above); q(z_l | h, above): prior and posterior meet on the way down.

    state_l = links_l([state_{l+1}, z_l]); a posterior reads [h, state].  Sonderby et al. 2016 (arXiv:1602.02282);
    Child 2021 (arXiv:2011.10650).  All lists run from the top down.
    """

    def __init__(
        self,
        priors: Sequence[nn.Module],
        posteriors: Sequence[nn.Module],
        links: Sequence[nn.Module],
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.priors, self.posteriors, self.links = (
            nn.ModuleList(priors),
            nn.ModuleList(posteriors),
            nn.ModuleList(links),
        )
        self.decoder = decoder
        self.sites = tuple(f"z{i}" for i in range(len(priors), 0, -1))

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        state: Tensor | None = None
        for name, prior, posterior, link in zip(self.sites, self.priors, self.posteriors, self.links, strict=True):
            p = prior(ctx, draw, state)
            q = None
            if ctx.h is not None:
                q = posterior(ctx.h if state is None else torch.cat([ctx.h, state], -1), ctx, p)
            z = _value(name, draw(name, p=p, q=q))
            state = link(z if state is None else torch.cat([state, z], -1))
        assert state is not None
        return self.decoder(state)

    @property
    def top(self) -> nn.Module:
        """q of the topmost latent, where it reads h alone."""
        return self.posteriors[0]

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posteriors]


class BottomUp(nn.Module):
    """q(z_1 | h), q(z_2 | z_1), ... on the way up; p(z_L), p(z_{L-1} | z_L), ..., p(x | z_1) on the way down.

    Burda et al. 2016 (arXiv:1509.00519), section 2.  `posteriors` and `climbs` run from the bottom up, `priors` and
    `links` from the top down.
    """

    def __init__(
        self,
        priors: Sequence[nn.Module],
        posteriors: Sequence[nn.Module],
        climbs: Sequence[nn.Module],
        links: Sequence[nn.Module],
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.priors, self.posteriors = nn.ModuleList(priors), nn.ModuleList(posteriors)
        self.climbs, self.links = nn.ModuleList(climbs), nn.ModuleList(links)
        self.decoder = decoder
        self.sites = tuple(f"z{i}" for i in range(len(priors), 0, -1))

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        h = ctx.h
        for level, posterior in enumerate(self.posteriors):
            if h is None:
                break
            z = draw(f"z{level + 1}", q=posterior(h, ctx, None))
            last = z is None or level == len(self.climbs)
            h = None if last else self.climbs[level](z)
        state: Tensor | None = None
        z = None
        for level, (name, prior) in enumerate(zip(self.sites, self.priors, strict=True)):
            z = _value(name, draw(name, p=prior(ctx, draw, state)))
            if level < len(self.links):
                state = self.links[level](z)
        assert z is not None
        return self.decoder(z)

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posteriors, self.climbs]
