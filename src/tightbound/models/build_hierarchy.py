"""Paths of several latents from their parts.

above: the width of the condition, which stands above the topmost latent; 0 of an unconditional
model.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from torch import nn

from tightbound.components.posteriors.clusters import ClusterPosterior
from tightbound.components.posteriors.codes import CategoricalPosterior
from tightbound.components.priors import ConditionalNormal
from tightbound.models.hierarchy import Bidirectional, BottomUp, Labelled, TopDown


def top_down(
    net: Any,
    latents: tuple[int, ...],
    features: int,
    top: Any,
    posterior: Any,
    out: Any,
    above: int,
) -> TopDown:
    priors, posteriors, links, state = [top], [], [], above
    for level, latent in enumerate(reversed(latents)):
        if level:
            priors.append(ConditionalNormal(state, latent))
        posteriors.append(posterior(features + state if level else features, latent))
        links.append(net.link(state + latent))
        state = links[-1].features
    return TopDown(priors, posteriors, links, net.decoder(state, out))


def by_scale(
    net: Any,
    latents: tuple[int, ...],
    scales: tuple[int, ...],
    encoder: Any,
    top: Any,
    posterior: Any,
    out: Any,
) -> TopDown:
    """Each latent on the grid of its scale; the state has as many features at every scale."""
    features, depth, down = encoder.features, len(latents), [*reversed(scales), 0]
    grids = [encoder.grids[s] for s in down]
    priors, posteriors, readers, links = [top], [], [], []
    for i, latent in enumerate(reversed(latents)):
        if i:
            priors.append(ConditionalNormal(features, latent))
        readers.append(net.reader(2 * features if i else features, grids[i], depth))
        posteriors.append(posterior(features, latent, math.prod(grids[i])))
        links.append(net.link(latent, grids[i], grids[i + 1], depth, first=not i))
    decoder = net.decoder(grids[-1], out, depth)
    return TopDown(priors, posteriors, links, decoder, readers, down[:-1], grids[:-1])


def bidirectional(
    net: Any,
    latents: tuple[int, ...],
    features: int,
    top: Any,
    posterior: Any,
    out: Any,
    above: int,
) -> Bidirectional:
    rises, climbs, widths = [posterior(features, latents[0])], [], [features]
    for low, high in itertools.pairwise(latents):
        climbs.append(net.link(widths[-1] + low))
        widths.append(climbs[-1].features)
        rises.append(posterior(widths[-1], high))
    priors, sides, posteriors, links = [top], [], [], [net.link(above + latents[-1])]
    for latent, width in zip(
        reversed(latents[:-1]), reversed(widths[:-1]), strict=True
    ):
        state = links[-1].features
        priors.append(ConditionalNormal(state, latent))
        sides.append(ConditionalNormal(state, latent))
        posteriors.append(posterior(width + state, latent))
        links.append(net.link(state + 2 * latent))
    return Bidirectional(
        priors,
        sides,
        rises,
        climbs,
        posteriors,
        links,
        net.decoder(links[-1].features, out),
    )


def bottom_up(
    net: Any,
    latents: tuple[int, ...],
    features: int,
    top: Any,
    posterior: Any,
    out: Any,
    above: int,
) -> BottomUp:
    posteriors, climbs = [posterior(features, latents[0])], []
    for low, high in itertools.pairwise(latents):
        climbs.append(net.link(above + low))
        posteriors.append(posterior(climbs[-1].features, high))
    priors, links = [top], []
    for high, low in zip(reversed(latents[1:]), reversed(latents[:-1]), strict=True):
        links.append(net.link(above + high))
        priors.append(ConditionalNormal(links[-1].features, low))
    return BottomUp(
        priors, posteriors, climbs, links, net.decoder(above + latents[0], out)
    )


def labelled(
    net: Any,
    latent: int,
    features: int,
    prior: Any,
    classes: int,
    posterior: Any,
    out: Any,
    above: int,
) -> Any:
    """A class beside z; it reaches the decoder through z alone where the prior of z reads it, as a
    cluster's number.
    """
    through = getattr(prior, "reads_state", False)
    if through:  # clusters begin apart
        nn.init.normal_(prior.head.weight[:latent], std=2.0)
    label = (ClusterPosterior if through else CategoricalPosterior)(
        features, classes, classes
    )
    mix = net.link(features + classes)
    decoder = net.decoder(above + latent + (0 if through else classes), out)
    return Labelled(
        prior, label, mix, posterior(mix.features, latent), decoder, through
    )
