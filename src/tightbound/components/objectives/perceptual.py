"""Perceptual objectives: reconstructions compared by structure or by a critic.

They are not densities, so the reported figures stay those of the trace. The scale of p(x|z) does
not enter them: a likelihood with a scale that adapts by itself (gaussian, scale optimal) keeps
the figures meaningful.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.core.batch import rows
from tightbound.core.component import Objective
from tightbound.core.draw import Clock, Draw
from tightbound.core.options import Count, Positive, Weight
from tightbound.core.trace import Trace
from tightbound.distributions import point

# domains whose reconstructions vary continuously
SMOOTH = ("binary", "levels", "unit", "real", "count")
# of the scales, from fine to coarse; Wang et al. 2003, section 3.2
POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# below it a mean structure, which may be negative, is replaced by a positive increasing function
LEAST = 0.05


def blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """x (n, C, *size) under a separable window along each axis, without padding."""
    for axis in range(2, x.dim()):
        x = (x.unfold(axis, len(kernel), 1) * kernel).sum(-1)
    return x


def structure(
    x: Tensor, y: Tensor, kernel: Tensor, reach: float
) -> tuple[Tensor, Tensor]:
    """Mean over places of SSIM and of its contrast-structure factor, (n, C).

    SSIM = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1) times (2 s_xy + C2) / (s_x^2 + s_y^2 + C2),
    C1 = (0.01 reach)^2, C2 = (0.03 reach)^2, reach the range of the data. Wang et al. 2004
    (doi:10.1109/TIP.2003.819861), eq. 13.
    """
    mx, my, xx, yy, xy = (blurred(v, kernel) for v in (x, y, x * x, y * y, x * y))
    c1 = (0.01 * reach) ** 2
    c2 = (0.03 * reach) ** 2
    cs = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    ssim = (2 * mx * my + c1) / (mx * mx + my * my + c1) * cs
    return ssim.flatten(2).mean(-1), cs.flatten(2).mean(-1)


def msssim(
    x: Tensor, y: Tensor, reach: float, window: int = 11, sigma: float = 1.5
) -> Tensor:
    """Multi-scale SSIM of images, signals or volumes (n, C, *size): (n,).

    Mean over channels. prod_j cs_j^w_j over the scales, each half of the one before, with SSIM
    itself at the coarsest; of five scales those in which the window fits, their powers summing to
    1. Wang et al. 2003 (doi:10.1109/ACSSC.2003.1292216), eq. 7.
    """
    least = min(x.shape[2:])
    window = min(window, least - (least + 1) % 2)
    at = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    kernel = torch.softmax(-at.square() / (2 * sigma**2), 0)
    scales = next(s for s in range(len(POWERS), 0, -1) if least >> (s - 1) >= window)
    total = sum(POWERS[:scales])
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.dim() - 3]
    if scales == 1:
        return structure(x, y, kernel, reach)[0].mean(-1)
    product = x.new_ones(x.shape[:2])
    for scale, power in itertools.islice(enumerate(POWERS, 1), scales):
        ssim, cs = structure(x, y, kernel, reach)
        factor = ssim if scale == scales else cs
        small = LEAST * torch.exp((factor / LEAST - 1).clamp(max=0))
        positive = torch.where(factor > LEAST, factor, small)
        product = product * positive ** (power / total)
        if scale < scales:
            x = pool(x, 2)
            y = pool(y, 2)
    return product.mean(-1)


def _with_channels(x: Tensor) -> Tensor:
    """Vectors (n, D) as signals of one channel (n, 1, D)."""
    if x.dim() == 2:
        return x.unsqueeze(1)
    return x


@dataclass(frozen=True)
class MsSsim(Objective):
    """MS-SSIM loss: weight (1 - MS-SSIM(x, E[x|z])) + beta rate.

    Snell et al. 2017 (arXiv:1511.06409).
    """

    reach: float
    weight: Annotated[
        Weight, Field(description="nats that a structural dissimilarity of 1 is worth")
    ] = 100.0
    beta: Annotated[Weight, Field(description="weight of the rate")] = 1.0
    window: Annotated[
        Count, Field(description="side of the window, at most that of the data")
    ] = 11
    sigma: Annotated[
        Positive, Field(description="standard deviation of the window")
    ] = 1.5
    build_arguments = ("reach",)
    domains = SMOOTH
    needs_all_values = True

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        x = _with_channels(rows(trace.batch.x, trace.k))
        y = _with_channels(point(trace.px))
        alike = msssim(x, y, self.reach, self.window, self.sigma)
        return self.weight * (1 - alike).mean() + self.beta * trace.rate.mean()


@dataclass(frozen=True, eq=False)
class VaeGan(Objective):
    """VAE-GAN: rate + distance of a critic's features, and an adversarial loss.

    Encoder: rate + L, L = |f(x) - f(E[x|z])|^2 / 2, f the last hidden layer of the critic.
    Decoder: likeness L + the non-saturating losses of fooling the critic with reconstructions
    and new data; a learned prior: these and the rate. Critic: real x against reconstructions
    and against decoded draws from the prior. Larsen et al. 2016 (arXiv:1512.09300).
    """

    discriminator: nn.Module
    likeness: Annotated[
        Weight,
        Field(description="weight of the feature distance in the decoder's loss"),
    ] = 1.0
    build_arguments = ("discriminator",)
    compatible_hierarchies = ("flat",)
    domains = SMOOTH
    needs_all_values = True
    selection = "elbo"

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        (site,) = trace.latents.values()
        assert site.p is not None and isinstance(self.discriminator, nn.Sequential)
        hidden = self.discriminator[:-1]
        judge = self.discriminator[-1]
        z = trace.fresh("prior draw", site.p)
        new = point(trace.again(Draw(trace.k, source="p", given={"z": z})).px)
        real = hidden(rows(trace.batch.x, trace.k))
        old = hidden(point(trace.px))
        new = hidden(new)
        distance = 0.5 * (real - old).square().sum(-1).mean()
        fooled = F.softplus(-judge(old)).mean() + F.softplus(-judge(new)).mean()
        fakes = (F.softplus(judge(old)).mean() + F.softplus(judge(new)).mean()) / 2
        critic = (F.softplus(-judge(real)).mean() + fakes) / 2
        generative = self.likeness * distance + fooled
        rate = trace.rate.mean()
        return {
            "inference": rate + distance,
            "generative": rate + generative,
            "critic": critic,
        }
