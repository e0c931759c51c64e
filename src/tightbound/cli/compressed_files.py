"""The work of `compress`, `decompress` and `evaluate --bytes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from tightbound import compression
from tightbound.cli import outputs
from tightbound.cli.options import Loading
from tightbound.cli.outputs import Array, Target
from tightbound.compression import Decompressed, FileSize
from tightbound.data import Split
from tightbound.evaluation import Evaluation
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import make_folder
from tightbound.runtime.errors import TightboundError, cut


def compress(
    run: Run,
    data: str,
    out: Target,
    precision: Sequence[str] | None,
    *,
    check: bool = True,
) -> list[str]:
    """Write a compressed file; returns lines about it."""
    steps = _steps(precision or ())
    split = outputs.read(run, data)
    make_folder(out.path.parent)
    written = compression.compress_to(
        out.path,
        run,
        split,
        precision=steps,
        overwrite=out.overwrite,
        check=check,
    )
    return written.lines()


def _steps(pairs: Sequence[str]) -> dict[str, float]:
    """COLUMN=STEP, by column."""
    steps = {}
    for pair in pairs:
        name, equals, text = pair.rpartition("=")
        try:
            if not equals:
                raise ValueError
            steps[name] = float(text)
        except ValueError:
            raise TightboundError(
                f"--precision {cut(pair)} is no COLUMN=STEP, such as height=0.1"
            ) from None
    return steps


def decompress(file: Path, run: Path | None, out: Target, loading: Loading) -> str:
    """Write the examples of a compressed file; returns a line about them."""
    if run is None and loading.prior is not None:
        raise TightboundError(
            "--prior names a fitted prior of --run: give both, or neither, since the file names "
            "the run and the prior that it was compressed with"
        )
    given = None if run is None else outputs.load(run, loading)
    examples = compression.examples_of(file, given, trust=loading.trust)
    x = examples.x
    if isinstance(x, Tensor):
        if out.kind != "npz":
            raise TightboundError(
                f"these examples are no table, so that {out.kind} cannot hold them bit for bit: "
                "name --out F.npz"
            )
        outputs.write_npz(out, {"x": x.numpy()} | _condition(examples))
    else:
        outputs.write_frame(out, x)
    return f"{len(x)} examples, equal bit for bit to those that were compressed: {out}"


def _condition(examples: Decompressed) -> dict[str, Array]:
    """Conditions as an array of an .npz."""
    if examples.condition is None:
        return {}
    if isinstance(examples.condition, Tensor):
        return {"condition": examples.condition.numpy()}
    return {"condition": np.asarray(examples.condition)}


def check(run: Run, precision: Sequence[str] | None) -> None:
    """Refuse what cannot be compressed, before it is evaluated."""
    compression.check_run(run, _steps(precision or ()))


def size_or_problem(
    run: Run,
    data: str | None,
    evaluation: Evaluation,
    precision: Sequence[str] | None,
) -> tuple[FileSize | None, TightboundError | None]:
    """The size of the evaluated examples as a file, or why there is none to compare."""
    try:
        return _size(run, data, evaluation, precision), None
    except TightboundError as problem:
        return None, problem


def _size(
    run: Run,
    data: str | None,
    evaluation: Evaluation,
    precision: Sequence[str] | None,
) -> FileSize:
    rows = (
        run.data.splits[evaluation.split] if data is None else outputs.read(run, data)
    )
    assert isinstance(rows, Split)
    if evaluation.n < len(rows):
        rows = rows.select(rows.spread(evaluation.n))
    elbo = evaluation.terms["elbo"].mean
    return compression.file_size(run, rows, elbo, precision=_steps(precision or ()))
