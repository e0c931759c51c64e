"""A network of the user, whose modules may give any shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tightbound.core.component import Network
from tightbound.runtime.errors import TightboundError


class Rows(nn.Module):
    """Output of a module reshaped to rows of a fixed shape: (n, ...) -> (n, *out)."""

    def __init__(self, body: nn.Module, out: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.out = out
        self.features = out[0]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x).reshape(len(x), *self.out)
        return out


class CheckedNetwork(Network):
    """Wrapper of a user's network that tries each module on two blank rows.

    An encoder may give any shape, a decoder prod(out) values a row in any shape. Raises
    TightboundError where a module is missing, does not take its input, or gives another size.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.network = network
        self.reads_range = network.reads_range

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self._fit("encoder", shape, None, shape)

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return self._fit("decoder", (inputs,), out, inputs, out)

    def link(self, inputs: int) -> nn.Module:
        return self._fit("link", (inputs,), None, inputs)

    def _fit(
        self,
        kind: str,
        shape: tuple[int, ...],
        out: tuple[int, ...] | None,
        *args: object,
    ) -> nn.Module:
        module_name = f"the {kind} of network {self.name!r}"
        make: Callable[..., nn.Module] = getattr(self.network, kind)
        try:
            module = make(*args)
        except NotImplementedError:
            raise TightboundError(
                f"{module_name} is missing: give the class a method {kind} that returns a module"
            ) from None
        try:
            with torch.no_grad():
                output = module.eval()(torch.zeros(2, *shape))
        except Exception as e:
            raise TightboundError(
                f"{module_name} does not take a batch of shape {(2, *shape)}: {e}"
            ) from e
        if not isinstance(output, Tensor):
            raise TightboundError(
                f"{module_name} gives {type(output).__name__} for 2 rows: let it give a "
                "tensor (2, ...)"
            )
        if output.dim() < 2 or len(output) != 2:
            raise TightboundError(
                f"{module_name} gives {tuple(output.shape)} for 2 rows: let it give a "
                "tensor (2, ...)"
            )
        width = output[0].numel()
        if out is not None and width != math.prod(out):
            raise TightboundError(
                f"{module_name} gives {width} values a row, but {out}, that is "
                f"{math.prod(out)}, are needed"
            )
        return Rows(module.train(), out or (width,))
