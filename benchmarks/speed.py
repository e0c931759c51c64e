"""Training speed side by side: this package through `tb.train`, pythae, Lightning, loops by hand,
matrix products.

    python benchmarks/speed.py --out speed.json --chart speed.png
        the table of docs/speed.md; some 20 minutes
    python benchmarks/speed.py --quick
        under a minute, without the peers
    python benchmarks/speed.py --networks burda --batches 100 1000 --only pythae tightbound
    python benchmarks/speed.py --markdown speed.json
        a finished file as the table of goals

Peers live in an environment of their own: `make bench-env`. `tightbound bench` runs this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import goals
import harness
import machine
import pictures
from harness import HERE, Remote

PEERS = HERE / ".venv" / "bin" / "python"
CASES = [
    ("burda", 100),
    ("wide", 128),
    ("burda", 1000),
    ("wide", 1000),
    ("strided", 128),
    ("residual", 128),
]
CASES += [("ladder", 128)]
SPEEDS = {"precision": ("float32", "bfloat16"), "compile": ("off", "on")}


def _ours() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"tightbound": {"run": "tightbound"}}
    for precision, word in (("float32", "float32"), ("bfloat16", "bf16")):
        for switch, ending in (("off", ""), ("on", "-compiled")):
            settings = {"train.precision": precision, "train.compile": switch}
            found[f"tightbound-{word}{ending}"] = {
                "run": "tightbound",
                "settings": settings,
            }
    return found


def _by_hand() -> dict[str, dict[str, Any]]:
    return {
        f"hand-{word}{'-compiled' if compiled else ''}": {
            "run": "hand",
            "precision": word,
            "compile": compiled,
        }
        for word in ("float32", "bf16")
        for compiled in (False, True)
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "pythae": {"run": "pythae", "peer": True},
    "loader": {"run": "loader"},
    "lightning": {"run": "lightning", "peer": True},
    **_by_hand(),
    **_ours(),
    "products-float32": {"run": "products", "precision": "float32"},
    "products-bf16": {"run": "products", "precision": "bf16"},
}
QUICK = ["hand-float32", "tightbound", "products-float32"]


def unavailable(spec: dict[str, Any]) -> str | None:
    """Why a variant cannot run here, where that is known before it starts."""
    if spec.get("peer") and not PEERS.exists():
        return "it needs the peers' environment: make bench-env"
    from tightbound.config import TrainSettings

    unknown = [
        key
        for key in spec.get("settings", {})
        if key.split(".")[1] not in TrainSettings.model_fields
    ]
    return f"this tightbound has no {unknown[0]}" if unknown else None


def variants(
    network: str,
    batch: int,
    data: str,
    names: list[str],
    threads: int,
    clock: str = "seconds",
) -> tuple[list[Remote], dict[str, str]]:
    """The variants of a case, and those that cannot run, with the reason."""
    made, missing = [], {}
    for name in names:
        spec = VARIANTS[name]
        if why := unavailable(spec):
            missing[name] = why
            continue
        python = str(PEERS) if spec.get("peer") else sys.executable
        made.append(
            Remote(
                name,
                {**spec, "network": network, "batch": batch, "data": data},
                python,
                threads,
                clock,
            )
        )
    return made, missing


def measure(args: argparse.Namespace, say: Any) -> dict[str, Any]:
    """Every case in turn; what is done is written to --out after each, so that an interruption
    loses one case.
    """
    found: dict[str, Any] = {
        **machine.describe(args.threads),
        "window": args.window,
        "clock": args.clock,
        "cases": [],
    }
    if args.more and args.out.exists():
        found["cases"] = json.loads(args.out.read_text())["cases"]
    if PEERS.exists():
        found["peers"] = machine.versions(str(PEERS))
    say(machine.line(found))
    with tempfile.TemporaryDirectory() as folder:
        files, found["data"] = pictures.write(
            Path(folder), args.examples, real=not args.quick
        )
        for network, batch in args.cases:
            data = files[goals.likelihood(network)]
            made, missing = variants(
                network, batch, data, args.only, args.threads, args.clock
            )
            say(f"\n{network}, batch {batch}")
            rounds, failed = harness.compete(
                made, args.rounds, args.window, say, tries=args.tries
            )
            case = {
                "network": network,
                "batch": batch,
                "when": time.strftime("%Y-%m-%d %H:%M"),
                "commit": found["commit"],
            }
            case["missing"] = missing | failed
            if rounds:
                base = "pythae" if "pythae" in rounds[0] else next(iter(rounds[0]))
                case |= harness.record(rounds, base)
                say(
                    harness.table(rounds, base, "images")
                    + "\n"
                    + harness.quietness(case["load"])
                )
            for name, why in case["missing"].items():
                say(f"not measured: {name} ({why})")
            found["cases"] = [
                c
                for c in found["cases"]
                if (c["network"], c["batch"]) != (network, batch)
            ] + [case]
            if args.out:
                args.out.write_text(json.dumps(found, indent=1) + "\n")
    return found


def parser_of_options() -> argparse.ArgumentParser:
    """The options, of which `parsed` fills in those that depend on others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=VARIANTS,
        metavar="VARIANT",
        help=", ".join(VARIANTS),
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=goals.NETWORKS,
        help="with --batches: these cases only",
    )
    parser.add_argument(
        "--batches", nargs="+", type=int, help="100, 128 or 1000, or any other"
    )
    _add_measurement(parser)
    parser.add_argument("--out", type=Path, help="write all windows and ratios as JSON")
    parser.add_argument(
        "--more",
        action="store_true",
        help="keep the cases that --out has, but for those measured now",
    )
    parser.add_argument("--chart", type=Path, help="write a chart as PNG")
    parser.add_argument(
        "--markdown",
        type=Path,
        help="print a finished JSON as the table of goals and stop",
    )
    return parser


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    """Options of how each variant is measured."""
    parser.add_argument(
        "--rounds", type=int, help=f"windows of each variant; {harness.ROUNDS}"
    )
    parser.add_argument(
        "--window", type=float, default=harness.WINDOW, help="least seconds of a window"
    )
    parser.add_argument(
        "--tries",
        type=int,
        help=f"of a window while others use the machine; {harness.TRIES}",
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of each variant; all cores"
    )
    parser.add_argument(
        "--clock",
        choices=("seconds", "cpu"),
        default="seconds",
        help="of the wall, or of the processor (one thread)",
    )
    parser.add_argument("--examples", type=int, help="size of the data set; 50,000")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one small case without peers, under a minute",
    )


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    args = parser_of_options().parse_args(argv)
    args.only = args.only or (QUICK if args.quick else list(VARIANTS))
    args.rounds = args.rounds or (3 if args.quick else harness.ROUNDS)
    args.tries = args.tries or (1 if args.quick else harness.TRIES)
    args.examples = args.examples or (2000 if args.quick else 50_000)
    networks, batches = args.networks, args.batches
    args.cases = [("burda", 100)] if args.quick else CASES
    if networks or batches:
        args.cases = [
            (n, b)
            for n in networks or goals.NETWORKS
            for b in batches or (100, 128, 1000)
        ]
    return args


def main() -> None:
    args = parsed()
    if args.markdown:
        print(goals.markdown(json.loads(args.markdown.read_text())))
        return
    found = measure(args, lambda line: print(line, flush=True))
    print("\n" + goals.markdown(found))
    if args.chart:
        import charts

        charts.ratios(found, args.chart)


if __name__ == "__main__":
    main()
