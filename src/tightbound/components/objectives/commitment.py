"""The objective of vector-quantised models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Weight
from tightbound.core.trace import Trace
from tightbound.distributions import Quantized


@dataclass(frozen=True)
class Commitment(Objective):
    """VQ-VAE loss: -ELBO + weight |encoding - its code|^2.

    The commitment term keeps the encodings near the chosen codes. van den Oord et al. 2017
    (arXiv:1711.00937), eq. 3; the codes are updated by running means instead of its middle term.
    """

    weight: Annotated[
        Weight,
        Field(description="weight of the distance between an encoding and its code"),
    ] = 0.25
    compatible_posteriors = ("vector-quantized",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        distances = [
            site.q.commitment.mean()
            for site in trace.latents.values()
            if isinstance(site.q, Quantized)
        ]
        return -trace.elbo.mean() + self.weight * sum(
            distances, trace.log_px.new_zeros(())
        )
