"""Helpers of priors that are fitted to draws of q(z|x): standardisation, k-means."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.core.component import EncodedData
from tightbound.runtime.errors import TightboundError


class Units(nn.Module):
    """Mean and standard deviation of the codes (d,); 0 and 1 until fitted."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def fit(self, data: EncodedData) -> None:
        """Set both from the draws."""
        self.get_buffer("centre").copy_(data.z.mean(0))
        self.get_buffer("spread").copy_(data.z.std(0).clamp(min=1e-6))

    def of(self, n: int) -> tuple[Tensor, Tensor]:
        """Both, n rows."""
        centre = self.get_buffer("centre").expand(n, -1)
        return centre, self.get_buffer("spread").expand(n, -1)


def need_enough(z: Tensor, count: int) -> None:
    """Raise TightboundError for fewer than two draws for each of `count` components."""
    if len(z) < 2 * count:
        raise TightboundError(
            f"{count} components cannot be fitted to {len(z)} examples: set components to fewer"
        )


def clusters(z: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """k-means of z (n, d): mean (M, d), spread (M, d), log-share (M,) of clusters."""
    from sklearn.cluster import KMeans

    need_enough(z, count)
    k_means = KMeans(count, n_init=3, random_state=seed % 2**32)
    numbers = k_means.fit_predict(z.double().cpu().numpy())
    member = F.one_hot(torch.from_numpy(numbers).long(), count).to(z)
    weight = member / member.sum(0).clamp(min=1)
    mean = weight.T @ z
    spread = (weight.T @ z.square() - mean.square()).clamp(min=1e-4).sqrt()
    return mean, spread, member.mean(0).clamp(min=1e-6).log()


class LearnedMixture(Protocol):
    """A mixture with learned means, scales and weights."""

    mean: nn.Parameter
    log_scale: nn.Parameter
    log_weight: nn.Parameter


def start_at_clusters(prior: LearnedMixture, z: Tensor, seed: int) -> None:
    """Set mean, log_scale and log_weight of a mixture to those of the clusters of z."""
    mean, scale, log_weight = clusters(z, len(prior.mean), seed)
    prior.mean[:] = mean
    prior.log_weight[:] = log_weight
    prior.log_scale[:] = scale.log()
