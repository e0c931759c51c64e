"""`encode` and `score`: a row for each example, in one file, or in many that several processes
write together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tightbound.cli.app import Stopped
from tightbound.cli.options import Loading, Many
from tightbound.cli.outputs import (
    Target,
    load,
    noted,
    put,
    shared,
    write_csv,
    write_npz,
)
from tightbound.cli.sharded_output import Parts
from tightbound.cli.tables import progress
from tightbound.core.trace import Batch
from tightbound.data import Ordered, Rows, read_parts
from tightbound.data.prepare.split import NO_CONDITION
from tightbound.data.sequential import class_words
from tightbound.evaluation import score as score_rows
from tightbound.evaluation.estimators.estimate import no_bound
from tightbound.report.content import model_outputs as passes
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext

Array = NDArray[Any]
Columns = dict[str, Any]  # arrays of numbers, lists of words
SCORES = ("elbo", "log_px", "log_px_se", "distortion", "rate")
VALUES, MOST = 4_000_000, 1024  # numbers, and examples, that are read at a time
PART_VALUES, PART_ROWS = 100_000_000, 100_000  # numbers, and examples, of a part


@dataclass(frozen=True)
class Job:
    """What is computed of each example, x (n, *shape) -> columns of numbers; and the settings that
    decide it.
    """

    name: str
    columns: list[str]
    settings: dict[str, Any]
    make: Callable[[Run, Batch], Columns]
    part_rows: int
    notes: tuple[str, ...] = ()
    extra: dict[str, type] = field(
        default_factory=dict
    )  # other columns: the number of a cluster, a predicted label


def feature_names(run: Run) -> list[str]:
    """z_1, z_2, ... ; of several sites z1_1, ..., z2_1, ..."""
    return [
        f"{site}_{i + 1}" for site, width in run.sites.items() for i in range(width)
    ]


def encoding(run: Run) -> Job:
    """Mean and standard deviation of each feature; of a model with classes, the most likely one
    too.
    """
    names = feature_names(run)
    columns = [*names, *(f"{name}_std" for name in names)]

    kind = (
        ("cluster" if run.spec.labels is None else "predicted")
        if run.model.classes
        else ""
    )
    words = class_words(run.spec.labels)

    def make(run: Run, x: Batch) -> Columns:
        found: Columns = dict(
            zip(columns, np.concatenate(passes.moments_of(run, x), 1).T, strict=True)
        )
        likeliest = run.chances(x).argmax(1).numpy() if kind else ()
        return (
            {kind: [words[y] for y in likeliest] if words else likeliest} | found
            if kind
            else found
        )

    extra: dict[str, type] = {kind: str if words else int} if kind else {}
    return Job(
        "encode", columns, {"seed": run.config.seed}, make, PART_ROWS, extra=extra
    )


def scoring(run: Run, k: int) -> Job:
    """The terms of each example, in nats, noise by the run's seed."""
    if k < 1:
        raise TightboundError(f"k = {k} samples cannot be drawn: ask for 1 or more")

    def make(run: Run, x: Batch) -> Columns:
        terms = score_rows(run, x, k, run.config.seed)
        return {name: terms[name].numpy() for name in columns}

    columns = [name for name in SCORES if run.has_bound or name == "distortion"]
    settings = {"k": k, "seed": run.config.seed} if run.has_bound else {}
    notes = () if run.has_bound else (no_bound(run.config.recipe),)
    return Job("score", columns, settings, make, PART_ROWS // 10, notes)


def run(
    folder: Path,
    source: str,
    out: Target,
    job: Callable[[Run], Job],
    loading: Loading,
    many: Many,
) -> None:
    """Makes a row for each example, alone or as one of the processes of torchrun; the first one
    tells of it.
    """
    try:
        if done := write(folder, source, out, job, loading, many):
            print(done)
    except KeyboardInterrupt:
        if out.kind != "parts":
            raise
        raise Stopped(
            "interrupted, the files that are whole are kept: the same command goes on from there"
        ) from None


def write(
    folder: Path,
    source: str,
    out: Target,
    job: Callable[[Run], Job],
    loading: Loading,
    many: Many,
) -> str:
    """Writes the rows of all examples of a source; returns what was done, but for processes that
    are not the first.

    many.part_rows: examples of a part, unless the source comes in shards, which are the parts then.
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
        size = many.part_rows or int(
            np.clip(PART_VALUES // run.spec.dims // 1000 * 1000, 1000, work.part_rows)
        )
        data = launch.rank_zero_first(
            lambda: read_parts(source, run.spec, run.config.data, size)
        )
        if launch.is_rank_zero:
            noted(data)
            for note in work.notes:
                print(f"note: {folder}: {note}", file=sys.stderr)
        with progress(
            f"{work.name[:-1]}ing", many.quiet or not launch.is_rank_zero
        ) as tick:
            said = _written(run, work, data, out, launch, size, tick, many.condition)
        return said if launch.is_rank_zero else ""


def _written(
    run: Run,
    job: Job,
    data: Ordered,
    out: Target,
    launch: LaunchContext,
    size: int,
    tick: Callable[..., None],
    condition: Any,
) -> str:
    c = None if condition is None else run.condition(condition, 1)
    if condition is not None:
        job = replace(job, settings=job.settings | {"condition": condition})
    made = partial(_columns, run, job, data, c)
    if out.kind == "parts":
        types = _types(data) | job.extra | dict.fromkeys(job.columns, float)
        n, parts, before = Parts(
            out, types, _identity(run, job, data, size), data, launch
        ).write(made, tick)
        files = f" ({parts} files{f', {before} of them from before' if before else ''})"
    else:
        n, files = _whole(job, data, out, made, tick), ""
    about = f", {len(job.columns) // 2} features each" if job.name == "encode" else ""
    about += f", K = {job.settings['k']}" if "k" in job.settings else ""
    return f"{n} examples{about}: {out}{files}"


def _types(data: Ordered) -> dict[str, type]:
    """The columns that say which example it is."""
    known: dict[str, type | None] = {"shard": str if data.origins else None, "row": int}
    known |= {"name": str if data.named else None, "label": data.labelled}
    return {name: kind for name, kind in known.items() if kind is not None}


def _columns(
    run: Run, job: Job, data: Ordered, condition: Tensor | None, part: int
) -> Iterator[Columns]:
    """The columns of a part, some rows at a time."""
    at_once = int(np.clip(VALUES // run.spec.dims, 1, MOST))
    for rows in data.rows(part, at_once):
        origin = (
            {} if data.origins is None else {"shard": [data.origins[part]] * len(rows)}
        )
        yield (
            origin
            | {"row": rows.numbers.numpy()}
            | _known(rows)
            | job.make(run, _told(run, rows, condition))
        )


def _told(run: Run, rows: Rows, condition: Tensor | None) -> Batch:
    """The examples with what a conditional model is told of them: `condition` (1, C), or what
    stands beside them.
    """
    c = rows.c if condition is None else condition.expand(len(rows), -1)
    if c is None and run.spec.condition is not None:
        raise TightboundError(NO_CONDITION)
    return Batch(rows.x, c)


def _known(rows: Rows) -> Columns:
    pairs = {"name": rows.names, "label": rows.labels}
    return {key: list(value) for key, value in pairs.items() if value is not None}


def _identity(run: Run, job: Job, data: Ordered, size: int) -> dict[str, Any]:
    """All that the rows are a function of, by the words that a message has for it."""
    tree = run.config.model_dump(mode="json")
    return {
        "command": job.name,
        "settings": job.settings,
        "weights": run.fingerprint,
        "model": {"recipe": tree["recipe"], "spec": tree["spec"]},
        "data": data.digest,
        "settings of the data": tree["data"],
        "part-rows": None if data.origins else size,
    }


def _whole(
    job: Job,
    data: Ordered,
    out: Target,
    made: Callable[[int], Iterator[Columns]],
    tick: Callable[..., None],
) -> int:
    """All rows in one file, held until it is written."""
    found, done = dict[str, list[Any]](), 0
    for part in range(len(data)):
        for columns in made(part):
            done += len(columns["row"])
            tick(done, data.total)
            for name, values in columns.items():
                found.setdefault(name, []).append(values)
    joined = {name: _joined(parts) for name, parts in found.items()}
    if out.kind == "npz":
        mean, std = np.split(
            np.stack([joined.pop(name) for name in job.columns], 1), 2, axis=1
        )
        known = {k: np.asarray(v) for k, v in joined.items() if k != "row"}
        names = np.asarray(job.columns[: len(job.columns) // 2])
        write_npz(out, {"mean": mean, "std": std, "feature": names, **known})
    elif out.kind == "csv":
        if job.name == "score":
            joined = (
                {"row": joined.pop("row")}
                | {k: joined.pop(k, [""] * done) for k in ("name", "label")}
                | joined
            )
        write_csv(
            out,
            list(joined),
            zip(*(_plain(column) for column in joined.values()), strict=True),
        )
    else:
        _parquet(out, joined)
    return done


def _joined(parts: list[Any]) -> Any:
    return (
        np.concatenate(parts)
        if isinstance(parts[0], np.ndarray)
        else [value for part in parts for value in part]
    )


def _plain(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _parquet(out: Target, columns: Columns) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(columns)
    put(out, lambda file: parquet.write_table(table, file))
