"""Write tests/slow.txt, the test functions that `make quick` leaves out, from measured times.

    make test PYTEST_ARGS="--durations=0" | tee LOG
    python scripts/slow_tests.py LOG

A function is slow if one of its cases, with its fixtures, takes at least LIMIT seconds in any
phase. It is listed by its name alone, so the list holds when a test moves to another file.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

LISTED = Path(__file__).resolve().parent.parent / "tests" / "slow.txt"
LIMIT = 0.5
ROW = re.compile(r"([\d.]+)s (?:call|setup|teardown) +\S+?\.py::(?:\w+::)?(\w+)")
HEAD = "# Tests that `make quick` leaves out. Written by scripts/slow_tests.py.\n"


def slow_tests(lines: Iterable[str]) -> list[str]:
    """Return the names of the slow functions in pytest's table of durations."""
    longest: dict[str, float] = defaultdict(float)
    for line in lines:
        row = ROW.match(line)
        if row is not None:
            longest[row[2]] = max(longest[row[2]], float(row[1]))
    return sorted(name for name, seconds in longest.items() if seconds >= LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="output of pytest with --durations=0")
    lines = parser.parse_args().log.read_text(encoding="utf-8").splitlines()
    names = slow_tests(lines)
    LISTED.write_text(HEAD + "".join(f"{name}\n" for name in names), encoding="utf-8")


if __name__ == "__main__":
    main()
