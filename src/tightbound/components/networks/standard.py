"""Standardisation of the input of a network."""

from __future__ import annotations

from torch import Tensor, nn

from tightbound.core.data_spec import DataSpec


class Standard(nn.Module):
    """(x - centre) / spread, x in model units (n, *shape)."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.register_buffer("centre", spec.centre)
        self.register_buffer("spread", spec.spread)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.get_buffer("centre")) / self.get_buffer("spread")
