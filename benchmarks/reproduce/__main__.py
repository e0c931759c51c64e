"""Train and evaluate a row of the table of published results, or write the table.

    make reproduce ROW=list                the rows, and how far each is
    make reproduce ROW=NAME                train and evaluate it, all seeds; goes on where it was
    make reproduce ROW=table               the table and the figure of docs/results.md
    python benchmarks/reproduce NAME --seed 1 --stop-after 240

A command that was killed, at any moment, is given again. Training takes as many steps as the row's
minutes hold on a quiet machine (`step_time.py`), so a busy machine makes it longer and not other;
the load that was seen stands beside the figure. The exit status is 3 where work is left.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCHMARKS))

from reproduce import jobs, rows, tables  # noqa: E402
from tightbound.runtime.atomic_files import write_atomic  # noqa: E402

ROOT = BENCHMARKS.parent


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", help="a row by its name, list, or table")
    parser.add_argument("--rows", type=Path, default=rows.ROWS, help="file of the rows")
    parser.add_argument("--seed", type=int, help="this seed only")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--stop-after", type=float, help="seconds, after which the state is saved"
    )
    parser.add_argument(
        "--busy", action="store_true", help="measure step times beside other programs"
    )
    parser.add_argument(
        "--minutes", type=float, help="for a trial: in the place of those of the row"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "reproduce")
    parser.add_argument(
        "--out", type=Path, default=BENCHMARKS / "results" / "reproduce"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options = parser.parse_args(argv)
    if options.minutes is not None and options.out == parser.get_default("out"):
        parser.error(
            "--minutes is for trials: give --out, so that no result is replaced"
        )
    return options


def main(argv: list[str] | None = None) -> int:
    return jobs.exit_status(do, parsed(argv))


def do(options: argparse.Namespace) -> None:
    """The row, the list or the table of the command."""
    table = rows.read(options.rows)
    if options.row == "list":
        print(tables.progress(table, options.out))
    elif options.row == "table":
        tables.write(table, options.out, options.docs)
    else:
        with jobs.interrupted_after(options.stop_after):
            reproduce(rows.pick(table, options.row), options)


def reproduce(row: rows.Row, options: argparse.Namespace) -> None:
    """Train and evaluate the seeds of a row, and keep each result when it is there."""
    work = jobs.Work(
        options.work,
        options.out / "step-times.json",
        options.device,
        options.busy,
        options.minutes,
    )
    seeds = row.seeds if options.seed is None else (options.seed,)
    suffix = "" if options.device == "cpu" else f"-{options.device}"
    path = options.out / f"{row.name}{suffix}.json"
    for seed in seeds:
        found = jobs.run(row, seed, work)
        kept = tables.result(path) or {"row": row.name, "runs": {}}
        kept["runs"][str(seed)] = found
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(kept, indent=1) + "\n")
        print(f"{row.name}, seed {seed}: {tables.figure_text(row, found)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
