"""Mixture of discretised logistics over the pixels of colour and grey images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context
from tightbound.core.options import Count
from tightbound.distributions import (
    DiscretizedLogistic,
    ExtendedDistribution,
    soft_clip,
)
from tightbound.distributions.base import SampleShape
from tightbound.distributions.logistic import SUMMED, blocks, light_mean, moments
from tightbound.runtime.errors import TightboundError

VALUES_AT_ONCE = 2_000_000  # of a sum over green, for one value of red
REDS_AT_ONCE = 4  # blocks of red whose sums over green a graph computes together


class LogisticMixture(ExtendedDistribution):
    """Mixture of discretised logistics over pixels, with dependent colour channels.

        P(pixel) = sum_k w_k P_k(red) P_k(green | red) P_k(blue | red, green)

    The mean of green is shifted by slope_0 (red - mid), that of blue by slope_1 (red - mid) +
    slope_2 (green - mid), mid = (L - 1) / 2. A grey pixel has P_k(grey) alone.

    Args:
        logits: log w up to a constant, (n, K, H, W).
        loc, log_scale, slope: (n, K, C, H, W), C being 3, or 1 of grey images, whose slope is
            not used.
        levels: L, for values 0..L-1.

    Salimans et al. 2017 (arXiv:1701.05517), section 2.1 and eq. 3.
    """

    def __init__(
        self, logits: Tensor, loc: Tensor, log_scale: Tensor, slope: Tensor, levels: int
    ) -> None:
        self.logits = logits
        self.loc = loc
        self.log_scale = log_scale
        self.slope = slope
        self.levels = levels
        self.inverse = torch.exp(-log_scale)
        super().__init__(loc.shape[:1], loc.shape[2:], validate_args=False)

    @property
    def channels(self) -> int:
        """Number of channels: 3, or 1 of grey images."""
        return self.loc.shape[2]

    def means(self, x: Tensor) -> Tensor:
        """Component means given the channels before, (..., n, K, C, H, W).

        x: (..., n, 1 or K, C, H, W).
        """
        if self.channels == 1:
            return self.loc.expand(torch.broadcast_shapes(self.loc.shape, x.shape))
        red, green, _ = (x - (self.levels - 1) / 2).unbind(-3)
        a, b, c = self.slope.unbind(-3)
        zero = torch.zeros_like(a * red)
        moves = torch.broadcast_tensors(zero, a * red, b * red + c * green)
        return self.loc + torch.stack(moves, -3)

    def log_prob(self, value: Tensor) -> Tensor:
        x = value.unsqueeze(-4)
        components = DiscretizedLogistic(self.means(x), self.inverse, self.levels)
        each = components.log_prob(x).sum(-3)
        return (each + self.logits.log_softmax(1)).logsumexp(-3).sum((-2, -1))

    def _channels(self, value_of: Callable[[DiscretizedLogistic], Tensor]) -> Tensor:
        """x (n, K, C, H, W), channel by channel.

        value_of: gives the value of a channel from its distribution given the channels before.
        """
        x = torch.zeros_like(self.loc)
        for channel in range(self.channels):
            px = DiscretizedLogistic(
                self.means(x)[:, :, channel], self.inverse[:, :, channel], self.levels
            )
            value = value_of(px).unsqueeze(2)
            x = torch.cat([x[:, :, :channel], value, x[:, :, channel + 1 :]], 2)
        return x

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        size = torch.Size(sample_shape)
        with torch.no_grad():
            drawn = [self._draw() for _ in range(size.numel())]
        return torch.stack(drawn).reshape(*size, *drawn[0].shape)

    def _draw(self) -> Tensor:
        noise = torch.rand_like(self.logits).clamp(1e-20, 1 - 1e-7)
        number = (self.logits - (-noise.log()).log()).argmax(1)
        chosen = F.one_hot(number, self.logits.shape[1]).movedim(-1, 1)
        return (self._channels(lambda px: px.sample()) * chosen.unsqueeze(2)).sum(1)

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, (n, C, H, W), over the channels before each channel.

        Exact for up to 16 levels. For more levels the values of the channels before are taken
        in 16 blocks, within 0.3 levels of 256 for one component of any scales and slopes.
        A graph has `light_mean`, with the same blocks.
        """
        if torch.compiler.is_compiling():
            return self.light_mean()
        return self._moments()[0].to(self.loc)

    @property
    def variance(self) -> Tensor:
        """Variance of the mixture, (n, C, H, W), computed as the mean is."""
        first, second = self._moments()
        return (second - first.square()).clamp(min=0).to(self.loc)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """E[x] and E[x^2], (n, C, H, W) in float64, some rows at a time."""
        row = self.logits[:1].numel() * min(self.levels, SUMMED)
        size = max(1, VALUES_AT_ONCE // max(row, 1))
        starts = range(0, len(self.loc), size)
        parts = [self._moments_of(slice(i, i + size)) for i in starts]
        if not parts:
            empty = self.loc[:, 0].double()
            return empty, empty
        first, second = zip(*parts, strict=True)
        return torch.cat(first), torch.cat(second)

    def _moments_of(self, rows: slice) -> tuple[Tensor, Tensor]:
        """E[x] and E[x^2] of some rows: a sum over red, and over green given red."""
        if self.channels == 1:
            return self._moments_of_grey(rows)
        middle = (self.levels - 1) / 2
        loc_red, loc_green, loc_blue = self.loc[rows].double().unbind(2)
        red_scale, green_scale, blue_scale = (
            self.log_scale[rows].double().exp().unbind(2)
        )
        a, b, c = (slope.unsqueeze(-1) for slope in self.slope[rows].double().unbind(2))
        red, red_mass = blocks(loc_red, red_scale, self.levels)
        moved_green = loc_green.unsqueeze(-1) + a * (red - middle)
        of_green = moments(moved_green, green_scale.unsqueeze(-1), self.levels)
        per_red: list[tuple[Tensor, Tensor]] = []
        for i in range(red.shape[-1]):
            green, green_mass = blocks(moved_green[..., i], green_scale, self.levels)
            moved = loc_blue.unsqueeze(-1) + b * (red[..., i : i + 1] - middle)
            moved = moved + c * (green - middle)
            first, second = moments(moved, blue_scale.unsqueeze(-1), self.levels)
            per_red.append(
                ((first * green_mass).sum(-1), (second * green_mass).sum(-1))
            )
        of_blue = tuple(
            torch.stack(values, -1) for values in zip(*per_red, strict=True)
        )
        of_red = moments(loc_red, red_scale, self.levels)
        weight = self.logits[rows].double().softmax(1).unsqueeze(2)

        def mixed(order: int) -> Tensor:
            green = (of_green[order] * red_mass).sum(-1)
            blue = (of_blue[order] * red_mass).sum(-1)
            return (weight * torch.stack([of_red[order], green, blue], 2)).sum(1)

        return mixed(0), mixed(1)

    def light_mean(self) -> Tensor:
        """The mean in the dtype of the parameters, within 1e-4 (L - 1) of `mean`.

        It has no second moments, and the mean of each logistic by `logistic.light_mean`.
        """
        if self.channels == 1:
            grey = light_mean(self.loc, self.log_scale.exp(), self.levels)
            return (self.logits.softmax(1).unsqueeze(2) * grey).sum(1)
        middle = (self.levels - 1) / 2
        loc_red, loc_green, loc_blue = self.loc.unbind(2)
        scale = self.log_scale.exp().unsqueeze(-1)
        red_scale, green_scale, blue_scale = scale.unbind(2)
        a, b, c = self.slope.unsqueeze(-1).unbind(2)
        red, red_mass = blocks(loc_red, red_scale.squeeze(-1), self.levels)
        moved_green = loc_green.unsqueeze(-1) + a * (red - middle)
        moved_blue = loc_blue.unsqueeze(-1) + b * (red - middle)
        of_blue = torch.zeros_like(loc_blue)
        for i in range(0, red.shape[-1], REDS_AT_ONCE):
            at = slice(i, i + REDS_AT_ONCE)
            green, mass = blocks(moved_green[..., at], green_scale, self.levels)
            moved = moved_blue[..., at].unsqueeze(-1) + c.unsqueeze(-1) * (
                green - middle
            )
            each = light_mean(moved, blue_scale.unsqueeze(-1), self.levels)
            of_blue = of_blue + ((each * mass).sum(-1) * red_mass[..., at]).sum(-1)
        of_green = light_mean(moved_green, green_scale, self.levels)
        of_red = light_mean(loc_red, red_scale.squeeze(-1), self.levels)
        means = torch.stack([of_red, (of_green * red_mass).sum(-1), of_blue], 2)
        return (self.logits.softmax(1).unsqueeze(2) * means).sum(1)

    def _moments_of_grey(self, rows: slice) -> tuple[Tensor, Tensor]:
        """E[x] and E[x^2] of some rows of grey images."""
        scale = self.log_scale[rows].double().exp()
        first, second = moments(self.loc[rows].double(), scale, self.levels)
        weight = self.logits[rows].double().softmax(1).unsqueeze(2)
        return (weight * first).sum(1), (weight * second).sum(1)


class LogisticMixtureLikelihood(Likelihood):
    """Logistic mixture likelihood: dependent red, green and blue in each pixel, or grey.

    p(x|z) is a product over pixels of mixtures of discretised logistics: the likelihood of
    PixelCNN++ without its autoregression over pixels. For images of three channels, or of one,
    and integer levels. Salimans et al. 2017 (arXiv:1701.05517); Child 2021 (arXiv:2011.10650).
    """

    domains = ("levels",)
    channels = 3

    def __init__(
        self,
        spec: DataSpec,
        components: Annotated[Count, Field(description="number of components")] = 10,
    ) -> None:
        super().__init__()
        if len(spec.shape) != 3 or spec.shape[0] not in (1, 3):
            raise TightboundError(
                "likelihood 'logistic-mixture' is for images (3, H, W) and (1, H, W), but an "
                f"example here has shape {spec.shape}: set likelihood discretized-logistic"
            )
        assert spec.levels is not None
        self.levels = spec.levels
        self.is_grey = spec.shape[0] == 1
        self.params = (3 if self.is_grey else 4) * components
        self.base = nn.Parameter(spec.centre)
        spread = torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1)
        self.start = nn.Parameter(spread.reshape(-1, 1, 1, 1))
        self.register_buffer("unit", spec.spread)

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        if self.is_grey:
            weight, loc, log_scale = y.unflatten(1, (3, -1)).unbind(1)
            slope = torch.zeros_like(loc)
        else:
            weight, loc, log_scale, slope = y.unflatten(1, (4, -1)).unbind(1)
        unit = self.get_buffer("unit")
        loc = self.base + unit * (self.start + loc)
        log_scale = soft_clip(log_scale - 1, -5, 5) + unit.log()
        return LogisticMixture(
            weight.mean(2), loc, log_scale, slope.tanh(), self.levels
        )
