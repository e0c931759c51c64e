"""How much more two processes of one machine do than one: training by gloo, with the same batch in
all, and with twice.

    python benchmarks/scaling.py [--out scaling.json] [--processes 2] [--rounds 7] [--clock cpu]

With --clock cpu, examples are counted per second of the first process's processor time: what
several processes could reach on cores of their own if none waited for another, where the machine is
never quiet.

Each process has one thread. All launches are live runs of `tb.train` that take turns (see
`harness.py`); what is given is examples a second, and the ratio to one process within a round.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import harness
import machine
import numpy as np
import pictures
from harness import Remote

PLAIN = {"train.compile": "off", "train.precision": "float32"}
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "the default model": (128, PLAIN),
    "small convolutions": (
        64,
        {"network": "conv", "recipe.size": "s", "latent": 32, **PLAIN},
    ),
}


def launches(
    folder: Path, batch: int, settings: dict[str, Any], processes: int, clock: str
) -> list[Remote]:
    """One process and several, each with the batch and with so many times the batch."""
    path = folder / "blobs.npy"
    if not path.exists():
        np.save(path, pictures.blobs(5000))

    def one(name: str, size: int, of: int) -> Remote:
        spec = {
            "run": "tightbound",
            "batch": size,
            "data": str(path),
            "settings": settings,
            "processes": of,
        }
        return Remote(name, spec, threads=1, clock=clock)

    return [
        one("one", batch, 1),
        one(f"{processes} processes, same batch", batch, processes),
        one(
            f"{processes} processes, {processes} x batch", processes * batch, processes
        ),
        one(f"one, {processes} x batch", processes * batch, 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=float, default=harness.WINDOW)
    parser.add_argument("--tries", type=int, default=harness.TRIES)
    parser.add_argument("--clock", choices=("seconds", "cpu"), default="seconds")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {
        **machine.describe(1),
        "processes": args.processes,
        "clock": args.clock,
        "cases": [],
    }
    print(machine.line(found))
    for name in args.only:
        batch, settings = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            made = launches(Path(folder), batch, settings, args.processes, args.clock)
            rounds, missing = harness.compete(
                made, args.rounds, args.window, lambda line: None, tries=args.tries
            )
        assert not missing, missing
        result = harness.record(rounds, "one")
        print(f"\n{name}, batch {batch}: {harness.quietness(result['load'])}")
        print(harness.table(rounds, "one", "examples"), flush=True)
        found["cases"].append({"model": name, "batch": batch, **result})
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
