"""Memory of an evaluation above the model, for few and many samples and examples: it must stay
under 1 GiB.

    python benchmarks/evaluation_memory.py --out memory.json

Each case is a process of its own: it loads the run, notes its memory, evaluates, and reads the peak
(Linux, VmHWM).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pictures

# (what, recipe settings, side, channels as grey, K, examples)
CASES: list[tuple[str, dict[str, Any], int, int, int]] = [
    ("vae, 28 x 28", {}, 28, 1, 100_000),
    ("vae, 28 x 28", {}, 28, 5000, 50),
    ("vae, 28 x 28", {}, 28, 500_000, 1),
    ("iwae, 28 x 28", {"recipe": "iwae", "k": 5, "recipe.size": "s"}, 28, 5000, 50),
    ("hvae, 28 x 28", {"recipe": "hvae", "recipe.size": "s"}, 28, 5000, 50),
    ("convolution, 64 x 64", {"network": "conv", "recipe.size": "s"}, 64, 500, 8),
    ("convolution, 256 x 256", {"network": "conv", "recipe.size": "s"}, 256, 20, 4),
]
BOUND_MIB = 1024


def status(key: str) -> float:
    """A field of this process's memory, MiB."""
    with open("/proc/self/status") as file:
        return (
            next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024
        )


def child(folder: str, k: int) -> None:
    """Loads, evaluates, prints the peak above what the loaded model and the data held."""
    import tightbound as tb

    run, x = tb.load(folder), np.load(Path(folder) / "x.npy")
    tb.evaluate(run, x[:1], k=1)  # what an evaluation imports is not what it holds
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    results = tb.evaluate(run, x, k=k)
    print(json.dumps({"mib": status("VmHWM") - before, "seconds": results.seconds}))


def measure(case: tuple[str, dict[str, Any], int, int, int]) -> dict[str, Any]:
    """One case."""
    import tightbound as tb

    what, settings, side, k, n = case
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        x = (pictures.blobs(64, side) > 127).astype(np.uint8)
        few = {
            "train.steps": 1,
            "train.batch": 8,
            "train.validate_n": 1,
            "train.validate_k": 1,
        }
        tb.train(
            x,
            out=folder,
            valid=x[:8],
            test=x[:8],
            report=False,
            display="none",
            settings={**few, **settings},
        )
        np.save(folder / "x.npy", x[np.arange(n) % len(x)])
        words = [sys.executable, __file__, "--child", str(folder), str(k)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return {
        "what": what,
        "k": k,
        "examples": n,
        **json.loads(done.stdout.splitlines()[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--cases",
        type=int,
        nargs="*",
        default=list(range(len(CASES))),
        help="numbers of cases, from 0",
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]))
        return
    results: dict[str, Any] = {
        **machine.describe(1),
        "bound_mib": BOUND_MIB,
        "cases": [],
    }
    print(machine.line(results))
    for number in args.cases:
        results["cases"].append(case := measure(CASES[number]))
        verdict = "" if case["mib"] < BOUND_MIB else "  over the bound"
        print(
            f"{case['what']}: K = {case['k']:,}, {case['examples']:,} examples: "
            f"{case['mib']:.0f} MiB, {case['seconds']:.0f} s{verdict}",
            flush=True,
        )
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
