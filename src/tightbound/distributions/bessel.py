"""The modified Bessel function of the first kind, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOP = 40  # at this order four terms of the uniform expansion are exact to about 1e-10


def with_grad(value: Tensor, grad: Tensor, x: Tensor) -> Tensor:
    """`value` with the derivative `grad` with respect to x; no second derivative."""
    return value.detach() + grad.detach() * (x - x.detach())


def _expansion(order: float, x: Tensor) -> Tensor:
    """log(I_v(x) / x^v) for a large order v, uniformly in x >= 0.

    Abramowitz and Stegun 1964, 9.7.7 and 9.3.9.
    """
    root = (1 + (x / order).square()).sqrt()
    t = 1 / root
    s = t.square()
    terms = 1 + t * (3 - 5 * s) / (24 * order)
    terms = terms + s * (81 + s * (-462 + 385 * s)) / (1152 * order**2)
    terms = terms + t * s * (30375 + s * (-369603 + s * (765765 - 425425 * s))) / (
        414720 * order**3
    )
    last = 4465125 + s * (
        -94121676 + s * (349922430 + s * (-446185740 + 185910725 * s))
    )
    terms = terms + s.square() * last / (39813120 * order**4)
    leading = order * (root - torch.log1p(root) - math.log(order)) - 0.5 * math.log(
        2 * math.pi * order
    )
    return leading - 0.5 * root.log() + terms.log()


@torch.no_grad()
def _bessel(order: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """log(I_v(x) / x^v) and I_{v+1}(x) / (x I_v(x)).

    From a large order downwards by I_{v-1} = I_{v+1} + 2 v I_v / x.
    """
    steps = max(0, math.ceil(TOP - order))
    top = _expansion(order + steps, x)
    ratio = (_expansion(order + steps + 1, x) - top).exp()
    for v in range(steps, 0, -1):
        ratio = 1 / (2 * (order + v) + x.square() * ratio)
        top = top - ratio.log()
    return top, ratio


def log_iv(order: float, x: Tensor) -> Tensor:
    """log(I_v(x) / x^v), differentiable once in x >= 0, float64; v >= 0."""
    x = x.double()
    value, ratio = _bessel(order, x)
    return with_grad(value, x * ratio, x)


def ratio_iv(order: float, x: Tensor) -> Tensor:
    """I_{v+1}(x) / I_v(x), differentiable once in x >= 0, float64."""
    x = x.double()
    ratio = _bessel(order, x)[1]
    return with_grad(x * ratio, 1 - (x * ratio).square() - (2 * order + 1) * ratio, x)
