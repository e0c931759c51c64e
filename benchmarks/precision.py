"""Test ELBO of models trained in bfloat16 against float32: same seeds, batches, noise and steps;
only products differ.

    TIGHTBOUND_DATA=... python benchmarks/precision.py \\
        --colour IMAGES.zip
        --out benchmarks/results/precision.json
    python benchmarks/precision.py --only mnist --seeds 0 --out ...
        a piece; what --out has already is kept

Evaluation is float32 for both, with the same noise for both. It must hold that the difference,
averaged over seeds, is less than the standard error of the test ELBO over its examples; a data set
where it is not must stay in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import torch
from torch import Tensor

PRECISIONS = ("float32", "bfloat16")
SIZED = {
    "recipe.size": "s",
    "latent": 32,
    "train.lr": 2e-3,
    "train.validate_every": 500,
    "train.validate_n": 8,
}
MODELS: dict[str, dict[str, Any]] = {
    "mnist": {"data.binarize": "dynamic", "train.steps": 2000},
    "fashion-mnist": {"data.binarize": "dynamic", "train.steps": 2000},
    "colour": {"network": "conv", "train.steps": 300, "train.batch": 64},
}


@torch.no_grad()
def test_elbo(run: Any) -> Tensor:
    """-distortion - rate of every test example with one sample, nats, float64."""
    from tightbound.core.draw import Draw
    from tightbound.distributions.random import StepNoise

    passes = (
        run.predictor.trace(x, Draw(noise=StepNoise(0, "test", int(rows[0]))))
        for rows, x in run.data.test.batches(500)
    )
    return torch.cat([trace.elbo.double() for trace in passes])


def one(name: str, source: str, seed: int) -> dict[str, Any]:
    """A data set and seed in both precisions."""
    import tightbound as tb

    elbos, spent = {}, {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            settings = (
                SIZED
                | MODELS[name]
                | {"train.precision": precision, "train.compile": "off"}
            )
            parts = {
                "out": Path(folder) / "run",
                "seed": seed,
                "report": False,
                "display": "none",
            }
            elbos[precision] = test_elbo(
                tb.train(source, "vae", settings=settings, **parts)
            )
            spent[precision] = round(time.process_time() - start, 1)
    full, half = (elbos[precision] for precision in PRECISIONS)
    difference = half - full
    return {
        "data": name,
        "seed": seed,
        **{
            f"elbo_{precision}": float(elbos[precision].mean())
            for precision in PRECISIONS
        },
        "se": float(full.std() / len(full) ** 0.5),
        "difference": float(difference.mean()),
        "difference_se": float(difference.std() / len(difference) ** 0.5),
        "examples": len(full),
        "cpu_seconds": spent,
    }


def markdown(runs: list[dict[str, Any]]) -> str:
    """A row per data set: averages over seeds, and the standard error over them."""
    lines = [
        (
            "| data, steps | seeds | test ELBO, float32 | its standard error | "
            "bfloat16 less float32 | |"
        )
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name in MODELS:
        own = [run for run in runs if run["data"] == name]
        if not own:
            continue
        change = [run["difference"] for run in own]
        mean, error = statistics.mean(change), statistics.mean(run["se"] for run in own)
        spread = (
            statistics.stdev(change) / len(change) ** 0.5
            if len(change) > 1
            else own[0]["difference_se"]
        )
        verdict = "holds" if abs(mean) < error else "**does not hold**"
        elbo = statistics.mean(run["elbo_float32"] for run in own)
        each = ", ".join(f"{value:+.2f}" for value in change)
        lines.append(
            f"| {name}, {MODELS[name]['train.steps']} | {len(own)} | {elbo:.2f} | {error:.2f} | "
            f"{mean:+.2f} ± {spread:.2f} ({each}) | {verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--colour",
        default="cifar10_jpeg_subset.zip",
        help="folder or zip of colour images",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kept = (
        json.loads(args.out.read_text())["runs"]
        if args.out and args.out.exists()
        else []
    )
    found = {**machine.describe(args.threads), "settings": MODELS, "runs": kept}
    for name in args.only:
        for seed in args.seeds:
            run = one(name, args.colour if name == "colour" else name, seed)
            kept[:] = [
                old for old in kept if (old["data"], old["seed"]) != (name, seed)
            ] + [run]
            print(json.dumps(run), flush=True)
            if args.out:
                args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(kept))


if __name__ == "__main__":
    main()
