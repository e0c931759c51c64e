"""The files that commands write, in the form that the name given to `--out` has."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tightbound import data as data_room
from tightbound.cli.feature_tables import ENDINGS, read_features
from tightbound.cli.options import Loading
from tightbound.data import Ordered, Split
from tightbound.data.formats.limits import check_npz
from tightbound.report.figures.display_scale import DisplayScale
from tightbound.report.figures.image_grid import strip
from tightbound.runs import run as run_room
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, at_least, listed, printable
from tightbound.runtime.foreign_errors import first_line, is_refused_pickle
from tightbound.runtime.launch_context import LaunchContext, join_launch
from tightbound.runtime.reading import check_regular

if TYPE_CHECKING:
    from pandas import DataFrame

Array = np.ndarray
Read = TypeVar("Read", Split, Ordered)
EXAMPLES = ("png", "svg", "folder", "npz", "csv", "parquet")
TABLES = ("npz", "csv", "parquet")
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
    if kind != "parts":
        _check_free(out, overwrite)
    return Target(out, kind, overwrite)


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace what is there.

    Raises:
        TightboundError: There is a file or a folder with files, and `overwrite` is False.
    """
    if overwrite or not _is_taken(out):
        return
    what = "folder with files" if out.is_dir() else "file"
    raise TightboundError(
        f"{out} is a {what} already: add --overwrite to replace it, or choose another --out"
    )


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
        print(printable(line), file=sys.stderr)
    return split


def one(run: Run, data: str) -> Split:
    """One example: a file, or DATA:ROW."""
    return noted(data_room.read_one(data, run.spec, run.config.data))


def codes(path: Path, names: Sequence[str]) -> Array:
    """Features (n, latent) from a file.

    Args:
        path: an .npy, an .npz with `z`, `mean` or one array, or a table of `encode`.
        names: the columns of features in such a table.
    """
    check_regular(path)
    if path.suffix.lower() in ENDINGS:
        return read_features(path, names)
    try:
        # numpy leaves the file of a damaged archive open, so it is opened here
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return np.asarray(loaded, dtype=np.float32)
            with loaded:
                name = _array_of_codes(path, loaded.files)
                check_npz(path, loaded.zip, [name], data_room.DataSettings())
                return np.asarray(loaded[name], np.float32)
    except TightboundError:
        raise
    except FileNotFoundError:
        raise TightboundError(
            f"there is no file {path}: name an .npy, .npz, .csv or .parquet of features"
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
            f"{path} has arrays {listed(names) or 'none'}: name the features z"
        )
    return names[0]


# ---- whole files


def put(out: Target, data: str | bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file atomically; its folder is created where it is missing.

    Raises:
        TightboundError: A file has appeared there since the command began, and is not to be
            replaced; or the disk refuses.
    """
    make_folder(out.path.parent)
    _check_free(out.path, out.overwrite)
    write_atomic(out.path, data)


def write_npz(out: Target, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays by name, texts without pickles."""
    put(out, partial(_save_arrays, arrays=arrays))


def _save_arrays(file: BinaryIO, arrays: Mapping[str, ArrayLike]) -> None:
    """Arrays of an .npz, of any names (numpy.savez has arguments of its own)."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            array = np.asanyarray(values)
            if array.dtype == object:
                array = array.astype(str)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def write_frame(out: Target, frame: DataFrame) -> None:
    """Write columns: CSV with all digits, an array each in .npz, or parquet."""
    if out.kind == "npz":
        write_npz(out, {str(name): frame[name].to_numpy() for name in frame.columns})
    elif out.kind == "parquet":
        named = frame.rename(columns=str)
        put(out, partial(named.to_parquet, index=_has_index(frame)))
    else:
        text = frame.to_csv(index=_has_index(frame), lineterminator="\n")
        put(out, text)


def _has_index(frame: DataFrame) -> bool:
    """True where the rows have names or numbers of their own."""
    import pandas

    return not isinstance(frame.index, pandas.RangeIndex)


def write_columns(out: Target, columns: Mapping[str, ArrayLike]) -> None:
    """Write columns by name as CSV with all digits of each number, or parquet."""
    import pandas

    write_frame(out, pandas.DataFrame(dict(columns)))


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
    is_table = run.spec.is_table
    if (
        run.spec.missing
        and is_table
        and draws
        and (run.spec.is_mixed or out.kind != "npz")
    ):
        return _write_draws(run, split, out, draws, condition)
    if run.spec.missing and not run.spec.is_mixed and out.kind == "npz":
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
    rebuilt = run.spec.to_model(_numbers(run.reconstruct(first, condition)))
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
    arrays: dict[str, Array] = {
        "x": _numbers(imputed.x).numpy(),
        "sd": _numbers(imputed.sd).numpy(),
        "ess": imputed.ess.numpy(),
    }
    if draws:
        arrays["draws"] = np.stack([_numbers(draw).numpy() for draw in imputed.draws])
    write_npz(out, arrays | _columns_of(run) | _named(split.names))
    return (
        f"{len(split)} examples, missing values filled in, with their standard "
        f"deviations: {out}"
    )


def _write_draws(
    run: Run, split: Split, out: Target, draws: int, condition: str | None
) -> str:
    """Multiple imputations of a table, one table below the other."""
    import pandas

    tables = run.impute(split, draws=draws, condition=condition).draws
    joined = pandas.concat(list(tables), ignore_index=True)
    joined.insert(0, "draw", np.repeat(np.arange(draws), len(split)), True)
    joined.insert(1, "row", np.tile(np.arange(len(split)), draws), True)
    write_frame(out, joined)
    return f"{draws} draws of {len(split)} examples, one below the other: {out}"


def _numbers(x: Tensor | DataFrame) -> Tensor:
    """Raw rows as a tensor, also those of a table of plain numbers or times."""
    if isinstance(x, Tensor):
        return x
    table = data_room.table_of(x, "the table")
    numbers = data_room.table_numbers(table, [])
    if numbers is None:
        raise TightboundError(
            "these examples are rows of a table, not pictures: name --out F.csv or F.npz"
        )
    return numbers


def _columns_of(run: Run) -> dict[str, Array]:
    """The names of the columns as an array of an .npz, of a table of numbers."""
    if not run.spec.is_table:
        return {}
    return {"column": np.asarray([field.name for field in run.spec.fields])}


def write(
    run: Run,
    x: Tensor | DataFrame,
    out: Target,
    *,
    names: Sequence[str] | None = None,
    columns: int | None = None,
) -> str:
    """Write examples (n, ...) in raw units and layout; returns a line about them."""
    _check_picture(run, out)
    is_plain = not run.spec.is_mixed
    if out.kind == "npz" and is_plain:
        arrays = {"x": _numbers(x).numpy()} | _columns_of(run)
        write_npz(out, arrays | _named(names))
    elif not isinstance(x, Tensor) and out.kind in TABLES:
        write_frame(out, x)
    elif out.kind in TABLES:
        flat = _numbers(x).flatten(1).numpy()
        write_columns(out, {f"x_{i + 1}": column for i, column in enumerate(flat.T)})
    else:
        model_units = run.spec.to_model(_numbers(x))
        view = _view(run, model_units)
        unit = view.unit(model_units.numpy())
        if out.kind == "folder":
            _folder(out, view.pixels(unit), names)
        else:
            square = min(MOST_COLUMNS, max(1, round(len(unit) ** 0.5)))
            put(out, strip(unit, view, columns or square).data)
    return f"{len(x)} examples: {out}"


def _check_picture(run: Run, out: Target) -> None:
    if run.spec.is_mixed and out.kind not in TABLES:
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

    _check_free(out.path, out.overwrite)  # filled by another in the meantime
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
