"""The stack of bits: what was pushed comes back, and costs what the probabilities say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("constriction")

from tightbound.compression.coder import TOTAL, Stack, Uncodable, whole_weights

EXAMPLES = settings(max_examples=40, deadline=None)


def random_words(seed: int, count: int = 400) -> np.ndarray:
    """Arbitrary bits."""
    made = np.random.default_rng(seed)
    return made.integers(0, 2**32, count, dtype=np.uint32)


def random_masses(seed: int, rows: int, values: int, sharpness: float) -> Tensor:
    """Masses of any shape from even to nearly all on one value, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(rows, values, generator=generator).double()
    mass = logits.softmax(1)
    mass[torch.rand(mass.shape, generator=generator) < 0.2] = 0.0
    return mass


@EXAMPLES
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(2, 300),
    st.floats(0.0, 40.0),
)
def test_values_come_back_from_any_distribution(
    seed: int, rows: int, values: int, sharpness: float
) -> None:
    weights = whole_weights(random_masses(seed, rows, values, sharpness))
    assert (weights >= 0).all()
    assert (weights.sum(1) == TOTAL).all()
    assert (weights == np.round(weights)).all()
    generator = torch.Generator().manual_seed(seed)
    symbols = torch.randint(values, (rows,), generator=generator)
    stack = Stack(random_words(seed), sealed=True)
    before = stack.words(sealed=True)
    stack.push(symbols, weights)
    assert torch.equal(stack.pop(weights), symbols)
    assert np.array_equal(stack.words(sealed=True), before)


@EXAMPLES
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(2, 300),
    st.floats(0.0, 40.0),
)
def test_drawn_values_give_their_bits_back(
    seed: int, rows: int, values: int, sharpness: float
) -> None:
    weights = whole_weights(random_masses(seed, rows, values, sharpness))
    stack = Stack(random_words(seed), sealed=True)
    before = stack.words(sealed=True)
    drawn = stack.pop(weights)
    assert stack.bits <= 32 * len(before)
    stack.push(drawn, weights)
    assert np.array_equal(stack.words(sealed=True), before)


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(1, 500), st.floats(0.0, 30.0))
def test_binary_values_come_back(seed: int, count: int, sharpness: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (sharpness * torch.randn(count, generator=generator).double()).sigmoid()
    p[:1] = float(seed % 2)  # also where the value is certain
    symbols = torch.randint(2, (count,), generator=generator)
    stack = Stack(random_words(seed), sealed=True)
    before = stack.words(sealed=True)
    stack.push_binary(symbols, p)
    assert torch.equal(stack.pop_binary(p), symbols)
    assert np.array_equal(stack.words(sealed=True), before)


def test_the_length_is_the_entropy() -> None:
    """100,000 values of entropy 1.75 bits take 175,000 bits."""
    mass = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).double()
    weights = np.repeat(whole_weights(mass), 100_000, 0)
    counts = (50_000, 25_000, 12_500, 12_500)
    symbols = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    stack = Stack(np.zeros(0, np.uint32))
    stack.ideal = 0.0
    stack.push(symbols, weights)
    assert stack.ideal == 175_000
    assert stack.bits == pytest.approx(175_000, rel=2e-4)


def test_drawn_values_follow_their_distribution() -> None:
    mass = torch.tensor([[0.7, 0.2, 0.1, 0.0]]).double()
    weights = np.repeat(whole_weights(mass), 20_000, 0)
    drawn = Stack(random_words(0, 4000), sealed=True).pop(weights)
    share = torch.bincount(drawn, minlength=4) / 20_000
    assert share.tolist() == pytest.approx([0.7, 0.2, 0.1, 0.0], abs=0.015)


@pytest.mark.parametrize("mass", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_masses_without_a_sum_are_uniform(mass: list[float]) -> None:
    assert whole_weights(torch.tensor([mass]).double()).tolist() == [[TOTAL / 2] * 2]


def test_a_probability_that_is_no_number_has_no_code() -> None:
    p = torch.tensor([0.5, float("nan")]).double()
    stack = Stack(random_words(0), sealed=True)
    with pytest.raises(Uncodable):
        stack.push_binary(torch.tensor([0, 1]), p)
    with pytest.raises(Uncodable):
        stack.pop_binary(p)


def test_small_differences_of_floats_do_not_change_the_weights() -> None:
    """Products differ between machines in their last digits; the integers do not."""
    mass = random_masses(0, 200, 32, 3.0)
    generator = torch.Generator().manual_seed(0)
    near = mass * (1 + 2e-15 * torch.randn(mass.shape, generator=generator).double())
    assert not torch.equal(mass, near)
    assert np.array_equal(whole_weights(mass), whole_weights(near))
