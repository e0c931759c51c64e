"""Coverage of the intervals of log p(x), over seeds, on three models.

    export TIGHTBOUND_DATA=... OMP_NUM_THREADS=1
    python benchmarks/interval_coverage.py --runs runs/coverage --out coverage.json
    python benchmarks/interval_coverage.py --table coverage.json

The models are the default VAE on digits, the default VAE on 3,000 binarised MNIST images, and a
linear-Gaussian model on digits whose log p(x) is known exactly. They are trained where the
folder does not have them. The reference of the other two is AIS from q with 32 chains and many
temperatures, with its own error. For each seed each example gets an interval of 95 % by each
method, or a bound on one side. A row of the table gives the share of examples with an interval,
and the share of these intervals that have the reference in them, both over examples and seeds.
Interrupted, the same command goes on with the models that are missing.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tightbound as tb
from tightbound.core.batch import Batch

SMALL = {"train.steps": 1500, "data.limit": 3000, "data.binarize": "static"}
MODELS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "digits": ("digits", "vae", {}, 400),
    "linear": (
        "digits",
        "ppca",
        {"data.domain": "real", "posterior.scale": "predicted", "train.steps": 1500},
        0,
    ),
    "mnist": ("mnist", "vae", SMALL, 200),
}
METHODS = ("importance", "importance-ais")
CHAINS = 32


def exact(run: tb.Run, x: Tensor) -> Tensor:
    """log p(x) of a linear-Gaussian model, (n,), from the mean and covariance of p(x)."""
    model = run.model
    d = model.latent_shape[0]
    with torch.no_grad():
        px = model.decode(torch.zeros(1, d))
        weight = (model.decode(torch.eye(d)).mean - px.mean).flatten(1).double().T
        noise = px.variance.flatten().double()
    cov = weight @ weight.T + noise.diag()
    normal = torch.distributions.MultivariateNormal(px.mean.flatten().double(), cov)
    return normal.log_prob(x.flatten(1).double())


def reference(run: tb.Run, x: Batch, temperatures: int) -> tuple[Tensor, Tensor]:
    """log p(x) of each example and its standard error."""
    if not temperatures:
        value = exact(run, x.x)
        return value, torch.zeros_like(value)
    settings = {"temperatures": temperatures, "chains": CHAINS}
    estimate = tb.log_px(run.model, x, "ais-q", seed=10**6, **settings)
    return estimate.values, estimate.se


def measure(run: tb.Run, args: argparse.Namespace, temperatures: int) -> dict[str, Any]:
    """The rows of a model: shares, coverage, widths and seconds of each method."""
    test = run.data.test
    x = test.examples(test.spread(args.n))
    truth, truth_se = reference(run, x, temperatures)
    rows: dict[str, Any] = {"n": len(x), "reference_se": float(truth_se.mean())}
    for method in METHODS:
        start = time.perf_counter()
        estimates = [
            tb.log_px(run.model, x, method, k=args.k, seed=seed)
            for seed in range(args.seeds)
        ]
        seconds = (time.perf_counter() - start) / (args.seeds * len(x))
        values = torch.stack([e.values for e in estimates])
        se = torch.stack([e.se for e in estimates])
        given = ~se.isnan()
        error = (values - truth).abs()
        inside = error <= 1.96 * (se.square() + truth_se.square()).sqrt()
        low = torch.stack([e.interval()[:, 0] for e in estimates])
        rows[method] = {
            "given": float(given.double().mean()),
            "covered": float(inside[given].double().mean())
            if given.any()
            else math.nan,
            "one_sided_true": float((low <= truth + 1.96 * truth_se).double().mean()),
            "se": float(se[given].mean()) if given.any() else math.nan,
            "rms_error": float(error[given].square().mean().sqrt()),
            "below": float((truth - values).mean()),
            "seconds": seconds,
        }
        print(method, rows[method], flush=True)
    return rows


def trained(name: str, folder: Path) -> tb.Run:
    """The model, from its folder or trained anew."""
    data, recipe, settings, _ = MODELS[name]
    if (folder / "model.safetensors").is_file():
        return tb.load(folder)
    options: dict[str, Any] = {"out": folder, "report": False, "overwrite": True}
    return tb.train(data, recipe, display="none", settings=settings, **options)


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown."""
    lines = [
        "| model | method | interval given | of these cover log p(x) | mean se | rms error | "
        "mean distance below log p(x) | s an example |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in results["models"].items():
        for method in METHODS:
            row = rows[method]
            cells = [name, method, f"{row['given']:.1%}", f"{row['covered']:.1%}"]
            cells += [f"{row[key]:.2f}" for key in ("se", "rms_error", "below")]
            lines.append(f"| {' | '.join(cells)} | {row['seconds']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="folder of the trained models")
    parser.add_argument("--n", type=int, default=30, help="examples of a model")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a file")
    args = parser.parse_args()
    if args.table is not None:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    results: dict[str, Any] = {"k": args.k, "seeds": args.seeds, "models": {}}
    if args.out is not None and args.out.is_file():
        results = json.loads(args.out.read_text(encoding="utf-8"))
    for name in args.only:
        if name in results["models"]:
            continue
        run = trained(name, args.runs / name)
        results["models"][name] = measure(run, args, MODELS[name][3])
        if args.out is not None:
            args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
