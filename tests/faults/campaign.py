"""Fault campaign: damaged and hostile inputs end in a right result or in one sentence.

    python tests/faults/campaign.py                    all kinds, as `make faults` does
    python tests/faults/campaign.py --kind folders --start 60 --count 30

Kinds: `folders` damages one file of a finished run and runs a command on it; `data` damages a
data file and reads it; `hostile` gives files that were made to run code, to read other files, or
to take memory and time; `csv` writes a table in many ways and compares what is read; `kills` ends
a training by SIGKILL at any moment and resumes it.

Each case runs in a forked process. It passes with exit status 0 and the right result, or with
exit status 2 and one sentence on the standard error; with at most `MEMORY` MiB more than the
process had before, and within `WAIT` seconds. A case is a function of its kind and number, so
that a failure is repeated by `--kind KIND --only NUMBER`.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]  # where it is run as a program

from faults.process import WAIT, Verdict  # noqa: E402

# kind: (module and class of its cases, their number)
KINDS = {
    "csv": ("csv_files:CsvFiles", 300),
    "hostile": ("hostile:HostileFiles", 212),
    "data": ("damage:DataFiles", 500),
    "folders": ("damage:Folders", 300),
    "kills": ("damage:Kills", 100),
}


class Cases(Protocol):
    """The cases of a kind."""

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Run a case in an empty folder."""


def cases_of(kind: str, folder: Path) -> Cases:
    """The cases of a kind, with what they share in a folder."""
    module, name = KINDS[kind][0].split(":")
    cases: Cases = getattr(importlib.import_module(f"faults.{module}"), name)(folder)
    return cases


def campaign(
    kind: str, numbers: Sequence[int], say: Callable[[str], None], wait: float = WAIT
) -> list[Verdict]:
    """Run cases of a kind.

    Args:
        kind: One of `KINDS`.
        numbers: The numbers of the cases.
        say: Shows what is wrong with a case.
        wait: Seconds within which each case must end.
    """
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        cases = cases_of(kind, _made(Path(place) / "inputs"))
        for number in numbers:
            folder = _made(Path(place) / str(number))
            verdicts.append(cases.case(number, folder, wait))
            shutil.rmtree(folder, ignore_errors=True)
            if verdicts[-1].wrong:
                say(f"{kind} {number}: {verdicts[-1].wrong}")
    return verdicts


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--count", type=int, help="cases of each kind")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT,
        help=f"seconds within which a case must end (default {WAIT:g}); more on a busy "
        f"machine, since none may compute for more than {WAIT:g}",
    )
    parser.add_argument("--only", type=int, help="the case of this number")
    args = parser.parse_args()
    failed = 0
    for kind in args.kind:
        stop = args.start + args.count if args.count else KINDS[kind][1]
        numbers = range(args.start, stop) if args.only is None else [args.only]
        verdicts = campaign(
            kind, numbers, lambda line: print(line, flush=True), args.wait
        )
        wrong = sum(verdict.wrong is not None for verdict in verdicts)
        refused = sum(verdict.refused for verdict in verdicts)
        right = len(verdicts) - wrong
        word = "killed in time" if kind == "kills" else "refused"
        span = f"{kind} {numbers[0]} to {numbers[-1]}"
        print(f"{span}: {right} of {len(verdicts)} right, {refused} {word}", flush=True)
        failed += wrong
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
