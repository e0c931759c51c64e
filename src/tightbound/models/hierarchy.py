"""The orders in which a model visits its latents. A path never samples: it asks `draw`.

Sites are named z1 (next to x) to zL (the top); a flat model has one, z.  The condition of a
conditional model is the state above the topmost latent, which prior, links and decoder read as they
read a latent's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.core.trace import Context, Draw, scale_of
from tightbound.distributions import UniformCodes

Conditional = Callable[[Tensor, Context, Distribution | None], Distribution]
Prior = Callable[[Context, Draw, Tensor | None], Distribution]
Modules = Sequence[nn.Module]


def beside(*parts: Tensor | None) -> Tensor:
    """Features side by side at each place, (n, *grid, F_1 + F_2 + ...), of what there is."""
    found = [part for part in parts if part is not None]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def on_grid(z: Tensor, grid: tuple[int, ...]) -> Tensor:
    """A latent (n, places * features), place by place, as (n, *grid, features)."""
    return z.unflatten(1, (*grid, -1)) if grid else z


def _value(name: str, z: Tensor | None) -> Tensor:
    if z is None:
        raise ValueError(
            f"latent {name!r} is needed before anything can fill it: give it, or let it come from q"
        )
    return z


def _lists(*several: Modules) -> list[nn.ModuleList]:
    return [nn.ModuleList(modules) for modules in several]


class Flat(nn.Module):
    """z ~ p(z); x ~ p(x | decoder(z)); q(z | h)."""

    def __init__(
        self, prior: nn.Module, posterior: nn.Module, decoder: nn.Module
    ) -> None:
        super().__init__()
        self.prior, self.posterior, self.decoder = prior, posterior, decoder
        self.sites = ("z", *getattr(prior, "sites", ()))

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        p = self.prior(ctx, draw, ctx.c)
        q = None if ctx.h is None else self.posterior(ctx.h, ctx, p)
        z = _value("z", draw("z", p=p, q=q))
        if p is None:  # a second stage, which infers its own latent from z
            draw("z", p=self.prior(ctx, draw, z))
        return self.decoder(beside(ctx.c, z))

    @property
    def top(self) -> nn.Module:
        """q of the topmost latent, where it reads h alone."""
        return self.posterior

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posterior, *getattr(self.prior, "inference", list)()]


class TopDown(nn.Module):
    """z_L ~ p(z_L), ..., z_1 ~ p(z_1 | above); q(z_l | h, above): prior and posterior meet on the
    way down.

    state_l = links_l([state_{l+1}, z_l]); a posterior reads readers_l([h, state]), h of its site's
    scale.  A site lies on a grid of places, or is a vector: grid ().  Sonderby et al. 2016
    (arXiv:1602.02282); Child 2021 (arXiv:2011.10650).  All lists run from the top down.
    """

    def __init__(
        self,
        priors: Modules,
        posteriors: Modules,
        links: Modules,
        decoder: nn.Module,
        readers: Modules | None = None,
        scales: Sequence[int] | None = None,
        grids: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.priors, self.posteriors, self.links = _lists(priors, posteriors, links)
        self.readers = nn.ModuleList(readers or [nn.Identity() for _ in priors])
        self.decoder = decoder
        self.sites = tuple(f"z{i}" for i in range(len(priors), 0, -1))
        self.scales, self.grids = (
            scales or [0] * len(priors),
            grids or [()] * len(priors),
        )

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        state = ctx.c
        for i, name in enumerate(self.sites):
            p = self.priors[i](ctx, draw, state)
            q = None
            if ctx.h is not None:
                seen = beside(scale_of(ctx.h, self.scales[i]), state if i else None)
                q = self.posteriors[i](self.readers[i](seen), ctx, p)
            z = _value(name, draw(name, p=p, q=q))
            state = self.links[i](beside(state, on_grid(z, self.grids[i])))
        assert state is not None
        return self.decoder(state)

    @property
    def top(self) -> Conditional:
        """q of the topmost latent, where it reads h alone."""
        return lambda h, ctx, p: self.posteriors[0](self.readers[0](h), ctx, p)

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posteriors, self.readers]


class BottomUp(nn.Module):
    """q(z_1 | h), q(z_2 | z_1), ... on the way up; p(z_L), p(z_{L-1} | z_L), ..., p(x | z_1) on the
    way down.

    Burda et al. 2016 (arXiv:1509.00519), section 2.  `posteriors` and `climbs` run from the bottom
    up, `priors` and `links` from the top down.
    """

    def __init__(
        self,
        priors: Modules,
        posteriors: Modules,
        climbs: Modules,
        links: Modules,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.priors, self.posteriors, self.climbs, self.links = _lists(
            priors, posteriors, climbs, links
        )
        self.decoder = decoder
        self.sites = tuple(f"z{i}" for i in range(len(priors), 0, -1))

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        h = ctx.h
        for level, posterior in enumerate(self.posteriors):
            z = None if h is None else draw(f"z{level + 1}", q=posterior(h, ctx, None))
            if z is None or level == len(self.climbs):
                break
            h = self.climbs[level](beside(ctx.c, z))
        state, z = ctx.c, None
        for level, (name, prior) in enumerate(
            zip(self.sites, self.priors, strict=True)
        ):
            z = _value(name, draw(name, p=prior(ctx, draw, state)))
            if level < len(self.links):
                state = self.links[level](beside(ctx.c, z))
        assert z is not None
        return self.decoder(beside(ctx.c, z))

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.posteriors, self.climbs]


class Bidirectional(nn.Module):
    """Each level below the top has two latents: z_l, inferred from the bottom up, and t_l, inferred
    from the top down.

    Up: q(z_l | h_l), h_{l+1} = climbs_l([h_l, z_l]).  Down: p(z_l | above), p(t_l | above), q(t_l |
    h_l, above), state_l = links_l([state_{l+1}, z_l, t_l]).  Maaloe et al. 2019 (arXiv:1902.02102),
    section 3.  `rises` (of z) and `climbs` run from the bottom up, the other lists from the top
    down; `sides` and `posteriors` are of t.
    """

    def __init__(
        self,
        priors: Modules,
        sides: Modules,
        rises: Modules,
        climbs: Modules,
        posteriors: Modules,
        links: Modules,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.priors, self.sides, self.links = _lists(priors, sides, links)
        self.rises, self.climbs, self.posteriors = _lists(rises, climbs, posteriors)
        self.decoder, last = decoder, len(priors)
        self.sites = (
            f"z{last}",
            *(f"{kind}{i}" for i in range(last - 1, 0, -1) for kind in "zt"),
        )

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        h = None if ctx.h is None else scale_of(ctx.h, 0)
        seen: list[Tensor] = []
        for level, rise in enumerate(self.rises):
            if h is None:
                break
            seen.append(h)
            z = draw(f"z{level + 1}", q=rise(h, ctx, None))
            h = (
                None
                if z is None or level == len(self.climbs)
                else self.climbs[level](beside(h, z))
            )
        state = ctx.c
        for i, prior in enumerate(self.priors):
            level, t = len(self.priors) - i, None
            z = _value(f"z{level}", draw(f"z{level}", p=prior(ctx, draw, state)))
            if i:
                p = self.sides[i - 1](ctx, draw, state)
                known = ctx.h is not None and level <= len(seen)
                q = (
                    self.posteriors[i - 1](beside(seen[level - 1], state), ctx, p)
                    if known
                    else None
                )
                t = _value(f"t{level}", draw(f"t{level}", p=p, q=q))
            state = self.links[i](beside(state, z, t))
        return self.decoder(state)

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.rises, self.climbs, self.posteriors]


class Labelled(nn.Module):
    """y ~ p(y), z ~ p(z | y), x ~ p(x | y, z), or p(x | z); q(y | h), q(z | h, y): a class and what
    it leaves open.

    through: y reaches x through z alone, so that its classes are clusters of z.  Kingma et al. 2014
    (arXiv:1406.5298), eq. 2 to 4; Dilokthanakul et al. 2016 (arXiv:1611.02648), eq. 1, without its
    w.
    """

    sites = ("y", "z")

    def __init__(
        self,
        prior: nn.Module,
        label: Any,
        mix: nn.Module,
        posterior: nn.Module,
        decoder: nn.Module,
        through: bool,
    ) -> None:
        super().__init__()
        self.prior, self.label, self.mix, self.posterior, self.decoder = (
            prior,
            label,
            mix,
            posterior,
            decoder,
        )
        self.through, self.classes = through, {"y": label.codebook.size}
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        q = None if ctx.h is None else self.label(scale_of(ctx.h, 0), ctx, None)
        codebook: Any = self.label.codebook
        p = UniformCodes(ctx.n, codebook, self.get_buffer("zero"))
        y = _value("y", draw("y", p=p, q=q)).to(self.get_buffer("zero"))
        prior = self.prior(ctx, draw, y)
        q = (
            None
            if ctx.h is None
            else self.posterior(self.mix(beside(scale_of(ctx.h, 0), y)), ctx, prior)
        )
        z = _value("z", draw("z", p=prior, q=q))
        return self.decoder(beside(ctx.c, None if self.through else y, z))

    def inference(self) -> list[nn.Module]:
        """The modules that belong to q."""
        return [self.label, self.mix, self.posterior]
