"""Steps with memory kept between them, and given back as the C library does by itself: processor
time, faults, peak.

    python benchmarks/kept_memory.py --rounds 3 --out benchmarks/results/kept-memory.json [--only
      vae-mnist]

Each measurement is a process of its own with one thread, the two ways in turn; what is counted is
the processor time of its steps, so that other programs matter little.  `GLIBC_TUNABLES=` (set,
though to nothing) is how a user turns it off.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine

if TYPE_CHECKING:
    from tightbound.config import Config
    from tightbound.data import Data

MNIST, PHOTOS = {"source": "mnist"}, {"source": "photos"}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {  # recipe, settings, steps
    "vae-mnist": ("vae", MNIST, 60),
    "vae-conv-photos": ("vae", PHOTOS | {"recipe.network": "conv"}, 15),
    "vae-colour": ("vae-colour", PHOTOS, 6),
    "nvae-photos": ("nvae", PHOTOS | {"recipe.size": "s", "train.batch": 32}, 6),
    "iwae-mnist, K = 50": ("iwae", MNIST | {"recipe.k": 50}, 4),
    "iwae-photos, K = 50": (
        "iwae",
        PHOTOS | {"recipe.k": 50, "train.batch": 32, "recipe.size": "s"},
        2,
    ),
}


def settled(recipe: str, changes: dict[str, Any], folder: Path) -> tuple[Config, Data]:
    """The settings of a case without "auto", and its data."""
    import pairs

    from tightbound import data as data_room
    from tightbound.config import configure
    from tightbound.training import budget
    from tightbound.training.run_training import settle, with_required_data

    values = {
        "train.precision": "float32",
        "train.compile": "off",
        "device": "cpu",
        "train.steps": 1000,
        **changes,
    }
    name = values.pop("source")
    source = name if name == "mnist" else pairs.source_of(name, folder, 32)
    config = with_required_data(configure("", recipe, values=values))
    data = data_room.load(source, config.data, seed=config.seed)
    config, _ = settle(config, data)
    train = budget.resolve(config.train, len(data.train), 1000)
    return config.model_copy(update={"spec": data.spec, "train": train}), data


def child(case: str) -> None:
    """Steps of one case in this process, after three that are not counted."""
    import torch

    from tightbound.core.draw import Clock
    from tightbound.runtime.memory import kept_memory
    from tightbound.training.console import Quiet
    from tightbound.training.run_training import assemble_step
    from tightbound.training.trainer import Trainer

    torch.set_num_threads(1)
    recipe, changes, steps = CASES[case]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config, data = settled(recipe, changes, Path(folder))
        stack.enter_context(kept_memory())
        trainer = Trainer(
            assemble_step(config, torch.device("cpu")),
            config,
            data,
            Path(folder),
            Quiet(),
        )
        trainer.model.train()
        for step in range(3):
            trainer.train_step(Clock(step / 1000))
        before = resource.getrusage(resource.RUSAGE_SELF)
        for step in range(3, 3 + steps):
            trainer.train_step(Clock(step / 1000))
        after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = (after.ru_minflt - before.ru_minflt) / steps
    print(
        json.dumps(
            {
                "ms": 1000 * seconds / steps,
                "faults": faults,
                "peak": after.ru_maxrss / 1024,
            }
        )
    )


def measured(case: str, kept: bool) -> dict[str, float]:
    environment = os.environ | ({} if kept else {"GLIBC_TUNABLES": ""})
    words = [sys.executable, __file__, "--child", case]
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument(
        "--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    report: dict[str, Any] = {**machine.describe(1), "cases": []}
    for case in args.only:
        rounds = [
            (measured(case, kept=False), measured(case, kept=True))
            for _ in range(args.rounds)
        ]
        ratios = [off["ms"] / on["ms"] for off, on in rounds]
        middle = {
            way: {
                key: statistics.median(pair[i][key] for pair in rounds)
                for key in ("ms", "faults", "peak")
            }
            for i, way in enumerate(("given back", "kept"))
        }
        row = {
            "case": case,
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            **middle,
        }
        report["cases"].append(row)
        a, b = middle["given back"], middle["kept"]
        print(
            f"{case}: {a['ms']:.0f} to {b['ms']:.0f} ms a step, "
            f"{row['ratio']:.2f} times ({row['least']:.2f} to "
            f"{row['most']:.2f}), {a['faults']:.0f} to {b['faults']:.0f} "
            f"faults, peak {a['peak']:.0f} to "
            f"{b['peak']:.0f} MiB",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
