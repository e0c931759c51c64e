"""Mixed precision: matrix products in bfloat16, everything else in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEAST_WEIGHTS = 2**15  # of a linear layer in bfloat16


class _Half:
    """Mixin: matrix products in bfloat16 in training mode, in float32 in eval mode."""

    def _half(self: Any, x: Tensor, product: Any) -> Tensor:
        if not self.training:
            exact: Tensor = product(x, self.weight, self.bias)
            return exact
        bias = None if self.bias is None else self.bias.bfloat16()
        rounded: Tensor = product(x.bfloat16(), self.weight.bfloat16(), bias).float()
        return rounded


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


class _HalfTranspose(_Half):
    _transposed: object  # the function of torch.nn.functional for as many dimensions

    def forward(
        self: Any, input: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        sizes = self.stride, self.padding, self.kernel_size
        extra = self._output_padding(
            input, output_size, *sizes, len(self.kernel_size), self.dilation
        )
        geometry = self.stride, self.padding, extra, self.groups, self.dilation
        out: Tensor = self._half(
            input, lambda x, weight, bias: self._transposed(x, weight, bias, *geometry)
        )
        return out


class HalfConvTranspose1d(_HalfTranspose, nn.ConvTranspose1d):
    _transposed = staticmethod(nn.functional.conv_transpose1d)


class HalfConvTranspose2d(_HalfTranspose, nn.ConvTranspose2d):
    _transposed = staticmethod(nn.functional.conv_transpose2d)


class HalfConvTranspose3d(_HalfTranspose, nn.ConvTranspose3d):
    _transposed = staticmethod(nn.functional.conv_transpose3d)


HALF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: HalfLinear,
    nn.Conv1d: HalfConv1d,
    nn.Conv2d: HalfConv2d,
    nn.Conv3d: HalfConv3d,
    nn.ConvTranspose1d: HalfConvTranspose1d,
    nn.ConvTranspose2d: HalfConvTranspose2d,
    nn.ConvTranspose3d: HalfConvTranspose3d,
}
FULL = {half: full for full, half in HALF.items()}


def set_precision(model: nn.Module, precision: str) -> None:
    """Set the training precision of linear and convolutional layers, in place.

    Weights stay float32. Linear layers with fewer than `LEAST_WEIGHTS` weights stay in float32
    altogether: the conversions take longer than the faster product saves.

    Args:
        precision: "bfloat16" or "float32".
    """
    table = HALF if precision == "bfloat16" else FULL
    for module in model.modules():
        if precision == "bfloat16" and _is_small(module):
            continue
        module.__class__ = table.get(type(module), type(module))


def _is_small(module: nn.Module) -> bool:
    """Whether a layer is linear with few weights."""
    return isinstance(module, nn.Linear) and module.weight.numel() < LEAST_WEIGHTS


def channels_last(model: nn.Module) -> None:
    """Store the weights of image convolutions in channels-last memory format.

    Activations follow the format of the weights. The figures are equal up to rounding.
    On a CPU a step is 1.0 to 1.14 times as fast, and tensor cores need this format.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            set_memory_format(module, torch.channels_last)


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the parameters and buffers with four dimensions in a memory format."""
    module.to(memory_format=memory_format)  # type: ignore[call-overload]


def has_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 matrices without emulation."""
    if device.type == "cuda":
        has: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return has
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
