"""Objectives on a distance between the codes of a batch and draws from the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Count, Weight
from tightbound.core.trace import Trace
from tightbound.distributions import standard_normal

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
Kernel = Literal["imq", "rbf"]


def mmd(x: Tensor, y: Tensor, kernel: Kernel, widths: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples (n, d), unbiased.

    The kernels are summed over `widths`: exp(-r^2 / w) (rbf) or w / (w + r^2) (imq). Gretton et al.
    2012 (JMLR 13:723), eq. 3; Tolstikhin et al. 2018.
    """

    def values(a: Tensor, b: Tensor) -> Tensor:
        square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        square = square.clamp(min=0)[..., None]
        if kernel == "rbf":
            return torch.exp(-square / widths).sum(-1)
        return (widths / (widths + square)).sum(-1)

    def mean_within(a: Tensor) -> Tensor:
        k = values(a, a)
        return (k.sum() - k.diagonal().sum()) / max(1, len(a) * (len(a) - 1))

    return mean_within(x) + mean_within(y) - 2 * values(x, y).mean()


def sliced(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Squared sliced Wasserstein distance of two samples (n, d).

    The mean over the projections on `directions` (L, d).
    """
    unit = directions / directions.norm(dim=1, keepdim=True)
    distance: Tensor = (
        ((x @ unit.T).sort(0).values - (y @ unit.T).sort(0).values).square().mean()
    )
    return distance


def _codes(trace: Trace) -> tuple[Tensor, Tensor]:
    """Codes of the batch of all processes, and as many prior draws, (K*B, d)."""
    (site,) = trace.latents.values()
    assert site.p is not None
    return trace.gather(site.z), trace.gather(trace.fresh("prior draw", site.p))


@dataclass(frozen=True)
class Mmd(Objective):
    """WAE-MMD and InfoVAE: distortion + rate_weight rate + weight MMD(q(z), p(z)).

    Kernels of seven widths, which are multiples of the mean squared distance of two prior draws
    (2 d for a standard normal). rate_weight = 0 is WAE-MMD (Tolstikhin et al. 2018,
    arXiv:1711.01558), with a point posterior or a normal one; otherwise InfoVAE, with weights
    1 - alpha and alpha + lambda - 1 (Zhao, Song and Ermon 2019, arXiv:1706.02262, eq. 6).
    """

    weight: Annotated[
        Weight, Field(description="weight of the maximum mean discrepancy")
    ] = 10.0
    rate_weight: Annotated[Weight, Field(description="weight of the rate")] = 0.0
    kernel: Annotated[
        Kernel, Field(description="imq, inverse multiquadratic, or rbf, Gaussian")
    ] = "imq"
    per_example = False
    compatible_posteriors = "all"
    compatible_hierarchies = ("flat",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        z, drawn = _codes(trace)
        base = 2 * drawn.detach().var(0, correction=0).sum().clamp(min=1e-6)
        distance = mmd(z, drawn, self.kernel, base * base.new_tensor(SCALES))
        loss = trace.distortion.mean() + self.weight * distance
        if self.rate_weight:
            loss = loss + self.rate_weight * trace.rate.mean()
        return loss


@dataclass(frozen=True)
class Sliced(Objective):
    """Sliced Wasserstein autoencoder: distortion + weight SW(q(z), p(z)).

    Over random directions. Kolouri et al. 2018 (arXiv:1804.01947), eq. 15.
    """

    weight: Annotated[
        Weight, Field(description="weight of the sliced Wasserstein distance")
    ] = 10.0
    slices: Annotated[Count, Field(description="random directions")] = 50
    per_example = False
    compatible_posteriors = "all"
    compatible_hierarchies = ("flat",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        z, drawn = _codes(trace)
        like = z.new_empty(self.slices, z.shape[1])
        directions = trace.fresh("slices", standard_normal(like))
        return trace.distortion.mean() + self.weight * sliced(z, drawn, directions)
