"""The diagnosis on models whose fault is known: broken on purpose, and good ones, by seeds and data
sets.

    TIGHTBOUND_DATA=... OMP_NUM_THREADS=1 python benchmarks/diagnosis.py --out diagnosis.json
    python benchmarks/diagnosis.py --table diagnosis.json

Each model is trained, diagnosed, and added to the file; a model that is there already is not
trained again. The thresholds (`tightbound/evaluation/diagnosis/rules.py`) were chosen on seed 0 of
digits, and fixed before the others were run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import tightbound as tb
from tightbound.evaluation import diagnose

Settings = dict[str, Any]
BINARY: Settings = {"data.binarize": "dynamic", "recipe.size": "s"}
BETA: Settings = {"objective": "elbo"}

BROKEN: dict[str, Settings] = {
    "collapsed": {**BETA, "objective.beta": 50.0},
    "likelihood scale wrong": {
        "likelihood": "gaussian",
        "likelihood.scale": "fixed",
        "data.binarize": "none",
    },
    "overfitting": {"data.limit": 50},
    "not trained enough": {"train.epochs": 1},
    "prior mismatch": {**BETA, "objective.beta": 0.01},
}
STEPS = {"digits": 800, "mnist": 2000, "fashion-mnist": 2000}
GOOD: list[tuple[str, str, Settings]] = [
    *(("digits", "vae", {"seed": seed}) for seed in range(3)),
    ("digits", "vae", {"latent": 2}),
    ("digits", "vae", {"latent": 64}),
    ("digits", "hvae", {}),
    ("digits", "beta-vae", {}),
    ("digits", "ppca", {"data.domain": "real"}),
    ("mnist", "vae", {**BINARY, "train.steps": 8000}),
    ("fashion-mnist", "vae", {**BINARY, "train.steps": 8000}),
    ("shapes", "vae", {"recipe.size": "s", "latent": 16, "train.steps": 8000}),
]


def cases() -> list[tuple[str, str, str, Settings]]:
    """(expected verdict or "", data, recipe, settings) of each model."""
    models = []
    for name, settings in BROKEN.items():
        for seed in range(3):
            models.append(
                (
                    name,
                    "digits",
                    "vae",
                    {"train.steps": STEPS["digits"], "seed": seed, **settings},
                )
            )
        for source in ("mnist", "fashion-mnist"):
            models.append(
                (
                    name,
                    source,
                    "vae",
                    {**BINARY, "train.steps": STEPS[source], **settings},
                )
            )
    for *_, settings in models:
        if "train.epochs" in settings:
            settings.pop("train.steps")
    return models + [("", *case) for case in GOOD]


def judge(
    expected: str, source: str, recipe: str, settings: Settings, folder: Path
) -> dict[str, Any]:
    """Trains one model and diagnoses it."""
    run = tb.train(
        source, recipe, out=folder, settings=settings, report=False, display="none"
    )
    test = run.data.test
    diagnosis = diagnose(run, test.batch(test.spread(1000)), run.config.seed)
    e = diagnosis.measurements
    return {
        "expected": expected,
        "data": source,
        "recipe": recipe,
        "settings": settings,
        "steps": run.config.train.steps,
        "verdicts": [v.name for v in diagnosis.verdicts],
        "kl": sum(s.kl.mean for s in e.latents.sites if s.kl),
        "active": [[s.active, s.width] for s in e.latents.sites],
        "auc": e.latents.c2st_auc,
        "central50": e.calibration.central50.mean if e.calibration else None,
        "share": e.transfer.share if e.transfer else None,
        "gained": e.progress.gained if e.progress else None,
        "error": e.progress.error if e.progress else None,
    }


def table(results: list[dict[str, Any]]) -> str:
    """The matrix as a Markdown table."""
    lines = [
        (
            "| broken by | data | model | seed | verdicts | rate | in use | AUC | "
            "central 50 % | lost | gained late |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        used = " + ".join(f"{a}/{w}" for a, w in r["active"])
        lines.append(
            f"| {r['expected'] or 'nothing'} | {r['data']} | {name(r)} | "
            f"{r['settings'].get('seed', 0)} | "
            f"{', '.join(r['verdicts']) or 'nothing wrong found'} | "
            f"{r['kl']:.1f} | {used} | {r['auc']:.2f} | "
            f"{r['central50']:.0%} | {r['share']:.0%} | {r['gained']:.2f} (± {r['error']:.2f}) |"
        )
    return "\n".join(lines)


def name(r: dict[str, Any]) -> str:
    """The recipe, with a setting that sets it apart."""
    return r["recipe"] + (
        f", {r['settings']['latent']} features" if "latent" in r["settings"] else ""
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("diagnosis.json"))
    parser.add_argument(
        "--most", type=int, default=1000, help="models to train in this call"
    )
    parser.add_argument(
        "--only", nargs="*", default=["digits", "mnist", "fashion-mnist", "shapes"]
    )
    parser.add_argument(
        "--table", type=Path, help="print a finished file as a table and stop"
    )
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {
        json.dumps([r[k] for k in ("expected", "data", "recipe", "settings")])
        for r in results
    }
    left = [c for c in cases() if json.dumps(list(c)) not in done and c[1] in args.only]
    with tempfile.TemporaryDirectory() as scratch:
        for i, case in enumerate(left[: args.most]):
            results.append(judge(*case, Path(scratch) / str(i)))
            args.out.write_text(json.dumps(results, indent=1))
            print(table(results[-1:]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
