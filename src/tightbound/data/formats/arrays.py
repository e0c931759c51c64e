"""Files of numbers: .npy used in place, .npz, .csv and IDX."""

from __future__ import annotations

import csv
import math
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tightbound.data.formats.idx import read_idx
from tightbound.data.on_disk import map_on_disk, too_large
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    Part,
    Source,
    as_tensor,
    join_labels,
    read_labels,
    read_numbers,
    sha256_of,
    sha256_text,
)
from tightbound.data.tables.table import MISSING, Table, text_table, whole
from tightbound.runtime.errors import TightboundError, nearest

_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)
_ALL = ("x", "X", "data", "images", "arr_0")
_LABELS = ("y", "Y", "labels", "label", "targets", "target")
_ALIASES = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}


def _bad_array(path: Path, error: Exception) -> TightboundError:
    if (
        "pickle" in str(error)
        or "Python objects" in str(error)
        or "Object arrays" in str(error)
    ):
        return TightboundError(
            f"{path} holds Python objects (a pickle), which is never loaded: "
            "save plain numeric arrays"
        )
    return TightboundError(
        f"{path} is truncated or not a numpy file ({str(error).splitlines()[0]}): save it again"
    )


def load_npy(path: Path, settings: DataSettings) -> Source:
    """An .npy array used in place: mapped, or read as needed where it is larger than `data.memory`.

    Keyed by path, size, time and header.
    """
    notices: list[str] = []
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if too_large(array.nbytes, settings, str(path), notices):
            x: Any = map_on_disk(array, str(path))
        else:
            x = as_tensor(
                np.load(path, mmap_mode="c", allow_pickle=False), str(path), notices
            )
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    about = path.stat()
    key = sha256_text(
        "npy",
        path.resolve(),
        about.st_size,
        about.st_mtime_ns,
        array.dtype.str,
        array.shape,
    )
    return Source(path.stem, str(path), {"all": Part(x)}, key, notices=notices)


def _find(keys: list[str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in keys), None)


def load_npz(path: Path, settings: DataSettings) -> Source:
    """An .npz: x (or X, data, images) with y (or labels); or train, valid, test, x_train,
    train_images and the like.
    """
    notices: list[str] = []
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = list(file.files)
            wanted = array_keys(path, keys, settings.key)
            arrays = {
                name: (file[x], None if y is None else file[y])
                for name, (x, y) in wanted.items()
            }
            told = _condition_of(path, file, keys, settings)
    except TightboundError:
        raise
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    parts, labels = {}, {}
    for name, (x, y) in arrays.items():
        parts[name] = Part(as_tensor(x, f"{path} ({wanted[name][0]})", notices))
        if told is not None and name == "all":
            parts[name].c = read_numbers(told, len(x), str(path))
        if y is not None:
            labels[name] = y
    label_names = join_labels(parts, labels, str(path), notices)
    digest = sha256_of(
        *(
            t
            for part in parts.values()
            for t in (part.x, part.y, *([] if part.c is None else [part.c]))
        )
    )
    return Source(
        path.stem, str(path), parts, digest, label_names=label_names, notices=notices
    )


def _condition_of(
    path: Path, file: Any, keys: list[str], settings: DataSettings
) -> np.ndarray | None:
    """The array that `data.condition` names."""
    name = settings.condition
    if name is None or name == "labels":
        return None
    if name not in keys:
        raise TightboundError(
            f"{path} has no array {name!r} for data.condition: {nearest(str(name), keys)}"
        )
    found: np.ndarray = file[name]
    return found


def array_keys(
    path: Path, keys: list[str], own: str | None = None
) -> dict[str, tuple[str, str | None]]:
    """{split: (key of x, key of y)} of a file of named arrays; `own`: the key of x that the user
    named.
    """
    if own is not None:
        if own not in keys:
            raise TightboundError(
                f"{path} has no array {own!r} for data.key: {nearest(own, keys)}"
            )
        return {"all": (own, _find(keys, _LABELS))}
    found: dict[str, tuple[str, str | None]] = {}
    for split, aliases in _ALIASES.items():
        x = _find(
            keys,
            tuple(
                k
                for a in aliases
                for k in (a, f"x_{a}", f"X_{a}", f"{a}_x", f"{a}_images", f"{a}_data")
            ),
        )
        y = _find(
            keys,
            tuple(
                k
                for a in aliases
                for k in (f"y_{a}", f"{a}_y", f"{a}_labels", f"labels_{a}")
            ),
        )
        if x is not None:
            found[split] = (x, y)
    if "train" in found:
        return found
    x = _find(keys, _ALL) or (keys[0] if len(keys) == 1 else None)
    if x is None:
        raise TightboundError(
            f"{path} has arrays {', '.join(sorted(keys)) or 'none'}: name the "
            "examples 'x' (and labels 'y'), "
            "or 'train', 'valid' and 'test', or name one with data.key"
        )
    return {"all": (x, _find(keys, _LABELS))}


def load_idx(path: Path, settings: DataSettings) -> Source:
    """An IDX file, plain or gzipped."""
    notices: list[str] = []
    x = as_tensor(read_idx(path), str(path), notices)
    return Source(
        path.name.split(".")[0],
        str(path),
        {"all": Part(x)},
        sha256_of(x),
        notices=notices,
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _start_of(path: Path) -> tuple[str, list[str], list[str]]:
    """(delimiter, first row, second row) of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
            delimiter = (
                max(",;\t", key=line.count) if any(d in line for d in ",;\t") else ","
            )
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            first = [cell.strip() for cell in next(reader, [])]
            return delimiter, first, [cell.strip() for cell in next(reader, [])]
    except UnicodeDecodeError:
        raise TightboundError(
            f"{path} is not text in UTF-8: save it as CSV in UTF-8"
        ) from None


def _has_header(first: list[str], second: list[str], setting: Any) -> bool:
    """A first row names the columns if no cell is a number, or a cell is none where the next row
    has one.
    """
    if setting != "auto":
        return bool(setting)
    pairs = zip(first, second, strict=False)
    return not any(map(_is_number, first)) or any(
        a and not _is_number(a) and _is_number(b) for a, b in pairs
    )


def load_csv(path: Path, settings: DataSettings) -> Source:
    """A CSV of numbers (comma, semicolon or tab); a column named label or y, or `label`, holds
    labels, also as text.
    """
    notices: list[str] = []
    delimiter, first, second = _start_of(path)
    if not first:
        raise TightboundError(
            f"{path} is empty: expected one row of numbers for each example"
        )
    header = _has_header(first, second, settings.header)
    names = first if header else [str(i) for i in range(len(first))]
    label = label_column(path, names, header, settings, notices)
    counts = (
        header
        and not names[0].strip()
        and label != 0
        and len(names) > 1
        and _counts_rows(path, delimiter)
    )
    if counts:
        notices.append(
            f"the first column of {path.name} has no name and counts the rows, so it is left out"
        )
    told = [named_column(path, names, name, "condition") for name in _named(settings)]
    columns = [
        i for i in range(int(counts), len(names)) if i != label and i not in told
    ]
    if not columns:
        raise TightboundError(
            f"{path} has no column of numbers beside the label {names[0]!r}"
        )
    alone = len({names[i] for i in columns}) == len(columns)
    table, x = None, None
    try:
        values = _numbers(
            path, delimiter, header, columns, names, settings.allow_missing
        )
        x = as_tensor(values, str(path), notices)
        if alone:
            table = Table(
                str(path),
                {names[i]: whole(values[:, at]) for at, i in enumerate(columns)},
            )
    except TightboundError:
        found = text_table(
            path, delimiter, header and alone, {i: names[i] for i in columns}, settings
        )
        if found is None:
            raise
        if isinstance(found, int):
            raise _bad_cell(
                path, delimiter, header, [found], names, "", settings.allow_missing
            ) from None
        table = found
    labels = None
    if label is not None:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row][
                int(header) :
            ]
        cells = [row[label].strip() for row in rows]
        known = [c for c in cells if c]
        numbers = known and all(map(_is_number, known))
        labels = [float(c) if c else math.nan for c in cells] if numbers else cells
    n = len(values) if table is None else len(table)
    y, label_names = read_labels(labels, n, str(path), notices)
    parts = {"all": Part(x, y)}
    made = Source(
        path.stem,
        str(path),
        parts,
        sha256_of(x, y),
        label_names=label_names,
        notices=notices,
        table=table,
    )
    if told:
        c = read_numbers(_numbers(path, delimiter, header, told, names), n, str(path))
        parts["all"].c, made.condition_names = c, tuple(names[i] for i in told)
        made.digest = sha256_text(made.digest, sha256_of(c))
    return made


def _named(settings: DataSettings) -> tuple[str, ...]:
    """The columns that `data.condition` names."""
    wanted = () if settings.condition in (None, "labels") else settings.condition
    return (wanted,) if isinstance(wanted, str) else wanted or ()


def _counts_rows(path: Path, delimiter: str) -> bool:
    """True where the first column is 0, 1, 2, ...: the index that pandas writes."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = filter(None, csv.reader(file, delimiter=delimiter))
        next(rows, None)
        return all(row[0].strip() == str(number) for number, row in enumerate(rows))


def label_column(
    path: Path | str,
    names: list[str],
    header: bool,
    settings: DataSettings,
    notices: list[str],
) -> int | None:
    wanted = settings.label
    if wanted is None:
        found = _find(names, ("label", "y")) if header else None
        if found is not None and len(names) > 1:
            notices.append(
                f"column {found!r} holds the labels (--set data.label=NAME for another)"
            )
            return names.index(found)
        return None
    return named_column(path, names, wanted, "label")


def named_column(
    path: Path | str, names: list[str], wanted: str | int, key: str
) -> int:
    """The place of a column that a setting names, or numbers from 0."""
    if isinstance(wanted, int) or (
        wanted not in names and wanted.lstrip("-").isdigit()
    ):
        if not -len(names) <= int(wanted) < len(names):
            raise TightboundError(
                f"data.{key}={wanted}, but {path} has {len(names)} columns, counted from 0"
            )
        return int(wanted) % len(names)
    if wanted not in names:
        raise TightboundError(
            f"{path} has no column {wanted!r} for data.{key}: {nearest(wanted, names)}"
        )
    return names.index(wanted)


def _cell(text: str) -> float:
    """A number, or NaN where it is missing."""
    return math.nan if text.strip().lower() in MISSING else float(text)


def _numbers(
    path: Path,
    delimiter: str,
    header: bool,
    columns: list[int],
    names: list[str],
    missing: bool = False,
) -> np.ndarray:
    """The numbers in some columns, float64 (n, D), NaN where missing; a cell that is no finite
    number is named.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of a file without rows, which is told below
            values = np.loadtxt(
                path,
                delimiter=delimiter,
                skiprows=int(header),
                usecols=columns,
                ndmin=2,
                quotechar='"',
                comments=None,
                encoding="utf-8-sig",
                converters=_cell if missing else None,
            )
    except ValueError as error:
        raise _bad_cell(
            path, delimiter, header, columns, names, str(error), missing
        ) from None
    if len(values) == 0:
        raise TightboundError(
            f"{path} has a header and no rows: expected one row of numbers for each example"
        )
    if not (np.isfinite(values) | (missing & np.isnan(values))).all():
        raise _bad_cell(
            path, delimiter, header, columns, names, "a value is not finite", missing
        )
    return values


def _bad_cell(
    path: Path,
    delimiter: str,
    header: bool,
    columns: list[int],
    names: list[str],
    error: str,
    missing: bool,
) -> TightboundError:
    """The sentence for the first cell that is no finite number, or the first row of another
    length.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for number, row in enumerate(reader):
            if (number == 0 and header) or not row:
                continue
            line = reader.line_num
            if len(row) != len(names):
                return TightboundError(
                    f"{path}: line {line} has {len(row)} cells where {len(names)} are expected"
                )
            for i in columns:
                if missing and row[i].strip().lower() in MISSING:
                    continue
                if not _is_number(row[i]) or not math.isfinite(float(row[i])):
                    cell = repr(row[i]) if row[i].strip() else "empty"
                    return TightboundError(
                        f"{path}: line {line}, column {names[i]!r} is {cell}, "
                        "not a finite number: drop the row "
                        "(recipe missing-data takes missing values), or name a "
                        "column of labels with data.label"
                    )
    return TightboundError(
        f"{path} cannot be read as numbers: {re.sub(r'; use .*', '', error.splitlines()[0])}"
    )
