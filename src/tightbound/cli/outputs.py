"""What the commands write: features, scores and examples, each as the file or folder that `--out`
names.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound import data as data_room
from tightbound.cli.options import Loading
from tightbound.data import Ordered, Split
from tightbound.report.figures.display_scale import View
from tightbound.report.figures.image_grid import strip
from tightbound.runs import run as run_room
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, at_least
from tightbound.runtime.foreign_errors import first_line, is_refused_pickle
from tightbound.runtime.launch_context import LaunchContext, join_launch

Array = NDArray[Any]
Read = TypeVar("Read", Split, Ordered)
EXAMPLES = ("png", "svg", "folder", "npz", "csv")
AT_ONCE = 1000
MOST_COLUMNS = 10


@dataclass(frozen=True)
class Target:
    """Where a command writes, and in which form: png, svg, folder, npz, csv, parquet; parts: many
    parquet files.

    The path of parts is a folder, or F-*.parquet.
    """

    path: Path
    kind: str
    overwrite: bool

    def __str__(self) -> str:
        return str(self.path)


def target(out: Path, kinds: Sequence[str], overwrite: bool) -> Target:
    """Checks `--out` before any work is done; raises TightboundError for another ending, or a file
    that is there.
    """
    kind = "folder" if out.is_dir() else out.suffix[1:].lower() or "folder"
    if "parts" in kinds and (
        kind == "folder" or (kind == "parquet" and "*" in out.name)
    ):
        kind = "parts"
    if kind not in kinds or out.name.count("*") > (kind == "parts"):
        names = {
            "folder": "a folder",
            "parts": "a folder, or 'F-*.parquet' for many files",
        }
        wanted = " or ".join(names.get(k, f"F.{k}") for k in kinds)
        raise TightboundError(
            f"--out {out} is not something that this command writes: name {wanted}"
        )
    if kind in ("parquet", "parts") and importlib.util.find_spec("pyarrow") is None:
        raise TightboundError(
            "a parquet file needs pyarrow: pip install 'tightbound[data]', or write F.csv"
        )
    if kind == "parts":
        return Target(
            out, kind, overwrite
        )  # what is there may be some of what is to be
    held = any(out.iterdir()) if out.is_dir() else out.exists()
    if held and not overwrite:
        what = "folder with files" if out.is_dir() else "file"
        raise TightboundError(
            f"{out} is a {what} already: add --overwrite to replace it, or choose another --out"
        )
    return Target(out, kind, overwrite)


def shared(loading: Loading) -> AbstractContextManager[LaunchContext]:
    """Joins the processes of torchrun that share a command; alone where there are none."""
    return join_launch(pick_device(loading.device).type)


def load(folder: Path, loading: Loading, *, skip_bad: bool = False) -> Run:
    """A run, told whether to leave out image files that cannot be read."""
    device = str(pick_device(loading.device))
    run = run_room.load(folder, prior=loading.prior, trust=loading.trust, device=device)
    if skip_bad:
        read = run.config.data.model_copy(update={"skip_bad": True})
        run.config = run.config.model_copy(update={"data": read})
    return run


def read(run: Run, source: str) -> Split:
    """The examples that a command names, in the units of the run; what was noticed goes to standard
    error.
    """
    return noted(data_room.read(source, run.spec, run.config.data))


def noted(split: Read) -> Read:
    """The data, once what was noticed in reading them is on standard error."""
    for line in split.notices:
        print(line, file=sys.stderr)
    return split


def one(run: Run, source: str) -> Split:
    """One example: a file, or DATA:ROW."""
    return noted(data_room.read_one(source, run.spec, run.config.data))


def codes(path: Path) -> Array:
    """Features (n, latent) from an .npy, or from an .npz under `z`, `mean` or as its only array."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return np.asarray(found, dtype=np.float32)
        with found:
            name = next(
                (k for k in ("z", "mean") if k in found.files),
                found.files[0] if found.files else "z",
            )
            if name not in found.files or (
                name not in ("z", "mean") and len(found.files) > 1
            ):
                raise TightboundError(
                    f"{path} has arrays {', '.join(found.files) or 'none'}: name the features z"
                )
            return np.asarray(found[name], dtype=np.float32)
    except TightboundError:
        raise
    except FileNotFoundError:
        raise TightboundError(
            f"there is no file {path}: name an .npy or .npz of features"
        ) from None
    except Exception as error:
        reason = first_line(error)
        if is_refused_pickle(error):
            reason = "it holds Python objects, a pickle, which is never loaded"
        raise TightboundError(
            f"{path} is no whole .npy or .npz of numbers ({reason}): save it again"
        ) from None


# ---- whole files


def put(out: Target, data: Any) -> None:
    """Writes a file whole or not at all."""
    make_folder(out.path.parent)
    write_atomic(out.path, data)


def write_npz(out: Target, arrays: dict[str, Any]) -> None:
    put(out, lambda file: np.savez_compressed(file, **arrays))


def write_csv(
    out: Target, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [[f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows]
    )
    put(out, text.getvalue())


# ---- examples: reconstruct, sample, decode, vary, interpolate


def reconstruct(
    run: Run,
    source: str,
    out: Target,
    n: int,
    condition: str | None = None,
    draws: int = 0,
) -> str:
    """Writes reconstructions, in a picture below their inputs; returns what was done."""
    _check_picture(run, out)
    split = read(run, source)
    if run.spec.missing and run.spec.fields and draws:
        return _draws(run, split, out, draws, condition)
    if run.spec.missing and not run.spec.fields and out.kind == "npz":
        found = run.impute(split, draws=draws, condition=condition)
        named = (
            {}
            if split.names is None
            else {"name": np.asarray([str(name) for name in split.names])}
        )
        arrays = {
            name: getattr(found, name).numpy()
            for name in ("x", "sd", "ess", *["draws"] * bool(draws))
        }
        write_npz(out, arrays | named)
        return (
            f"{len(split)} examples, missing values filled in, with their standard "
            f"deviations: {out}"
        )
    if draws:
        raise TightboundError(
            "--draws are of missing values: name --out F.npz, of a run of recipe missing-data"
        )
    if out.kind not in ("png", "svg"):
        x = run.reconstruct(split, condition)
        return write(run, x, out, names=split.names)
    at_least(1, n, "reconstructions")
    first = split.select(torch.arange(min(n, len(split))))
    inputs, rebuilt = (
        run.read(first),
        run.spec.to_domain(run.reconstruct(first, condition)),
    )
    view, columns = _view(run, inputs), min(MOST_COLUMNS, len(inputs))
    if out.kind == "svg":
        put(
            out,
            strip(
                view.unit(rebuilt.numpy()), view, columns, view.unit(inputs.numpy())
            ).data,
        )
        return (
            f"{len(inputs)} of {len(split)} examples, each reconstruction over its "
            f"input in grey: {out}"
        )
    rows, blank = [], torch.full((MOST_COLUMNS, *run.spec.shape), float("nan"))
    for i in range(0, len(inputs), MOST_COLUMNS):
        for x in (inputs, rebuilt):
            rows.append(torch.cat([x[i : i + MOST_COLUMNS], blank])[:MOST_COLUMNS])
    unit = view.unit(torch.cat(rows).numpy())
    unit = unit.reshape(-1, MOST_COLUMNS, *unit.shape[1:])[:, :columns].reshape(
        -1, *unit.shape[1:]
    )
    put(out, strip(np.nan_to_num(unit, nan=1.0), view, columns).data)
    return f"{len(inputs)} of {len(split)} examples, each input above its reconstruction: {out}"


def _draws(
    run: Run, split: Split, out: Target, draws: int, condition: str | None
) -> str:
    """Multiple imputations of a table of mixed columns, one table below the other, with columns
    that say which.
    """
    made = run.impute(split, draws=draws, condition=condition).draws
    columns = {
        "draw": np.repeat(np.arange(draws), len(split)),
        "row": np.tile(np.arange(len(split)), draws),
    } | {
        f.name: np.concatenate([np.asarray(table[f.name]) for table in made])
        for f in run.spec.fields
    }
    write_columns(out, columns)
    return f"{draws} draws of {len(split)} examples, one below the other: {out}"


def write_columns(out: Target, columns: dict[str, Any]) -> None:
    """Columns by name, as arrays of an .npz or as a CSV."""
    if out.kind == "npz":
        write_npz(
            out,
            {k: v.astype(str) if v.dtype == object else v for k, v in columns.items()},
        )
    else:
        write_csv(
            out,
            list(columns),
            zip(*(v.tolist() for v in columns.values()), strict=True),
        )


def write(
    run: Run,
    x: Any,
    out: Target,
    *,
    names: Sequence[str] | None = None,
    columns: int | None = None,
) -> str:
    """Writes examples (n, ...) in raw units and the user's layout; returns what was done."""
    _check_picture(run, out)
    if run.spec.fields:
        write_columns(out, {f.name: np.asarray(x[f.name]) for f in run.spec.fields})
    elif out.kind == "npz":
        write_npz(
            out,
            {
                "x": x.numpy(),
                **(
                    {}
                    if names is None
                    else {"name": np.asarray([str(name) for name in names])}
                ),
            },
        )
    elif out.kind == "csv":
        flat = x.flatten(1).tolist()
        write_csv(out, [f"x_{i + 1}" for i in range(len(flat[0]))], flat)
    else:
        domain = run.spec.to_domain(x)
        view = _view(run, domain)
        unit = view.unit(domain.numpy())
        if out.kind in ("png", "svg"):
            put(
                out,
                strip(
                    unit,
                    view,
                    columns or min(MOST_COLUMNS, max(1, round(len(unit) ** 0.5))),
                ).data,
            )
        else:
            _folder(out, view.pixels(unit), names)
    return f"{len(x)} examples: {out}"


def _check_picture(run: Run, out: Target) -> None:
    if run.spec.fields and out.kind not in ("npz", "csv"):
        raise TightboundError(
            "these examples are rows of a table, not pictures: name --out F.csv or F.npz"
        )
    curves = run.spec.kind in ("vector", "signal")
    if out.kind in (("png", "folder") if curves else ("svg",)):
        size, fit = (
            "x".join(map(str, run.spec.shape)),
            "svg, F.npz" if curves else "png, F.npz",
        )
        raise TightboundError(
            f"these examples are {run.spec.kind}s of {size} numbers, which {out.kind} cannot show: "
            f"name --out F.{fit} or F.csv"
        )


def _view(run: Run, x: Tensor) -> View:
    """Levels and units have a scale of their own; real images take that of the training data, or of
    what is shown.
    """
    if run.spec.domain == "real":
        with suppress(TightboundError):
            x = next(iter(run.data.train.batches(AT_ONCE)))[1]
    return View.of(run.spec, x.numpy())


def _folder(out: Target, images: Array, names: Sequence[str] | None) -> None:
    """One PNG an example, under its source's name where it has one."""
    from PIL import Image

    folder, taken = make_folder(out.path), set[str]()
    for i, image in enumerate(images):
        name = _file_name(f"{i:05d}" if names is None else str(names[i]), i, taken)
        taken.add(name)
        path = folder / name
        make_folder(path.parent)
        write_atomic(path, partial(Image.fromarray(image).save, format="PNG"))


def _file_name(name: str, row: int, taken: set[str]) -> str:
    """`cat/1.jpg` as `cat/1.png`, never outside the folder; with the row where two would be
    alike.
    """
    parts = [
        p
        for p in PurePosixPath(name.replace("\\", "/")).parts
        if p not in ("/", "..", ".")
    ]
    stem = str(PurePosixPath(*parts).with_suffix("")) if parts else f"{row:05d}"
    found = f"{stem}.png"
    return found if found not in taken else f"{stem}-{row}.png"
