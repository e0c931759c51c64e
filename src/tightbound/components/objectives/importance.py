"""Importance-weighted bounds of K samples, and estimators of their gradients.

The value of a surrogate with another gradient is the bound itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.options import Count, Share
from tightbound.core.trace import NEGLIGIBLE, Trace, mask_negligible


def bound(trace: Trace, m: int = 1) -> Tensor:
    """Importance-weighted bound, (B,): the mean of m estimates of K / m samples each."""
    terms = trace.log_w + trace.log_v
    groups = mask_negligible(terms.reshape(m, -1, terms.shape[-1]), 1)
    return groups.logsumexp(1).mean(0) + math.log(m)


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of `surrogate`."""
    return surrogate + (value - surrogate).detach()


@dataclass(frozen=True)
class Iwae(Objective):
    """Importance-weighted bound (IWAE): -log (1/K) sum_k w_k.

    With m > 1, the mean of m bounds of K / m samples (MIWAE; Rainforth et al. 2018,
    arXiv:1802.04537, eq. 9). Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519), eq. 8.
    """

    m: Annotated[
        Count, Field(description="bounds of k / m samples that are averaged")
    ] = 1

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        return -bound(trace, self.m).mean()


@dataclass(frozen=True)
class Piwae(Objective):
    """PIWAE: theta by the bound of K samples, phi by the mean of m bounds of K / m.

    Rainforth et al. 2018 (arXiv:1802.04537), section 5.
    """

    m: Annotated[Count, Field(description="bounds that the encoder learns from")] = 8

    default_bounds = 8

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        return {
            "generative": -bound(trace).mean(),
            "inference": -bound(trace, self.m).mean(),
        }


@dataclass(frozen=True)
class Ciwae(Objective):
    """CIWAE: -(beta ELBO + (1 - beta) bound of K samples).

    Rainforth et al. 2018 (arXiv:1802.04537), eq. 14.
    """

    beta: Annotated[Share, Field(description="share of the ELBO")] = 0.05

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        return -(self.beta * trace.elbo + (1 - self.beta) * bound(trace)).mean()


@dataclass(frozen=True)
class Renyi(Objective):
    """Renyi bound: -1 / (1 - alpha) log (1/K) sum_k w_k^(1 - alpha).

    alpha = 0 is IWAE, alpha = 1 the ELBO. Li and Turner 2016 (arXiv:1602.02311), eq. 7.
    """

    alpha: Annotated[
        float, Field(description="order of the divergence: 0 is IWAE, 1 the ELBO")
    ] = 0.5

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        power = (1 - self.alpha) or 1e-3
        terms = mask_negligible(power * trace.log_w + trace.log_v, 0)
        return -(terms.logsumexp(0) / power).mean()


@dataclass(frozen=True)
class StickingTheLanding(Objective):
    """Sticking the landing: -ELBO without the score of q, whose mean is zero.

    The gradient has no variance where q is exact. Roeder, Wu and Duvenaud 2017
    (arXiv:1703.09194), eq. 8.
    """

    needs_log_q_at_given_z = True

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        return -trace.again(frozen={"inference"}).log_w.mean()


@dataclass(frozen=True)
class Dreg(Objective):
    """Doubly reparameterised gradients (DReG) of the bound of K samples.

    The gradient for phi is sum_k w~_k^2 dlog w_k/dz dz/dphi, w~ the normalised weights; its signal
    does not vanish as K grows. Tucker et al. 2019 (arXiv:1810.04152), eq. 8.
    """

    needs_log_q_at_given_z = True

    def __call__(self, trace: Trace, clock: Clock) -> dict[str, Tensor]:
        log_w = trace.again(frozen={"inference"}).log_w
        value = -trace.log_p_hat.mean()
        w = log_w.detach()
        surrogates = {
            "generative": mask_negligible(w, 0).softmax(0),
            "inference": mask_negligible(w, 0, NEGLIGIBLE / 2).softmax(0) ** 2,
        }
        return {
            name: with_gradient_of(-(s * log_w).sum(0).mean(), value)
            for name, s in surrogates.items()
        }


@dataclass(frozen=True)
class Vimco(Objective):
    """VIMCO: the bound of K samples for latents without reparameterisation.

    The score of q, with the other samples as baseline: the signal of sample k is the bound
    minus the bound in which w_k is the geometric mean of the others. Mnih and Rezende 2016
    (arXiv:1602.06725), eq. 12 to 14.
    """

    needs_log_q_at_given_z = True

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        trace = trace.again(detach=True)
        k = trace.k
        log_w = trace.log_w.detach()
        others = (log_w.sum(0) - log_w) / max(1, k - 1)
        eye = torch.eye(k, dtype=torch.bool, device=log_w.device)[..., None]
        # (K, B): the bound with sample k replaced
        baseline = torch.where(eye, others, log_w[:, None]).logsumexp(0) - math.log(k)
        signal = log_w
        if k > 1:
            signal = trace.log_p_hat.detach() - baseline
        score = sum(site.log_q for site in trace.latents.values())
        surrogate = trace.log_p_hat + (signal * score).sum(0)
        return -with_gradient_of(surrogate, trace.log_p_hat).mean()
