"""The maps of zuko's flows as modules that torch can trace, with the same weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.flows.gaussianization import ElementWiseTransform
from zuko.lazy import LazyComposedTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from tightbound.runtime.errors import TightboundError

Moved = tuple[Tensor, Tensor]
LEAST_SLOPE = 1e-3  # zuko's default


class Monotonic(Protocol):
    """A monotonic map of each feature, with its parameters as tensors."""

    def forward(self, x: Tensor) -> Moved:
        """y (n, d) and log dy/dx (n, d)."""

    def inverse(self, y: Tensor) -> Moved:
        """x (n, d) and log dx/dy (n, d)."""


class Affine:
    """y = exp(a) x + shift, a softly bounded by log(slope)."""

    def __init__(self, shift: Tensor, scale: Tensor, slope: float) -> None:
        self.shift = shift
        self.log_scale = scale / (1 + (scale / math.log(slope)).abs())

    def forward(self, x: Tensor) -> Moved:
        return x * self.log_scale.exp() + self.shift, self.log_scale.expand_as(x)

    def inverse(self, y: Tensor) -> Moved:
        x = (y - self.shift) / self.log_scale.exp()
        return x, -self.log_scale.expand_as(y)


class Spline:
    """Rational-quadratic spline on [-5, 5], the identity outside.

    Durkan et al. 2019 (arXiv:1906.04032), eq. 4 to 8.
    """

    bound = 5.0

    def __init__(
        self, widths: Tensor, heights: Tensor, derivatives: Tensor, slope: float
    ) -> None:
        self.horizontal = self._knots(widths, slope)
        self.vertical = self._knots(heights, slope)
        log_slope = derivatives / (1 + (derivatives / math.log(slope)).abs())
        self.derivatives = F.pad(log_slope, (1, 1)).exp()

    def _knots(self, sizes: Tensor, slope: float) -> Tensor:
        sizes = sizes / (1 + (2 * sizes / math.log(slope)).abs())
        shares = F.pad(F.softmax(sizes, -1), (1, 0))
        return self.bound * (2 * shares.cumsum(-1) - 1)

    def _bin(self, value: Tensor, knots: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Whether each value is inside, and x0, x1, y0, y1, d0, d1 of its interval."""
        k = (knots < value.unsqueeze(-1)).sum(-1) - 1
        last = self.horizontal.shape[-1] - 2
        inside = (k >= 0) & (k <= last)
        k = k.clamp(0, last).unsqueeze(-1)
        ends = []
        for row in (self.horizontal, self.vertical, self.derivatives):
            row = row.expand(*value.shape, -1)
            ends += [row.gather(-1, k).squeeze(-1), row.gather(-1, k + 1).squeeze(-1)]
        return inside, ends

    def forward(self, x: Tensor) -> Moved:
        inside, (x0, x1, y0, y1, d0, d1) = self._bin(x, self.horizontal)
        s = (y1 - y0) / (x1 - x0)
        z = inside * (x - x0) / (x1 - x0)
        bottom = s + (d0 + d1 - 2 * s) * z * (1 - z)
        y = y0 + (y1 - y0) * (s * z.square() + d0 * z * (1 - z)) / bottom
        return torch.where(inside, y, x), inside * _log_slope(z, s, d0, d1)

    def inverse(self, y: Tensor) -> Moved:
        inside, (x0, x1, y0, y1, d0, d1) = self._bin(y, self.vertical)
        s = (y1 - y0) / (x1 - x0)
        up = inside * (y - y0)
        both = up * (d0 + d1 - 2 * s)
        a = (y1 - y0) * (s - d0) + both
        b = (y1 - y0) * d0 - both
        c = -s * up
        z = 2 * c / (-b - (b.square() - 4 * a * c).sqrt())
        x = torch.where(inside, x0 + z * (x1 - x0), y)
        return x, inside * -_log_slope(z, s, d0, d1)


def _log_slope(z: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """log dy/dx of a spline at the share z of an interval."""
    bottom = s + (d0 + d1 - 2 * s) * z * (1 - z)
    top = 2 * s * z * (1 - z) + d0 * (1 - z).square() + d1 * z.square()
    return 2 * s.log() + top.log() - 2 * bottom.log()


class Step(nn.Module):
    """One lazy map of zuko: its network, and what it reads and moves."""

    def __init__(self, lazy: nn.Module) -> None:
        super().__init__()
        assert isinstance(
            lazy,
            MaskedAutoregressiveTransform
            | GeneralCouplingTransform
            | ElementWiseTransform,
        )
        self.hyper: nn.Module | None = None
        self.phi = nn.ParameterList()
        if isinstance(lazy, ElementWiseTransform) and "hyper" not in lazy._modules:
            self.phi.extend(lazy.phi)
        else:
            self.hyper = lazy.hyper
        self.sizes = [math.prod(shape) for shape in lazy.shapes]
        self.scalar = [shape == () for shape in lazy.shapes]
        self.is_affine, self.slope = _univariate(lazy.univariate)
        self.passes = 1
        self.is_coupling = isinstance(lazy, GeneralCouplingTransform)
        self.is_elementwise = isinstance(lazy, ElementWiseTransform)
        if isinstance(lazy, MaskedAutoregressiveTransform):
            self.passes = int(lazy.passes)
        if isinstance(lazy, GeneralCouplingTransform):
            mask = lazy.mask
            kept = mask.nonzero().squeeze(-1)
            moved = (~mask).nonzero().squeeze(-1)
            self.register_buffer("kept", kept)
            self.register_buffer("moved", moved)
            self.register_buffer("order", torch.cat([kept, moved]).argsort())

    def _map(self, x: Tensor, c: Tensor | None) -> Monotonic:
        """The map of each feature, with parameters that depend on x and the context."""
        if self.hyper is None:
            parameters = [p.expand(len(x), *p.shape) for p in self.phi]
            return self._made(parameters)
        inputs = [] if self.is_elementwise else [x]
        if c is not None:
            inputs.append(c)
        phi = self.hyper(torch.cat(inputs, -1))
        pieces = phi.unflatten(-1, (-1, sum(self.sizes))).split(self.sizes, -1)
        parameters = []
        for piece, is_scalar in zip(pieces, self.scalar, strict=True):
            parameters.append(piece.squeeze(-1) if is_scalar else piece)
        return self._made(parameters)

    def _made(self, parameters: Sequence[Tensor]) -> Monotonic:
        if self.is_affine:
            return Affine(parameters[0], parameters[1], self.slope)
        return Spline(parameters[0], parameters[1], parameters[2], self.slope)

    def forward(self, x: Tensor, c: Tensor | None) -> Moved:
        """y and log |det dy/dx|."""
        if self.is_coupling:
            kept, moved = self._halves(x)
            y, ladj = self._map(kept, c).forward(moved)
            return self._joined(kept, y), ladj.sum(-1)
        y, ladj = self._map(x, c).forward(x)
        return y, ladj.sum(-1)

    def inverse(self, y: Tensor, c: Tensor | None) -> Moved:
        """x and log |det dx/dy|."""
        if self.is_coupling:
            kept, moved = self._halves(y)
            x, ladj = self._map(kept, c).inverse(moved)
            return self._joined(kept, x), ladj.sum(-1)
        x = torch.zeros_like(y)
        for _ in range(self.passes):
            x, _ = self._map(x, c).inverse(y)
        return x, self._map(x, c).inverse(y)[1].sum(-1)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., self.get_buffer("kept")], x[..., self.get_buffer("moved")]

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved], -1)[..., self.get_buffer("order")]


def _univariate(make: object) -> tuple[bool, float]:
    """Whether the map of a feature is affine, and its least slope."""
    slope = LEAST_SLOPE
    if isinstance(make, partial):
        slope = make.keywords.get("slope", LEAST_SLOPE)
        make = make.func
    if make is MonotonicAffineTransform:
        return True, slope
    if make is MonotonicRQSTransform:
        return False, slope
    raise TightboundError(
        f"a flow of {make} is not exported: use kind coupling, affine or spline"
    )


class Chain:
    """Maps one after another at one context, or their inverses from the last to the first."""

    def __init__(
        self, steps: nn.ModuleList, c: Tensor | None, inverted: bool = False
    ) -> None:
        self.steps = steps
        self.c = c
        self.inverted = inverted

    @property
    def inv(self) -> Chain:
        """The inverse map."""
        return Chain(self.steps, self.c, not self.inverted)

    def call_and_ladj(self, x: Tensor) -> Moved:
        """The image of x (n, d), and log |det| of the map (n,)."""
        total = torch.zeros_like(x[..., 0])
        count = len(self.steps)
        for i in range(count):
            step = self.steps[count - 1 - i if self.inverted else i]
            assert isinstance(step, Step)
            if self.inverted:
                x, ladj = step.inverse(x, self.c)
            else:
                x, ladj = step(x, self.c)
            total = total + ladj
        return x, total


class TracedMaps(nn.Module):
    """The chain of maps of a flow, called with a context (n, C) or None."""

    def __init__(self, lazy: LazyComposedTransform) -> None:
        super().__init__()
        self.steps = nn.ModuleList(Step(step) for step in lazy.transforms)

    def forward(self, c: Tensor | None = None) -> Chain:
        return Chain(self.steps, c)


def replace_flows(model: nn.Module) -> None:
    """Replace zuko's maps in a model by modules that torch can trace."""
    flows = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, LazyComposedTransform)
    ]
    for name, module in flows:
        model.set_submodule(name, TracedMaps(module))
