"""The matrix: every recipe on digits, colour patches and wine, 200 steps each; and 2,000 steps at
three learning rates.

    make matrix                                             every pair and every long job
    python benchmarks/matrix.py --minutes 3 --jobs 2
        as far as three minutes go; the next call goes on
    python benchmarks/matrix.py --only vae iwae --again     these recipes anew
    python benchmarks/matrix.py --stability                 the long jobs instead
    python benchmarks/matrix.py --write-references          what was found becomes the reference
    python benchmarks/matrix.py --write-docs
        the tables of docs/results.md, pictures of the recipes

Each pair is a job with a file of its own under build/matrix, so that a killed call goes on where it
was; a job is done again when its recipe has changed. A pair must beat the best per-pixel constant
on held-out data and stay within 5 % of its reference (benchmarks/results/matrix.json). The exit
status is 1 where one does not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

import pairs  # noqa: E402

from tightbound.models.recipes import RECIPES  # noqa: E402
from tightbound.runtime.atomic_files import write_atomic  # noqa: E402

REFERENCES = ROOT / "benchmarks" / "results" / "matrix.json"
STABILITY = ROOT / "benchmarks" / "results" / "stability.json"
RESULTS, PICTURES = ROOT / "docs" / "results.md", ROOT / "docs" / "images" / "recipes"
SETS, OTHERS = ("digits", "photos", "wine"), ("counts", "table")
NEAR, LEAST = (
    0.05,
    0.02,
)  # of the reference; but never less than this many nats a dimension
FAMILIES = (
    "vae",
    "ae",
    "iwae",
    "factor-vae",
    "wae-mmd",
    "hvae",
    "iwae-2",
    "nvae",
    "vae-full",
    "vae-iaf",
    "flow-prior",
    "vamp",
    "svae",
    "poincare",
    "categorical-vae",
    "vq-vae",
    "fsq",
    "sigma-vae",
    "vae-colour",
)
Found = dict[str, Any]
Job = tuple[Any, ...]


def jobs(stability: bool, only: Sequence[str], sets: Sequence[str]) -> list[Job]:
    """The jobs in order; a recipe that no set fits is also tried on counts and on a table."""
    names = [name for name in RECIPES if not only or name in only]
    if not stability:
        return [
            ("short", name, data)
            for name in names
            for data in (*SETS, *OTHERS)
            if data in sets
        ]
    table = [
        ("long", name, data, lr)
        for name in names
        for data in ("digits", "wine", *OTHERS)
        for lr in pairs.RATES
    ]
    photos = [("long", name, "photos", 1e-3) for name in names if name in FAMILIES]
    return [job for job in photos + table if job[2] in sets]


def key(job: Job) -> str:
    """A name for the job's file that changes with the recipe."""
    recipe = RECIPES[job[1]].model_dump_json(
        exclude={"purpose", "paper"}, exclude_defaults=True
    )
    return hashlib.sha256(f"{recipe} {job}".encode()).hexdigest()[:12]


def place(work: Path, job: Job) -> Path:
    return (
        work / job[0] / ("-".join(str(part) for part in job[1:]) + f"-{key(job)}.json")
    )


def held(work: Path, job: Job) -> Found | None:
    """The result of a job that was done."""
    path = place(work, job)
    return json.loads(path.read_text()) if path.is_file() else None


def wanted(work: Path, job: Job) -> bool:
    """Whether a job is of use: counts and the table only for recipes that the digits and the wine
    were refused to.
    """
    if job[2] not in OTHERS:
        return True
    others = [
        held(work, (job[0], job[1], data, *job[3:])) for data in ("digits", "wine")
    ]
    return all(found is not None and found["status"] == "refused" for found in others)


def run(work: Path, every: list[Job], count: int, seconds: float) -> None:
    """Does what is not done, `count` at a time; after `seconds`, nothing new is begun."""
    until = time.monotonic() + seconds
    last = [job for job in every if job[2] in OTHERS]
    with ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for some in ([job for job in every if job[2] not in OTHERS], last):
            left = iter(
                [job for job in some if held(work, job) is None and wanted(work, job)]
            )
            _do(pool, work, left, count, until)


def _do(
    pool: ProcessPoolExecutor, work: Path, left: Iterator[Job], count: int, until: float
) -> None:
    running: dict[Future[Found], Job] = {}
    while True:
        while (
            len(running) < count
            and time.monotonic() < until
            and (job := next(left, None)) is not None
        ):
            running[pool.submit(pairs.job, job, work)] = job
        if not running:
            return
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(done)
            path = place(work, job)
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {"job": list(job)} | done.result()
            write_atomic(path, json.dumps(found, indent=1))
            print(f"{' '.join(map(str, job))}: {said(found)}", flush=True)


def said(found: Found) -> str:
    """One line about a result."""
    if found["status"] != "ok":
        return f"{found['status']}: {found['sentence']}"
    if "finite" in found:
        return (
            f"{'finite' if found['finite'] else 'NOT FINITE'}, {found['left_out']} "
            f"left out, {found['seconds']} s"
        )
    return f"{found['value']:.2f} against {best(found):.2f}, {found['seconds']} s"


def best(found: Found) -> float:
    """The better of the constants."""
    return max(found["constants"].values())


def faults(found: Found, reference: Found | None) -> list[str]:
    """What is wrong with the result of a pair."""
    if found["status"] == "refused":
        known = reference is None or reference["status"] == "refused"
        return [] if known else ["was not refused before"]
    if found["status"] == "failed":
        return [found["sentence"]]
    if "finite" in found:
        return (
            []
            if found["finite"]
            else [
                f"{found['not_finite']} losses not finite, the first at {found['first']}"
            ]
        )
    wrong = [] if found["value"] > best(found) else ["does not beat the constant"]
    if reference is not None and reference["status"] == "ok":
        off = abs(found["value"] - reference["value"])
        if off > max(NEAR * abs(reference["value"]), LEAST * found["dims"]):
            wrong.append(
                f"{found['value']:.2f} is not within 5 % of the reference {reference['value']:.2f}"
            )
    return wrong


# ---- what is kept


def references() -> dict[str, Found]:
    """{"recipe on data": result}"""
    return json.loads(REFERENCES.read_text()) if REFERENCES.is_file() else {}


def named(job: Job) -> str:
    return f"{job[1]} on {job[2]}" + (f" at {job[3]:g}" if len(job) > 3 else "")


def keep(path: Path, work: Path, every: list[Job]) -> None:
    """Writes the results to the repository, over those of the same jobs; recipes that are
    gone go.
    """
    kept = json.loads(path.read_text()) if path.is_file() else {}
    for job in every:
        if (found := held(work, job)) is not None:
            kept[named(job)] = {k: v for k, v in found.items() if k != "job"}
    names = [named(job) for job in jobs(path == STABILITY, (), (*SETS, *OTHERS))]
    ordered = {name: kept[name] for name in names if name in kept}
    write_atomic(path, json.dumps(ordered, indent=1) + "\n")


def cell(found: Found | None) -> str:
    """A pair in the table: value (constant), and the bound where it is not what is measured."""
    if found is None:
        return "not run"
    if found["status"] == "ok":
        aside = found["elbo"] if found["measure"] != "log p(x)" else None
        return f"{found['value']:.1f} ({best(found):.1f})" + (
            "" if aside is None else f"; bound {aside:.1f}"
        )
    return found["status"]


def matrix_table(kept: dict[str, Found]) -> str:
    """One row a recipe, one column a set; what was refused, with its sentence, below."""
    sets = (*SETS, *OTHERS)
    lines = [
        f"| recipe | measure | {' | '.join(sets)} |",
        "|---" * (len(sets) + 2) + "|",
    ]
    refused: dict[str, list[str]] = {}
    for name in RECIPES:
        row = {data: kept.get(f"{name} on {data}") for data in sets}
        measure = next(
            (
                found["measure"]
                for found in row.values()
                if found and found["status"] == "ok"
            ),
            "",
        )
        cells = [
            cell(found) if found or data in SETS else "" for data, found in row.items()
        ]
        lines.append(
            f"| {name} | {measure.replace('|', chr(92) + '|')} | {' | '.join(cells)} |"
        )
        for data, found in row.items():
            if found and found["status"] != "ok":
                refused.setdefault(
                    f"{found['status']}: {found['sentence']}", []
                ).append(f"{name} on {data}")
    notes = [
        f"- {', '.join(pairs_)}: {sentence}" for sentence, pairs_ in refused.items()
    ]
    return "\n".join([*lines, "", *notes])


def stability_table(kept: dict[str, Found]) -> str:
    """Which long jobs were run and how they went, a row a recipe, a column a set."""
    sets = ("digits", "wine", *OTHERS, "photos")
    lines = [f"| recipe | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    for name in RECIPES:
        cells = []
        for data in sets:
            rates = [r for r in pairs.RATES if f"{name} on {data} at {r:g}" in kept]
            some = [kept[f"{name} on {data} at {r:g}"] for r in rates]
            cells.append(
                "; ".join(dict.fromkeys(_health(found) for found in some))
                if some
                else ""
            )
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _health(found: Found) -> str:
    if found["status"] != "ok":
        return found["status"]
    return "finite" if found["finite"] else f"{found['not_finite']} not finite"


def between(text: str, mark: str, new: str) -> str:
    """Text with what stands between two marks replaced."""
    start, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if start not in text:
        raise SystemExit(f"docs/results.md has no mark {start}")
    return re.sub(
        f"{re.escape(start)}.*?{re.escape(end)}",
        lambda _: f"{start}\n{new}\n{end}",
        text,
        flags=re.DOTALL,
    )


def write_docs(work: Path) -> None:
    """The tables of docs/results.md, from the files in the repository, and the pictures that the
    jobs made.
    """
    text = RESULTS.read_text(encoding="utf-8")
    text = between(text, "matrix", matrix_table(references()))
    if STABILITY.is_file():
        text = between(
            text, "stability", stability_table(json.loads(STABILITY.read_text()))
        )
    RESULTS.write_text(text, encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in RECIPES:
        if (picture := work / f"{name}.png").is_file():
            shutil.copyfile(picture, PICTURES / f"{name}.png")


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "matrix",
        help="where the jobs' files are",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--minutes", type=float, default=1e6, help="after so many, nothing new is begun"
    )
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help="recipes",
        choices=list(RECIPES),
        metavar="RECIPE",
    )
    parser.add_argument(
        "--data", nargs="*", default=[*SETS, *OTHERS], choices=[*SETS, *OTHERS]
    )
    parser.add_argument(
        "--again", action="store_true", help="forget what was found of these jobs"
    )
    parser.add_argument(
        "--stability", action="store_true", help="2,000 steps at three learning rates"
    )
    parser.add_argument(
        "--write-references",
        action="store_true",
        help="run nothing, keep what was found",
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="run nothing, write tables and pictures",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parsed(argv)
    every = jobs(args.stability, args.only, args.data)
    if args.write_references:
        keep(STABILITY if args.stability else REFERENCES, args.work, every)
    if args.write_docs:
        write_docs(args.work)
    if args.write_references or args.write_docs:
        return 0
    if args.again:
        for job in every:
            place(args.work, job).unlink(missing_ok=True)
    run(args.work, every, args.jobs, 60 * args.minutes)
    return verdict(args.work, every)


def verdict(work: Path, every: list[Job]) -> int:
    """Says what is wrong and what is left; 1 where something is wrong."""
    known, wrong = references(), 0
    for job in every:
        found = held(work, job)
        for fault in faults(found, known.get(named(job))) if found else []:
            print(f"WRONG {named(job)}: {fault}")
            wrong += 1
    done = [found for job in every if (found := held(work, job)) is not None]
    left = sum(1 for job in every if held(work, job) is None and wanted(work, job))
    refused = sum(found["status"] == "refused" for found in done)
    print(
        f"{len(done)} jobs done, {refused} of them refused, {left} left, {wrong} faults"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
