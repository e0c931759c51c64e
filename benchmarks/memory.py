"""Peak memory of training: every recipe as it comes, and the plain VAE by width, side, batch and K.

    python benchmarks/memory.py --out benchmarks/results/memory.json [--only vae "side 128"]
      [--markdown FILE]

Each case is a process of its own that trains for a few steps, one validation included. What counts
is its peak (ru_maxrss) above what it held once everything was imported and the data lay there;
`weights` is the part of the model.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pictures

STEPS, EXAMPLES, MIB = 6, 512, 2**20
CONV = {"network": "conv", "recipe.size": "s"}
SIZES: dict[str, dict[str, Any]] = {
    **{f"size {size}": {"recipe.size": size} for size in "sml"},
    **{f"batch {batch}": {"train.batch": batch} for batch in (32, 512, 2048)},
    **{f"K {k}": {"recipe": "iwae", "k": k} for k in (5, 50)},
    **{
        f"side {side}": {**CONV, "side": side, "train.batch": 32}
        for side in (28, 64, 128, 256)
    },
    "side 256, accumulate 8": {
        **CONV,
        "side": 256,
        "train.batch": 32,
        "train.accumulate": 8,
    },
}


def data_for(kind: str, side: int, n: int) -> Any:
    """Grey, colour or counts, or grey with labels: the same blobs; or 784 of their values a row, as
    a mixed table.
    """
    grey = pictures.blobs(n, side)
    if kind == "colour":
        return np.stack([grey, grey[:, ::-1], grey[:, :, ::-1]], -1)
    if kind == "table":
        import pandas

        table = pandas.DataFrame(grey.reshape(n, -1) / 255).add_prefix("v")
        return table.assign(first=np.array(["low", "middle", "high"])[np.arange(n) % 3])
    if kind == "labels":
        return grey, np.arange(n) % 10
    return (grey // 16).astype(np.int64) * 3 if kind == "count" else grey


def child(recipe: str, settings: dict[str, Any]) -> None:
    """Trains in this process and prints what that took; a recipe that refuses grey images gets what
    else there is.
    """
    import tightbound as tb
    import tightbound.training.run_training
    from tightbound.runtime.errors import TightboundError

    side = settings.pop("side", 28)
    said = ""
    n = max(EXAMPLES, settings.get("train.batch", 0))
    few = {
        "train.steps": STEPS,
        "train.validate_every": STEPS,
        "train.validate_n": 16,
        "train.precision": "float32",
    }
    for kind in ("grey", "colour", "count", "labels", "table"):
        x = data_for(kind, side, n)
        domain = {"data.domain": "count"} if kind == "count" else {}
        before = resident()
        try:
            with tempfile.TemporaryDirectory() as folder:
                few_of = tuple(part[:64] for part in x) if kind == "labels" else x[:64]
                parts = {
                    "out": Path(folder) / "run",
                    "valid": few_of,
                    "test": few_of,
                    "report": False,
                }
                run = tb.train(
                    x, recipe, display="none", settings=few | domain | settings, **parts
                )
        except TightboundError as error:
            said = str(error)
            continue
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sizes = [p.numel() * p.element_size() for p in run.model.parameters()]
        result = {
            "data": kind,
            "mib": peak - before,
            "weights": sum(sizes) / MIB,
            "imported": before,
        }
        print(json.dumps(result))
        return
    raise SystemExit(said)


def resident() -> float:
    """MiB of this process that are in memory now."""
    with open("/proc/self/status") as file:
        return (
            next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
            / 1024
        )


def measure(case: str) -> dict[str, Any]:
    """One case in a process of its own."""
    settings = dict(SIZES.get(case, {}))
    recipe = settings.pop("recipe", "vae" if case in SIZES else case)
    words = [sys.executable, __file__, "--child", recipe, json.dumps(settings)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return {
            "case": case,
            "recipe": recipe,
            "failed": done.stderr.strip().splitlines()[-1],
        }
    return {"case": case, "recipe": recipe, **json.loads(done.stdout.splitlines()[-1])}


def markdown(report: dict[str, Any]) -> str:
    """All cases, three in a row."""
    cells = [
        f"{c['case']} | {c['mib']:.0f} ({c['weights']:.1f})"
        if "mib" in c
        else f"{c['case']} | failed"
        for c in report["cases"]
    ]
    cells += [" | "] * (-len(cells) % 3)
    rows = ["| " + " | ".join(cells[i : i + 3]) + " |" for i in range(0, len(cells), 3)]
    return "\n".join(
        ["| case | MiB | case | MiB | case | MiB |", "|---|---|---|---|---|---|", *rows]
    )


def main() -> None:
    from tightbound.models.recipes import RECIPES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*RECIPES, *SIZES],
        default=[*RECIPES, *SIZES],
        metavar="CASE",
    )
    parser.add_argument(
        "--out", type=Path, help="JSON; cases that it has already are kept"
    )
    parser.add_argument(
        "--markdown", type=Path, help="print a finished JSON as a table and stop"
    )
    args = parser.parse_args()
    if args.markdown:
        print(markdown(json.loads(args.markdown.read_text())))
        return
    if args.child:
        child(args.child[0], json.loads(args.child[1]))
        return
    kept = (
        json.loads(args.out.read_text())["cases"]
        if args.out and args.out.exists()
        else []
    )
    report: dict[str, Any] = {**machine.describe(1), "steps": STEPS, "cases": kept}
    for case in args.only:
        if not any(old["case"] == case and "mib" in old for old in kept):
            kept[:] = [old for old in kept if old["case"] != case] + [
                new := measure(case)
            ]
            print(json.dumps(new), flush=True)
            if args.out:
                args.out.write_text(json.dumps(report, indent=1) + "\n")
    kept.sort(key=lambda case: [*RECIPES, *SIZES].index(case["case"]))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
