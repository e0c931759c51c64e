"""Mass functions of p(x|z): the values of examples on the stack.

Values are integers (b, *shape): 0 and 1, levels, counts, and of real numbers with a stated
precision the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)
from torch.nn import functional as F

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.components.likelihoods.product import Chain, Product
from tightbound.compression.coder import Stack, whole_weights
from tightbound.compression.ordered import (
    Counts,
    Law,
    Symmetric,
    ZeroOr,
    count_edges,
    integer_edges,
    laplace_tail,
    level_edges,
    logistic_tail,
    normal_tail,
    of_integers,
    of_levels,
    of_logs,
    pop_ordered,
    push_ordered,
)
from tightbound.distributions import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    LogNormal,
    ZeroInflated,
)
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class Steps:
    """The stated precision of real numbers.

    Args:
        step: Width of a step in model units, *shape; NaN where none is stated.
        start: Model units of value 0, *shape.
    """

    step: Tensor
    start: Tensor

    def at(self, where: slice | Tensor) -> Steps:
        """Those of some dimensions."""
        return Steps(self.step[where], self.start[where])


class MassFunction(Protocol):
    """p(x|z) of b examples, one by one value, as masses."""

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values (b, *shape)."""

    def pop(self, stack: Stack) -> Tensor:
        """Receive values (b, *shape)."""


@dataclass(frozen=True)
class Binary:
    """Independent values 0 and 1."""

    p: Tensor

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values."""
        stack.push_binary(x.flatten(), self.p.flatten())

    def pop(self, stack: Stack) -> Tensor:
        """Receive values."""
        return stack.pop_binary(self.p.flatten()).reshape(self.p.shape)


@dataclass(frozen=True)
class Choices:
    """Independent categories with logits (b, *shape, C)."""

    logits: Tensor

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values."""
        weights = whole_weights(self.logits.softmax(-1).flatten(0, -2))
        stack.push(x.flatten(), weights)

    def pop(self, stack: Stack) -> Tensor:
        """Receive values."""
        weights = whole_weights(self.logits.softmax(-1).flatten(0, -2))
        return stack.pop(weights).reshape(self.logits.shape[:-1])


@dataclass(frozen=True)
class OneHot:
    """One category of logits (b, C), as a row of C values."""

    logits: Tensor

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values."""
        stack.push(x.argmax(1), whole_weights(self.logits.softmax(1)))

    def pop(self, stack: Stack) -> Tensor:
        """Receive values."""
        number = stack.pop(whole_weights(self.logits.softmax(1)))
        return F.one_hot(number, self.logits.shape[1])


@dataclass(frozen=True)
class Sequence:
    """Independent ordered values of a law, from the edges of their first cells.

    shift: What is subtracted from a value before it is looked up, (b, *shape).
    """

    law: Law
    first: Tensor
    shape: torch.Size
    shift: Tensor | None = None

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values."""
        if self.shift is not None:
            x = x - self.shift
        push_ordered(stack, x.flatten(), self.first, self.law)

    def pop(self, stack: Stack) -> Tensor:
        """Receive values."""
        x = pop_ordered(stack, self.shape.numel(), self.first, self.law)
        x = x.reshape(self.shape)
        return x if self.shift is None else x + self.shift


@dataclass(frozen=True)
class Colours:
    """A mixture of logistics of each pixel, channel after channel."""

    px: LogisticMixture
    count: int

    def _law(self, x: Tensor, channel: int) -> Symmetric:
        """The channel given those before it, whose values stand in x (b, C, H, W)."""
        px = self.px
        filled = torch.zeros_like(px.loc[:, 0])
        filled[: self.count, :channel] = x[:, :channel].double()
        given = filled.unsqueeze(1)
        means = px.means(given)
        parts = DiscretizedLogistic(means, px.inverse, px.levels).log_prob(given)
        log_weight = px.logits.log_softmax(1) + parts[:, :, :channel].sum(2)

        def by_pixel(of_component: Tensor) -> Tensor:
            return of_component[: self.count].movedim(1, -1).flatten(0, -2)

        return Symmetric(
            by_pixel(means[:, :, channel]),
            by_pixel(px.log_scale[:, :, channel].exp()),
            logistic_tail,
            of_levels(px.levels),
            by_pixel(log_weight.softmax(1)),
        )

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values, the last channel first, since what is pushed last is popped first."""
        first = level_edges(self.px.levels)
        for channel in reversed(range(self.px.channels)):
            push_ordered(stack, x[:, channel].flatten(), first, self._law(x, channel))

    def pop(self, stack: Stack) -> Tensor:
        """Receive values, red first."""
        channels, height, width = self.px.event_shape
        first = level_edges(self.px.levels)
        x = torch.zeros(self.count, channels, height, width, dtype=torch.long)
        for channel in range(channels):
            law = self._law(x, channel)
            values = pop_ordered(stack, len(law.loc), first, law)
            x[:, channel] = values.reshape(self.count, height, width)
        return x


@dataclass(frozen=True)
class Parts:
    """Mass functions of disjoint sets of dimensions (b, D)."""

    parts: list[tuple[slice | Tensor, MassFunction]]
    count: int
    dims: int

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values, the last part first."""
        for at, mass in reversed(self.parts):
            mass.push(stack, x[:, at])

    def pop(self, stack: Stack) -> Tensor:
        """Receive values."""
        x = torch.zeros(self.count, self.dims, dtype=torch.long)
        for at, mass in self.parts:
            x[:, at] = mass.pop(stack)
        return x


@dataclass(frozen=True)
class Dependent:
    """Columns given the categories of columns before them, (b, D): these first, in order."""

    px: Chain
    steps: Steps
    count: int

    def _stage(self, x: Tensor, number: int) -> tuple[Tensor, MassFunction]:
        """Dimensions of one stage and their masses given the categories of those before."""
        order = self.px.shift.order
        rows = torch.zeros_like(self.px.y[:, 0])
        for place in order[:number]:
            rows[: self.count, place] = x[:, place].double()
        everything = torch.arange(rows.shape[1])
        wanted = torch.ones(rows.shape[1], dtype=torch.bool)
        if number < len(order):
            wanted = torch.zeros_like(wanted)
            wanted[order[number]] = True
        else:
            for place in order:
                wanted[place] = False
        parts: list[tuple[slice | Tensor, MassFunction]] = []
        for at, dist in self.px.given(rows).parts:
            inside = wanted[at]
            if not inside.any():
                continue
            if inside.all():
                parts.append((at, mass_of(dist, self.steps.at(at), self.count)))
                continue
            assert isinstance(dist, Independent)
            assert isinstance(dist.base_dist, Bernoulli)
            p = dist.base_dist.logits[: self.count, inside].sigmoid()
            parts.append((everything[at][inside], Binary(p)))
        return everything[wanted], Parts(parts, self.count, rows.shape[1])

    def push(self, stack: Stack, x: Tensor) -> None:
        """Send values, those that others depend on last."""
        for number in range(len(self.px.shift.order), -1, -1):
            self._stage(x, number)[1].push(stack, x)

    def pop(self, stack: Stack) -> Tensor:
        """Receive values, those that others depend on first."""
        x = torch.zeros(self.count, self.px.y.shape[2], dtype=torch.long)
        for number in range(len(self.px.shift.order) + 1):
            dims, mass = self._stage(x, number)
            x[:, dims] = mass.pop(stack)[:, dims]
        return x


# ---- from a distribution to its masses


def _binary(dist: Bernoulli, steps: Steps, count: int) -> MassFunction:
    return Binary(dist.logits[:count].sigmoid())


def _categorical(dist: Categorical, steps: Steps, count: int) -> MassFunction:
    return Choices(dist.logits[:count])


def _levels(dist: DiscretizedLogistic, steps: Steps, count: int) -> MassFunction:
    loc = dist.loc[:count]
    scale = dist.inverse.expand_as(dist.loc)[:count].reciprocal()
    law = Symmetric(
        loc.flatten(), scale.flatten(), logistic_tail, of_levels(dist.levels)
    )
    return Sequence(law, level_edges(dist.levels), loc.shape)


def _poisson(dist: Poisson, steps: Steps, count: int) -> MassFunction:
    rate = dist.rate[:count]
    return Sequence(Counts(rate.flatten()), count_edges(), rate.shape)


def _negative_binomial(
    dist: NegativeBinomial, steps: Steps, count: int
) -> MassFunction:
    p = dist.logits[:count].sigmoid()
    total = dist.total_count.expand_as(dist.logits)[:count]
    law = Counts(p.flatten(), total.flatten())
    return Sequence(law, count_edges(), p.shape)


def _real(dist: Normal | Laplace, steps: Steps, count: int) -> MassFunction:
    loc = (dist.loc[:count] - steps.start) / steps.step
    scale = dist.scale.expand_as(dist.loc)[:count] / steps.step
    near = loc.round().clamp(-(2.0**52), 2.0**52)
    tail = normal_tail if isinstance(dist, Normal) else laplace_tail
    law = Symmetric((loc - near).flatten(), scale.flatten(), tail, of_integers)
    return Sequence(law, integer_edges(), loc.shape, near.long())


def _above_zero(dist: LogNormal, steps: Steps, count: int) -> MassFunction:
    law = _log_normal_law(dist, steps, count)
    return Sequence(law, integer_edges(), dist.loc[:count].shape)


def _log_normal_law(dist: LogNormal, steps: Steps, count: int) -> Symmetric:
    """Numbers of steps of a log-normal variable, whose values are 1, 2, ..."""
    loc = dist.loc[:count] - steps.step.log()
    scale = dist.scale.expand_as(dist.loc)[:count]
    return Symmetric(loc.flatten(), scale.flatten(), normal_tail, of_logs)


def _with_zeros(dist: ZeroInflated, steps: Steps, count: int) -> MassFunction:
    others = dist.others
    if isinstance(others, LogNormal):
        law = _log_normal_law(others, steps, count)
    else:
        assert isinstance(others, Normal)
        loc = others.loc[:count] / steps.step
        scale = others.scale.expand_as(others.loc)[:count] / steps.step
        law = Symmetric(loc.flatten(), scale.flatten(), normal_tail, of_integers)
    share = dist.logits.expand(dist.batch_shape)[:count].sigmoid()
    return Sequence(ZeroOr(share.flatten(), law), integer_edges(), share.shape)


Maker = Callable[..., MassFunction]
MAKERS: tuple[tuple[type[Distribution], Maker], ...] = (
    (Bernoulli, _binary),
    (Categorical, _categorical),
    (DiscretizedLogistic, _levels),
    (Poisson, _poisson),
    (NegativeBinomial, _negative_binomial),
    (Normal, _real),
    (Laplace, _real),
    (LogNormal, _above_zero),
    (ZeroInflated, _with_zeros),
)
REALS = (Normal, Laplace, LogNormal, ZeroInflated)


def mass_of(px: Distribution, steps: Steps, count: int) -> MassFunction:
    """The mass function of the first `count` rows of p(x|z)."""
    if isinstance(px, LogisticMixture):
        return Colours(px, count)
    if isinstance(px, Chain):
        return Dependent(px, steps, count)
    if isinstance(px, Product):
        parts = [(at, mass_of(dist, steps.at(at), count)) for at, dist in px.parts]
        return Parts(parts, count, px.event_shape[0])
    if isinstance(px, OneHotCategorical):
        return OneHot(px.logits[:count])
    base = px.base_dist if isinstance(px, Independent) else px
    for kind, make in MAKERS:
        if type(base) is kind or (kind in REALS and isinstance(base, kind)):
            return make(base, steps, count)
    raise TightboundError(f"p(x|z) is a {type(base).__name__}")


def _why_no_steps(base: Distribution, steps: Steps) -> str | None:
    """Why real numbers cannot be coded, in words; None where they can."""
    if bool(steps.step.isnan().any()):
        return "its values are real numbers of no stated precision"
    is_shifted = bool((steps.start != 0).any())
    if is_shifted and isinstance(base, LogNormal | ZeroInflated):
        return "its columns with a lower end are read less an offset"
    return None


def why_no_masses(px: Distribution, steps: Steps) -> str | None:
    """Why values cannot be coded with p(x|z), in words; None where they can."""
    if isinstance(px, LogisticMixture | OneHotCategorical):
        return None
    if isinstance(px, Chain):
        px = px.central
    if isinstance(px, Product):
        reasons = (why_no_masses(dist, steps.at(at)) for at, dist in px.parts)
        return next((reason for reason in reasons if reason), None)
    base = px.base_dist if isinstance(px, Independent) else px
    if isinstance(base, REALS):
        return _why_no_steps(base, steps)
    if any(type(base) is kind for kind, _ in MAKERS):
        return None
    if isinstance(base, ContinuousBernoulli):
        return "its likelihood is a density on [0, 1], not a mass function"
    return f"its likelihood is a {type(base).__name__}, whose masses are not known here"


def log_widths(px: Distribution, x: Tensor, steps: Steps, count: int) -> Tensor:
    """Sum of the log widths of the steps of the first rows' real numbers, (count,), in nats.

    A density times this width is a mass. An exact zero that has a probability counts without.

    Args:
        px: p(x|z) of all rows.
        x: Examples of all rows in model units.
        steps: The stated precision of real numbers.
        count: Number of rows.
    """
    if isinstance(px, Chain):
        px = px.central
    if isinstance(px, Product):
        total = x.new_zeros(count)
        for at, dist in px.parts:
            total += log_widths(dist, x[:, at], steps.at(at), count)
        return total
    base = px.base_dist if isinstance(px, Independent) else px
    if not isinstance(base, REALS):
        return x.new_zeros(count)
    widths = steps.step.log().expand_as(x[:count])
    if isinstance(base, ZeroInflated):
        widths = torch.where(x[:count] == 0, 0.0, widths)
    return widths.flatten(1).sum(1)
