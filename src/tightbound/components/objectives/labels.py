"""Learning from examples of which some have a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.options import Weight
from tightbound.core.trace import Clock, Trace


@dataclass(frozen=True)
class SemiSupervised(Objective):
    """-log p(x, y) bounded where the label y is known, -log p(x) where not, + alpha E[-log q(y|x)]
    where it is known.

    The class is enumerated, so both bounds are exact in y: the rows of another class weigh nothing
    where y is known, and log q of a known y is 0.  alpha: weight of the classification term, in
    which the paper's 0.1 N is 0.1. labelled: the share of examples that have a label, by which its
    mean over a batch becomes one over those. Kingma et al. 2014 (arXiv:1406.5298), eq. 6 to 9.
    """

    labelled: float
    alpha: Annotated[Weight, Field(description="weight of the classification term")] = (
        20.0
    )
    build_arguments = ("labelled",)
    compatible_hierarchies = ("labelled",)
    learns_from_labels = True

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        y = trace.batch.y
        site = trace.latents["y"]
        bound = trace.elbo
        if y is None:
            return -bound.mean()
        known = (y >= 0).to(bound)
        own = site.z.unflatten(0, (trace.k, -1)).gather(
            -1, y.clamp(min=0).expand(trace.k, -1)[..., None]
        )[..., 0]
        share = own / own.sum(0)
        log_q = (share * site.log_q).sum(0)
        bound = torch.where(y >= 0, (share * trace.log_w).sum(0) + log_q, bound)
        return -bound.mean() - self.alpha / self.labelled * (known * log_q).mean()
