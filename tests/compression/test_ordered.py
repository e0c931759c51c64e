"""Ordered values by refinement: every value comes back, at the cost of its probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import (
    Distribution,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
)

pytest.importorskip("constriction")

from tightbound.compression import bins
from tightbound.compression.coder import Stack, Uncodable
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
from tightbound.distributions import DiscretizedLogistic


def cost(values: Tensor, first: Tensor, law: Law) -> float:
    """Bits of values, after they came back."""
    made = np.random.default_rng(0)
    words = made.integers(0, 2**32, 50, dtype=np.uint32)
    stack = Stack(words, sealed=True)
    stack.ideal = 0.0
    push_ordered(stack, values, first, law)
    bits = stack.ideal
    assert torch.equal(pop_ordered(stack, len(values), first, law), values)
    assert np.array_equal(stack.words(sealed=True), words)
    return bits


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 3000), st.floats(-50, 3100), st.floats(0.05, 200))
def test_each_level_comes_back(levels: int, loc: float, scale: float) -> None:
    values = torch.arange(0, levels, max(1, levels // 300))
    shape = torch.ones(len(values)).double()
    law = Symmetric(loc * shape, scale * shape, logistic_tail, of_levels(levels))
    cost(values, level_edges(levels), law)


@pytest.mark.parametrize("levels", [2, 17, 32, 33, 256, 65536])
def test_levels_cost_what_the_likelihood_says(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    loc = levels * torch.rand(400, generator=generator).double()
    scale = 0.3 + levels / 10 * torch.rand(400, generator=generator).double()
    px = DiscretizedLogistic(loc, 1 / scale, levels)
    values = px.sample()
    law = Symmetric(loc, scale, logistic_tail, of_levels(levels))
    bits = cost(values.long(), level_edges(levels), law)
    assert bits == pytest.approx(
        float(-px.log_prob(values).sum()) / math.log(2), rel=1e-3
    )


REALS: dict[str, tuple[type[Distribution], Callable[[Tensor], Tensor]]] = {
    "normal": (Normal, normal_tail),
    "laplace": (Laplace, laplace_tail),
}


@pytest.mark.parametrize("family", REALS)
@pytest.mark.parametrize("width", [0.02, 1.0, 3000.0])
def test_integers_cost_the_mass_of_their_steps(family: str, width: float) -> None:
    kind, tail = REALS[family]
    generator = torch.Generator().manual_seed(0)
    loc = 0.5 * torch.rand(300, generator=generator).double()
    scale = torch.full((300,), width).double()
    dist = kind(loc, scale)
    torch.manual_seed(1)
    values = dist.sample().round()
    mass = dist.cdf(values + 0.5) - dist.cdf(values - 0.5)
    law = Symmetric(loc, scale, tail, of_integers)
    bits = cost(values.long(), integer_edges(), law)
    assert bits == pytest.approx(float(-mass.log2().sum()), rel=1e-3, abs=0.01)


def test_integers_far_away_come_back() -> None:
    values = torch.tensor([0, 1, -1, 10**6, -(10**9), 2**40 - 1, -(2**40)])
    one = torch.ones(len(values)).double()
    cost(values, integer_edges(), Symmetric(0 * one, one, normal_tail, of_integers))


@pytest.mark.parametrize("mean", [0.01, 1.0, 40.0, 5000.0])
def test_counts_cost_what_the_likelihood_says(mean: float) -> None:
    torch.manual_seed(0)
    rate = torch.full((60,), mean).double()
    poisson = Poisson(rate)
    values = poisson.sample()
    bits = cost(values.long(), count_edges(), Counts(rate))
    expected = float(-poisson.log_prob(values).sum()) / math.log(2)
    assert bits == pytest.approx(expected, rel=1e-3, abs=0.01)
    total = torch.full((60,), 1.7).double()
    spread = NegativeBinomial(total, logits=(rate / total).log())
    values = spread.sample()
    law = Counts(spread.probs, total)
    bits = cost(values.long(), count_edges(), law)
    expected = float(-spread.log_prob(values).sum()) / math.log(2)
    assert bits == pytest.approx(expected, rel=1e-3, abs=0.01)


def test_counts_far_away_come_back() -> None:
    values = torch.tensor([0, 1, 16, 17, 31, 32, 10**6, 2**39])
    cost(values, count_edges(), Counts(torch.full((8,), 3.0).double()))


@pytest.mark.parametrize("edges", [integer_edges(), count_edges()])
@pytest.mark.parametrize("side", ["below", "above"])
def test_values_outside_all_cells_have_no_code(edges: torch.Tensor, side: str) -> None:
    value = {"below": int(edges[0]) - 1, "above": int(edges[-1])}[side]
    one = torch.ones(1).double()
    law = Symmetric(0 * one, one, normal_tail, of_integers)
    with pytest.raises(Uncodable):
        push_ordered(Stack(np.zeros(0, np.uint32)), torch.tensor([value]), edges, law)


def log_normal(count: int, loc: float, scale: float) -> tuple[Symmetric, Distribution]:
    """The law of a log-normal variable in steps, and its distribution."""
    one = torch.ones(count).double()
    law = Symmetric(loc * one, scale * one, normal_tail, of_logs)
    return law, LogNormal(torch.tensor(loc).double(), torch.tensor(scale).double())


@pytest.mark.parametrize(("loc", "scale"), [(-1.0, 0.5), (2.0, 0.8), (12.0, 0.02)])
def test_numbers_above_0_cost_the_mass_of_their_steps(loc: float, scale: float) -> None:
    law, dist = log_normal(300, loc, scale)
    torch.manual_seed(0)
    values = dist.sample((300,)).round().clamp(min=1)
    below = dist.cdf((values - 0.5).clamp(min=1e-9))
    mass = dist.cdf(values + 0.5) - torch.where(values == 1, 0.0, below)
    bits = cost(values.long(), integer_edges(), law)
    assert bits == pytest.approx(float(-mass.log2().sum()), rel=1e-3, abs=0.05)


@pytest.mark.parametrize("family", ["log-normal", "normal"])
def test_zeros_cost_their_probability(family: str) -> None:
    """A fifth of zeros beside values of which hardly one would round to 0."""
    if family == "log-normal":
        law, dist = log_normal(400, 3.0, 0.6)
    else:
        one = torch.ones(400).double()
        law = Symmetric(40 * one, 300 * one, normal_tail, of_integers)
        dist = Normal(torch.tensor(40.0).double(), torch.tensor(300.0).double())
    torch.manual_seed(0)
    share = torch.full((400,), 0.2).double()
    values = dist.sample((400,)).round()
    values[torch.rand(400) < 0.2] = 0.0
    low = (values - 0.5).clamp(min=1e-9) if family == "log-normal" else values - 0.5
    mass = 0.8 * (dist.cdf(values + 0.5) - dist.cdf(low))
    mass = torch.where(values == 0, mass + 0.2, mass)
    bits = cost(values.long(), integer_edges(), ZeroOr(share, law))
    assert bits == pytest.approx(float(-mass.log2().sum()), rel=1e-3)


def test_values_that_a_law_excludes_come_back() -> None:
    values = torch.tensor([0, -3, 1, 2**39, -(2**39)])
    law, _ = log_normal(5, 0.0, 1.0)
    cost(values, integer_edges(), law)
    cost(values, integer_edges(), ZeroOr(torch.full((5,), 0.5).double(), law))


def test_mixtures_cost_the_weighted_mass() -> None:
    loc = torch.tensor([[3.0, 12.0]]).double()
    scale = torch.tensor([[1.0, 0.5]]).double()
    weight = torch.tensor([[0.25, 0.75]]).double()
    law = Symmetric(loc, scale, logistic_tail, of_levels(17), weight)
    each = DiscretizedLogistic(loc[0], 1 / scale[0], 17).log_prob(torch.tensor(12.0))
    mass = float((weight[0] * each.exp()).sum())
    assert cost(torch.tensor([12]), level_edges(17), law) == pytest.approx(
        -math.log2(mass), abs=1e-3
    )


# ---- bins of latents


def test_bins_are_narrow_at_the_centre_and_reach_far() -> None:
    inner = bins.EDGES[1:-1]
    assert len(bins.EDGES) == bins.BINS + 1
    assert bool((inner.diff() > 0).all())
    assert bool((bins.MIDDLES[1:-1] > inner[:-1]).all())
    assert bool((bins.MIDDLES[1:-1] < inner[1:]).all())
    assert float(inner.diff().min()) < 0.0025
    assert float(inner[-1]) > 17


def test_the_table_of_the_standard_normal_is_the_general_law() -> None:
    edges = bins.FIRST.expand(3, -1)
    zero = torch.zeros(3).double()
    general = Symmetric(zero, zero + 1, normal_tail, bins.place).below(edges)
    assert torch.equal(bins.Standard(3).below(edges), general)
    middle = torch.arange(192, 260, 4).expand(2, -1)
    fine = torch.arange(64, 69).expand(2, -1)
    for at in (edges, middle, fine):
        rows = torch.zeros(len(at)).double()
        law = Symmetric(rows, rows + 1, normal_tail, bins.place)
        assert np.array_equal(bins.Standard(len(at)).weights(at), law.weights(at))
    assert general[:, -1].tolist() == pytest.approx([1.0] * 3, abs=1e-14)
    alone = bins.Standard(3).weights(bins.FIRST.unsqueeze(0))
    assert np.array_equal(alone, bins.Standard(3).weights(edges))


def test_latents_of_a_narrow_posterior_are_drawn_from_it() -> None:
    """4,000 draws of N(0.7, 0.05^2) on the bins of N(0, 1)."""
    shape = torch.zeros(100, 40).double()
    grid = bins.Grid(shape, shape + 1)
    made = np.random.default_rng(0)
    stack = Stack(made.integers(0, 2**32, 4000, dtype=np.uint32), sealed=True)
    law = grid.law(shape + 0.7, shape + 0.05, 100)
    drawn = pop_ordered(stack, 4000, bins.FIRST, law).reshape(100, 40)
    z = grid.values(drawn)
    assert float(z.mean()) == pytest.approx(0.7, abs=0.004)
    assert float(z.std()) == pytest.approx(0.05, abs=0.003)


def test_posteriors_anywhere_are_drawn_near_their_mean() -> None:
    """Also from the edge of the bins and beyond, no draw is a far outlier."""
    loc = torch.linspace(-16, 16, 400).double()[:, None]
    grid = bins.Grid(torch.zeros_like(loc), torch.ones_like(loc))
    made = np.random.default_rng(0)
    stack = Stack(made.integers(0, 2**32, 400, dtype=np.uint32), sealed=True)
    law = grid.law(loc, torch.full_like(loc, 0.1), 400)
    z = grid.values(pop_ordered(stack, 400, bins.FIRST, law)[:, None])
    assert float((z - loc).abs().max()) < 6.0
    assert float((z - loc)[loc.abs() < 3].abs().max()) < 0.6
