"""The files that commands write, in the form that the name given to `--out` has."""

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
from tightbound.report.figures.display_scale import DisplayScale
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
    """The path that a command writes to, and the form of the output.

    kind: png, svg, folder, npz, csv, html, parquet, or parts for many parquet files, whose
    path is a folder or F-*.parquet.
    """

    path: Path
    kind: str
    overwrite: bool

    def __str__(self) -> str:
        return str(self.path)


def target(out: Path, kinds: Sequence[str], overwrite: bool) -> Target:
    """Check `--out` before any work is done.

    Raises:
        TightboundError: The command does not write such a file, or it exists.
    """
    kind = _kind(out, kinds)
    if kind not in kinds or out.name.count("*") > int(kind == "parts"):
        names = {
            "folder": "a folder",
            "parts": "a folder, or 'F-*.parquet' for many files",
        }
        possible = " or ".join(names.get(k, f"F.{k}") for k in kinds)
        raise TightboundError(
            f"--out {out} is not something that this command writes: name {possible}"
        )
    if kind in ("parquet", "parts") and importlib.util.find_spec("pyarrow") is None:
        raise TightboundError(
            "a parquet file needs pyarrow: pip install 'tightbound[data]', or write F.csv"
        )
    # Files of parts that exist may be some of those that are to be written.
    if kind != "parts" and not overwrite and _is_taken(out):
        what = "folder with files" if out.is_dir() else "file"
        raise TightboundError(
            f"{out} is a {what} already: add --overwrite to replace it, or choose another --out"
        )
    return Target(out, kind, overwrite)


def _kind(out: Path, kinds: Sequence[str]) -> str:
    """The form of the output by its name."""
    kind = "folder" if out.is_dir() else out.suffix[1:].lower() or "folder"
    is_pattern = kind == "parquet" and "*" in out.name
    if "parts" in kinds and (kind == "folder" or is_pattern):
        return "parts"
    return kind


def _is_taken(out: Path) -> bool:
    if out.is_dir():
        return any(out.iterdir())
    return out.exists()


def shared(loading: Loading) -> AbstractContextManager[LaunchContext]:
    """Join the processes of torchrun that share a command."""
    return join_launch(pick_device(loading.device).type)


def load(folder: Path, loading: Loading, *, skip_bad: bool = False) -> Run:
    """The run that a command names; `skip_bad` leaves out unreadable image files."""
    device = str(pick_device(loading.device))
    run = run_room.load(folder, prior=loading.prior, trust=loading.trust, device=device)
    if not skip_bad:
        return run
    data = run.config.data.model_copy(update={"skip_bad": True})
    config = run.config.model_copy(update={"data": data})
    return Run(config, run.model, run.folder, fitted=run.fitted)


def read(run: Run, data: str) -> Split:
    """The examples that a command names; notices go to standard error."""
    return noted(data_room.read(data, run.spec, run.config.data))


def noted(split: Read) -> Read:
    """Print the notices of reading to standard error and return the data."""
    for line in split.notices:
        print(line, file=sys.stderr)
    return split


def one(run: Run, data: str) -> Split:
    """One example: a file, or DATA:ROW."""
    return noted(data_room.read_one(data, run.spec, run.config.data))


def codes(path: Path) -> Array:
    """Features (n, latent) from an .npy, or an .npz with `z`, `mean` or one array."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return np.asarray(loaded, dtype=np.float32)
        with loaded:
            return np.asarray(loaded[_array_of_codes(path, loaded.files)], np.float32)
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


def _array_of_codes(path: Path, names: Sequence[str]) -> str:
    """The name of the array of features in an .npz."""
    for name in ("z", "mean"):
        if name in names:
            return name
    if len(names) != 1:
        raise TightboundError(
            f"{path} has arrays {', '.join(names) or 'none'}: name the features z"
        )
    return names[0]


# ---- whole files


def put(out: Target, data: Any) -> None:
    """Write a file atomically; its folder is created where it is missing."""
    make_folder(out.path.parent)
    write_atomic(out.path, data)


def write_npz(out: Target, arrays: dict[str, Any]) -> None:
    """Write arrays by name."""
    put(out, lambda file: np.savez_compressed(file, **arrays))


def write_csv(
    out: Target, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write a CSV file, real numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(_cells, rows))
    put(out, text.getvalue())


def _cells(row: Sequence[Any]) -> list[Any]:
    return [f"{value:.6g}" if isinstance(value, float) else value for value in row]


def write_columns(out: Target, columns: dict[str, Any]) -> None:
    """Columns by name, as arrays of an .npz or as a CSV file."""
    if out.kind == "npz":
        write_npz(out, {name: _without_objects(v) for name, v in columns.items()})
    else:
        rows = zip(*(v.tolist() for v in columns.values()), strict=True)
        write_csv(out, list(columns), rows)


def _without_objects(column: Array) -> Array:
    """A column of Python objects as text, which an .npz can hold without a pickle."""
    if column.dtype == object:
        return column.astype(str)
    return column


def _named(names: Sequence[str] | None) -> dict[str, Array]:
    """The names of the examples as an array of an .npz, where they have names."""
    if names is None:
        return {}
    return {"name": np.asarray([str(name) for name in names])}


# ---- examples: reconstruct, sample, decode, vary, interpolate


def reconstruct(
    run: Run,
    data: str,
    out: Target,
    n: int,
    condition: str | None = None,
    draws: int = 0,
) -> str:
    """Write reconstructions, in a picture below their inputs; returns a summary."""
    _check_picture(run, out)
    split = read(run, data)
    if run.spec.missing and run.spec.fields and draws:
        return _write_draws(run, split, out, draws, condition)
    if run.spec.missing and not run.spec.fields and out.kind == "npz":
        return _write_imputed(run, split, out, draws, condition)
    if draws:
        raise TightboundError(
            "--draws are of missing values: name --out F.npz, of a run of recipe missing-data"
        )
    if out.kind not in ("png", "svg"):
        x = run.reconstruct(split, condition)
        return write(run, x, out, names=split.names)
    at_least(1, n, "reconstructions")
    first = split.select(torch.arange(min(n, len(split))))
    inputs = first.batch(torch.arange(len(first)))
    rebuilt = run.spec.to_model(run.reconstruct(first, condition))
    view = _view(run, inputs)
    columns = min(MOST_COLUMNS, len(inputs))
    if out.kind == "svg":
        curves = view.unit(rebuilt.numpy())
        put(out, strip(curves, view, columns, view.unit(inputs.numpy())).data)
        return (
            f"{len(inputs)} of {len(split)} examples, each reconstruction over its "
            f"input in grey: {out}"
        )
    put(out, strip(_in_turn(inputs, rebuilt, view, columns), view, columns).data)
    return f"{len(inputs)} of {len(split)} examples, each input above its reconstruction: {out}"


def _in_turn(
    inputs: Tensor, rebuilt: Tensor, view: DisplayScale, columns: int
) -> Array:
    """Rows of inputs and of their reconstructions in turn, blank cells at the end."""
    rows = []
    blank = torch.full((MOST_COLUMNS, *inputs.shape[1:]), float("nan"))
    for i in range(0, len(inputs), MOST_COLUMNS):
        for x in (inputs, rebuilt):
            rows.append(torch.cat([x[i : i + MOST_COLUMNS], blank])[:MOST_COLUMNS])
    unit = view.unit(torch.cat(rows).numpy())
    shape = unit.shape[1:]
    cells = unit.reshape(-1, MOST_COLUMNS, *shape)[:, :columns].reshape(-1, *shape)
    return np.nan_to_num(cells, nan=1.0)


def _write_imputed(
    run: Run, split: Split, out: Target, draws: int, condition: str | None
) -> str:
    """Examples with missing values filled in, their standard deviations and draws."""
    imputed = run.impute(split, draws=draws, condition=condition)
    arrays = {"x": imputed.x, "sd": imputed.sd, "ess": imputed.ess}
    if draws:
        arrays["draws"] = imputed.draws
    as_numpy = {name: value.numpy() for name, value in arrays.items()}
    write_npz(out, as_numpy | _named(split.names))
    return (
        f"{len(split)} examples, missing values filled in, with their standard "
        f"deviations: {out}"
    )


def _write_draws(
    run: Run, split: Split, out: Target, draws: int, condition: str | None
) -> str:
    """Multiple imputations of a table of mixed columns, one table below the other."""
    tables = run.impute(split, draws=draws, condition=condition).draws
    columns = {
        "draw": np.repeat(np.arange(draws), len(split)),
        "row": np.tile(np.arange(len(split)), draws),
    }
    for field in run.spec.fields:
        parts = [np.asarray(table[field.name]) for table in tables]
        columns[field.name] = np.concatenate(parts)
    write_columns(out, columns)
    return f"{draws} draws of {len(split)} examples, one below the other: {out}"


def write(
    run: Run,
    x: Any,
    out: Target,
    *,
    names: Sequence[str] | None = None,
    columns: int | None = None,
) -> str:
    """Write examples (n, ...) in raw units and layout; returns a line about them."""
    _check_picture(run, out)
    if run.spec.fields:
        write_columns(out, {f.name: np.asarray(x[f.name]) for f in run.spec.fields})
    elif out.kind == "npz":
        write_npz(out, {"x": x.numpy(), **_named(names)})
    elif out.kind == "csv":
        flat = x.flatten(1).tolist()
        write_csv(out, [f"x_{i + 1}" for i in range(len(flat[0]))], flat)
    else:
        model_units = run.spec.to_model(x)
        view = _view(run, model_units)
        unit = view.unit(model_units.numpy())
        if out.kind == "folder":
            _folder(out, view.pixels(unit), names)
        else:
            square = min(MOST_COLUMNS, max(1, round(len(unit) ** 0.5)))
            put(out, strip(unit, view, columns or square).data)
    return f"{len(x)} examples: {out}"


def _check_picture(run: Run, out: Target) -> None:
    if run.spec.fields and out.kind not in ("npz", "csv"):
        raise TightboundError(
            "these examples are rows of a table, not pictures: name --out F.csv or F.npz"
        )
    kind = run.spec.kind
    are_curves = kind in ("vector", "signal")
    if out.kind not in (("png", "folder") if are_curves else ("svg",)):
        return
    size = "x".join(map(str, run.spec.shape))
    possible = "F.svg, F.npz" if are_curves else "F.png, F.npz"
    raise TightboundError(
        f"these examples are {kind}s of {size} numbers, which {out.kind} cannot show: "
        f"name --out {possible} or F.csv"
    )


def _view(run: Run, x: Tensor) -> DisplayScale:
    """The display scale: the range of the levels, or that of the training data."""
    if run.spec.domain == "real":
        with suppress(TightboundError):
            x = next(iter(run.data.train.batches(AT_ONCE)))[1]
    return DisplayScale.of(run.spec, x.numpy())


def _folder(out: Target, images: Array, names: Sequence[str] | None) -> None:
    """Write one PNG for each example, under the name of its file where it has one."""
    from PIL import Image

    folder = make_folder(out.path)
    taken = set[str]()
    for i, image in enumerate(images):
        name = _file_name(f"{i:05d}" if names is None else str(names[i]), i, taken)
        taken.add(name)
        path = folder / name
        make_folder(path.parent)
        write_atomic(path, partial(Image.fromarray(image).save, format="PNG"))


def _file_name(name: str, row: int, taken: set[str]) -> str:
    """`cat/1.jpg` as `cat/1.png`, never outside the folder.

    The row number is added where two names would be equal.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", "..", "."))
    stem = str(PurePosixPath(*parts).with_suffix("")) if parts else f"{row:05d}"
    file_name = f"{stem}.png"
    if file_name not in taken:
        return file_name
    return f"{stem}-{row}.png"
