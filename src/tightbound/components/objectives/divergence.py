"""Objectives that draw the codes of a batch towards the prior as a sample, not one by one.

They see the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.options import Count, Weight
from tightbound.core.trace import Clock, Trace
from tightbound.distributions import standard_normal

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
Kernel = Literal["imq", "rbf"]


def mmd(x: Tensor, y: Tensor, kernel: Kernel, widths: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two samples (n, d), unbiased, its kernels summed over
    `widths`.

    rbf: exp(-r^2 / w).  imq: w / (w + r^2).  Gretton et al. 2012 (JMLR 13:723), eq. 3; Tolstikhin
    et al. 2018.
    """

    def mean(a: Tensor, b: Tensor, own: bool) -> Tensor:
        square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        square = square.clamp(min=0)[..., None]
        k = (
            torch.exp(-square / widths)
            if kernel == "rbf"
            else widths / (widths + square)
        ).sum(-1)
        n = len(a)
        return (k.sum() - k.diagonal().sum()) / max(1, n * (n - 1)) if own else k.mean()

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def sliced(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """The squared Wasserstein distance of two samples (n, d), averaged over their shadows on
    `directions` (L, d).
    """
    unit = directions / directions.norm(dim=1, keepdim=True)
    return ((x @ unit.T).sort(0).values - (y @ unit.T).sort(0).values).square().mean()


def _codes(trace: Trace) -> tuple[Tensor, Tensor]:
    """The codes of the batch of all processes, and as many draws from the prior, (K*B, d)."""
    (site,) = trace.latents.values()
    assert site.p is not None
    return trace.gather(site.z), trace.gather(trace.fresh("prior draw", site.p))


@dataclass(frozen=True)
class Mmd(Objective):
    """distortion + rate_weight * rate + weight * MMD(q(z), p(z)), with kernels of seven widths.

    weight: what MMD is multiplied by.  rate_weight: the same of the rate.  kernel: "imq", inverse
    multiquadratic, or "rbf", Gaussian. rate_weight 0 is WAE-MMD (Tolstikhin et al. 2018,
    arXiv:1711.01558), with a point posterior or a normal one; else InfoVAE, 1 - alpha and alpha +
    lambda - 1 (Zhao, Song and Ermon 2019, arXiv:1706.02262, eq. 6).  The widths are multiples of
    the mean squared distance of two prior draws, 2 d for a standard normal.
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
        loss = trace.distortion.mean() + self.weight * mmd(
            z, drawn, self.kernel, base * base.new_tensor(SCALES)
        )
        return loss + self.rate_weight * trace.rate.mean() if self.rate_weight else loss


@dataclass(frozen=True)
class Sliced(Objective):
    """distortion + weight * SW(q(z), p(z)), the sliced Wasserstein distance over random directions.

    weight: of the distance.  slices: random directions.  Kolouri et al. 2018 (arXiv:1804.01947),
    eq. 15.
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
        directions = trace.fresh(
            "slices", standard_normal(z.new_empty(self.slices, z.shape[1]))
        )
        return trace.distortion.mean() + self.weight * sliced(z, drawn, directions)
