"""Write tests/slow.txt, the test functions that `make quick` leaves out, from measured times.

    make test PYTEST_ARGS="--durations=0" | tee LOG
    python scripts/slow_tests.py LOG

A function is slow if one of its cases, with its fixtures, takes at least LIMIT seconds in any
phase. It is listed by its name, so the list holds when a test moves to another file, with the
seconds of all its cases: files with many such seconds are run first.
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
HEAD = "# Tests that `make quick` leaves out, with seconds. Written by scripts/slow_tests.py.\n"


def slow_tests(lines: Iterable[str]) -> dict[str, float]:
    """Return the slow functions in pytest's table of durations, with seconds of all cases."""
    longest: dict[str, float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    for line in lines:
        row = ROW.match(line)
        if row is not None:
            longest[row[2]] = max(longest[row[2]], float(row[1]))
            total[row[2]] += float(row[1])
    return {name: total[name] for name in sorted(longest) if longest[name] >= LIMIT}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="output of pytest with --durations=0")
    lines = parser.parse_args().log.read_text(encoding="utf-8").splitlines()
    rows = [f"{name} {seconds:.1f}\n" for name, seconds in slow_tests(lines).items()]
    LISTED.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
