"""A mixture of discretised logistics over the pixels of colour images."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.core.component import Likelihood
from tightbound.core.data_spec import DataSpec
from tightbound.core.options import Count
from tightbound.core.trace import Context
from tightbound.distributions import DiscretizedLogistic, soft_clip
from tightbound.runtime.errors import TightboundError


class LogisticMixture(Distribution):
    """P(pixel) = sum_k w_k P_k(red) P_k(green | red) P_k(blue | red, green), each a discretised
    logistic on 0..L-1.

    logits (n, K, H, W); loc, log_scale, slope (n, K, 3, H, W): the mean of green moves by slope_0
    (red - mid), that of blue by slope_1 (red - mid) + slope_2 (green - mid).  Salimans et al. 2017
    (arXiv:1701.05517), 2.1 and eq. 3.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own attribute)

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

    def _means(self, x: Tensor) -> Tensor:
        """The component means given the channels before, (..., n, K, 3, H, W); x (..., n, 1 or K,
        3, H, W).
        """
        red, green, _ = (x - (self.levels - 1) / 2).unbind(-3)
        a, b, c = self.slope.unbind(-3)
        move = torch.stack(
            torch.broadcast_tensors(
                torch.zeros_like(a * red), a * red, b * red + c * green
            ),
            -3,
        )
        return self.loc + move

    def log_prob(self, value: Tensor) -> Tensor:
        x = value.unsqueeze(-4)
        each = (
            DiscretizedLogistic(self._means(x), self.inverse, self.levels)
            .log_prob(x)
            .sum(-3)
        )
        return (each + self.logits.log_softmax(1)).logsumexp(-3).sum((-2, -1))

    def _channels(self, choose: Any) -> Tensor:
        """x (n, K, 3, H, W), channel by channel, each chosen from its distribution given those
        before.
        """
        x = torch.zeros_like(self.loc)
        for channel in range(3):
            px = DiscretizedLogistic(
                self._means(x)[:, :, channel], self.inverse[:, :, channel], self.levels
            )
            x = torch.cat(
                [x[:, :, :channel], choose(px).unsqueeze(2), x[:, :, channel + 1 :]], 2
            )
        return x

    def sample(self, sample_shape: Any = ()) -> Tensor:
        size = torch.Size(sample_shape)
        with torch.no_grad():
            drawn = [self._one() for _ in range(size.numel())]
        return torch.stack(drawn).reshape(*size, *drawn[0].shape)

    def _one(self) -> Tensor:
        noise = torch.rand_like(self.logits).clamp(1e-20, 1 - 1e-7)
        chosen = F.one_hot(
            (self.logits - (-noise.log()).log()).argmax(1), self.logits.shape[1]
        ).movedim(-1, 1)
        return (self._channels(lambda px: px.sample()) * chosen.unsqueeze(2)).sum(1)

    @property
    def mean(self) -> Tensor:
        """The mixture's mean with each channel at its mean given the means before: exact but for
        cut tails.
        """
        return (
            self._channels(lambda px: px.mean) * self.logits.softmax(1).unsqueeze(2)
        ).sum(1)

    @property
    def variance(self) -> Tensor:
        """Within components, at their own scale, plus between them; what a slope adds to green and
        blue is left out.
        """
        weight = self.logits.softmax(1).unsqueeze(2)
        centre = self._channels(lambda px: px.mean)
        within = (2 * self.log_scale).exp() * math.pi**2 / 3
        return (weight * (within + centre.square())).sum(1) - (weight * centre).sum(
            1
        ).square()


class LogisticMixtureLikelihood(Likelihood):
    """p(x|z) = prod over pixels of a mixture of discretised logistics that ties red, green and blue
    together.

    components: how many, K.  PixelCNN++'s likelihood without its autoregression over pixels:
    Salimans et al. 2017 (arXiv:1701.05517); Child 2021 (arXiv:2011.10650).  For images of three
    channels and integer levels.
    """

    domains = ("levels",)
    channels = 3

    def __init__(
        self,
        spec: DataSpec,
        components: Annotated[Count, Field(description="number of components")] = 10,
    ) -> None:
        super().__init__()
        if len(spec.shape) != 3 or spec.shape[0] != 3:
            raise TightboundError(
                "likelihood 'logistic-mixture' is for colour images (3, H, "
                "W), but an example here has shape "
                f"{spec.shape}: set likelihood discretized-logistic"
            )
        assert spec.levels is not None
        self.levels = spec.levels
        self.params = 4 * components
        self.base = nn.Parameter(spec.centre)
        spread = torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1)
        self.start = nn.Parameter(spread.reshape(-1, 1, 1, 1))
        self.register_buffer("unit", spec.spread)

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        weight, loc, log_scale, slope = y.unflatten(1, (4, -1)).unbind(1)
        unit = self.get_buffer("unit")
        loc = self.base + unit * (self.start + loc)
        log_scale = soft_clip(log_scale - 1, -5, 5) + unit.log()
        return LogisticMixture(
            weight.mean(2), loc, log_scale, slope.tanh(), self.levels
        )
