"""Judge whether the first row of a text file names its columns."""

from __future__ import annotations

import re
from itertools import pairwise

from tightbound.data.formats.cells import plain_numbers
from tightbound.data.formats.dates import form_of

_WHOLE = re.compile(r"[+-]?\d{1,18}")
_FRACTION = re.compile(r"[+-]?\d*[.,]\d*(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")
_FEW = 3  # columns up to which 0, 1 may be a row of truth values


def find_header(
    rows: list[list[str]], setting: bool | str, file: str
) -> tuple[bool, str]:
    """Whether the first row names the columns.

    It does where none of its cells is a number or a date, where a cell is a text above a
    number, and where it numbers the columns 0, 1, ..., as pandas writes them.

    Args:
        rows: the first rows of a file.
        setting: `data.header`.
        file: the name of the file, for the notice.

    Returns:
        Whether it does, and a notice where that is not plain, or "".
    """
    if setting != "auto":
        return bool(setting), ""
    first = rows[0]
    are_numbers = _are_numbers(first)
    is_value = any(
        is_number or form_of(cell) != ""
        for cell, is_number in zip(first, are_numbers, strict=True)
    )
    if not is_value:
        return True, ""
    below = _are_numbers(rows[1]) if len(rows) > 1 else []
    is_above = any(
        cell and not is_number and number_below
        for cell, is_number, number_below in zip(
            first, are_numbers, below, strict=False
        )
    )
    if is_above:
        return True, ""
    if _numbers_columns(first, rows[1:]):
        return True, (
            f"the first row of {file} numbers the columns, so it is read as their names "
            "(data.header=false if it is a row)"
        )
    if _may_name_columns(first, rows[1:]):
        return False, (
            f"the first row of {file} holds increasing whole numbers above fractions and "
            "is read as a row (data.header=true if it names the columns)"
        )
    return False, ""


def _are_numbers(cells: list[str]) -> list[bool]:
    """Which cells are numbers with a decimal point or comma, or nan."""
    numbers = plain_numbers([cell.replace(",", ".") for cell in cells]).tolist()
    return [
        cell.lower() == "nan" or (bool(cell) and is_number)
        for cell, is_number in zip(cells, numbers, strict=True)
    ]


def _numbers_columns(first: list[str], rows: list[list[str]]) -> bool:
    """True for 0, 1, ..., and for an empty cell before the names of numbered columns."""
    has_index = first[0] == "" and len(first) > 1 and all(row[0] for row in rows)
    names = first[1:] if has_index else first
    if has_index and _counts([row[0] for row in rows]) and _increase(names):
        return bool(rows)
    if not _counts(names):
        return False
    return has_index or len(names) >= _FEW or _has_fractions(names, rows)


def _counts(cells: list[str]) -> bool:
    return cells == [str(i) for i in range(len(cells))]


def _increase(cells: list[str]) -> bool:
    """True for whole numbers of which each is above the one before."""
    if not all(_WHOLE.fullmatch(cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return all(a < b for a, b in pairwise(numbers))


def _has_fractions(names: list[str], rows: list[list[str]]) -> bool:
    """True where all cells of a column below its name are written as fractions."""
    if not rows:
        return False
    columns = zip(names, *rows, strict=False)
    return any(_are_fractions(cells) for _, *cells in columns)


def _are_fractions(cells: list[str]) -> bool:
    return all(_FRACTION.fullmatch(cell) for cell in cells)


def _may_name_columns(first: list[str], rows: list[list[str]]) -> bool:
    """True for increasing whole numbers, as years, above fractions."""
    numbered = [i for i, cell in enumerate(first) if _WHOLE.fullmatch(cell)]
    if not numbered:
        return False
    start = numbered[0]
    names = first[start:]
    if len(names) < 2 or not _increase(names):
        return False
    return any(_FRACTION.fullmatch(cell) for row in rows for cell in row[start:])
