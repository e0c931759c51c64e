"""p(x|z) as a distribution over raw values in the user's layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.data_spec import DataSpec
from tightbound.data.conform import raw_shape
from tightbound.distributions import point


class RawLikelihood(Distribution):
    """p(x|z) in raw units and layout, by a change of variables from model units.

    With x_model = x_raw / divisor and D dimensions, log p(x_raw|z) = log p(x_model|z) - D
    log(divisor). The divisor differs from 1 in the domain `unit` alone, whose likelihoods are
    densities; in all others the value is the same in both units, as an offset is a shift alone.

    Args:
        base: p(x|z) in model units, with batch shape (n,) and event shape spec.shape.
        spec: The spec that converts between the units.
        read: Converts whatever `Run.encode` takes, such as a table, to model units.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (the name is torch's)

    def __init__(
        self, base: Distribution, spec: DataSpec, read: Callable[[object], Tensor]
    ) -> None:
        self.base = base
        self.spec = spec
        self._read = read
        super().__init__(
            base.batch_shape, torch.Size(raw_shape(spec)), validate_args=False
        )

    def __repr__(self) -> str:
        return f"RawLikelihood({self.base!r})"

    @property
    def support(self) -> Any:
        """The support of the distribution in model units."""
        return self.base.support

    def log_prob(self, value: Any) -> Tensor:
        """log p(x|z) in nats.

        Args:
            value: Raw values (..., *event_shape) that broadcast with the batch shape as in
                any torch distribution; or a table, as `Run.read` gives it.
        """
        to_model = self._to_model if isinstance(value, Tensor) else self._read
        x = to_model(value)
        return self.base.log_prob(x) - self.spec.dims * math.log(self.spec.divisor)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of x, (*sample_shape, n, *event_shape); of mixed columns, numbers and codes."""
        return self._to_raw(self.base.sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """E[x|z]; the most probable value where values have no order."""
        return self._to_raw(point(self.base))

    @property
    def variance(self) -> Tensor:
        """The variance of each value; not defined for tables of mixed columns."""
        if self.spec.is_mixed:
            raise NotImplementedError("a categorical column has no variance")
        variance = self._each(self.spec.spread_to_raw, self.base.variance)
        return variance * self.spec.divisor

    def _to_model(self, raw: Tensor) -> Tensor:
        lead = raw.shape[: raw.dim() - len(self.event_shape)]
        flat = raw.reshape(-1, *raw.shape[len(lead) :])
        return self.spec.to_model(flat).reshape(*lead, *self.spec.shape)

    def _to_raw(self, x: Tensor) -> Tensor:
        return self._each(self.spec.to_raw, x)

    def _each(self, convert: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Values (..., *shape) in model units, converted row by row."""
        lead = x.shape[: x.dim() - len(self.spec.shape)]
        flat = x.reshape(-1, *self.spec.shape)
        return convert(flat).reshape(*lead, *self.event_shape)
