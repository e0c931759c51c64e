"""Write tests/slow.txt, the test functions that `make quick` leaves out, from measured times.

    make test PYTEST_ARGS="--durations=0" | tee LOG
    python scripts/slow_tests.py LOG

A function is slow if one of its cases, with its fixtures, takes at least LIMIT seconds in any
phase. It is listed by its name, so the list holds when a test moves to another file, with the
seconds of all its cases: files with many such seconds are run first. "setup" follows where its
fixtures take as long; `make quick` then leaves out all tests that share one of them.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

LISTED = Path(__file__).resolve().parent.parent / "tests" / "slow.txt"
LIMIT = 0.5
ROW = re.compile(r"([\d.]+)s (call|setup|teardown) +\S+?\.py::(?:\w+::)?(\w+)")
HEAD = "# Tests that `make quick` leaves out, with seconds. Written by scripts/slow_tests.py.\n"


class Slow(NamedTuple):
    """A slow function: seconds of all its cases, and whether its fixtures are slow."""

    seconds: float
    by_fixtures: bool

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} setup" if self.by_fixtures else f"{self.seconds:.1f}"
        )


def slow_tests(lines: Iterable[str]) -> dict[str, Slow]:
    """Return the slow functions in pytest's table of durations."""
    longest: dict[tuple[str, str], float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    for line in lines:
        row = ROW.match(line)
        if row is not None:
            seconds, phase, name = float(row[1]), row[2], row[3]
            longest[name, phase] = max(longest[name, phase], seconds)
            total[name] += seconds
    slow = sorted(key for key, seconds in longest.items() if seconds >= LIMIT)
    return {
        name: Slow(total[name], (name, "setup") in slow)
        for name in dict.fromkeys(name for name, _ in slow)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="output of pytest with --durations=0")
    lines = parser.parse_args().log.read_text(encoding="utf-8").splitlines()
    rows = [f"{name} {slow}\n" for name, slow in slow_tests(lines).items()]
    LISTED.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
