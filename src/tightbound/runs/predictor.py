"""Predictor: encode, decode and sample with a trained model, in model units."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Draw
from tightbound.core.latent import Latent
from tightbound.core.trace import Trace
from tightbound.distributions import point
from tightbound.models.vae import VAE
from tightbound.runs.fitted_prior import fingerprint
from tightbound.runtime.errors import TightboundError

VALUES_AT_ONCE = 4_000_000  # of a pass with the decoder
ENCODED_AT_ONCE = 1_000_000  # values of a pass of the encoder
MOST_ENCODED = 1024  # rows of such a pass


class Predictor:
    """A trained model in eval mode, applied to a bounded number of rows at a time.

    All values are in model units (see `DataSpec`); results are on the CPU. `Run` converts
    between these and raw units.
    """

    def __init__(self, model: VAE) -> None:
        self.model = model.eval().requires_grad_(False)

    @property
    def spec(self) -> DataSpec:
        """The shape, domain and units of the data."""
        return self.model.spec

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return self.model.get_buffer("centre").device

    @property
    def fingerprint(self) -> str:
        """A short hash of the weights; an evaluation keeps that of the weights it is of."""
        return fingerprint(self.model.state_dict())

    def _encoder_rows(self) -> int:
        """Rows per pass of the encoder alone."""
        return max(1, min(MOST_ENCODED, ENCODED_AT_ONCE // self.spec.dims))

    def _decoder_rows(self) -> int:
        """Rows per pass with the decoder, which may hold all levels of each value."""
        numbers = self.spec.dims * max(1, self.spec.levels or 1)
        return max(1, VALUES_AT_ONCE // numbers)

    def _in_parts(
        self, rows: Batch, size: int, function: Callable[[Batch], Tensor]
    ) -> Tensor:
        """The results of `function` for `size` rows at a time, concatenated on the CPU."""
        with torch.no_grad():
            results = [
                function(part.to(self.device)).cpu() for part in rows.split(size)
            ]
        return torch.cat(results)

    def trace(self, x: Tensor | Batch, draw: Draw) -> Trace:
        """One pass of the model over examples (n, *shape)."""
        trace: Trace = self.model(Batch.of(x).to(self.device), draw)
        return trace

    def latents(self, x: Tensor | Batch) -> dict[str, Latent]:
        """q(z|x) and its mean at each site, without running the decoder."""
        return self.model.visit(Batch.of(x).to(self.device), Draw(source="point"))

    def _join(self, latents: Mapping[str, Latent]) -> Tensor:
        return torch.cat([latents[name].z for name in self.model.site_widths], -1)

    def encode_mean(self, rows: Batch) -> Tensor:
        """The posterior means of all sites side by side, (n, latent)."""

        def means(part: Batch) -> Tensor:
            return self._join(self.latents(part))

        return self._in_parts(rows, self._encoder_rows(), means)

    def class_probabilities(self, rows: Batch) -> Tensor:
        """q(y|x) of a model with classes, (n, classes)."""

        def probabilities(part: Batch) -> Tensor:
            q = self.latents(part)["y"].q
            assert q is not None
            mean: Tensor = q.mean
            return mean

        return self._in_parts(rows, self._encoder_rows(), probabilities)

    def sample_posterior(self, rows: Batch) -> Tensor:
        """One draw from q(z|x) for each row, (n, latent)."""

        def draws(part: Batch) -> Tensor:
            return self._join(self.trace(part, Draw(source="q")).latents)

        return self._in_parts(rows, self._decoder_rows(), draws)

    def sample_prior(
        self,
        n: int,
        temperature: float = 1.0,
        c: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Batch:
        """n draws from p(z), (n, latent), together with their conditions.

        Args:
            n: Number of draws.
            temperature: Factor of the prior's standard deviation.
            c: Conditions (n, C) of a conditional model.
            y: Class numbers (n,) of a model with classes; drawn from p(y) if None.
        """

        def draws(part: Batch) -> Tensor:
            given = {} if part.y is None else {"y": part.y}
            draw = Draw(source="p", temperature=temperature, given=given)
            return self._join(self.model.generate(len(part), draw, part.c).latents)

        rows = Batch(torch.empty(n, 0), c, y)
        return Batch(self._in_parts(rows, self._decoder_rows(), draws), c)

    def decode(self, rows: Batch) -> Distribution:
        """p(x|z) for latents rows.x (n, latent), in one pass and in model units.

        A conditional model decodes with rows.c, or with conditions of its training data
        if that is None.
        """
        sites = self.model.site_widths
        widths = list(sites.values())
        if rows.x.dim() != 2 or rows.x.shape[1] != sum(widths):
            raise TightboundError(
                f"z has shape {tuple(rows.x.shape)}, but this model wants (n, {sum(widths)})"
            )
        rows = rows.to(self.device)
        given = dict(zip(sites, rows.x.split(widths, -1), strict=True))
        draw = Draw(source="p", given=given)
        with torch.no_grad():
            return self.model.generate(len(rows), draw, rows.c).px

    def decode_mean(self, rows: Batch) -> Tensor:
        """E[x|z], (n, *shape); the most probable value where values have no order."""
        return self._in_parts(
            rows, self._decoder_rows(), lambda part: point(self.decode(part))
        )

    def decode_sample(self, rows: Batch) -> Tensor:
        """One draw from p(x|z) for each row, (n, *shape)."""
        return self._in_parts(
            rows, self._decoder_rows(), lambda part: self.decode(part).sample()
        )
