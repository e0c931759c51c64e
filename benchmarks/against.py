"""Compares the speed of the working tree with that of an older commit, in turn.

    python benchmarks/against.py COMMIT

Two measurements, each as the ratio new / old with its interval:

- a training step of the default MLP (`burda`, batches of 100, one thread): both trainings are live
  and take turns in windows of a quarter of a second, measured in seconds of the processor;
- start-up: `tightbound --help`, and importing `tightbound.train`, each in fresh processes that take
  turns, in seconds of the processor. Modules are compiled before, as those of an installed package.

The older commit is checked out under `build/against/`. Seconds of the processor change less than
seconds of the wall where other programs run, but they do change: shared caches and other
tenants of the machine are in them. So the median over many pairs is given, with the interval of the
median (95 %, by order statistics).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import goals
import harness
import pictures
from scipy.stats import binom

ROOT = Path(__file__).resolve().parent.parent
START_UP = {
    "tightbound --help": ["-m", "tightbound", "--help"],
    "import tightbound.train": ["-c", "import tightbound; tightbound.train"],
}


def checkout(commit: str) -> Path:
    """A copy of the files of a commit, under build/against/."""
    name = subprocess.check_output(
        ["git", "rev-parse", "--short", f"{commit}^{{commit}}"], cwd=ROOT, text=True
    ).strip()
    folder = ROOT / "build" / "against" / name
    if not folder.exists():
        unpacked = folder.with_name(f"{name}.part")
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", name], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x"], cwd=unpacked, check=True, input=archive.stdout)
        unpacked.rename(folder)
    return folder


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and a 95 % interval of it, by order statistics."""
    ordered = sorted(values)
    n = len(ordered)
    below = int(binom.ppf(0.025, n, 0.5))
    middle = harness.Spread.of(ordered).median
    return middle, ordered[max(0, below - 1)], ordered[min(n - 1, n - below)]


def show(name: str, ratios: Sequence[float]) -> None:
    """One line of the table."""
    middle, low, high = median_interval(ratios)
    print(
        f"{name:<28} {middle:.3f} ({low:.3f} to {high:.3f}), {len(ratios)} pairs",
        flush=True,
    )


def steps(
    old: Path, network: str, batch: int, rounds: int, window: float
) -> list[float]:
    """Seconds of the processor of a step, new / old, of each pair of windows."""
    with tempfile.TemporaryDirectory() as folder:
        files, _ = pictures.write(Path(folder), 2000, real=False)
        spec = {
            "run": "tightbound",
            "network": network,
            "batch": batch,
            "data": files[goals.likelihood(network)],
        }
        trainings = [
            harness.Remote(name, spec, clock="cpu", root=root)
            for name, root in (("old", old), ("new", ROOT))
        ]
        pairs, missing = harness.compete(
            trainings, rounds, window, lambda line: None, tries=1
        )
    if missing:
        raise SystemExit(str(missing))
    return [pair["old"].rate / pair["new"].rate for pair in pairs]


def processor_seconds(root: Path, arguments: list[str]) -> float:
    """User and system seconds of a process that runs the package of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {
        "PYTHONPATH": str(root / "src"),
        "PYTHONDONTWRITEBYTECODE": "",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def start_up(old: Path, arguments: list[str], pairs: int) -> list[float]:
    """Seconds of the processor until the process ends, new / old, of each pair."""
    for root in (old, ROOT):
        processor_seconds(root, arguments)
    ratios = []
    for number in range(pairs):
        turn = (old, ROOT) if number % 2 else (ROOT, old)
        seconds = {root: processor_seconds(root, arguments) for root in turn}
        ratios.append(seconds[ROOT] / seconds[old])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the older commit")
    parser.add_argument("--network", choices=goals.NETWORKS, default="burda")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60, help="pairs of windows")
    parser.add_argument("--window", type=float, default=0.25, help="seconds")
    parser.add_argument("--starts", type=int, default=12, help="pairs of start-ups")
    args = parser.parse_args()
    old = checkout(args.commit)
    print(f"seconds of the processor, new / old ({old.name})")
    for name, arguments in START_UP.items():
        show(name, start_up(old, arguments, args.starts))
    case = f"step, {args.network}, batch {args.batch}"
    show(case, steps(old, args.network, args.batch, args.rounds, args.window))


if __name__ == "__main__":
    main()
