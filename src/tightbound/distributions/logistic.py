"""The discretised logistic: a mass function over the integers 0..L-1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from tightbound.distributions.base import ExtendedDistribution, SampleShape

FAR = 1e9  # outer edge of the two end levels, in multiples of L
SUMMED = 16  # levels up to which moments are sums over all levels
NARROW = 0.75  # scale below which the sum runs over the levels around loc instead
WINDOW = 10  # levels on each side of loc in that sum
REACH = 12.0  # scales on each side of loc that blocks of levels cover
NEAR = 4  # edges around loc that `light_mean` takes one by one
FEW = 128  # levels below which it has the edge terms of its integrals
# Li2(1 - exp(-v)) = v - v^2/4 + v^3/36 - v^5/3600 + v^7/211680 - v^9/10886400 + ...
DILOGARITHM = {1: 1.0, 2: 4.0, 3: 36.0, 5: -3600.0, 7: 211680.0, 9: -10886400.0}


class DiscretizedLogistic(ExtendedDistribution):
    """Discretised logistic over the integers 0..L-1, whose two ends take the tails.

        P(x) = sigmoid((x + 1/2 - loc) / s) - sigmoid((x - 1/2 - loc) / s)

    Args:
        loc: Mean before rounding, in units of one level, (n, *event).
        inverse: 1 / s, of the same shape or one that broadcasts to it.
        levels: L.

    Kingma et al. 2016 (arXiv:1606.04934), appendix.
    """

    support = constraints.nonnegative_integer

    def __init__(self, loc: Tensor, inverse: Tensor, levels: int) -> None:
        self.loc = loc
        self.inverse = inverse
        self.levels = levels
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)),
        # exact also far in a tail. The outer edge of an end is so far out that its terms vanish,
        # which costs less than a selection afterwards.
        first = value <= 0
        last = value >= self.levels - 1
        far = FAR * self.levels
        upper = (torch.where(last, far, value + 0.5) - self.loc) * self.inverse
        lower = (self.loc - torch.where(first, -far, value - 0.5)) * self.inverse
        width = torch.log(-torch.expm1(-self.inverse))
        return (
            F.logsigmoid(upper)
            + F.logsigmoid(lower)
            + (~(first | last)).to(width) * width
        )

    def _cdf_edges(self) -> Tensor:
        edges = (
            torch.arange(self.levels - 1, dtype=self.loc.dtype, device=self.loc.device)
            + 0.5
        )
        return torch.sigmoid(
            (edges - self.loc.unsqueeze(-1)) * self.inverse.unsqueeze(-1)
        )

    @property
    def mean(self) -> Tensor:
        """E[x] = sum over the inner edges of 1 - CDF(edge)."""
        return (1 - self._cdf_edges()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """E[x^2] - E[x]^2, with E[x^2] = sum_j (2j + 1) (1 - CDF(j + 1/2))."""
        tail = 1 - self._cdf_edges()
        odd = (
            2 * torch.arange(self.levels - 1, dtype=tail.dtype, device=tail.device) + 1
        )
        return ((tail * odd).sum(-1) - tail.sum(-1) ** 2).clamp(min=0)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.loc.shape
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(
            1e-6, 1 - 1e-6
        )
        x = self.loc + (torch.log(u) - torch.log1p(-u)) / self.inverse
        return x.round().clamp(0, self.levels - 1)


def moments(loc: Tensor, scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """E[x] and E[x^2] of discretised logistics, (*shape) each, in float64.

    They are sums over the inner edges e = j + 1/2 of P(x > e) = sigmoid((loc - e) / s), with
    weights 1 and 2e: term by term for few levels and for narrow scales, else by the integral
    of the summand with the edge terms of the Euler-Maclaurin formula.

    Args:
        loc: mean before rounding, in units of one level, (*shape).
        scale: s, broadcastable to `loc`.
        levels: L.
    """
    loc = loc.double()
    scale = scale.double().expand_as(loc)
    if levels <= SUMMED:
        first = torch.zeros_like(loc)
        return _summed(loc, scale, first, levels - 1)
    first_moment, second_moment = _integrated(loc, scale, levels)
    narrow = scale < NARROW
    if torch.compiler.is_compiling():  # a graph has no branches on values
        a, b = _summed_near(loc, scale, levels)
        first_moment = torch.where(narrow, a, first_moment)
        return first_moment, torch.where(narrow, b, second_moment)
    if narrow.any():
        a, b = _summed_near(loc[narrow], scale[narrow], levels)
        first_moment = first_moment.masked_scatter(narrow, a)
        second_moment = second_moment.masked_scatter(narrow, b)
    return first_moment, second_moment


def _summed_near(loc: Tensor, scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """The sums over the edges near loc, which are all that matter for narrow scales."""
    start = (loc.round() - WINDOW).clamp(0, levels - 1 - 2 * WINDOW)
    start = start.clamp(min=0)
    return _summed(loc, scale, start, min(2 * WINDOW, levels - 1))


def _summed(
    loc: Tensor, scale: Tensor, start: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The sums over `count` edges from start + 1/2; P(x > e) is 1 at the edges before."""
    steps = torch.arange(count, dtype=loc.dtype, device=loc.device)
    edges = start.unsqueeze(-1) + steps + 0.5
    above = torch.sigmoid((loc.unsqueeze(-1) - edges) / scale.unsqueeze(-1))
    return start + above.sum(-1), start.square() + (2 * edges * above).sum(-1)


def _integrated(loc: Tensor, scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """The sums over all edges as integrals over 0..L-1 with edge terms."""
    top = levels - 1
    low = loc / scale
    high = (loc - top) / scale
    first = scale * (F.softplus(low) - F.softplus(high))
    second = (
        2 * scale.square() * (_integral_of_softplus(low) - _integral_of_softplus(high))
    )
    second = second - 2 * top * scale * F.softplus(high)
    slope_low, bend_low, third_low = _derivatives(low, scale)
    slope_high, bend_high, third_high = _derivatives(high, scale)
    first = first - (slope_high - slope_low) / 24
    first = first + 7 / 5760 * (third_high - third_low)
    inner = torch.sigmoid(high) + top * slope_high - torch.sigmoid(low)
    outer = 6 * (bend_high - bend_low) + 2 * top * third_high
    return first, second - inner / 12 + 7 / 5760 * outer


def _derivatives(u: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First, second and third derivative of sigmoid((loc - e) / s) by e, at u."""
    share = torch.sigmoid(u)
    p = share * (1 - share)
    bend = p * (1 - 2 * share)
    return -p / scale, bend / scale.square(), (6 * p.square() - p) / scale**3


def _integral_of_softplus(u: Tensor) -> Tensor:
    """The integral of softplus from -infinity to u, which is -Li2(-exp(u))."""
    w = F.softplus(-u.abs())
    value = torch.zeros_like(w)
    for power, divisor in DILOGARITHM.items():
        value = value + w**power / divisor
    return torch.where(u > 0, math.pi**2 / 6 + u.square() / 2 - value, value)


def light_mean(loc: Tensor, scale: Tensor, levels: int) -> Tensor:
    """E[x] of discretised logistics, (*shape), in few operators and in the dtype of `loc`.

    The sum over the inner edges e = j + 1/2 of P(x > e) = sigmoid((loc - e) / s) has `NEAR`
    terms around loc one by one. The others are integrals, of few levels with the first edge
    term of the Euler-Maclaurin formula. The error is below 1e-4 (L - 1) for any loc and scale.

    Args:
        loc: mean before rounding, in units of one level, (*shape).
        scale: s, broadcastable to `loc`.
        levels: L.
    """
    top = levels - 1
    if levels <= SUMMED:
        return _summed(loc, scale.expand_as(loc), torch.zeros_like(loc), top)[0]
    start = (loc.round() - NEAR // 2).clamp(0, top - NEAR)
    inverse = 1 / scale
    from_start = (loc - start) * inverse
    mean = torch.sigmoid(from_start - 0.5 * inverse)
    for j in range(1, NEAR):
        mean = mean + torch.sigmoid(from_start - (j + 0.5) * inverse)
    below = _between(loc * inverse, from_start, inverse, levels)
    above = _between(
        (loc - start - NEAR) * inverse, (loc - top) * inverse, inverse, levels
    )
    return mean + below + above


def _between(high: Tensor, low: Tensor, inverse: Tensor, levels: int) -> Tensor:
    """The sum of sigmoid((loc - e) / s) over edges e as an integral between two ends.

    Args:
        high, low: (loc - e) / s at the lower and at the upper end.
        inverse: 1 / s.
        levels: L; of few levels the integral has its edge terms, sigmoid' / 24.
    """
    at_high = F.softplus(high)
    at_low = F.softplus(low)
    total = (at_high - at_low) / inverse
    if levels < FEW:
        slopes = torch.exp(low - 2 * at_low) - torch.exp(high - 2 * at_high)
        total = total + slopes * inverse / 24
    return total


def blocks(loc: Tensor, scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """At most `SUMMED` blocks of levels that stand for a discretised logistic.

    Of up to `SUMMED` levels, and of narrow scales, each block is one level. Others cover the
    levels within `REACH` scales of loc, and the two at the ends take the tails.

    Args:
        loc: mean before rounding, in units of one level, (*shape).
        scale: s, broadcastable to `loc`.
        levels: L.

    Returns:
        The mean of x in each block and the mass of each block, (*shape, blocks).
    """
    loc = loc.unsqueeze(-1)
    scale = scale.unsqueeze(-1)
    count = min(levels, SUMMED)
    low = (loc - REACH * scale).floor().clamp(0, levels - 1)
    high = (loc + REACH * scale).ceil().clamp(0, levels - 1)
    if levels <= SUMMED:
        low = torch.zeros_like(low)
        high = torch.full_like(high, levels - 1)
    share = torch.arange(count + 1, dtype=loc.dtype, device=loc.device) / count
    edges = low + ((high - low + 1) * share).round() - 0.5
    below = torch.sigmoid((edges - loc) / scale)
    below = below.masked_fill(edges < low, 0.0).masked_fill(edges > high, 1.0)
    mass = below.diff(dim=-1)
    bottom = edges[..., :-1] + 0.5
    top = edges[..., 1:] - 0.5
    area = F.softplus((top - loc) / scale) - F.softplus((bottom - loc) / scale)
    total = top * below[..., 1:] - bottom * below[..., :-1] - scale * area
    mean = total / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    top = torch.maximum(top, bottom)  # of an empty block, whose mass is 0
    return torch.minimum(torch.maximum(mean, bottom), top), mass
