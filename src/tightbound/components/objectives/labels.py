"""Semi-supervised objectives, for data of which some examples have labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Weight
from tightbound.core.trace import Trace


@dataclass(frozen=True)
class SemiSupervised(Objective):
    """Semi-supervised VAE (M2): bounds with and without labels, and classification.

    -log p(x, y) bounded where the label y is given, -log p(x) where not, + alpha E[-log q(y|x)]
    where it is given. The class is enumerated, so both bounds are exact in y: rows of other
    classes have weight 0 where y is given, and log q of a given y is 0. The paper's weight 0.1
    N is alpha = 0.1; `labelled` is the share of labelled examples, which turns a mean over the
    batch into a mean over them. Kingma et al. 2014 (arXiv:1406.5298), eq. 6 to 9.
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
        labelled = (y >= 0).to(bound)
        one_hot = site.z.unflatten(0, (trace.k, -1))
        classes = y.clamp(min=0).expand(trace.k, -1)[..., None]
        is_class = one_hot.gather(-1, classes)[..., 0]
        share = is_class / is_class.sum(0)
        log_q = (share * site.log_q).sum(0)
        bound = torch.where(y >= 0, (share * trace.log_w).sum(0) + log_q, bound)
        loss: Tensor = (
            -bound.mean() - self.alpha / self.labelled * (labelled * log_q).mean()
        )
        return loss
