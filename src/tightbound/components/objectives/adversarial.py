"""Objectives with a critic of codes z (n, d) -> logit (n,).

The critic is a group of parameters with a loss of its own at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Weight
from tightbound.core.trace import Trace
from tightbound.distributions import standard_normal


def discriminator_loss(critic: nn.Module, real: Tensor, other: Tensor) -> Tensor:
    """Cross-entropy of the critic in nats; log 2 without any separation."""
    real_loss = F.softplus(-critic(real.detach())).mean()
    return (real_loss + F.softplus(critic(other.detach())).mean()) / 2


@dataclass(frozen=True, eq=False)
class Factor(Objective):
    """FactorVAE: distortion + rate + gamma TC(z), the total correlation by a critic.

    TC(z) is estimated by the logit of a critic that separates codes from codes whose features were
    shuffled over the batch, each by itself: draws from the product of the marginals of q(z). Kim
    and Mnih 2018 (arXiv:1802.05983), eq. 2 and 3.
    """

    critic: nn.Module
    gamma: Annotated[Weight, Field(description="weight of the total correlation")] = (
        35.0
    )
    per_example = False
    build_arguments = ("critic",)
    compatible_hierarchies = ("flat",)
    compatible_posteriors = ("normal",)

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        (site,) = trace.latents.values()
        z = trace.gather(site.z)
        keys = trace.gather(trace.fresh("shuffle", standard_normal(site.z)))
        shuffled = z.gather(0, keys.argsort(0))
        elbo_loss = trace.distortion.mean() + trace.rate.mean()
        loss = elbo_loss + self.gamma * self.critic(z).mean()
        return {
            "inference": loss,
            "generative": loss,
            "critic": discriminator_loss(self.critic, z, shuffled),
        }


@dataclass(frozen=True, eq=False)
class Adversarial(Objective):
    """Adversarial autoencoder: distortion, and codes that fool a critic.

    The critic separates codes from draws of the prior.

    Makhzani et al. 2015 (arXiv:1511.05644), section 2; the encoder's loss is the non-saturating one
    (Goodfellow et al. 2014, arXiv:1406.2661), times `weight`.
    """

    critic: nn.Module
    weight: Annotated[
        Weight, Field(description="weight of the encoder's adversarial loss")
    ] = 1.0
    build_arguments = ("critic",)
    compatible_hierarchies = ("flat",)
    compatible_posteriors = ("delta",)

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        (site,) = trace.latents.values()
        assert site.p is not None
        distortion = trace.distortion.mean()
        fooled = F.softplus(-self.critic(site.z)).mean()
        critic = discriminator_loss(
            self.critic, trace.fresh("prior draw", site.p), site.z
        )
        return {
            "inference": distortion + self.weight * fooled,
            "generative": distortion,
            "critic": critic,
        }
