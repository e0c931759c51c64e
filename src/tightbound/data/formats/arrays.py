"""Read files of numbers: .npy, .npz, .csv and IDX."""

from __future__ import annotations

import csv
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from tightbound.data.formats.idx import read_idx
from tightbound.data.formats.limits import check_npz
from tightbound.data.on_disk import OnDisk, map_on_disk, too_large
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
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
_X_FORMS = ("{}", "x_{}", "X_{}", "{}_x", "{}_images", "{}_data")
_Y_FORMS = ("y_{}", "{}_y", "{}_labels", "labels_{}")


def _bad_array(path: Path, error: Exception) -> TightboundError:
    text = str(error)
    if any(word in text for word in ("pickle", "Python objects", "Object arrays")):
        return TightboundError(
            f"{path} holds Python objects (a pickle), which is never loaded: "
            "save plain numeric arrays"
        )
    return TightboundError(
        f"{path} is truncated or not a numpy file ({text.splitlines()[0]}): save it again"
    )


def load_npy(path: Path, settings: DataSettings) -> RawSource:
    """Memory-map an .npy file, or read it on access where it exceeds `data.memory`.

    The digest is of path, size, modification time and header.
    """
    notices: list[str] = []
    x: Tensor | OnDisk
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if too_large(array.nbytes, settings, str(path), notices):
            x = map_on_disk(array, str(path))
        else:
            mapped = np.load(path, mmap_mode="c", allow_pickle=False)
            x = as_tensor(mapped, str(path), notices)
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    stat = path.stat()
    key = sha256_text(
        "npy",
        path.resolve(),
        stat.st_size,
        stat.st_mtime_ns,
        array.dtype.str,
        array.shape,
    )
    return RawSource(
        path.stem, str(path), {"all": RawSplit(x)}, key, notices=tuple(notices)
    )


def _first_of(names: Sequence[str], keys: Sequence[str]) -> str | None:
    """The first of some names that is among the keys."""
    return next((name for name in names if name in keys), None)


def load_npz(path: Path, settings: DataSettings) -> RawSource:
    """Read an .npz file: x and y, or train, valid and test.

    Examples may be called x, X, data or images, labels y or labels; splits train,
    x_train, train_images and the like.
    """
    notices: list[str] = []
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = list(file.files)
            wanted = array_keys(path, keys, settings.key)
            used = [key for pair in wanted.values() for key in pair if key is not None]
            check_npz(path, zipfile.ZipFile(path), used, settings)
            arrays = {name: file[x] for name, (x, _) in wanted.items()}
            labels = {name: file[y] for name, (_, y) in wanted.items() if y is not None}
            condition = _condition_of(path, file, keys, settings)
    except TightboundError:
        raise
    except _ERRORS as error:
        raise _bad_array(path, error) from None
    splits = {
        name: RawSplit(as_tensor(x, f"{path} ({wanted[name][0]})", notices))
        for name, x in arrays.items()
    }
    if condition is not None and "all" in splits:
        c = read_numbers(condition, len(splits["all"].x), str(path))
        splits["all"] = replace(splits["all"], c=c)
    labelled, label_names = join_labels(splits, labels, str(path), notices)
    return RawSource(
        path.stem,
        str(path),
        labelled,
        _digest_of(labelled),
        label_names=label_names,
        notices=tuple(notices),
    )


def _digest_of(splits: dict[str, RawSplit]) -> str:
    """sha256 over the examples, labels and conditions of splits in memory."""
    arrays: list[Tensor | None] = []
    for split in splits.values():
        arrays += [split.x, split.y]
        if split.c is not None:
            arrays.append(split.c)
    return sha256_of(*arrays)


def _condition_of(
    path: Path, file: Mapping[str, np.ndarray], keys: list[str], settings: DataSettings
) -> np.ndarray | None:
    """The array that `data.condition` names."""
    name = settings.condition
    if name is None or name == "labels":
        return None
    if name not in keys:
        raise TightboundError(
            f"{path} has no array {name!r} for data.condition: {nearest(str(name), keys)}"
        )
    return file[str(name)]


def array_keys(
    path: Path, keys: list[str], chosen: str | None = None
) -> dict[str, tuple[str, str | None]]:
    """The keys of examples and labels in a file of named arrays.

    Args:
        path: the file.
        keys: the names of its arrays.
        chosen: the key of the examples that the user named.

    Returns:
        {split: (key of x, key of y or None)}.
    """
    labels = _first_of(_LABELS, keys)
    if chosen is not None:
        if chosen not in keys:
            raise TightboundError(
                f"{path} has no array {chosen!r} for data.key: {nearest(chosen, keys)}"
            )
        return {"all": (chosen, labels)}
    splits: dict[str, tuple[str, str | None]] = {}
    for split, aliases in _ALIASES.items():
        x = _first_of(_named_by(_X_FORMS, aliases), keys)
        if x is not None:
            splits[split] = (x, _first_of(_named_by(_Y_FORMS, aliases), keys))
    if "train" in splits:
        return splits
    x = _first_of(_ALL, keys) or (keys[0] if len(keys) == 1 else None)
    if x is None:
        raise TightboundError(
            f"{path} has arrays {', '.join(sorted(keys)) or 'none'}: name the examples "
            "'x' (and labels 'y'), or 'train', 'valid' and 'test', or name one with "
            "data.key"
        )
    return {"all": (x, labels)}


def _named_by(forms: Sequence[str], aliases: Sequence[str]) -> list[str]:
    """The names that a split's array may have, first choice first."""
    return [form.format(alias) for alias in aliases for form in forms]


def load_idx(path: Path, settings: DataSettings) -> RawSource:
    """Read an IDX file, plain or gzipped."""
    notices: list[str] = []
    x = as_tensor(read_idx(path, settings), str(path), notices)
    return RawSource(
        path.name.split(".")[0],
        str(path),
        {"all": RawSplit(x)},
        sha256_of(x),
        notices=tuple(notices),
    )


# ---- .csv


@dataclass(frozen=True)
class _Csv:
    """A CSV file: its delimiter, whether line 1 is a header, and its column names."""

    path: Path
    delimiter: str
    header: bool
    names: list[str]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells) of each row below the header that is not empty."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            for number, row in enumerate(reader):
                if row and not (number == 0 and self.header):
                    yield reader.line_num, row

    def numbers(self, columns: list[int], missing: bool = False) -> np.ndarray:
        """The numbers in some columns, float64 (n, D), NaN where missing.

        Raises:
            TightboundError: for the first cell that is not a finite number.
        """
        try:
            with warnings.catch_warnings():
                # numpy warns of a file without rows, which is refused below
                warnings.simplefilter("ignore", UserWarning)
                values = np.loadtxt(
                    self.path,
                    delimiter=self.delimiter,
                    skiprows=int(self.header),
                    usecols=columns,
                    ndmin=2,
                    quotechar='"',
                    comments=None,
                    encoding="utf-8-sig",
                    converters=_cell if missing else None,
                )
        except ValueError as error:
            raise self.bad_cell(columns, missing, str(error)) from None
        if len(values) == 0:
            raise TightboundError(
                f"{self.path} has a header and no rows: expected one row of numbers "
                "for each example"
            )
        if not (np.isfinite(values) | (missing & np.isnan(values))).all():
            raise self.bad_cell(columns, missing, "a value is not finite")
        return values

    def bad_cell(
        self, columns: list[int], missing: bool, error: str
    ) -> TightboundError:
        """The error for the first cell that is not a finite number, or a torn row."""
        for line, row in self.rows():
            if len(row) != len(self.names):
                return TightboundError(
                    f"{self.path}: line {line} has {len(row)} cells where "
                    f"{len(self.names)} are expected"
                )
            for i in columns:
                if not _is_bad(row[i], missing):
                    continue
                cell = repr(row[i]) if row[i].strip() else "empty"
                return TightboundError(
                    f"{self.path}: line {line}, column {self.names[i]!r} is {cell}, "
                    "not a finite number: drop the row (recipe missing-data takes "
                    "missing values), or name a column of labels with data.label"
                )
        reason = re.sub(r"; use .*", "", error.splitlines()[0])
        return TightboundError(f"{self.path} cannot be read as numbers: {reason}")

    def labels(self, column: int) -> list[str] | list[float]:
        """The labels in a column: numbers where all of them are, else texts."""
        cells = [row[column].strip() for _, row in self.rows()]
        filled = [cell for cell in cells if cell]
        if filled and all(map(_is_number, filled)):
            return [float(cell) if cell else math.nan for cell in cells]
        return cells

    def counts_rows(self) -> bool:
        """True where the first column is 0, 1, 2, ...: the index that pandas writes."""
        return all(
            row[0].strip() == str(number) for number, (_, row) in enumerate(self.rows())
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_bad(cell: str, missing: bool) -> bool:
    """True for a cell that is not a finite number, nor a missing value where allowed."""
    if missing and cell.strip().lower() in MISSING:
        return False
    return not _is_number(cell) or not math.isfinite(float(cell))


def _cell(text: str) -> float:
    """A number, or NaN where it is missing."""
    if text.strip().lower() in MISSING:
        return math.nan
    return float(text)


def _open_csv(path: Path, settings: DataSettings) -> _Csv:
    """Find the delimiter, the header and the column names of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
            counts = {mark: line.count(mark) for mark in ",;\t"}
            delimiter = max(counts, key=lambda mark: counts[mark])
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            first = [cell.strip() for cell in next(reader, [])]
            second = [cell.strip() for cell in next(reader, [])]
    except UnicodeDecodeError:
        raise TightboundError(
            f"{path} is not text in UTF-8: save it as CSV in UTF-8"
        ) from None
    if not first:
        raise TightboundError(
            f"{path} is empty: expected one row of numbers for each example"
        )
    header = _has_header(first, second, settings.header)
    names = first if header else [str(i) for i in range(len(first))]
    return _Csv(path, delimiter, header, names)


def _has_header(first: list[str], second: list[str], setting: bool | str) -> bool:
    """Whether line 1 names the columns.

    It does where none of its cells is a number, or where a cell is a text above a
    number.
    """
    if setting != "auto":
        return bool(setting)
    if not any(map(_is_number, first)):
        return True
    return any(
        cell and not _is_number(cell) and _is_number(below)
        for cell, below in zip(first, second, strict=False)
    )


def load_csv(path: Path, settings: DataSettings) -> RawSource:
    """Read a CSV file (comma, semicolon or tab) of numbers and texts.

    A column named label or y, or the one that `data.label` names, holds labels.
    """
    notices: list[str] = []
    file = _open_csv(path, settings)
    label = label_column(path, file.names, file.header, settings, notices)
    conditions = [
        named_column(path, file.names, name, "condition")
        for name in _condition_names(settings)
    ]
    left_out = {label, *conditions}
    if _has_row_numbers(file, label):
        left_out.add(0)
        notices.append(
            f"the first column of {path.name} has no name and counts the rows, so it is left out"
        )
    columns = [i for i in range(len(file.names)) if i not in left_out]
    if not columns:
        raise TightboundError(
            f"{path} has no column of numbers beside the label {file.names[0]!r}"
        )
    x, table, n = _read_columns(file, columns, settings, notices)
    labels = None if label is None else file.labels(label)
    y, label_names = read_labels(labels, n, str(path), notices)
    source = RawSource(
        path.stem,
        str(path),
        {"all": RawSplit(x, y)},
        sha256_of(x, y),
        label_names=label_names,
        notices=tuple(notices),
        table=table,
    )
    if not conditions:
        return source
    c = read_numbers(file.numbers(conditions), n, str(path))
    return replace(
        source,
        splits={"all": RawSplit(x, y, c=c)},
        condition_names=tuple(file.names[i] for i in conditions),
        digest=sha256_text(source.digest, sha256_of(c)),
    )


def _read_columns(
    file: _Csv, columns: list[int], settings: DataSettings, notices: list[str]
) -> tuple[Tensor | None, Table | None, int]:
    """Some columns as numbers and as a table, and the number of rows.

    There are no numbers where columns hold text, and no table where two have one name.
    """
    chosen = {i: file.names[i] for i in columns}
    is_unique = len(set(chosen.values())) == len(columns)
    where = str(file.path)
    try:
        values = file.numbers(columns, settings.allow_missing)
    except TightboundError:
        table = text_table(
            file.path, file.delimiter, file.header and is_unique, chosen, settings
        )
        if table is None:
            raise
        if isinstance(table, int):
            raise file.bad_cell([table], settings.allow_missing, "") from None
        return None, table, len(table)
    x = as_tensor(values, where, notices)
    if not is_unique:
        return x, None, len(values)
    arrays = {file.names[i]: whole(values[:, at]) for at, i in enumerate(columns)}
    return x, Table(where, arrays), len(values)


def _has_row_numbers(file: _Csv, label: int | None) -> bool:
    """True where the first column has no name and counts the rows."""
    if not file.header or file.names[0].strip() or label == 0 or len(file.names) == 1:
        return False
    return file.counts_rows()


def _condition_names(settings: DataSettings) -> tuple[str, ...]:
    """The columns that `data.condition` names."""
    if settings.condition is None or settings.condition == "labels":
        return ()
    if isinstance(settings.condition, str):
        return (settings.condition,)
    return settings.condition


def label_column(
    path: Path | str,
    names: list[str],
    header: bool,
    settings: DataSettings,
    notices: list[str],
) -> int | None:
    """The number of the column of labels: `data.label`, or one called label or y."""
    if settings.label is not None:
        return named_column(path, names, settings.label, "label")
    name = _first_of(("label", "y"), names) if header else None
    if name is None or len(names) == 1:
        return None
    notices.append(
        f"column {name!r} holds the labels (--set data.label=NAME for another)"
    )
    return names.index(name)


def named_column(
    path: Path | str, names: list[str], wanted: str | int, key: str
) -> int:
    """The number of a column that a setting gives by its name or its number from 0."""
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
