"""The BDMC gap of AIS on images that a model made, image
by image.

    python benchmarks/bdmc_gap.py runs/mnist --seeds 0 1 --out bdmc-gap.json --chart
      docs/images/bdmc-gap.png

One call of `tightbound.evaluation.bdmc` for each seed, with the default settings of AIS. Both
directions and the pilot are timed: seconds of the clock and of the processor, an image.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import charts
import machine
import torch

from tightbound.evaluation import bdmc
from tightbound.runs.run import load


def show_progress(seed: int, n: int) -> Any:
    """Says how far a call is."""
    done = 0.0

    def tick(part: float) -> None:
        nonlocal done
        before, done = int(done), done + part
        if int(done) > before:
            print(
                f"\rseed {seed}: {done:.0f} of {n} images ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    return tick


def measure(model: Any, n: int, seed: int) -> dict[str, Any]:
    """The gaps of n images and what an image cost."""
    clock, processor = time.perf_counter(), time.process_time()
    bracket = bdmc(model, n, seed=seed, tick=show_progress(seed, n))
    return {
        "seed": seed,
        "gaps": bracket.gap.tolist(),
        "mean": bracket.mean,
        "se": bracket.se,
        "settings": bracket.lower.settings,
        "seconds": (time.perf_counter() - clock) / n,
        "processor": (time.process_time() - processor) / n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=100, help="images a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chart", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {
        **machine.describe(args.threads),
        "n": args.n,
        "seeds": [],
    }
    print(machine.line(results))
    model = load(args.run).model
    for seed in args.seeds:
        result = measure(model, args.n, seed)
        results["seeds"].append(result)
        cost = f"{result['seconds']:.2f} s an image, {result['processor']:.2f} s of processor time"
        print(
            f"\rseed {seed}: gap {result['mean']:.3f} ± {result['se']:.3f} nats over "
            f"{args.n} images, {cost}"
        )
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    if args.chart:
        charts.bdmc_gap(results, args.chart)


if __name__ == "__main__":
    main()
