"""Coupling layers of even and odd features, split by slices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import CouplingTransform


class SlicedCoupling(CouplingTransform):
    """Coupling map (y_a, y_b) = (x_a, f(x_b; x_a)), of even and odd features.

    The values are those of zuko's `CouplingTransform`, which finds the features of each half by
    `nonzero` and writes them by index at every call: about a twentieth of a step of the flow
    prior, and a break in a compiled graph.

    Args:
        meta: Map from x_a (..., a) to the map f of x_b (..., b).
        even_fixed: Whether x_a are the features 0, 2, ...; otherwise 1, 3, ...
    """

    def __init__(self, meta: Callable[[Tensor], Transform], even_fixed: bool) -> None:
        Transform.__init__(self)
        self.meta = meta
        self.even_fixed = even_fixed

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The halves x_a and x_b of x (..., d)."""
        even, odd = x[..., 0::2], x[..., 1::2]
        return (even, odd) if self.even_fixed else (odd, even)

    def merge(self, x_a: Tensor, x_b: Tensor, shape: torch.Size) -> Tensor:
        """x (..., d) from its halves."""
        even, odd = (x_a, x_b) if self.even_fixed else (x_b, x_a)
        pairs = odd.shape[-1]
        x = torch.stack([even[..., :pairs], odd], -1).flatten(-2)
        if even.shape[-1] == pairs:
            return x
        return torch.cat([x, even[..., pairs:]], -1)


class LazySlicedCoupling(GeneralCouplingTransform):
    """Coupling layer of zuko whose mask alternates, as a `SlicedCoupling`."""

    even_fixed: bool

    def forward(self, c: Tensor | None = None) -> Transform:
        return SlicedCoupling(partial(self.meta, c), self.even_fixed)


def split_by_slices(maps: nn.Module) -> None:
    """Replace the coupling layers of zuko's maps, in place; parameters keep their names.

    Raises:
        ValueError: A mask does not alternate.
    """
    for module in maps.modules():
        if not isinstance(module, GeneralCouplingTransform):
            continue
        mask = module.mask
        assert isinstance(mask, Tensor)
        if not torch.equal(mask[1:], ~mask[:-1]):
            raise ValueError("the mask of a coupling layer does not alternate")
        module.__class__ = LazySlicedCoupling
        assert isinstance(module, LazySlicedCoupling)
        module.even_fixed = bool(mask[0])
