"""Autoencoders whose codes and decoder are held smooth by penalties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.options import Weight
from tightbound.core.trace import Clock, Draw, Trace
from tightbound.distributions import standard_normal


@dataclass(frozen=True)
class Rae(Objective):
    """distortion + codes/2 ||z||^2 + smooth ||dy/dz||^2: a regularised autoencoder, y what the
    decoder says.

    codes: weight of |z|^2.  smooth: weight of the decoder's squared gradient. The Jacobian's
    squared norm is estimated with one random direction, E_v ||v^T dy/dz||^2.  With smooth = 0 it is
    RAE-L2, whose decoder is held by weight decay.  Ghosh et al. 2020 (arXiv:1903.12436), eq. 10 to
    12.
    """

    codes: Annotated[Weight, Field(description="weight of the squared norm of z")] = (
        1e-2
    )
    smooth: Annotated[
        Weight, Field(description="weight of the decoder's squared gradient")
    ] = 0.0
    compatible_posteriors = ("delta",)
    compatible_hierarchies = ("flat",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        (site,) = trace.latents.values()
        loss = trace.distortion.mean() + self.codes / 2 * site.z.square().sum(-1).mean()
        return (
            loss + self.smooth * self._slope(trace, site.z).mean()
            if self.smooth
            else loss
        )

    def _slope(self, trace: Trace, z: Tensor) -> Tensor:
        """One-direction estimate of the squared norm of dy/dz, (K*B,); also where gradients are off
        (validation).
        """
        y = trace.y
        training = torch.is_grad_enabled()
        v = trace.fresh("direction", standard_normal(y.flatten(1))).reshape(y.shape)
        with torch.enable_grad():
            if not z.requires_grad:
                z = z.detach().requires_grad_()
                y = trace.again(Draw(trace.k, source="p", given={"z": z})).y
            (slope,) = torch.autograd.grad(y, z, v, create_graph=training)
        return slope.square().sum(-1)
