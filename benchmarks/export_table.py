"""Every recipe as ONNX graphs: the worst relative difference from torch, or why it is refused.

    python benchmarks/export_table.py [--only vae hvae] [--write-docs]

Each recipe is an untrained model with narrow networks and all weights moved from where they start,
on the data that it is for, as in tests/exporting; `tb.export` compares onnxruntime with torch on
batches of 1 and 7. With --write-docs the table replaces that of docs/results.md.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import tightbound as tb
from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
HEAD = ["recipe", "files", "worst difference, or the reason", "of output"]


def row(name: str, folder: Path) -> list[str]:
    """One row of the table."""
    from exports import tiny_run

    run = tiny_run(folder / name, name)
    try:
        exported = tb.export(run, out=folder / f"{name}-onnx")
    except tb.TightboundError as error:
        return [f"`{name}`", "", str(error), ""]
    worst = max(exported.differences, key=lambda key: exported.differences[key])
    files = [file.removesuffix(".onnx") for file in exported.files if ".onnx" in file]
    return [
        f"`{name}`",
        ", ".join(sorted(files)),
        f"{exported.worst_difference:.1e}",
        f"`{worst}`",
    ]


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    lines = [line(HEAD), "|---" * len(HEAD) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            start = time.perf_counter()
            lines.append(line(row(name, Path(folder))))
            seconds = time.perf_counter() - start
            print(f"{lines[-1]} {seconds:.0f} s", flush=True)
    if options.write_docs:
        text = PAGE.read_text(encoding="utf-8")
        table = re.compile(rf"^{re.escape(lines[0])}\n(?:\|.*\n)+", re.M)
        new, count = table.subn(lambda _: "\n".join(lines) + "\n", text)
        if count != 1:
            sys.exit(f"{PAGE} has {count} tables that begin with {lines[0]}")
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
