"""`encode` and `score`: one row for each example, in one file or in parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tightbound.cli.app import Stopped
from tightbound.cli.options import Loading, Many
from tightbound.cli.outputs import (
    Target,
    load,
    noted,
    put,
    shared,
    write_columns,
    write_npz,
)
from tightbound.cli.sharded_output import Parts
from tightbound.cli.tables import progress
from tightbound.core.batch import Batch
from tightbound.data import Ordered, Rows, read_parts
from tightbound.data.prepare.split import NO_CONDITION
from tightbound.data.sequential import class_words
from tightbound.evaluation import score as score_rows
from tightbound.evaluation.estimators.estimate import no_bound
from tightbound.report.content import model_outputs as passes
from tightbound.runs.inputs import read_condition
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Tree
from tightbound.runtime.signals import in_words, signal_number

Array = np.ndarray
Columns = Tree  # arrays of numbers, lists of words
SCORES = ("elbo", "log_px", "log_px_se", "distortion", "rate", "ess", "pareto_k")
NO_INTERVAL = (
    "log_px is a lower bound; where log_px_se is empty (Pareto k may be above 0.7, or K is "
    "below 25) its distance from log p(x) is not known: --ais gives most of these an error"
)
VALUES = 4_000_000  # numbers that are read at a time
MOST = 1024  # examples that are read at a time
PART_VALUES = 100_000_000  # numbers of a part
PART_ROWS = 100_000  # examples of a part


@dataclass(frozen=True)
class Job:
    """A computation on each example, and the settings that its result depends on.

    make: a function of the run and a batch that gives a column for each name in `columns` and
    `extra`, such as the number of a cluster or a predicted label.
    """

    name: str
    columns: list[str]
    settings: Tree
    make: Callable[[Run, Batch], Columns]
    part_rows: int
    notes: tuple[str, ...] = ()
    extra: dict[str, type] = field(default_factory=dict)


def feature_names(run: Run) -> list[str]:
    """z_1, z_2, ...; of several sites z1_1, ..., z2_1, ..."""
    return [
        f"{site}_{i + 1}"
        for site, width in run.model.site_widths.items()
        for i in range(width)
    ]


def encoding(run: Run) -> Job:
    """Mean and standard deviation of each feature, and the most probable class."""
    names = feature_names(run)
    columns = [*names, *(f"{name}_std" for name in names)]
    words = class_words(run.spec.labels)
    kind = ""
    extra: dict[str, type] = {}
    if run.model.classes:
        kind = "cluster" if run.spec.labels is None else "predicted"
        extra = {kind: str if words else int}

    def make(run: Run, x: Batch) -> Columns:
        values = np.concatenate(passes.moments_of(run, x), 1).T
        features: Columns = dict(zip(columns, values, strict=True))
        if not kind:
            return features
        classes = run.predictor.class_probabilities(x).argmax(1).numpy()
        column = [words[y] for y in classes] if words else classes
        return {kind: column} | features

    settings = {"seed": run.config.seed}
    return Job("encode", columns, settings, make, PART_ROWS, extra=extra)


def scoring(run: Run, k: int, ais: bool = False) -> Job:
    """The terms of log p(x) of each example, in nats, with noise from the run's seed.

    An error that is not known, where log_px is a lower bound without an interval, is an
    empty cell of a CSV.
    """
    if k < 1:
        raise TightboundError(f"k = {k} samples cannot be drawn: ask for 1 or more")

    def make(run: Run, x: Batch) -> Columns:
        terms = score_rows(run, x, k, run.config.seed, ais=ais)
        return {name: terms[name].numpy() for name in columns}

    columns = [
        name for name in SCORES if run.config.recipe.has_bound or name == "distortion"
    ]
    settings: Tree = {}
    notes: tuple[str, ...] = (no_bound(run.config.recipe),)
    if run.config.recipe.has_bound:
        settings = {"k": k, "seed": run.config.seed} | ({"ais": True} if ais else {})
        notes = () if ais else (NO_INTERVAL,)
    return Job("score", columns, settings, make, PART_ROWS // 10, notes)


def run(
    folder: Path,
    data: str,
    out: Target,
    job: Callable[[Run], Job],
    loading: Loading,
    many: Many,
) -> None:
    """Write a row for each example, alone or as one process of torchrun."""
    try:
        if line := write(folder, data, out, job, loading, many):
            print(line)
    except KeyboardInterrupt as stop:
        if out.kind != "parts":
            raise
        number = signal_number(stop)
        raise Stopped(
            f"{in_words(number)}, the files that are whole are kept: the same command goes on "
            "from there",
            number,
        ) from None


def write(
    folder: Path,
    data: str,
    out: Target,
    job: Callable[[Run], Job],
    loading: Loading,
    many: Many,
) -> str:
    """Write the rows of all examples; returns a line about them, on rank 0.

    many.part_rows: examples of a part; data that come in shards have a part for each shard.
    """
    if many.part_rows is not None and many.part_rows < 1:
        raise TightboundError(
            f"--part-rows {many.part_rows} makes no parts: ask for 1 or more"
        )
    with shared(loading) as launch:
        if launch.world_size > 1 and out.kind != "parts":
            raise TightboundError(
                f"{out} is one file, which one process writes: name a folder "
                "or 'F-*.parquet', or leave out torchrun"
            )
        run = load(folder, loading, skip_bad=many.skip_bad)
        work = job(run)
        if many.condition is not None:
            settings = work.settings | {"condition": many.condition}
            work = replace(work, settings=settings)
        size = many.part_rows or _part_rows(run, work)
        examples = launch.rank_zero_first(
            lambda: read_parts(data, run.spec, run.config.data, size)
        )
        if launch.is_rank_zero:
            noted(examples)
            for note in work.notes:
                print(f"note: {folder}: {note}", file=sys.stderr)
        make = _maker(run, work, examples, many.condition)
        quiet = many.quiet or not launch.is_rank_zero
        with progress(f"{work.name[:-1]}ing", quiet) as tick:
            if out.kind == "parts":
                identity = _identity(run, work, examples, size)
                types = _types(examples) | work.extra
                types |= dict.fromkeys(work.columns, float)
                parts = Parts(out, types, identity, examples, launch)
                n, files = _write_parts(parts, make, tick)
            else:
                n = _write_one(work, examples, out, make, tick)
                files = ""
        if not launch.is_rank_zero:
            return ""
        return f"{n} examples{_about(work)}: {out}{files}"


def _write_parts(
    parts: Parts, make: Callable[[int], Iterator[Columns]], tick: Callable[..., None]
) -> tuple[int, str]:
    """Write the parts; returns the number of rows, and words about the files."""
    n, count, before = parts.write(make, tick)
    if before:
        return n, f" ({count} files, {before} of them from before)"
    return n, f" ({count} files)"


def _part_rows(run: Run, job: Job) -> int:
    """Examples of a part, in thousands, so that a part is of bounded size."""
    thousands = PART_VALUES // run.spec.dims // 1000
    return int(np.clip(thousands * 1000, 1000, job.part_rows))


def _about(job: Job) -> str:
    about = f", {len(job.columns) // 2} features each" if job.name == "encode" else ""
    if "k" in job.settings:
        about += f", K = {job.settings['k']}"
    return about


def _maker(
    run: Run, job: Job, examples: Ordered, condition: object
) -> Callable[[int], Iterator[Columns]]:
    """A function from the number of a part to its columns, some rows at a time."""
    c = None if condition is None else read_condition(condition, run.spec, 1)
    return partial(_columns, run, job, examples, c)


def _types(data: Ordered) -> dict[str, type]:
    """The columns that identify an example."""
    types: dict[str, type] = {}
    if data.origins:
        types["shard"] = str
    types["row"] = int
    if data.named:
        types["name"] = str
    if data.labelled is not None:
        types["label"] = data.labelled
    return types


def _columns(
    run: Run, job: Job, data: Ordered, condition: Tensor | None, part: int
) -> Iterator[Columns]:
    """The columns of a part, some rows at a time."""
    at_once = int(np.clip(VALUES // run.spec.dims, 1, MOST))
    for rows in data.rows(part, at_once):
        columns: Columns = {}
        if data.origins is not None:
            columns["shard"] = [data.origins[part]] * len(rows)
        columns["row"] = rows.numbers.numpy()
        for name, values in (("name", rows.names), ("label", rows.labels)):
            if values is not None:
                columns[name] = list(values)
        yield columns | job.make(run, _with_condition(run, rows, condition))


def _with_condition(run: Run, rows: Rows, condition: Tensor | None) -> Batch:
    """The examples with `condition` (1, C), or with the one beside each of them."""
    c = rows.c if condition is None else condition.expand(len(rows), -1)
    if c is None and run.spec.condition is not None:
        raise TightboundError(NO_CONDITION)
    return Batch(rows.x, c)


def _identity(run: Run, job: Job, data: Ordered, size: int) -> dict[str, object]:
    """Everything that the rows depend on, under the words that messages use for it."""
    tree = run.config.model_dump(mode="json")
    del tree["data"]["source"]
    return {
        "command": job.name,
        "settings": job.settings,
        "weights": run.predictor.fingerprint,
        "model": {"recipe": tree["recipe"], "spec": tree["spec"]},
        "data": data.digest,
        "settings of the data": tree["data"],
        "part-rows": None if data.origins else size,
    }


def _write_one(
    job: Job,
    data: Ordered,
    out: Target,
    make: Callable[[int], Iterator[Columns]],
    tick: Callable[..., None],
) -> int:
    """Write all rows to one file; returns their number."""
    parts = dict[str, list[Any]]()
    done = 0
    for part in range(len(data)):
        for columns in make(part):
            done += len(columns["row"])
            tick(done, data.total)
            for name, values in columns.items():
                parts.setdefault(name, []).append(values)
    columns = {name: _concatenated(values) for name, values in parts.items()}
    if out.kind == "npz" and job.name == "encode":
        _npz(job, out, columns)
    elif out.kind == "npz":
        write_npz(out, columns)
    elif out.kind == "csv":
        if job.name == "score":
            first = {"row": columns.pop("row")}
            for name in ("name", "label"):
                first[name] = columns.pop(name, [""] * done)
            columns = first | columns
        write_columns(out, columns)
    else:
        _parquet(out, columns)
    return done


def _npz(job: Job, out: Target, columns: Columns) -> None:
    """Features as arrays `mean` and `std` (n, latent), beside the other columns."""
    features = np.stack([columns[name] for name in job.columns], 1)
    mean, std = np.split(features, 2, axis=1)
    names = np.asarray(job.columns[: len(job.columns) // 2])
    others = {
        name: np.asarray(column)
        for name, column in columns.items()
        if name != "row" and name not in job.columns
    }
    write_npz(out, {"mean": mean, "std": std, "feature": names, **others})


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def _parquet(out: Target, columns: Columns) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(columns)
    put(out, lambda file: parquet.write_table(table, file))
