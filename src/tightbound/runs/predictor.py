"""A trained model in domain units: examples to codes and back, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.data_spec import DataSpec
from tightbound.core.trace import Batch, Draw, Latent, Trace
from tightbound.distributions import point
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

VALUES_AT_ONCE, ENCODED_AT_ONCE, MOST_ENCODED = 4_000_000, 1_000_000, 1024


class Trained:
    """A model whose weights stay as they are, and passes of a bounded number of examples through
    it.

    Everything is in domain units here; results are on the CPU.
    """

    def __init__(self, model: VAE) -> None:
        self.model = model.eval().requires_grad_(False)

    @property
    def spec(self) -> DataSpec:
        """What the model knows of its data."""
        return self.model.spec

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.get_buffer("centre").device

    @property
    def sites(self) -> dict[str, int]:
        """The latent sites and their widths, z1 (next to x) first: {"z": 16}."""
        return dict(self.model.site_widths)

    def _map(
        self, rows: Batch, f: Callable[[Batch], Tensor], encodes: bool = False
    ) -> Tensor:
        """f of some rows at a time; `encodes`: the decoder, which may hold all levels of each
        value, does not run.
        """
        most = max(
            1, VALUES_AT_ONCE // (self.spec.dims * max(1, self.spec.levels or 1))
        )
        if encodes:
            most = max(1, min(MOST_ENCODED, ENCODED_AT_ONCE // self.spec.dims))
        with torch.no_grad():
            return torch.cat(
                [f(part.to(self.device)).cpu() for part in rows.split(most)]
            )

    def trace(self, x: Tensor | Batch, draw: Draw) -> Trace:
        """One pass over examples."""
        return self.model(Batch.of(x).to(self.device), draw)

    def latents(self, x: Tensor | Batch) -> dict[str, Latent]:
        """q and its point at each site; the decoder does not run."""
        return self.model.visit(Batch.of(x).to(self.device), Draw(source="point"))

    def _join(self, latents: Mapping[str, Latent]) -> Tensor:
        return torch.cat([latents[name].z for name in self.sites], -1)

    def codes(self, rows: Batch) -> Tensor:
        """The points of all sites side by side, (n, latent)."""
        return self._map(
            rows, lambda part: self._join(self.latents(part)), encodes=True
        )

    def chances(self, rows: Batch) -> Tensor:
        """q(y|x) of a model with classes, (n, classes)."""

        def probabilities(part: Batch) -> Tensor:
            q = self.latents(part)["y"].q
            assert q is not None
            mean: Tensor = q.mean
            return mean

        return self._map(rows, probabilities, encodes=True)

    def drawn_codes(self, rows: Batch) -> Tensor:
        """A draw of q(z|x) for each row, (n, latent)."""
        return self._map(
            rows, lambda part: self._join(self.trace(part, Draw(source="q")).latents)
        )

    def prior_codes(
        self,
        n: int,
        temperature: float = 1.0,
        c: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Batch:
        """n draws of p(z), (n, latent), with the conditions c (n, C) that they were drawn for; y:
        of these classes.
        """

        def some(part: Batch) -> Tensor:
            given = {} if part.y is None else {"y": part.y}
            draw = Draw(source="p", temperature=temperature, given=given)
            return self._join(self.model.generate(len(part), draw, part.c).latents)

        return Batch(self._map(Batch(torch.empty(n, 0), c, y), some), c)

    def px(self, rows: Batch) -> Distribution:
        """p(x|z) of codes (n, latent), rows.x, with their condition rows.c; of training conditions
        where it is None.
        """
        widths = list(self.sites.values())
        if rows.x.dim() != 2 or rows.x.shape[1] != sum(widths):
            raise TightboundError(
                f"z has shape {tuple(rows.x.shape)}, but this model wants (n, {sum(widths)})"
            )
        rows = rows.to(self.device)
        given = dict(zip(self.sites, rows.x.split(widths, -1), strict=True))
        with torch.no_grad():
            return self.model.generate(
                len(rows), Draw(source="p", given=given), rows.c
            ).px

    def decoded(self, rows: Batch, drawn: bool = False) -> Tensor:
        """E[x|z], or a draw of p(x|z), of codes rows.x with their condition, (n, *shape)."""
        return self._map(
            rows, lambda part: self.px(part).sample() if drawn else point(self.px(part))
        )
