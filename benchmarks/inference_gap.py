"""A trained model in one table: each estimate of log p(x), both parts of the gap,
test beside train.

    TIGHTBOUND_DATA=... OMP_NUM_THREADS=1 python benchmarks/inference_gap.py runs/mnist --n 100
        --out inference-gap.json
    python benchmarks/inference_gap.py --table inference-gap.json

ELBO and importance sampling with K = 5000, annealed importance sampling started at q and at the
prior, the best q of the family for each image, and the BDMC gap of AIS on images that the model
made. All on the same n examples of each split, spread over it. Interrupted, the same command goes
on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from tightbound.evaluation import Mean
from tightbound.evaluation.cache import Cache
from tightbound.evaluation.estimators.amortization_gap import Search, parts
from tightbound.evaluation.inference_gap import bdmc_gap
from tightbound.evaluation.runner import Runner, Selection
from tightbound.runs.run import load

ROWS = {
    "elbo": "ELBO",
    "importance": "importance sampling, K = {k}",
    "ais-prior": "AIS from the prior, {ais-prior} temperatures",
    "ais-q": "AIS from q, {ais-q} temperatures",
    "ais-q over importance": "AIS from q above importance sampling",
    "best q": "bound of the best q of the family",
    "approximation": "approximation gap: log p(x) by AIS from q, less that",
    "amortisation": "amortisation gap: that less the ELBO",
    "inference gap": "inference gap, both together",
}


def show_progress(done: int, n: int, what: str) -> None:
    print(f"\r{what}: {done} of {n}   ", end="", file=sys.stderr, flush=True)


def one_split(
    runner: Runner, x: Selection, k: int, from_q: int, from_prior: int
) -> dict[str, Any]:
    """All figures of some examples, nats, each with its error; and the seconds of each method."""
    base, t0 = runner.estimate(x, "importance", k=k)
    near, t1 = runner.estimate(x, "ais-q", temperatures=from_q)
    far, t2 = runner.estimate(x, "ais-prior", temperatures=from_prior)
    bounds, t3 = runner.bounds(x, Search())
    elbo = base.diagnostic["elbo"]
    split = parts(near.values, elbo, bounds)
    values = {
        "elbo": elbo,
        "importance": base.values,
        "ais-prior": far.values,
        "ais-q": near.values,
        "ais-q over importance": near.values - base.values,
        "best q": elbo + split["amortisation"],
        **split,
        "inference gap": near.values - elbo,
    }
    results: dict[str, Any] = {
        name: Mean.of(value).to_json() for name, value in values.items()
    }
    seconds = {"importance": t0, "ais-q": t1, "ais-prior": t2, "search": t3}
    return results | {
        "seconds": {name: t / len(x) for name, t in seconds.items()},
        "search": dataclasses.asdict(Search()),
    }


def table(results: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    names = {
        "k": results["k"],
        "ais-q": results["temperatures"]["ais-q"],
        "ais-prior": results["temperatures"]["ais-prior"],
    }
    lines = [
        f"| nats, {results['n']} images of each split | test | train |",
        "|---|---|---|",
    ]
    for key, words in ROWS.items():
        cells = [
            f"{results[s][key]['mean']:.2f} ± {results[s][key]['se']:.2f}"
            for s in ("test", "train")
        ]
        lines.append(f"| {words.format_map(names)} | {' | '.join(cells)} |")
    for s in ("test", "train"):
        spent = ", ".join(
            f"{name} {t:.2f}" for name, t in results[s]["seconds"].items()
        )
        lines.append(f"\nSeconds an image ({s}): {spent}.")
    bdmc = results["bdmc_gap"]
    gap = f"{bdmc['gap']['mean']:.3f} ± {bdmc['gap']['se']:.3f}"
    lines.append(
        f"\nBDMC gap of AIS from q: {gap} nats between both bounds, "
        f"{bdmc['n']} simulated images."
    )
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="a run folder")
    parser.add_argument("--n", type=int, default=100, help="examples of each split")
    parser.add_argument("--k", type=int, default=5000)
    parser.add_argument(
        "--from-q", type=int, default=150, help="temperatures of AIS from q"
    )
    parser.add_argument(
        "--from-prior",
        type=int,
        default=1000,
        help="temperatures of AIS from the prior",
    )
    parser.add_argument("--out", type=Path, default=Path("inference-gap.json"))
    parser.add_argument(
        "--table", type=Path, help="print a finished file as a table and stop"
    )
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if args.table or not args.run:
        print(table(json.loads((args.table or args.out).read_text())))
        return
    run = load(args.run)
    runner = Runner(
        run,
        run.config.seed,
        Cache(run.folder, run.predictor.fingerprint),
        show_progress,
    )
    splits = run.data.splits
    temperatures = {"ais-q": args.from_q, "ais-prior": args.from_prior}
    results: dict[str, Any] = {
        "run": str(args.run),
        "weights": run.predictor.fingerprint,
        "digest": run.data.digest,
    }
    results |= {
        "n": args.n,
        "k": args.k,
        "seed": run.config.seed,
        "temperatures": temperatures,
    }
    start = time.perf_counter()
    for split in ("test", "train"):
        x = Selection(splits[split], splits[split].spread(args.n))
        results[split] = one_split(runner, x, args.k, args.from_q, args.from_prior)
    gap = bdmc_gap(runner, args.n, {"temperatures": args.from_q})
    results["bdmc_gap"] = gap.to_json()
    results["wall"] = round(time.perf_counter() - start)
    args.out.write_text(json.dumps(results, indent=1))
    runner.cache.clear()
    print("\n" + table(results))


if __name__ == "__main__":
    main()
