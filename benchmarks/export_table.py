"""Every recipe as ONNX graphs: the worst relative difference from torch, or why it is refused.

    python benchmarks/export_table.py [--only vae hvae] [--again] [--write-docs]

Each recipe is an untrained model with narrow networks and all weights moved from where they start,
on the data that it is for, as in tests/exporting; `tb.export` compares onnxruntime with torch on
batches of 1 and 7. Results are kept in benchmarks/results/export.json, and a recipe that is there
is not measured again without --again. With --write-docs the table of all recipes replaces that of
docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

import tightbound as tb
from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
RESULTS = ROOT / "benchmarks" / "results" / "export.json"
HEAD = ["recipe", "files", "worst difference, or the reason", "of output"]


class Result(TypedDict):
    """What came of one recipe: the files and the worst difference, or the reason."""

    files: list[str]
    worst: float | None
    output: str
    refused: str


def measure(name: str, folder: Path) -> Result:
    """Export an untrained model of one recipe."""
    from exports import tiny_run

    run = tiny_run(folder / name, name)
    try:
        exported = tb.export(run, out=folder / f"{name}-onnx")
    except tb.TightboundError as error:
        return {"files": [], "worst": None, "output": "", "refused": str(error)}
    worst = max(exported.differences, key=lambda key: exported.differences[key])
    files = [file.removesuffix(".onnx") for file in exported.files if ".onnx" in file]
    return {
        "files": sorted(files),
        "worst": exported.worst_difference,
        "output": worst,
        "refused": "",
    }


def row(name: str, result: Result) -> str:
    """One row of the table."""
    if result["worst"] is None:
        return line([f"`{name}`", "", result["refused"], ""])
    files = ", ".join(result["files"])
    output = f"`{result['output']}`"
    return line([f"`{name}`", files, f"{result['worst']:.1e}", output])


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write_docs(results: dict[str, Result]) -> None:
    """Replace the table of docs/results.md; ends with a sentence where a recipe is missing."""
    missing = [name for name in RECIPES if name not in results]
    if missing:
        sys.exit(f"not measured yet: {', '.join(missing)}")
    rows = [row(name, results[name]) for name in RECIPES]
    lines = [line(HEAD), "|---" * len(HEAD) + "|", *rows]
    text = PAGE.read_text(encoding="utf-8")
    table = re.compile(rf"^{re.escape(lines[0])}\n(?:\|.*\n)+", re.M)
    new, count = table.subn(lambda _: "\n".join(lines) + "\n", text)
    if count != 1:
        sys.exit(f"{PAGE} has {count} tables that begin with {lines[0]}")
    PAGE.write_text(new, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    results: dict[str, Result] = {}
    if RESULTS.is_file():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name in options.only:
        if name in results and not options.again:
            continue
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, Path(folder))
        seconds = time.process_time() - start
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{row(name, results[name])} {seconds:.0f} s of processor", flush=True)
    differences = [result["worst"] for result in results.values()]
    worst = max((value for value in differences if value is not None), default=0.0)
    refused = differences.count(None)
    print(f"{len(results)} recipes, {refused} refused, worst difference {worst:.1e}")
    if options.write_docs:
        write_docs(results)


if __name__ == "__main__":
    main()
