"""A network of the user's own, whose modules need not know how this package wants their shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.core.component import Network
from tightbound.runtime.errors import TightboundError


class Rows(nn.Module):
    """What a module gives, in rows of a fixed shape: (n, ...) -> (n, *out)."""

    def __init__(self, body: nn.Module, out: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.out = out
        self.features = out[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).reshape(len(x), *self.out)


class CheckedNetwork(Network):
    """A class with `encoder(shape)`, `decoder(inputs, out)` and, for a hierarchy, `link(inputs)`,
    that return modules.

    Each is tried on two blank rows. An encoder may give any shape, a decoder prod(out) values a row
    in any shape. Raises TightboundError where a module is missing, does not take its input, or
    gives something else.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.network = network

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self._fit("encoder", shape, None, shape)

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return self._fit("decoder", (inputs,), out, inputs, out)

    def link(self, inputs: int) -> nn.Module:
        return self._fit("link", (inputs,), None, inputs)

    def _fit(
        self, kind: str, shape: tuple[int, ...], out: tuple[int, ...] | None, *args: Any
    ) -> nn.Module:
        what = f"the {kind} of network {self.name!r}"
        make: Callable[..., nn.Module] = getattr(self.network, kind)
        try:
            module = make(*args)
        except NotImplementedError:
            raise TightboundError(
                f"{what} is missing: give the class a method {kind} that returns a module"
            ) from None
        try:
            with torch.no_grad():
                got = module.eval()(torch.zeros(2, *shape))
        except Exception as e:
            raise TightboundError(
                f"{what} does not take a batch of shape (2, {', '.join(map(str, shape))}): {e}"
            ) from e
        if not isinstance(got, Tensor) or got.dim() < 2 or len(got) != 2:
            found = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
            raise TightboundError(
                f"{what} gives {found} for 2 rows: let it give a tensor (2, ...)"
            )
        width = got[0].numel()
        if out is not None and width != math.prod(out):
            raise TightboundError(
                f"{what} gives {width} values a row, but {out}, that is "
                f"{math.prod(out)}, are needed"
            )
        return Rows(module.train(), out or (width,))
