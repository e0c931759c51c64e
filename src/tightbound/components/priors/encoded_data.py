"""Helpers of priors that are fitted to draws of q(z|x): units, k-means clusters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.core.component import EncodedData
from tightbound.runtime.errors import TightboundError


class Units(nn.Module):
    """Centre and spread of the codes, (d,) each, in which a network sees them and speaks; 0 and 1
    until fitted.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def fit(self, data: EncodedData) -> None:
        """Takes those of the draws."""
        self.get_buffer("centre").copy_(data.z.mean(0))
        self.get_buffer("spread").copy_(data.z.std(0).clamp(min=1e-6))

    def of(self, n: int) -> tuple[Tensor, Tensor]:
        """Both, n rows."""
        return self.get_buffer("centre").expand(n, -1), self.get_buffer(
            "spread"
        ).expand(n, -1)


def need_enough(z: Tensor, count: int) -> None:
    """Raises TightboundError where there are fewer than two draws for each of `count`
    components.
    """
    if len(z) < 2 * count:
        raise TightboundError(
            f"{count} components cannot be fitted to {len(z)} examples: set components to fewer"
        )


def clusters(z: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """k-means of z (n, d): mean (M, d) and spread (M, d) of each cluster, and the logs of their
    shares (M,).
    """
    from sklearn.cluster import KMeans

    need_enough(z, count)
    found = KMeans(count, n_init=3, random_state=seed % 2**32).fit_predict(
        z.double().cpu().numpy()
    )
    member = F.one_hot(torch.from_numpy(found).long(), count).to(z)
    weight = member / member.sum(0).clamp(min=1)
    mean = weight.T @ z
    return (
        mean,
        (weight.T @ z.square() - mean.square()).clamp(min=1e-4).sqrt(),
        member.mean(0).clamp(min=1e-6).log(),
    )


def start_at_clusters(prior: Any, z: Tensor, seed: int) -> None:
    """Sets mean, log_scale and log_weight of a mixture to those of the clusters of z."""
    prior.mean[:], scale, prior.log_weight[:] = clusters(z, len(prior.mean), seed)
    prior.log_scale[:] = scale.log()
