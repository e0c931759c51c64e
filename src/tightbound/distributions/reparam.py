"""Operations of a pass on a distribution: noise, a value from noise, central value, KL.

Distributions of the package define them by methods (see `base.py`); those of torch that the
package uses, normals and categoricals, are handled here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Normal,
    kl_divergence,
)

from tightbound.distributions.base import (
    ExtendedDistribution,
    NoiseForm,
    ReparameterisedDistribution,
)
from tightbound.distributions.delta import Delta
from tightbound.runtime.errors import TightboundError


def _base(dist: Distribution) -> Distribution:
    """The distribution inside `Independent`, else the distribution itself."""
    if isinstance(dist, Independent):
        base: Distribution = dist.base_dist
        return base
    return dist


def noise_form(dist: Distribution) -> NoiseForm:
    """Shape and kind of the noise that `from_noise` takes for `dist`, of batch shape (n,)."""
    if isinstance(dist, ReparameterisedDistribution):
        return dist.noise_form
    like = dist.mean
    return NoiseForm(len(like), tuple(like.shape[1:]), like.dtype, like.device)


def noise_like(
    dist: Distribution,
    generator: torch.Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Draw the noise that `from_noise` takes for `dist`."""
    return noise_form(dist).draw(generator, device)


def from_noise(
    dist: Distribution, noise: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """Reparameterised sample z = T(noise) of a distribution.

    Args:
        dist: Distribution over n rows.
        noise: Noise of `noise_form(dist)`.
        temperature: Factor of the noise, or of the spread where the distribution defines
            `tempered`.

    Returns:
        z, and log q(z) (n,) where it costs less here than later, else None.
    """
    if temperature != 1.0:
        cooled = None
        if isinstance(dist, ReparameterisedDistribution):
            cooled = dist.tempered(temperature)
        if cooled is None:
            noise = noise * temperature
        else:
            dist = cooled
    if isinstance(dist, ReparameterisedDistribution):
        return dist.from_noise(noise)
    base = _base(dist)
    if isinstance(base, Normal):
        return base.loc + base.scale * noise, None
    raise NotImplementedError(
        f"no reparameterisation of {type(base).__name__} from noise: make it a subclass of "
        "tightbound.distributions.ReparameterisedDistribution"
    )


def to_noise(dist: Distribution, z: Tensor) -> Tensor:
    """The noise from which `from_noise` makes z.

    Raises:
        NotImplementedError: Where it is not unique.
    """
    if isinstance(dist, ReparameterisedDistribution):
        return dist.to_noise(z)
    base = _base(dist)
    if isinstance(base, Normal):
        noise: Tensor = (z - base.loc) / base.scale
        return noise
    raise NotImplementedError(
        f"{type(base).__name__} has no unique noise for a given z"
    )


def point(dist: Distribution) -> Tensor:
    """Central value of a distribution: its mean; of categories, the most likely one."""
    if isinstance(dist, ExtendedDistribution):
        return dist.point
    base = _base(dist)
    if isinstance(base, Categorical):
        return base.mode.to(base.logits.dtype)
    return dist.mean


def moments(dist: Distribution, draws: int = 256) -> tuple[Tensor, Tensor]:
    """Mean and variance of each dimension, (n, d): exact, else estimated from draws."""
    try:
        return dist.mean, dist.variance
    except NotImplementedError:
        z = torch.stack([from_noise(dist, noise_like(dist))[0] for _ in range(draws)])
        return z.mean(0), z.var(0)


def log_prob_of(dist: Distribution, x: Tensor, mask: Tensor) -> Tensor:
    """Marginal log p of the values of x (n, *event) where mask is 1, (n,).

    The dimensions must be independent.
    """
    each = log_prob_each(dist, x)
    return torch.where(mask, each, torch.zeros_like(each)).flatten(1).sum(-1)


def log_prob_each(dist: Distribution, x: Tensor) -> Tensor:
    """log p of each value of x by itself, (n, *event), of independent dimensions."""
    if isinstance(dist, ExtendedDistribution):
        return dist.log_prob_each(x)
    if isinstance(dist, Independent):
        each: Tensor = dist.base_dist.log_prob(x)
        return each
    raise TightboundError(
        f"{type(dist).__name__} has no density of single values, so that none may be missing"
    )


def is_point_mass(dist: Distribution | None) -> bool:
    """True for a continuous distribution without a density."""
    return isinstance(dist, Delta)


def kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) in closed form, summed over the event, (n,); None where torch has none."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def log_ratio_per_dimension(
    q: Distribution, p: Distribution, z: Tensor
) -> Tensor | None:
    """log q(z) - log p(z) of each dimension, (n, d); None where they are not factorised."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        ratio: Tensor = q.base_dist.log_prob(z) - p.base_dist.log_prob(z)
        return ratio
    return None


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) of each latent dimension, (n, d); None where they are not factorised."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        return kl(q.base_dist, p.base_dist)
    return None
