"""A total budget counts from the start of a command, on a clock that the test winds."""

from __future__ import annotations

import pytest

from tightbound.runtime.errors import TightboundError
from tightbound.runtime.time_budget import (
    TimeBudget,
    current_limit,
    limited,
    parse_duration,
)


def test_what_is_left_goes_down_with_the_clock() -> None:
    now = [100.0]
    budget = TimeBudget(60.0, clock=lambda: now[0])
    now[0] += 45
    assert budget.left() == 15.0
    now[0] += 45
    assert budget.left() == -30.0


def test_the_limit_holds_inside_its_block_and_none_takes_over_the_outer_one() -> None:
    budget = TimeBudget(1.0)
    assert current_limit() is None
    with limited(budget), limited(None):
        assert current_limit() is budget
    assert current_limit() is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("15min", 900.0), ("2h", 7200.0), (" 1.5 m ", 90.0), (7, 7.0)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["0s", "-5s", "infmin", float("nan"), "1e999", 0])
def test_durations_that_are_none_at_all_get_a_sentence(text: str | float) -> None:
    with pytest.raises(TightboundError, match="15min"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["soon", "5 parsecs", "", "s", "1 2s"])
def test_texts_that_are_no_durations_get_a_sentence(text: str) -> None:
    with pytest.raises(TightboundError, match="is not a duration: write 90s"):
        parse_duration(text)
