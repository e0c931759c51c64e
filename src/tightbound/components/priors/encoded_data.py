"""What a prior that is fitted after training is shown: examples, and where the trained encoder puts
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class Seen:
    """Of q(z|x) of n training examples: a draw z (n, d); `moments()`, its mean and scale, (n, d)
    each.

    A prior with `fit(seen)` can be fitted; where it says `learns = True`, fitting only places its
    start, and the one training loop then minimises -E_q[log p(z)].  seed: of what is random in
    fitting.
    """

    z: Tensor
    moments: Callable[[], tuple[Tensor, Tensor]]
    seed: int


class Units(nn.Module):
    """Centre and spread of the codes, (d,) each, in which a network sees them and speaks; 0 and 1
    until fitted.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def fit(self, seen: Seen) -> None:
        """Takes those of the draws."""
        self.get_buffer("centre").copy_(seen.z.mean(0))
        self.get_buffer("spread").copy_(seen.z.std(0).clamp(min=1e-6))

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
