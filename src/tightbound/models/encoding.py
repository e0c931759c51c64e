"""The result of `VAE.encode`: the approximate posterior q(z|x) of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.component import Hierarchy
from tightbound.core.draw import Draw, Noise
from tightbound.core.latent import Latent
from tightbound.distributions import moments
from tightbound.runtime.errors import TightboundError


class LatentModel(Protocol):
    """A model whose latents can be filled without decoding."""

    hierarchy: Hierarchy

    @property
    def site_widths(self) -> Mapping[str, int]:
        """Number of features of each site, from the bottom up."""

    def visit(self, batch: Tensor | Batch, draw: Draw) -> dict[str, Latent]:
        """Fill the latents of examples."""


class Encoding:
    """q(z|x) of B examples, over all sites of the model side by side.

    In a hierarchy the posterior of a site is given the central values of the sites before it.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> q = model.encode(data.train.examples(3))
        >>> q.mean.shape, q.rsample().shape, q.log_prob(q.mean).shape
        (torch.Size([3, 2]), torch.Size([3, 2]), torch.Size([3]))
    """

    def __init__(
        self, model: LatentModel, batch: Batch, latents: Mapping[str, Latent]
    ) -> None:
        self._model = model
        self._batch = batch
        self._latents = latents

    @property
    def sites(self) -> dict[str, Distribution]:
        """The posterior of each site, from the bottom up."""
        posteriors = {}
        for name in self._model.site_widths:
            q = self._latents[name].q
            assert q is not None
            posteriors[name] = q
        return posteriors

    @property
    def mean(self) -> Tensor:
        """The central values (means, or most likely codes) of all sites, (B, d)."""
        return torch.cat(
            [self._latents[name].z for name in self._model.site_widths], -1
        )

    @property
    def stddev(self) -> Tensor:
        """The standard deviations of all sites, (B, d); 0 for a point mass."""
        return torch.cat([moments(q)[1].sqrt() for q in self.sites.values()], -1)

    def rsample(self, noise: Noise | None = None) -> Tensor:
        """A draw of q(z|x) with gradients (reparameterised).

        Args:
            noise: Standard noise of each site; from the global generator where None.

        Returns:
            (B, d).
        """
        latents = self._model.visit(self._batch, Draw(noise=noise))
        return torch.cat([latents[name].z for name in self._model.site_widths], -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) at given latents.

        Args:
            z: Latents of all sites side by side, (B, d).

        Returns:
            (B,), in nats.

        Raises:
            TightboundError: Where q has no density, or knows it only at its own draws.
        """
        widths = list(self._model.site_widths.values())
        if z.shape != (len(self._batch), sum(widths)):
            raise TightboundError(
                f"z has shape {tuple(z.shape)}, but ({len(self._batch)}, {sum(widths)}) is needed"
            )
        given = dict(zip(self._model.site_widths, z.split(widths, -1), strict=True))
        latents = self._model.visit(self._batch, Draw(given=given))
        total = torch.zeros(len(z), device=z.device)
        for name, value in given.items():
            q = latents[name].q
            if q is None:
                raise TightboundError(
                    f"this model has no q of latent {name!r} at a given z"
                )
            try:
                total = total + q.log_prob(value)
            except (NotImplementedError, ValueError) as error:
                raise TightboundError(
                    "this posterior knows its density at its own draws alone, not at a given z"
                ) from error
        return total

    def to_grid(self, z: Tensor | None = None) -> Tensor:
        """Latents on their grid of places.

        Args:
            z: Latents (B, d); the mean where None.

        Returns:
            (B, features, *grid).

        Raises:
            TightboundError: The latents are a vector without places.
        """
        z = self.mean if z is None else z
        grid: Tensor = z.unflatten(1, (*self._grid(), -1)).movedim(-1, 1)
        return grid

    def from_grid(self, z: Tensor) -> Tensor:
        """The inverse of `to_grid`.

        Args:
            z: Latents on their grid, (B, features, *grid).

        Returns:
            (B, d).
        """
        return z.movedim(1, -1).flatten(1)

    def _grid(self) -> tuple[int, ...]:
        grid = self._model.hierarchy.grid
        if not grid:
            raise TightboundError(
                "the latents of this model are a vector, not a grid: set network.shrink"
            )
        return grid
