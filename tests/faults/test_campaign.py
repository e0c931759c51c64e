"""A short fault campaign: damaged files and killed trainings, see `campaign.py`."""

from __future__ import annotations

import sys

import pytest
from faults.campaign import campaign

PATIENCE = 250.0  # seconds; on a busy machine nothing may fail for being slow

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is read from /proc, on Linux alone"
)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("folders", 4), ("data", 20), ("hostile", 20), ("csv", 200), ("kills", 1)],
)
def test_a_short_campaign(kind: str, count: int) -> None:
    problems: list[str] = []
    verdicts = campaign(kind, range(count), problems.append, PATIENCE)
    assert problems == []
    if kind != "kills":  # where a kill falls depends on the machine
        assert any(verdict.refused for verdict in verdicts)
