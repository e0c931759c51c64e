"""Disentanglement of beta-VAE and beta-TC-VAE on sprites with known factors, over seeds.

    OMP_NUM_THREADS=1 python benchmarks/disentanglement.py --out runs/disentanglement
    python benchmarks/disentanglement.py --out runs/disentanglement --recipes factor-vae dip-vae-1
    python benchmarks/disentanglement.py --out runs/disentanglement --table
    python benchmarks/disentanglement.py --out build/one --recipes beta-vae --seeds 1 --steps 300

Each recipe is trained on `shapes` (3 shapes, 6 scales, 40 orientations, 32 x 32 places; --images of
the 737,280) with ten features, an MLP as of Chen et al. 2018 (a convolutional network takes some
seconds a step on one core) and each of the seeds 0, 1, ...; then MIG, SAP, DCI, FactorVAE and
beta-VAE score and modularity are measured beside chance. The command is
resumable: a training that was interrupted goes on with its state, and what is in results.json of
the folder is not run again. Seeds differ by as much as objectives do (Locatello et al. 2019,
arXiv:1811.12359), so that the table has the mean, the least and the greatest of the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import tightbound as tb
from tightbound.api import Stopped
from tightbound.runtime.atomic_files import write_atomic

RECIPES = ("beta-vae", "beta-tc-vae")
OPTIONS = ("factor-vae", "dip-vae-1", "dip-vae-2", "disentangled-beta-vae", "vae")
LATENT = 10


def train(folder: Path, recipe: str, seed: int, steps: int, images: int) -> tb.Run:
    """Train one model, or go on with one that was interrupted."""
    settings: dict[str, Any] = {
        "latent": LATENT,
        "recipe.network": "mlp",
        "train.steps": steps,
        "data.shapes_n": images,
        "data.split_seed": 0,
    }
    resume = folder.exists()
    return tb.train(
        "shapes",
        recipe,
        out=folder,
        seed=seed,
        resume=resume,
        settings=settings,
        display="none",
        report=False,
    )


def measure(run: tb.Run) -> dict[str, Any]:
    """Scores with chance, and the terms of the bound on 500 test images."""
    evaluation = tb.evaluate(
        run, k=50, limit=500, subset=0, diagnosis=False, metrics="disentanglement"
    )
    factors = evaluation.metrics.to_json()["disentanglement"]
    return {
        "scores": factors["scores"],
        "chance": factors["chance"],
        "n": factors["n"],
        "terms": {
            name: evaluation.terms[name].to_json()
            for name in ("distortion", "rate", "elbo")
        },
    }


def run_all(out: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and measure what is not in results.json of the folder."""
    file = out / "results.json"
    results: list[dict[str, Any]] = (
        json.loads(file.read_text()) if file.exists() else []
    )
    for recipe in args.recipes:
        for seed in range(args.seeds):
            key = {
                "recipe": recipe,
                "seed": seed,
                "steps": args.steps,
                "images": args.images,
            }
            if any(key.items() <= result.items() for result in results):
                continue
            started = time.process_time()
            name = f"{recipe}-{seed}-{args.steps}-{args.images}"
            run = train(out / name, recipe, seed, args.steps, args.images)
            trained = time.process_time() - started
            results.append({**key, **measure(run), "processor_seconds": trained})
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(results, indent=2) + "\n")
            scores = results[-1]["scores"]
            print(recipe, seed, {k: round(v, 3) for k, v in scores.items()}, flush=True)
    return results


def table(results: list[dict[str, Any]]) -> str:
    """A table in Markdown: mean (least to greatest) over seeds, and chance."""
    names = list(results[0]["scores"])
    lines = [
        f"| recipe, steps, images | seeds | {' | '.join(names)} | ELBO |",
        "|---" * (len(names) + 3) + "|",
    ]
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for result in results:
        key = (result["recipe"], result["steps"], result["images"])
        groups.setdefault(key, []).append(result)
    for (recipe, steps, images), runs in groups.items():
        cells = [_spread([r["scores"][name] for r in runs]) for name in names]
        elbo = _spread([r["terms"]["elbo"]["mean"] for r in runs], 1)
        title = f"{recipe}, {steps:,}, {images:,}"
        lines.append(f"| {title} | {len(runs)} | {' | '.join(cells)} | {elbo} |")
    chance = [f"{np.mean([r['chance'][n] for r in results]):.2f}" for n in names]
    lines.append(f"| by chance | {len(results)} | {' | '.join(chance)} | |")
    return "\n".join(lines)


def _spread(values: list[float], digits: int = 2) -> str:
    """The mean, with the least and the greatest of several values."""
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Train and measure, or print the table of earlier measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--recipes", nargs="+", default=RECIPES, choices=(*RECIPES, *OPTIONS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads((args.out / "results.json").read_text())))
        return
    try:
        print(table(run_all(args.out, args)))
    except Stopped as stop:
        raise SystemExit(
            f"{stop.folder} was stopped: the same command goes on"
        ) from None


if __name__ == "__main__":
    main()
