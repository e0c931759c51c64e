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
    ("kind", "numbers"),
    [
        ("folders", range(4)),
        ("data", range(20)),
        ("hostile", range(12)),
        ("csv", range(0, 300, 25)),
        ("kills", range(1)),
    ],
)
def test_a_short_campaign(kind: str, numbers: range) -> None:
    problems: list[str] = []
    verdicts = campaign(kind, numbers, problems.append, PATIENCE)
    assert problems == []
    if kind != "kills":  # where a kill falls depends on the machine
        assert any(verdict.refused for verdict in verdicts)
