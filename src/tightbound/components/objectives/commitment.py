"""The loss of models whose encoder is quantised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.options import Weight
from tightbound.core.trace import Clock, Trace
from tightbound.distributions import Quantized


@dataclass(frozen=True)
class Commitment(Objective):
    """-ELBO + weight |encoding - its code|^2, so that the encoder stays near the codes that it
    chose.

    weight: of the distance between encoding and code. van den Oord et al. 2017 (arXiv:1711.00937),
    eq. 3; the codes follow by running means, not by its middle term.
    """

    weight: Annotated[
        Weight,
        Field(description="weight of the distance between an encoding and its code"),
    ] = 0.25
    compatible_posteriors = ("vector-quantized",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        away = [
            site.q.commitment.mean()
            for site in trace.latents.values()
            if isinstance(site.q, Quantized)
        ]
        return -trace.elbo.mean() + self.weight * sum(away, trace.log_px.new_zeros(()))
