"""Autoencoders with penalties on codes and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock, Draw
from tightbound.core.options import Weight
from tightbound.core.trace import Trace
from tightbound.distributions import standard_normal


@dataclass(frozen=True)
class Rae(Objective):
    """Regularised autoencoder: distortion + codes/2 ||z||^2 + smooth ||dy/dz||^2.

    y is the decoder's output. The squared norm of the Jacobian is estimated with one random
    direction, E_v ||v^T dy/dz||^2. smooth = 0 is RAE-L2, whose decoder is regularised by weight
    decay. Ghosh et al. 2020 (arXiv:1903.12436), eq. 10 to 12.
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
        if self.smooth:
            loss = loss + self.smooth * self._squared_gradient(trace, site.z).mean()
        return loss

    def _squared_gradient(self, trace: Trace, z: Tensor) -> Tensor:
        """One-direction estimate of the squared norm of dy/dz, (K*B,).

        Also where gradients are off (validation).
        """
        y = trace.y
        training = torch.is_grad_enabled()
        v = trace.fresh("direction", standard_normal(y.flatten(1))).reshape(y.shape)
        with torch.enable_grad():
            if not z.requires_grad:
                z = z.detach().requires_grad_()
                y = trace.again(Draw(trace.k, source="p", given={"z": z})).y
            (grad,) = torch.autograd.grad(y, z, v, create_graph=training)
        return grad.square().sum(-1)
