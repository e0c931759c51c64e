"""Sections of a report in the time that a budget leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tightbound.report.page.blocks import Section
from tightbound.report.render import _made
from tightbound.runtime.progress import listening
from tightbound.runtime.time_budget import TimeBudget, limited


@pytest.mark.parametrize(
    ("seconds", "made"), [(0.5, 1), (4.0, 2), (9.0, 3), (100.0, 5)]
)
def test_a_section_is_begun_where_the_slowest_before_it_fits(
    seconds: float, made: int
) -> None:
    now = [0.0]
    costs = [1.0, 2.0, 5.0, 0.5, 0.5]

    def section(number: int) -> Callable[[], Sequence[Section | None]]:
        def make() -> Sequence[Section | None]:
            now[0] += costs[number]
            return [None]

        return make

    makers = [section(i) for i in range(5)]
    lines: list[str] = []
    budget = TimeBudget(seconds, clock=lambda: now[0])
    with limited(budget), listening(lines.append):
        assert len(_made(makers)) == made
    assert now[0] == sum(costs[:made])
    left_out = [line for line in lines if "leaves no time" in line]
    assert len(left_out) == (made < 5)
    if made < 5:
        assert f"no time for {5 - made} of 5 sections" in left_out[0]
    assert len(_made(makers)) == 5
