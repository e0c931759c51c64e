"""Base classes of distributions: the methods that a model calls beyond those of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl

from tightbound.runtime.errors import TightboundError

SampleShape = torch.Size | list[int] | tuple[int, ...]
Divergence = TypeVar("Divergence", bound=Callable[..., Tensor])


def register_kl(
    q: type[Distribution], p: type[Distribution]
) -> Callable[[Divergence], Divergence]:
    """torch's `register_kl`, with types: a decorator of KL(q || p) of two classes."""
    register: Callable[[Divergence], Divergence] = kl.register_kl(q, p)
    return register


class NoiseForm(NamedTuple):
    """Shape and kind of the noise of a distribution: `rows` rows of shape `event`.

    kind: standard normal, or uniform on [0, 1).
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
        """Draw such noise, (rows, *event), on `device` or that of the distribution."""
        sampler = torch.randn if self.kind == "normal" else torch.rand
        return sampler(
            self.rows,
            *self.event,
            generator=generator,
            dtype=self.dtype,
            device=device or self.device,
        )


class ExtendedDistribution(Distribution):
    """Base class of distributions of the package: a central value, and density per value."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    @property
    def point(self) -> Tensor:
        """The value that represents the distribution without randomness: its mean."""
        return self.mean

    def log_prob_each(self, value: Tensor) -> Tensor:
        """log p of each value by itself, (n, *event), of independent dimensions."""
        raise TightboundError(
            f"{type(self).__name__} has no density of single values, so that none may be "
            "missing"
        )


class ReparameterisedDistribution(ExtendedDistribution):
    """Base class of distributions over n rows whose samples are z = T(noise).

    The noise is an argument, so that a sample is a function of it and of the parameters.
    Continuous distributions take normal noise, in which annealed importance sampling can move;
    discrete ones take uniform noise. A subclass defines `from_noise`, and the other methods
    where their defaults do not apply.
    """

    support: constraints.Constraint = constraints.real_vector
    has_rsample = True
    #: False for a sampler whose log p(z) is not known.
    has_density: ClassVar[bool] = True

    @property
    def noise_form(self) -> NoiseForm:
        """The noise that `from_noise` takes: by default N(0, I) of the shape of the mean."""
        mean = self.mean
        return NoiseForm(len(mean), tuple(mean.shape[1:]), mean.dtype, mean.device)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return z = T(noise), and log q(z) where it costs less here than later, else None."""
        raise NotImplementedError(
            f"{type(self).__name__} must define from_noise(noise)"
        )

    def to_noise(self, z: Tensor) -> Tensor:
        """Return the noise that gives z; raises NotImplementedError where it is not unique."""
        raise NotImplementedError(
            f"{type(self).__name__} has no unique noise for a given z"
        )

    def tempered(self, temperature: float) -> Distribution | None:
        """Return the distribution at a temperature; None to multiply the noise by it."""
        return None

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        size = torch.Size(sample_shape)
        draws = [
            self.from_noise(self.noise_form.draw())[0] for _ in range(size.numel())
        ]
        return torch.stack(draws).reshape(*size, *draws[0].shape)
