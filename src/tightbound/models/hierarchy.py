"""The orders in which a model visits its latents: flat, top-down, bottom-up, two-way, labelled.

A hierarchy never samples: it calls `draw` for each site. Sites are named z1 (next to x) to zL (the
top); a flat model has one, z. The condition of a conditional model is the state above the topmost
latent, which prior, links and decoder read as they read the state of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.posteriors.codes import CategoricalPosterior
from tightbound.core.component import Hierarchy, Prior
from tightbound.core.draw import Context, Draw, scale_of
from tightbound.distributions import UniformCodes

Modules = Sequence[nn.Module]


def beside(*parts: Tensor | None) -> Tensor:
    """Features side by side at each place, (n, *grid, F_1 + F_2 + ...); None is left out."""
    present = [part for part in parts if part is not None]
    if len(present) == 1:
        return present[0]
    return torch.cat(present, -1)


def on_grid(z: Tensor, grid: tuple[int, ...]) -> Tensor:
    """A latent (n, places * features), place by place, as (n, *grid, features)."""
    if not grid:
        return z
    places: Tensor = z.unflatten(1, (*grid, -1))
    return places


def _filled(name: str, z: Tensor | None) -> Tensor:
    """The value of a site; raises ValueError where nothing could fill it."""
    if z is None:
        raise ValueError(
            f"latent {name!r} is needed before anything can fill it: give it, or let it "
            "come from q"
        )
    return z


def _level_sites(count: int) -> tuple[str, ...]:
    """Names of a stack of latents, the top first: z3, z2, z1."""
    return tuple(f"z{level}" for level in range(count, 0, -1))


class Flat(Hierarchy):
    """One latent: z ~ p(z); x ~ p(x | decoder(z)); q(z | h).

    Args:
        prior: p(z); a prior with `extra_sites` infers its own latents from z.
        posterior: q(z|x).
        decoder: (n, C + d) -> y.
        latent: Number of features d of z, over all places.
        grid: Grid of places that z lies on; () for a vector.
    """

    def __init__(
        self,
        prior: Prior,
        posterior: nn.Module,
        decoder: nn.Module,
        latent: int,
        grid: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.prior = prior
        self.posterior = posterior
        self.decoder = decoder
        self.sites = ("z", *prior.extra_sites)
        self.grid = grid
        self.site_widths = {"z": latent}

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        p = self.prior(ctx, draw, ctx.c)
        q = None if ctx.h is None else self.posterior(ctx.h, ctx, p)
        z = _filled("z", draw("z", p=p, q=q))
        if p is None:  # a second stage, which infers its own latent from z
            draw("z", p=self.prior(ctx, draw, z))
        return beside(ctx.c, z)

    def top_posterior(self, h: Tensor, ctx: Context) -> Distribution:
        q: Distribution = self.posterior(h, ctx, None)
        return q

    def inference_modules(self) -> list[nn.Module]:
        return [self.posterior, *self.prior.inference_modules()]


class TopDown(Hierarchy):
    """Prior and posterior of each latent depend on the latents above.

    z_L ~ p(z_L), ..., z_1 ~ p(z_1 | above); q(z_l | h, above). state_l = links_l([state_{l+1},
    z_l]); a posterior reads readers_l([h, state]), h of its site's scale. Sonderby et al. 2016
    (arXiv:1602.02282); Child 2021 (arXiv:2011.10650).

    Args:
        priors, posteriors, links, readers: Modules of each level, the top first.
        decoder: state -> y.
        latents: Number of features of each site, z1 first.
        scales: Scale of the encoder's features that each level reads, the top first.
        grids: Grid of places of each level, the top first; () for a vector.
    """

    prior_prefix = "priors.0."

    def __init__(
        self,
        priors: Modules,
        posteriors: Modules,
        links: Modules,
        decoder: nn.Module,
        latents: Sequence[int],
        readers: Modules | None = None,
        scales: Sequence[int] | None = None,
        grids: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.priors = nn.ModuleList(priors)
        self.posteriors = nn.ModuleList(posteriors)
        self.links = nn.ModuleList(links)
        self.readers = nn.ModuleList(readers or [nn.Identity() for _ in priors])
        self.decoder = decoder
        self.sites = _level_sites(len(priors))
        self.site_widths = _widths(latents)
        self.scales = scales or [0] * len(priors)
        self.grids = grids or [()] * len(priors)

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        state = ctx.c
        for i, name in enumerate(self.sites):
            p = self.priors[i](ctx, draw, state)
            q = None
            if ctx.h is not None:
                above = state if i else None
                features = beside(scale_of(ctx.h, self.scales[i]), above)
                q = self.posteriors[i](self.readers[i](features), ctx, p)
            z = _filled(name, draw(name, p=p, q=q))
            state = self.links[i](beside(state, on_grid(z, self.grids[i])))
        assert state is not None
        return state

    def top_posterior(self, h: Tensor, ctx: Context) -> Distribution:
        q: Distribution = self.posteriors[0](self.readers[0](h), ctx, None)
        return q

    def inference_modules(self) -> list[nn.Module]:
        return [self.posteriors, self.readers]


class BottomUp(Hierarchy):
    """Inference from x upwards, generation from the top downwards.

    q(z_1 | h), q(z_2 | z_1), ...; p(z_L), p(z_{L-1} | z_L), ..., p(x | z_1). Burda et al. 2016
    (arXiv:1509.00519), section 2.

    Args:
        priors: p of each level, the top first.
        posteriors: q of each level, the bottom first.
        climbs: Modules between the posteriors, the bottom first.
        links: Modules between the priors, the top first.
        decoder: (n, C + d) -> y.
        latents: Number of features of each site, z1 first.
    """

    prior_prefix = "priors.0."

    def __init__(
        self,
        priors: Modules,
        posteriors: Modules,
        climbs: Modules,
        links: Modules,
        decoder: nn.Module,
        latents: Sequence[int],
    ) -> None:
        super().__init__()
        self.priors = nn.ModuleList(priors)
        self.posteriors = nn.ModuleList(posteriors)
        self.climbs = nn.ModuleList(climbs)
        self.links = nn.ModuleList(links)
        self.decoder = decoder
        self.sites = _level_sites(len(priors))
        self.site_widths = _widths(latents)

    def _infer(self, draw: Draw, ctx: Context) -> None:
        """Offers q of each site from the bottom up."""
        h = ctx.h
        for level, posterior in enumerate(self.posteriors):
            if h is None:
                return
            z = draw(f"z{level + 1}", q=posterior(h, ctx, None))
            if z is None or level == len(self.climbs):
                return
            h = self.climbs[level](beside(ctx.c, z))

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        self._infer(draw, ctx)
        state = ctx.c
        z = None
        for level, name in enumerate(self.sites):
            z = _filled(name, draw(name, p=self.priors[level](ctx, draw, state)))
            if level < len(self.links):
                state = self.links[level](beside(ctx.c, z))
        assert z is not None
        return beside(ctx.c, z)

    def inference_modules(self) -> list[nn.Module]:
        return [self.posteriors, self.climbs]


class Bidirectional(Hierarchy):
    """Two latents at each level below the top: z_l inferred upwards, t_l inferred downwards.

    Up: q(z_l | h_l), h_{l+1} = climbs_l([h_l, z_l]). Down: p(z_l | above), p(t_l | above),
    q(t_l | h_l, above), state_l = links_l([state_{l+1}, z_l, t_l]). Maaloe et al. 2019
    (arXiv:1902.02102), section 3.

    Args:
        priors, sides: p of z and of t, the top first.
        rises: q of z, the bottom first.
        climbs: Modules between them, the bottom first.
        posteriors: q of t, the top first.
        links: Modules on the way down, the top first.
        decoder: state -> y.
        latents: Number of features of each level, z1 first.
    """

    prior_prefix = "priors.0."

    def __init__(
        self,
        priors: Modules,
        sides: Modules,
        rises: Modules,
        climbs: Modules,
        posteriors: Modules,
        links: Modules,
        decoder: nn.Module,
        latents: Sequence[int],
    ) -> None:
        super().__init__()
        self.priors = nn.ModuleList(priors)
        self.sides = nn.ModuleList(sides)
        self.links = nn.ModuleList(links)
        self.rises = nn.ModuleList(rises)
        self.climbs = nn.ModuleList(climbs)
        self.posteriors = nn.ModuleList(posteriors)
        self.decoder = decoder
        last = len(priors)
        pairs = (f"{kind}{level}" for level in range(last - 1, 0, -1) for kind in "zt")
        self.sites = (f"z{last}", *pairs)
        self.site_widths = {
            name: latents[int(name[1:]) - 1]
            for name in sorted(self.sites, key=lambda name: int(name[1:]))
        }

    def _infer(self, draw: Draw, ctx: Context) -> list[Tensor]:
        """Offers q of each z from the bottom up; returns the features h of each level reached."""
        h = None if ctx.h is None else scale_of(ctx.h, 0)
        features: list[Tensor] = []
        for level, rise in enumerate(self.rises):
            if h is None:
                break
            features.append(h)
            z = draw(f"z{level + 1}", q=rise(h, ctx, None))
            if z is None or level == len(self.climbs):
                break
            h = self.climbs[level](beside(h, z))
        return features

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        features = self._infer(draw, ctx)
        state = ctx.c
        for i, prior in enumerate(self.priors):
            level = len(self.priors) - i
            z = _filled(f"z{level}", draw(f"z{level}", p=prior(ctx, draw, state)))
            t = None
            if i:
                p = self.sides[i - 1](ctx, draw, state)
                q = None
                if level <= len(features):
                    q = self.posteriors[i - 1](
                        beside(features[level - 1], state), ctx, p
                    )
                t = _filled(f"t{level}", draw(f"t{level}", p=p, q=q))
            state = self.links[i](beside(state, z, t))
        assert state is not None
        return state

    def inference_modules(self) -> list[nn.Module]:
        return [self.rises, self.climbs, self.posteriors]


class Labelled(Hierarchy):
    """A class y and a continuous latent z: p(y) p(z | y) p(x | y, z); q(y | h) q(z | h, y).

    Kingma et al. 2014 (arXiv:1406.5298), eq. 2 to 4; Dilokthanakul et al. 2016
    (arXiv:1611.02648), eq. 1, without its w.

    Args:
        prior: p(z | y).
        label: q(y|x).
        mix: Module [h, y] -> features of q(z | x, y).
        posterior: q(z | x, y).
        decoder: (n, C + d) or (n, C + classes + d) -> y.
        through_z: Whether y reaches x through z alone, so that its classes are clusters of z.
        latent: Number of features d of z.
    """

    sites = ("y", "z")

    def __init__(
        self,
        prior: Prior,
        label: CategoricalPosterior,
        mix: nn.Module,
        posterior: nn.Module,
        decoder: nn.Module,
        through_z: bool,
        latent: int,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.label = label
        self.mix = mix
        self.posterior = posterior
        self.decoder = decoder
        self.through_z = through_z
        self.classes = {"y": label.codebook.size}
        self.site_widths = {"z": latent, **self.classes}
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        zero = self.get_buffer("zero")
        q = None if ctx.h is None else self.label(scale_of(ctx.h, 0), ctx, None)
        p = UniformCodes(ctx.n, self.label.codebook, zero)
        y = _filled("y", draw("y", p=p, q=q)).to(zero)
        prior = self.prior(ctx, draw, y)
        q = None
        if ctx.h is not None:
            q = self.posterior(self.mix(beside(scale_of(ctx.h, 0), y)), ctx, prior)
        z = _filled("z", draw("z", p=prior, q=q))
        return beside(ctx.c, None if self.through_z else y, z)

    def inference_modules(self) -> list[nn.Module]:
        return [self.label, self.mix, self.posterior]


def _widths(latents: Sequence[int]) -> dict[str, int]:
    return {f"z{level}": width for level, width in enumerate(latents, 1)}
