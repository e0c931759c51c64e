"""The four things a pass does with a distribution: standard noise for it, a value from noise, its centre, its KL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence

from tightbound.distributions.delta import Delta


def noise_like(dist: Distribution, generator: torch.Generator | None = None, device: str | None = None) -> Tensor:
    """Standard noise of the shape that `from_noise` wants for `dist`: N(0, 1) for every distribution here."""
    like = dist.mean
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device or like.device)


def from_noise(dist: Distribution, noise: Tensor) -> tuple[Tensor, Tensor | None]:
    """A value z = T(noise) of `dist`, and log q(z) where it is cheapest now (None: it is computed when read)."""
    if isinstance(dist, Delta):
        return dist.value, None
    base = dist.base_dist if isinstance(dist, Independent) else dist
    if isinstance(base, Normal):
        return base.loc + base.scale * noise, None
    raise NotImplementedError(f"no reparameterisation of {type(base).__name__} from noise")


def point(dist: Distribution) -> Tensor:
    """The one value that stands for `dist` when nothing must be random: its mean; for categories, the most likely."""
    base = dist.base_dist if isinstance(dist, Independent) else dist
    return base.mode.to(base.logits.dtype) if isinstance(base, Categorical) else dist.mean


def is_point_mass(dist: Distribution | None) -> bool:
    """True for a continuous distribution without a density."""
    return isinstance(dist, Delta)


def kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) in closed form, summed over the event, (n,); None where torch knows none."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def log_ratio_per_dimension(q: Distribution, p: Distribution, z: Tensor) -> Tensor | None:
    """log q(z) - log p(z) of each latent dimension, (n, d), for factorised distributions; None for others."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        return q.base_dist.log_prob(z) - p.base_dist.log_prob(z)
    return None


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) of each latent dimension, (n, d), for factorised distributions; None for others."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        return kl(q.base_dist, p.base_dist)
    return None
