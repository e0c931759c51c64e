"""The size of a file beside the model's own ELBO, for recipes of every kind that can be coded.

    TIGHTBOUND_DATA=... python benchmarks/compress_recipes.py --out runs/compress-recipes
    python benchmarks/compress_recipes.py --out runs/compress-recipes --only vae hvae

Each model is trained for a few steps, which the comparison does not depend on. Its test examples
are compressed, decoded and compared, and their ELBO is estimated with K draws. The difference is
given in percent without the bits that the messages begin with, and with everything. Results stand
in OUT/results.json; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from compress import SETS, line, source_of

import tightbound as tb
from tightbound import compression
from tightbound.data import Split
from tightbound.runs.inputs import read_split

BINARY: dict[str, object] = {"data.binarize": "dynamic"}
MIXTURE: dict[str, object] = {"likelihood": "logistic-mixture"}
LIMIT = 0.5  # percent


@dataclass(frozen=True)
class Job:
    """A recipe, its data, how many examples are compressed, and steps of training."""

    recipe: str
    data: str
    n: int
    steps: int = 300
    settings: Mapping[str, object] = field(default_factory=dict)
    precision: Mapping[str, float] = field(default_factory=dict)


class Entry(TypedDict):
    """The figures of a job, in bits an example."""

    n: int
    values: int
    elbo: float
    bits: float
    parts: dict[str, float]


JOBS = {
    "vae": Job("vae", "mnist", 2000, settings=BINARY),
    "hvae": Job("hvae", "mnist", 2000, settings=BINARY),
    "ladder": Job("ladder", "mnist", 2000, settings=BINARY),
    "vamp": Job("vamp", "mnist", 2000, settings=BINARY),
    "conditional": Job("conditional", "mnist", 2000, settings=BINARY),
    "vq-conv": Job("vq-conv", "digits", 180, settings={"train.batch": 32}),
    "mixed table": Job("mixed", "table", 20_000, precision=SETS["table"].precision),
    "discretised logistic": Job("vae", "digits", 180),
    "mixture of logistics": Job("vae", "digits", 180, settings=MIXTURE),
}


def measured(job: Job, out: Path, name: str, k: int) -> Entry:
    """Train a model and evaluate it, compress its test examples and decode them."""
    data = job.data
    if job.data in SETS:
        data = source_of(SETS[job.data], out)
    run = tb.train(
        data,
        job.recipe,
        out=out / name.replace(" ", "-"),
        overwrite=True,
        display="none",
        report=False,
        settings={"recipe.size": "s", "train.steps": job.steps, **job.settings},
    )
    split = run.data.splits["test"]
    assert isinstance(split, Split)
    source = None
    if job.n > len(split):  # all rows, those of training among them
        source = data
        split = read_split(data, run.spec, run.config.data)
    n = min(job.n, len(split))
    split = split.select(split.spread(n))
    evaluation = tb.evaluate(run, source, k=k, seed=0, limit=n, diagnosis=False)
    elbo = evaluation.terms["elbo"].mean
    size = compression.file_size(run, split, elbo, precision=job.precision)
    file = compression.compress_run(run, split, precision=job.precision)
    again = compression.decompress(file.data, run)
    if not torch.equal(again.x, split.raw(torch.arange(n))):
        raise ValueError(f"{name} does not give its input back")
    return {
        "n": n,
        "values": size.dims,
        "elbo": size.elbo,
        "bits": size.bits,
        "parts": dict(size.parts),
    }


def row_of(name: str, entry: Entry) -> str:
    """A result as a row of a table."""
    parts = entry["parts"]
    coded = entry["bits"] - parts["initial"] - parts["frame"]
    whole = 100 * (entry["bits"] / entry["elbo"] - 1)
    percent = 100 * (coded / entry["elbo"] - 1)
    first = "" if abs(percent) <= LIMIT else " **above**"
    return line(
        [
            name,
            f"{entry['n']:,}",
            f"{entry['elbo']:.2f}",
            f"{coded:.2f}",
            f"{percent:+.2f} %{first}",
            *(f"{parts[part]:+.3f}" for part in ("sampling", "quantisation", "coder")),
            f"{parts['initial']:.2f}",
            f"{parts['frame']:.2f}",
            f"{whole:+.2f} %",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/compress-recipes"))
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("-k", type=int, default=10, help="draws of the ELBO")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    results: dict[str, Entry] = {}
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    heads = ["", "examples", "ELBO, bits", "coded, bits", "coded / ELBO"]
    heads += ["sampling", "bins", "coder", "to begin with", "frame", "file / ELBO"]
    print(line(heads))
    print("|---" * len(heads) + "|")
    for name in options.only:
        if name not in results:
            entry = measured(JOBS[name], options.out, name, options.k)
            results[name] = entry
            path.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(row_of(name, results[name]), flush=True)


if __name__ == "__main__":
    main()
