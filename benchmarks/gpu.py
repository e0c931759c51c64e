"""The table of a GPU in under nine minutes: training speed, the share of its matrix rate, and
seconds to known nats.

    python benchmarks/gpu.py --out gpu.json
        on a machine with a GPU; pythae too where `make bench-env` was run
    python benchmarks/gpu.py --dry
        tiny sizes on the CPU: shows that the script works

The share is the operations of a step's layers, forward and backward, over what a product of two
square matrices of bf16 reaches on the same card. Nats are log p(x) of dynamically binarised MNIST,
K = 1000, on 2,000 test images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import goals
import harness
import machine
import pictures
import speed
import torch
from networks import Plain
from reach import reach
from torch.utils.flop_counter import FlopCounterMode

CASES = [
    ("burda", 100),
    ("wide", 1000),
    ("residual", 128),
    ("ladder", 128),
    ("wide", 8192),
]
NAMES = [
    "pythae",
    "hand-float32",
    "hand-bf16-compiled",
    "tightbound",
    "products-float32",
    "products-bf16",
]
NATS: list[tuple[float, str, str, dict[str, Any]]] = [
    (86.8, "vae", "45s", {}),
    (84.5, "vae", "90s", {"recipe.size": "l"}),
    (80.0, "hvae", "90s", {"network": "conv", "recipe.size": "l", "latent": [40, 40]}),
]


def matrix_rate(dtype: torch.dtype, side: int, seconds: float = 1.0) -> float:
    """Operations per second of square products of this side, on the GPU where there is one."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(side, side, device=where, dtype=dtype) for _ in range(2))
    out, done = torch.empty_like(a), 0
    for _ in range(3):
        torch.mm(a, b, out=out)
    _wait()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            torch.mm(a, b, out=out)
        _wait()
        done += 10
    return 2 * side**3 * done / (time.perf_counter() - start)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def flops(network: str) -> float:
    """Operations of the layers of one example, forward and backward."""
    model = Plain(network)
    with FlopCounterMode(display=False) as counter:
        model.loss(
            torch.rand(8, 1, 28, 28), torch.randn(8, sum(model.latents))
        ).backward()
    return counter.get_total_flops() / 8


def table(
    args: argparse.Namespace, rates: dict[str, float], deadline: float
) -> list[dict[str, Any]]:
    """The cases, as many as there is time for."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        files, _ = pictures.write(
            Path(folder), 2000 if args.dry else 50_000, real=not args.dry
        )
        for network, batch in CASES[:1] if args.dry else CASES:
            case: dict[str, Any] = {"network": network, "batch": batch, "missing": {}}
            found.append(case)
            if time.perf_counter() > deadline:
                case["missing"] = dict.fromkeys(args.only, "there was no time left")
                continue
            made, missing = speed.variants(
                network,
                batch,
                files[goals.likelihood(network)],
                args.only,
                args.threads,
            )
            rounds, failed = harness.compete(
                made,
                args.rounds,
                args.window,
                print,
                tries=1,
                together=(os.cpu_count() or 1) >= 8,
            )
            case["missing"] = missing | failed
            base = "pythae" if "pythae" in rounds[0] else "hand-float32"
            case |= harness.record(rounds, base)
            case["share"] = {
                name: spread.median * flops(network) / rates["bf16"]
                for name, spread in harness.rates(rounds).items()
            }
            print(f"{network}, batch {batch}\n{harness.table(rounds, base, 'images')}")
            print(
                "share of the bf16 matrix rate:",
                {n: f"{100 * s:.1f} %" for n, s in case["share"].items()},
            )
    return found


def nats(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds until log p(x) on test images is a known figure; a goal that is not reached says how
    far it came.
    """
    import tightbound as tb

    source, listed = ("mnist", NATS)
    if args.dry:
        source, listed = (
            "digits",
            [
                (
                    1000.0,
                    "vae",
                    "",
                    {"recipe.size": "s", "train.steps": 20, "validate_every": 10},
                )
            ],
        )

    def judge(run: Any) -> tuple[float, float]:
        figure = tb.evaluate(run, k=50 if args.dry else 1000, limit=2000).terms[
            "log_px"
        ]
        return figure.mean, figure.se

    found = []
    for target, recipe, budget, settings in listed:
        wanted = {"data.binarize": "dynamic", "train.validate_n": 2000, **settings}
        extra = {"budget": budget} if budget else {}
        curve = reach(
            source,
            "log_px",
            -target,
            judge,
            recipe=recipe,
            settings=wanted,
            device=args.device,
            **extra,
        )
        found.append(
            {"nats": target, "recipe": recipe, "settings": settings, "curve": curve}
        )
        last = curve[-1]
        word = "reached" if last["value"] >= -target else "not reached"
        print(
            (
                f"{target} nats with {recipe}: {word}, {-last['value']:.2f} after "
                f"{last['seconds']:.0f} s"
            ),
            flush=True,
        )
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    args = parser.parse_args(argv)
    assert args.dry or torch.cuda.is_available(), (
        "there is no GPU here: --dry runs tiny sizes on the CPU"
    )
    start = time.perf_counter()
    args.device, args.threads = ("cpu", 1) if args.dry else ("cuda", 4)
    args.rounds, args.window, args.only = (
        (1, 0.1, ["hand-float32", "products-float32"]) if args.dry else (3, 0.4, NAMES)
    )
    rates = {
        word: matrix_rate(dtype, 256 if args.dry else 8192, 0.1 if args.dry else 1.0)
        for word, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))
    }
    found: dict[str, Any] = {
        **machine.describe(args.threads),
        "dry": args.dry,
        "matrix_rates": rates,
    }
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(
        machine.line(found),
        found["gpu"],
        {word: f"{r / 1e12:.2f} TFLOP/s" for word, r in rates.items()},
    )
    # the goals in nats have their budgets; what they leave is for the table
    kept = 0.0 if args.dry else 60 * args.minutes - 260
    found["cases"] = table(args, rates, start + (1e9 if args.dry else kept))
    found["nats"] = nats(args)
    found["seconds"] = time.perf_counter() - start
    print(f"all in {found['seconds']:.0f} s")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
