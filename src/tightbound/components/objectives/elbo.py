"""The ELBO and its variants: nats per example, averaged over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Weight
from tightbound.core.trace import Trace


@dataclass(frozen=True)
class Elbo(Objective):
    """-ELBO, with optional beta, warm-up and free bits: distortion + beta ramp rate.

    Reported figures do not depend on any of the three. beta-VAE: Higgins et al. 2017; warm-up:
    Bowman et al. 2016; free bits, per latent where q or p does not factorise: Kingma et al. 2016
    (arXiv:1606.04934), eq. 15.
    """

    beta: Annotated[Weight, Field(description="weight of the rate; 1 is the bound")] = (
        1.0
    )
    warmup: Annotated[
        Weight,
        Field(
            description="share of the run over which the weight of the rate rises from 0"
        ),
    ] = 0.0
    free_bits: Annotated[
        Weight,
        Field(
            description="nats per latent feature that cost nothing, on the batch mean"
        ),
    ] = 0.0

    @property
    def per_example(self) -> bool:
        """True where the loss is a mean over examples, so that batches may be split."""
        return self.free_bits == 0

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        rate = self._rate(trace)
        return trace.distortion.mean() + self.beta * clock.ramp(self.warmup) * rate

    def _rate(self, trace: Trace) -> Tensor:
        """The rate, above free bits."""
        if not self.free_bits:
            return trace.rate.mean()
        total = trace.log_px.new_zeros(())
        for site in trace.latents.values():
            each = site.kl_each
            if each is None:
                each = site.kl.reshape(-1, 1)
            weighted = each * (trace.k * trace.log_v.exp()).reshape(-1, 1)
            total = (
                total + trace.gather(weighted).mean(0).clamp(min=self.free_bits).sum()
            )
        return total


@dataclass(frozen=True)
class Capacity(Objective):
    """Controlled capacity: distortion + gamma |rate - C|, C in nats rising from 0.

    Burgess et al. 2018 (arXiv:1804.03599), eq. 8, with gamma = 1000 and 25 nats for dSprites.
    """

    gamma: Annotated[
        Weight,
        Field(description="weight of the distance of the rate from the capacity"),
    ] = 1000.0
    capacity: Annotated[
        Weight | None,
        Field(description="nats at the end; by default 25, at most dimensions / 8"),
    ] = None
    rise: Annotated[
        Weight, Field(description="share of the run over which the capacity rises")
    ] = 0.8
    per_example = False

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        capacity = self.capacity
        if capacity is None:
            capacity = min(25.0, trace.batch.x[0].numel() / 8)
        off = trace.gather(trace.rate).mean() - capacity * clock.ramp(self.rise)
        return trace.distortion.mean() + self.gamma * off.abs()


@dataclass(frozen=True)
class Distortion(Objective):
    """Autoencoder loss: -log p(x|z) at the encoder's point, in nats as that of a VAE."""

    compatible_posteriors = ("delta",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        return trace.distortion.mean()
