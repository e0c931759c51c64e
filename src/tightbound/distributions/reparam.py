"""The four things a pass does with a distribution: standard noise for it, a value from noise, its
centre, its KL.

A distribution of our own takes part by methods, with no line here: `from_noise(noise) -> (z, log
q(z) or None)`, and where its noise is not N(0, I) of the shape of its mean, `noise_form ->
NoiseForm`; `point` where its centre is not its mean; `to_noise(z)` where the noise that makes a z
is unique; `tempered(temperature)` where cooling is more than multiplying the noise.  Continuous
distributions take normal noise, so that annealing can move in it; discrete ones take uniform noise.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Normal,
    kl_divergence,
)

from tightbound.distributions.delta import Delta
from tightbound.runtime.errors import TightboundError


class NoiseForm(NamedTuple):
    """What noise `from_noise` wants: N(0, 1) or uniform on [0, 1), a row (*event) of it for each
    row.
    """

    rows: int
    event: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    kind: Literal["normal", "uniform"] = "normal"

    def draw(
        self,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Such noise, (rows, *event), from a generator of `device` (the distribution's own where
        None).
        """
        make = torch.randn if self.kind == "normal" else torch.rand
        return make(
            self.rows,
            *self.event,
            generator=generator,
            dtype=self.dtype,
            device=device or self.device,
        )


def noise_form(dist: Distribution) -> NoiseForm:
    """The form of the noise that `from_noise` wants for `dist`, whose batch shape is (n,)."""
    own = getattr(dist, "noise_form", None)
    if own is not None:
        return own
    like = dist.mean
    return NoiseForm(len(like), tuple(like.shape[1:]), like.dtype, like.device)


def noise_like(
    dist: Distribution,
    generator: torch.Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Standard noise of the form that `from_noise` wants for `dist`."""
    return noise_form(dist).draw(generator, device)


def from_noise(
    dist: Distribution, noise: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """A value z = T(noise) of `dist`, and log q(z) where it is cheapest now (None: it is computed
    when read).

    temperature: multiplies the noise, or what the distribution's own `tempered` narrows.
    """
    if temperature != 1.0:
        own = getattr(dist, "tempered", None)
        dist, noise = (
            (dist, noise * temperature) if own is None else (own(temperature), noise)
        )
    if isinstance(dist, Delta):
        return dist.value, None
    if (own := getattr(dist, "from_noise", None)) is not None:
        return own(noise)
    base = dist.base_dist if isinstance(dist, Independent) else dist
    if isinstance(base, Normal):
        return base.loc + base.scale * noise, None
    raise NotImplementedError(
        f"no reparameterisation of {type(base).__name__} from noise"
    )


def to_noise(dist: Distribution, z: Tensor) -> Tensor:
    """The noise that `from_noise` turns into z, where it is unique; raises NotImplementedError
    where it is not.
    """
    if (own := getattr(dist, "to_noise", None)) is not None:
        return own(z)
    base = dist.base_dist if isinstance(dist, Independent) else dist
    if isinstance(base, Normal):
        return (z - base.loc) / base.scale
    raise NotImplementedError(
        f"{type(base).__name__} cannot say which noise makes a given z"
    )


def point(dist: Distribution) -> Tensor:
    """The one value that stands for `dist` when nothing must be random: its mean; for categories,
    the most likely.
    """
    if (own := getattr(dist, "point", None)) is not None:
        return own
    base = dist.base_dist if isinstance(dist, Independent) else dist
    return (
        base.mode.to(base.logits.dtype) if isinstance(base, Categorical) else dist.mean
    )


def moments(dist: Distribution, draws: int = 256) -> tuple[Tensor, Tensor]:
    """Mean and variance of each dimension, (n, d): exact where the distribution knows them, else
    over some draws.
    """
    try:
        return dist.mean, dist.variance
    except NotImplementedError:
        z = torch.stack([from_noise(dist, noise_like(dist))[0] for _ in range(draws)])
        return z.mean(0), z.var(0)


def log_prob_of(dist: Distribution, x: Tensor, mask: Tensor) -> Tensor:
    """log p of the values of x (n, *event) where mask is 1, (n,): the marginal of independent
    dimensions.
    """
    each = log_prob_each(dist, x)
    return torch.where(mask, each, torch.zeros_like(each)).flatten(1).sum(-1)


def log_prob_each(dist: Distribution, x: Tensor) -> Tensor:
    """log p of each value of x by itself, (n, *event); a distribution of our own says it by a
    method of this name.
    """
    own = getattr(dist, "log_prob_each", None)
    if own is None and not isinstance(dist, Independent):
        raise TightboundError(
            f"{type(dist).__name__} says nothing of single values, so that none may be missing"
        )
    return dist.base_dist.log_prob(x) if own is None else own(x)  # type: ignore[attr-defined]


def is_point_mass(dist: Distribution | None) -> bool:
    """True for a continuous distribution without a density."""
    return isinstance(dist, Delta)


def kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) in closed form, summed over the event, (n,); None where torch knows none."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def log_ratio_per_dimension(
    q: Distribution, p: Distribution, z: Tensor
) -> Tensor | None:
    """log q(z) - log p(z) of each latent dimension, (n, d), for factorised distributions; None for
    others.
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        return q.base_dist.log_prob(z) - p.base_dist.log_prob(z)
    return None


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) of each latent dimension, (n, d), for factorised distributions; None for others."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        return kl(q.base_dist, p.base_dist)
    return None
