"""bfloat16 where it pays, in matrix products; all else, log-terms above all, stays float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Half:
    """Takes a layer's products of matrices in bfloat16 while it trains; evaluation is float32."""

    def _half(self: Any, x: Tensor, product: Any) -> Tensor:
        if not self.training:
            return product(x, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.bfloat16()
        return product(x.bfloat16(), self.weight.bfloat16(), bias).float()


class HalfLinear(_Half, nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return self._half(input, nn.functional.linear)


class HalfConv1d(_Half, nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        return self._half(input, self._conv_forward)


class HalfConv2d(_Half, nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._half(input, self._conv_forward)


class HalfConv3d(_Half, nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        return self._half(input, self._conv_forward)


HALF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: HalfLinear,
    nn.Conv1d: HalfConv1d,
    nn.Conv2d: HalfConv2d,
    nn.Conv3d: HalfConv3d,
}
FULL = {half: full for full, half in HALF.items()}


def set_precision(model: nn.Module, precision: str) -> None:
    """Makes the linear and convolutional layers of a model train in "bfloat16" or "float32"; weights stay float32."""
    table = HALF if precision == "bfloat16" else FULL
    for module in model.modules():
        module.__class__ = table.get(type(module), type(module))


def has_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 matrices, so that timing it may be worth while."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
