"""Hierarchies from their parts: one function for each, in the table `HIERARCHIES`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from tightbound.components.posteriors.clusters import ClusterPosterior
from tightbound.components.posteriors.codes import CategoricalPosterior
from tightbound.components.priors import ConditionalNormal
from tightbound.core.component import (
    Hierarchy,
    Level,
    MultiscaleNetwork,
    Network,
    Posterior,
    Prior,
    width_of,
)
from tightbound.models.hierarchy import (
    Bidirectional,
    BottomUp,
    Flat,
    Labelled,
    TopDown,
)


class MakePosterior(Protocol):
    """Makes q(z|x) of `features` features, for `latent` features at each of `places` places."""

    def __call__(self, features: int, latent: int, places: int = 1) -> Posterior: ...


@dataclass(frozen=True)
class Parts:
    """What a hierarchy is built of.

    Args:
        network: Maker of the modules between latents and of the decoder.
        latents: Number of features of each latent (at each place of a grid), z1 first.
        features: Width F of the encoder's features.
        prior: p(z) of the topmost latent.
        posterior: Makes q of a latent.
        out: Shape of the decoder's output, (params, *shape).
        condition: Width of the condition above the topmost latent; 0 without one.
        classes: Number of classes of the site y; 0 without one.
        grid: Grid of places of a flat latent; () for a vector.
        scales: Scale of each latent from the bottom up, of a multiscale network.
        grids: Grid of each scale of its encoder.
    """

    network: Network
    latents: tuple[int, ...]
    features: int
    prior: Prior
    posterior: MakePosterior
    out: tuple[int, ...]
    condition: int = 0
    classes: int = 0
    grid: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    grids: tuple[tuple[int, ...], ...] = ()


def flat(parts: Parts) -> Flat:
    """One latent, a vector or a grid of places."""
    (latent,) = parts.latents
    places = math.prod(parts.grid)
    posterior = parts.posterior(parts.features, latent, places)
    decoder = parts.network.decoder(parts.condition + latent, parts.out)
    return Flat(parts.prior, posterior, decoder, places * latent, parts.grid)


def top_down(parts: Parts) -> TopDown:
    """Vectors from the top down."""
    priors: list[nn.Module] = [parts.prior]
    posteriors: list[nn.Module] = []
    links: list[nn.Module] = []
    state = parts.condition
    for level, latent in enumerate(reversed(parts.latents)):
        inputs = parts.features
        if level:
            priors.append(ConditionalNormal(state, latent))
            inputs += state
        posteriors.append(parts.posterior(inputs, latent))
        links.append(parts.network.link(state + latent))
        state = width_of(links[-1])
    decoder = parts.network.decoder(state, parts.out)
    return TopDown(priors, posteriors, links, decoder, parts.latents)


def top_down_on_grids(parts: Parts, network: MultiscaleNetwork) -> TopDown:
    """Latents on grids, each on the grid of its scale; all states have the same width."""
    depth = len(parts.latents)
    scales = [*reversed(parts.scales), 0]
    grids = [parts.grids[scale] for scale in scales]
    priors: list[nn.Module] = [parts.prior]
    posteriors: list[nn.Module] = []
    readers: list[nn.Module] = []
    links: list[nn.Module] = []
    for i, latent in enumerate(reversed(parts.latents)):
        level = Level(grids[i], grids[i + 1], depth, first=i == 0)
        inputs = parts.features
        if i:
            priors.append(ConditionalNormal(parts.features, latent))
            inputs += parts.features
        readers.append(network.reader(inputs, level))
        posteriors.append(parts.posterior(parts.features, latent, math.prod(grids[i])))
        links.append(network.link(latent, level))
    decoder = network.decoder(Level(grids[-1], depth=depth), parts.out)
    widths = [
        math.prod(parts.grids[scale]) * latent
        for scale, latent in zip(parts.scales, parts.latents, strict=True)
    ]
    return TopDown(
        priors, posteriors, links, decoder, widths, readers, scales[:-1], grids[:-1]
    )


def bottom_up(parts: Parts) -> BottomUp:
    """Inference upwards, generation downwards."""
    posteriors: list[nn.Module] = [parts.posterior(parts.features, parts.latents[0])]
    climbs: list[nn.Module] = []
    for low, high in itertools.pairwise(parts.latents):
        climbs.append(parts.network.link(parts.condition + low))
        posteriors.append(parts.posterior(width_of(climbs[-1]), high))
    priors: list[nn.Module] = [parts.prior]
    links: list[nn.Module] = []
    for high, low in itertools.pairwise(reversed(parts.latents)):
        links.append(parts.network.link(parts.condition + high))
        priors.append(ConditionalNormal(width_of(links[-1]), low))
    decoder = parts.network.decoder(parts.condition + parts.latents[0], parts.out)
    return BottomUp(priors, posteriors, climbs, links, decoder, parts.latents)


def bidirectional(parts: Parts) -> Bidirectional:
    """Two latents at each level below the top."""
    latents = parts.latents
    rises: list[nn.Module] = [parts.posterior(parts.features, latents[0])]
    climbs: list[nn.Module] = []
    widths = [parts.features]
    for low, high in itertools.pairwise(latents):
        climbs.append(parts.network.link(widths[-1] + low))
        widths.append(width_of(climbs[-1]))
        rises.append(parts.posterior(widths[-1], high))
    priors: list[nn.Module] = [parts.prior]
    sides: list[nn.Module] = []
    posteriors: list[nn.Module] = []
    links: list[nn.Module] = [parts.network.link(parts.condition + latents[-1])]
    for latent, width in zip(
        reversed(latents[:-1]), reversed(widths[:-1]), strict=True
    ):
        state = width_of(links[-1])
        priors.append(ConditionalNormal(state, latent))
        sides.append(ConditionalNormal(state, latent))
        posteriors.append(parts.posterior(width + state, latent))
        links.append(parts.network.link(state + 2 * latent))
    decoder = parts.network.decoder(width_of(links[-1]), parts.out)
    return Bidirectional(
        priors, sides, rises, climbs, posteriors, links, decoder, latents
    )


def labelled(parts: Parts) -> Labelled:
    """A class beside z.

    The class reaches the decoder through z alone where the prior of z depends on it: its classes
    are then clusters of z, whose means start apart.
    """
    (latent,) = parts.latents
    through_z = parts.prior.depends_on_state
    label_class = CategoricalPosterior
    inputs = parts.condition + latent
    if through_z:
        assert isinstance(parts.prior, ConditionalNormal)
        nn.init.normal_(parts.prior.head.weight[:latent], std=2.0)
        label_class = ClusterPosterior
    else:
        inputs += parts.classes
    label = label_class(parts.features, parts.classes, parts.classes)
    mix = parts.network.link(parts.features + parts.classes)
    decoder = parts.network.decoder(inputs, parts.out)
    posterior = parts.posterior(width_of(mix), latent)
    return Labelled(parts.prior, label, mix, posterior, decoder, through_z, latent)


HIERARCHIES: dict[str, Callable[[Parts], Hierarchy]] = {
    "flat": flat,
    "top-down": top_down,
    "bottom-up": bottom_up,
    "bidirectional": bidirectional,
    "labelled": labelled,
}
