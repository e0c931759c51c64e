"""What training minimises, as functions of a trace: nats per example, averaged over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.options import Weight
from tightbound.core.trace import Clock, Trace


@dataclass(frozen=True)
class Elbo(Objective):
    """-ELBO with the usual changes: distortion + beta * ramp * rate.

    beta: weight of the rate; 1 is the bound (beta-VAE, Higgins et al. 2017).  warmup: share of the
    run over which the weight rises from 0 (Bowman et al. 2016).  free_bits: nats per latent feature
    that cost nothing, on the batch mean; per latent, where q or p is no product over features
    (Kingma et al. 2016, arXiv:1606.04934, eq. 15). Reported figures never see any of the three.
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
        """True where the loss is a mean over examples, so that batches may be cut anywhere."""
        return self.free_bits == 0

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        rate = self._free(trace) if self.free_bits else trace.rate.mean()
        return trace.distortion.mean() + self.beta * clock.ramp(self.warmup) * rate

    def _free(self, trace: Trace) -> Tensor:
        total = trace.log_px.new_zeros(())
        for site in trace.latents.values():
            each = site.kl.reshape(-1, 1) if site.kl_each is None else site.kl_each
            means = trace.gather(
                each * (trace.k * trace.log_v.exp()).reshape(-1, 1)
            ).mean(0)
            total = total + means.clamp(min=self.free_bits).sum()
        return total


@dataclass(frozen=True)
class Capacity(Objective):
    """distortion + gamma |rate - C|: the rate is held at C nats, which rise from 0 over the share
    `rise` of the run.

    gamma: weight of the distance from C.  rise: share of the run over which C rises. capacity: C at
    the end, in nats; 25 unless given, or an eighth of the number of dimensions where that is less.
    Burgess et al. 2018 (arXiv:1804.03599), eq. 8; gamma = 1000 and 25 nats are theirs for dSprites.
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
        most = (
            min(25.0, trace.batch.x[0].numel() / 8)
            if self.capacity is None
            else self.capacity
        )
        off = trace.gather(trace.rate).mean() - most * clock.ramp(self.rise)
        return trace.distortion.mean() + self.gamma * off.abs()


@dataclass(frozen=True)
class Distortion(Objective):
    """-log p(x|z) at the encoder's point: the autoencoder's loss, on the same scale as a VAE's."""

    compatible_posteriors = ("delta",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        return trace.distortion.mean()
