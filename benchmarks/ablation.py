"""What buys nats per minute: variants of one model at equal minutes on a quiet machine.

    TIGHTBOUND_DATA=... python benchmarks/ablation.py base two-cycles   these variants
    python benchmarks/ablation.py all                                   all that are not done
    python benchmarks/ablation.py base batch-256 --data fashion-mnist   on other images
    python benchmarks/ablation.py table                                 the table of docs/results.md
    python benchmarks/ablation.py all --minutes 2 --threads 1 --busy --out build/estimate

A command that was killed goes on where it was. Minutes become steps as in `reproduce/step_time.py`.
Each variant is evaluated on the same 2,000 validation and 2,000 test images with K = 1000, so that
the difference from `base` has the error of paired differences, far below that of each mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reproduce import jobs, rows

import tightbound as tb
from tightbound.config import assignments
from tightbound.evaluation import score
from tightbound.runtime.atomic_files import write_atomic

HERE = Path(__file__).resolve().parent
VARIANTS = HERE / "ablation.toml"
BASE, MARK = "base", "ablation"
SPLITS = ("valid", "test")
PIECE = 100  # images between two writes
Found = dict[str, Any]


def values_of(
    run: tb.Run, split: str, k: int, n: int, path: Path
) -> NDArray[np.float64]:
    """log p(x) of n images spread over a split, from where the file leaves off."""
    data = run.data.splits[split]
    chosen = data.spread(min(n, len(data)))
    done = np.load(path) if path.is_file() else np.zeros(0)
    for part in chosen[len(done) :].split(PIECE):
        values = score(run, data.examples(part), k, run.config.seed)["log_px"]
        done = np.concatenate([done, values.double().numpy()])
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, done)
        temporary.replace(path)
    return done


def variant(row: rows.Row, seed: int, work: jobs.Work, k: int, n: int) -> Found:
    """Train and evaluate a variant; what is done already is read."""
    found = jobs.train(row, seed, work)
    place = work.place(row, seed)
    run = tb.load(place / f"stage{len(row.stages) - 1}", device=work.device)
    for split in SPLITS:
        values = values_of(run, split, k, n, place / f"log-px-{split}-{k}-{n}.npy")
        found[split] = {
            "k": k,
            "images": len(values),
            "mean": float(values.mean()),
            "se": float(values.std(ddof=1) / len(values) ** 0.5),
            "each": [round(float(value), 4) for value in values],
        }
    return found


def difference(found: Found, base: Found, split: str) -> tuple[float, float] | None:
    """Nats gained over the base on the same images, and the error of that; None for others."""
    a, b = found[split], base[split]
    if (a["k"], a["images"]) != (b["k"], b["images"]):
        return None
    gains = np.asarray(a["each"]) - np.asarray(b["each"])
    return float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)


def gain_text(found: Found, base: Found | None, split: str) -> str:
    """`+0.31 ± 0.04`, or nothing."""
    gain = None if base is None else difference(found, base, split)
    return "" if gain is None else f"{gain[0]:+.2f} ± {gain[1]:.2f}"


def line(row: rows.Row, found: Found | None, base: Found | None) -> str:
    """A row of the table."""
    if found is None:
        return f"| {row.title} | `{row.name}` | **not run** | | | | | |"
    stages = found["stages"]
    steps = sum(stage["steps"] for stage in stages)
    load = found["load"]
    busy = not all(stage["time"]["quiet"] for stage in stages)
    cells = [
        row.title,
        f"`{row.name}`",
        f"{steps:,}",
        f"{1e3 * stages[0]['time']['step']:.1f}",
        f"{-found['valid']['mean']:.2f} ± {found['valid']['se']:.2f}",
        gain_text(found, base, "valid"),
        f"{-found['test']['mean']:.2f} ± {found['test']['se']:.2f}",
        gain_text(found, base, "test"),
    ]
    remark = f" (busy: {load['foreign_mean']:.1f} cores)" if load and busy else ""
    return "| " + " | ".join(cells) + remark + " |"


def table(variants: Mapping[str, rows.Row], results: Mapping[str, Found]) -> str:
    """All variants, the base first."""
    head = (
        "| variant | name | steps | ms a step | -log p(x), validation | gain | -log p(x), test | "
        "gain |"
    )
    base = results.get(BASE)
    lines = [line(row, results.get(name), base) for name, row in variants.items()]
    return "\n".join([head, "|---" * 8 + "|", *lines])


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="variants, all, list or table")
    parser.add_argument("--variants", type=Path, default=VARIANTS)
    parser.add_argument("--data", help="in the place of MNIST, as fashion-mnist")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of all variants"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, help="for a trial")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--stop-after", type=float, help="seconds")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "ablation")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ablation")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs")
    options = parser.parse_args(argv)
    is_trial = options.minutes is not None or options.set
    if is_trial and options.out == parser.get_default("out"):
        parser.error(
            "--minutes and --set are for trials: give --out, so that no result is replaced"
        )
    return options


def chosen(options: argparse.Namespace) -> dict[str, rows.Row]:
    """The variants of the command, on its data."""
    variants = rows.read(options.variants)
    names = variants if options.names == ["all"] else options.names
    picked = [rows.pick(variants, name) for name in names]
    if options.data:
        picked = [
            dataclasses.replace(
                row, name=f"{row.name}-{options.data}", data=options.data
            )
            for row in picked
        ]
    common = assignments(options.set)
    return {
        row.name: dataclasses.replace(row, settings={**row.settings, **common})
        for row in picked
    }


def results_in(folder: Path, names: Mapping[str, rows.Row]) -> dict[str, Found]:
    """What was found, by name."""
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in names
        if (folder / f"{name}.json").is_file()
    }


def run_all(options: argparse.Namespace) -> None:
    """Do the variants of the command, one after another."""
    work = jobs.Work(
        options.work,
        options.out / "step-times.json",
        options.device,
        options.busy,
        options.minutes,
    )
    for name, row in chosen(options).items():
        path = options.out / f"{name}.json"
        if path.is_file():
            continue
        found = variant(row, options.seed, work, options.k, options.images)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(found) + "\n")
        base = results_in(options.out, {BASE: row}).get(BASE)
        print(line(row, found, base), flush=True)


def do(options: argparse.Namespace) -> None:
    """The variants, the list or the table of the command."""
    if options.names not in (["table"], ["list"]):
        with jobs.interrupted_after(options.stop_after):
            run_all(options)
        return
    variants = rows.read(options.variants)
    text = table(variants, results_in(options.out, variants))
    if options.names == ["list"]:
        print(text)
        return
    from matrix import between

    path = options.docs / "results.md"
    write_atomic(path, between(path.read_text(encoding="utf-8"), MARK, text))


def main(argv: list[str] | None = None) -> int:
    return jobs.exit_status(do, parsed(argv))


if __name__ == "__main__":
    sys.exit(main())
