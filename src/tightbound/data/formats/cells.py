"""Convert a column of texts to numbers, truth values, dates or categories."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tightbound.data.formats.dates import Times, may_be_dates, read_times
from tightbound.data.settings import DataSettings
from tightbound.data.source import is_gap_text
from tightbound.data.tables.table import FILL, whole
from tightbound.runtime.errors import MOST_SHOWN, TightboundError, listed, shortened

Values = np.ndarray
Mask = NDArray[np.bool_]
Decimal = Literal["auto", "point", "comma"]
LARGEST_WHOLE = 2**53

_EXPONENT = r"(?:[eE][+-]?\d+)?"
_DIGIT = r"(?=[^eE]*\d)[+-]?"  # of the mantissa
_GROUP = r"[1-9]\d{0,2}"  # before a separator of thousands: 0,126 has a decimal comma
# thousands separated by points, apostrophes or narrow spaces, before a decimal comma
_COMMA = re.compile(
    rf"{_DIGIT}(?:{_GROUP}(?:[.'’\u00a0\u202f]\d{{3}})+|\d+)?(?:,\d+)?{_EXPONENT}"
)
# thousands separated by commas, apostrophes or narrow spaces, before a decimal point
_POINT = re.compile(
    rf"{_DIGIT}(?:{_GROUP}(?:[,'’\u00a0\u202f]\d{{3}})+|\d{{1,3}})?(?:\.\d*)?{_EXPONENT}"
)
_SEPARATED = re.compile(r"\d[,'’\u00a0\u202f]\d|,\d|\.\d+\.\d")
_THREE_PLACES = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_MARKED = re.compile(
    r"(?:[$€£¥₩₹%‰]|\b[A-Z]{3}\b)?\s*[+-]?\d[\d.,'’ \u00a0\u202f]*\s*(?:[$€£¥₩₹%‰]|\b[A-Z]{3}\b)?"
)
_SIGNS = re.compile(r"[$€£¥₩₹%‰]")
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:[.,]\d+)?")
_POINTS_ALONE = re.compile(r"[+-]?\d{1,3}(?:\.\d{3}){2,}")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")  # of the internet protocol
_MINUS_SIGNS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\uff0d", "-"))
_BRACKETS = re.compile(r"\((.+)\)")  # of negative numbers in accounts
_FORTRAN = re.compile(r"([+-]?\d*\.\d*)[dD]([+-]?\d+)")
_IDENTIFIER = re.compile(r"0\d+")


@dataclass(frozen=True)
class Place:
    """A column in messages, and what the settings say of it.

    Attributes:
        where: the name of the table.
        name: the name of the column.
        row: the name of a row, by its number.
        kind: the kind that `data.fields` gives it, or None.
        allow_missing: whether a cell may be missing.
        dates: the order of day and month, as `data.dates`.
        decimal: the decimal sign, as `data.decimal`.
    """

    where: str
    name: str
    row: Callable[[int], str]
    kind: str | None = None
    allow_missing: bool = False
    dates: str = "auto"
    decimal: str = "auto"

    @classmethod
    def of(
        cls, where: str, name: str, row: Callable[[int], str], settings: DataSettings
    ) -> Place:
        """A column of a table with these settings."""
        kind = settings.fields.get(name)
        missing = settings.allow_missing
        return cls(where, name, row, kind, missing, settings.dates, settings.decimal)

    @property
    def setting(self) -> str:
        """The setting of the kind of the column."""
        return f"data.fields.{self.name if len(self.name) <= MOST_SHOWN else 'NAME'}"

    def bad(self, row: int, problem: str) -> TightboundError:
        """The error for one cell."""
        return TightboundError(
            f"{self.where}: {self.row(row)}, column {shortened(self.name)} {problem}"
        )


@dataclass(frozen=True)
class Texts:
    """The cells of a column as texts without spaces around them.

    Attributes:
        place: the column.
        cells: all cells (n,).
        gaps: which cells are missing.
        unique: the different cells that are not missing.
        codes: the place in `unique` of each cell that is not missing.
    """

    place: Place
    cells: Values
    gaps: Mask
    unique: list[str]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, cells: Sequence[str] | Values, place: Place) -> Texts:
        """The texts of some cells."""
        # a dict hashes a text once, however often it stands in the column
        given: dict[str, int] = {}
        place_of = np.array(
            [given.setdefault(cell, len(given)) for cell in cells], np.int64
        )
        merged: dict[str, int] = {}
        texts = [str(cell).strip() for cell in given]
        codes = np.array([merged.setdefault(t, len(merged)) for t in texts], np.int64)
        codes = codes[place_of]
        names = list(merged)
        stripped = np.array(names, dtype=object)[codes]
        is_gap = np.array([is_gap_text(name) for name in names], dtype=bool)
        gaps = is_gap[codes]
        number = np.cumsum(~is_gap) - 1
        present = [name for name, gap in zip(names, is_gap, strict=True) if not gap]
        return cls(place, stripped, gaps, present, number[codes[~gaps]])

    def first(self, unique: int) -> int:
        """The first row with this text."""
        return int(np.flatnonzero(~self.gaps)[int(np.argmax(self.codes == unique))])

    def spread(self, values: Values, gap: object) -> Values:
        """A value for each different text, as a column with `gap` where missing."""
        out = np.full(len(self.cells), gap, dtype=values.dtype)
        out[~self.gaps] = values[self.codes]
        return out


@dataclass(frozen=True)
class TypedColumn:
    """A column of numbers, truth values, dates or texts.

    Attributes:
        values: the values (n,).
        zone: the time zone of dates, or "".
        what: what the texts were read as, for the user, where it is not plain, or "".
        decimal: the decimal sign that the texts prove, or "".
        dates: the order of day and month that the texts prove, or "".
    """

    values: Values
    zone: str = ""
    what: str = ""
    decimal: str = ""
    dates: str = ""


def number_column(numbers: Values, decimal: str = "") -> TypedColumn:
    """A column of plain numbers, as integers where all of them are whole."""
    values = whole(numbers)
    what = ""
    if may_be_dates(values):
        what = "numbers, and may hold dates (write 2020-12-31 for 20201231 if it does)"
    return TypedColumn(values, what=what, decimal=decimal)


def notices_of(where: str, columns: Mapping[str, TypedColumn]) -> list[str]:
    """What columns were read as, for the user: one line for each kind.

    Args:
        where: the name of the table.
        columns: the columns by their names.
    """
    names: dict[str, list[str]] = {}
    for name, column in columns.items():
        if column.what:
            names.setdefault(column.what, []).append(shortened(name))
    notices: list[str] = []
    for what, alike in names.items():
        named = f"columns {listed(alike)} are"
        if len(alike) == 1:
            named = f"column {alike[0]} is"
        notices.append(f"{where}: {named} read as {what}")
    return notices


def resolved_by(columns: Iterable[TypedColumn]) -> dict[str, object]:
    """The settings that some columns prove, by which later data are read."""
    columns = list(columns)
    resolved: dict[str, object] = {}
    orders = {column.dates for column in columns} - {""}
    if len(orders) == 1:
        resolved["dates"] = orders.pop()
    signs = {column.decimal for column in columns} - {""}
    has_separators = any(column.decimal and column.what for column in columns)
    if len(signs) == 1 and has_separators:
        resolved["decimal"] = signs.pop()
    return resolved


def typed(texts: Texts, decimal: Decimal) -> TypedColumn:
    """The values of a column of texts.

    Args:
        texts: the column.
        decimal: the decimal sign of the file, or "auto" where it is not known.

    Raises:
        TightboundError: for a cell that is of no kind, with its line, and for a column
            that may be read in two ways.
    """
    place = texts.place
    if place.kind == "skip":
        return TypedColumn(texts.cells)
    if _are_identifiers(texts):
        return TypedColumn(_as_texts(texts))
    is_number = plain_numbers(texts.unique)
    if is_number.all():
        return _all_numbers(texts, decimal)
    if {text.lower() for text in texts.unique} <= {"true", "false"}:
        return TypedColumn(_truth_values(texts))
    if place.kind == "categorical":
        return TypedColumn(_as_texts(texts))
    read = separated_numbers(texts, decimal) or dates_of(texts)
    if read is not None:
        return read
    if is_number.any() and place.kind != "binary":
        raise not_a_number(texts, int(np.argmin(is_number)))
    refuse_marked(texts)
    return TypedColumn(_as_texts(texts))


def _truth_values(texts: Texts) -> Values:
    """The words true and false as truth values."""
    truths = np.array([text.lower() == "true" for text in texts.unique], object)
    return texts.spread(truths, None if texts.place.allow_missing else "")


def plain_numbers(texts: list[str]) -> Mask:
    """Which texts are numbers with a decimal point, infinity included."""
    import pandas

    if not texts:
        return np.ones(0, dtype=bool)
    numbers = pandas.to_numeric(pandas.Series(texts, dtype=object), errors="coerce")
    are_numbers: Mask = ~np.isnan(numbers.to_numpy(dtype=np.float64))
    return are_numbers


def _are_identifiers(texts: Texts) -> bool:
    """True for digits of which some begin with 0, as postcodes: they are no numbers."""
    if texts.place.kind in ("real", "count"):
        return False
    has_zero = any(_IDENTIFIER.fullmatch(text) for text in texts.unique)
    return has_zero and all(text.isdigit() for text in texts.unique)


def _as_texts(texts: Texts) -> Values:
    """The texts, with None for the missing ones where they may be missing.

    Raises:
        TightboundError: for a missing one where none may be. Of a column that
            `data.fields` calls categorical that is an empty one alone.
    """
    place = texts.place
    if not texts.gaps.any():
        return texts.cells
    if not place.allow_missing:
        is_bad = texts.gaps
        if place.kind == "categorical":
            is_bad = texts.gaps & (texts.cells == "")
        if not is_bad.any():
            return texts.cells
        row = int(np.argmax(is_bad))
        raise _missing_text(place, row, str(texts.cells[row]))
    cells = texts.cells.copy()
    cells[texts.gaps] = None
    return cells


def _all_numbers(texts: Texts, decimal: Decimal) -> TypedColumn:
    """A column of plain numbers."""
    place = texts.place
    points = [text for text in texts.unique if "." in text]
    is_proof = any(_THREE_PLACES.fullmatch(text) is None for text in points)
    if points and decimal == "comma":
        read = separated_numbers(texts, decimal) if place.decimal == "comma" else None
        if read is not None:
            return read
        raise _two_ways(texts, points[0])
    numbers = np.array([float(text) for text in texts.unique], dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise not_a_number(texts, int(np.argmin(np.isfinite(numbers))))
    check_gaps(texts)
    _check_digits(texts, numbers)
    values = texts.spread(numbers, np.nan)
    return number_column(values, "point" if is_proof else "")


def _check_digits(texts: Texts, numbers: Values) -> None:
    """Refuse whole numbers with more digits than float64 has."""
    place = texts.place
    if place.kind is not None:
        return
    for i in np.flatnonzero(np.abs(numbers) > LARGEST_WHOLE).tolist():
        text = texts.unique[i]
        if text.lstrip("+-").isdigit() and int(text) != int(numbers[i]):
            raise place.bad(
                texts.first(i),
                f"is {shortened(text)}, which has more digits than float64 holds: set "
                f"{place.setting}=skip to leave out a column of identifiers, or "
                "real to round it",
            )


def check_gaps(texts: Texts) -> None:
    """Refuse missing cells of a column of numbers, unless they are allowed."""
    if not texts.place.allow_missing and texts.gaps.any():
        row = int(np.argmax(texts.gaps))
        cell = str(texts.cells[row])
        raise _bad_number(texts.place, row, cell)


def not_a_number(texts: Texts, unique: int) -> TightboundError:
    """The error for the first cell of a column of numbers that is none."""
    rows = [texts.first(unique)]
    if not texts.place.allow_missing and texts.gaps.any():
        rows.append(int(np.argmax(texts.gaps)))
    row = min(rows)
    return _bad_number(texts.place, row, str(texts.cells[row]))


def _bad_number(place: Place, row: int, cell: str) -> TightboundError:
    shown = shortened(cell) if cell else "empty"
    return place.bad(
        row,
        f"is {shown}, not a finite number: drop the row (recipe missing-data takes missing "
        "values), name a column of labels with data.label, or set "
        f"{place.setting}=categorical if the cells are categories",
    )


def _missing_text(place: Place, row: int, cell: str) -> TightboundError:
    """The error for a missing text where none may be."""
    if not cell:
        return place.bad(row, f"is missing: {FILL}")
    return place.bad(
        row,
        f"is {shortened(cell)}, which stands for a missing value: drop the row (recipe "
        f"missing-data takes missing values), or set {place.setting}=categorical if it "
        "is a category",
    )


# ---- numbers with separators


def separated_numbers(texts: Texts, decimal: Decimal) -> TypedColumn | None:
    """Numbers with a decimal comma or with separators of thousands; None for others.

    Args:
        texts: the column.
        decimal: the decimal sign of the file, which decides where both signs fit.

    Raises:
        TightboundError: where the column may be read in two ways.
    """
    if not _has_separators(texts) and decimal != "comma":
        return None
    readings = _readings(texts.unique)
    if not readings:
        _refuse_mixed(texts)
        return None
    if _are_addresses(texts):
        return None
    if decimal != "comma" and _has_points_alone(texts):
        raise _points_alone(texts)
    sign = next(iter(readings))
    if len(readings) == 2:
        sign = decimal if decimal != "auto" else _same_sign(texts, readings)
    elif texts.place.decimal not in ("auto", sign):
        raise _two_ways(texts, _separated(texts))
    check_gaps(texts)
    return TypedColumn(
        whole(texts.spread(readings[sign], np.nan)),
        what=f"numbers with {_separators(texts, sign)}",
        decimal=sign,
    )


def _separators(texts: Texts, sign: str) -> str:
    """What separates the digits of numbers with this decimal sign."""
    if sign == "comma" and any("," in text for text in texts.unique):
        return "a decimal comma"
    return "separators of thousands"


def _has_separators(texts: Texts) -> bool:
    return any(_SEPARATED.search(text) for text in texts.unique)


def _are_addresses(texts: Texts) -> bool:
    """True for four numbers up to 255 between points: addresses, and no thousands."""
    if not all(_ADDRESS.fullmatch(text) for text in texts.unique):
        return False
    parts = [part for text in texts.unique for part in text.split(".")]
    return all(int(part) <= 255 for part in parts)


def _has_points_alone(texts: Texts) -> bool:
    """True where points may separate thousands, and no comma is a decimal sign."""
    if any("," in text for text in texts.unique):
        return False
    return any(_POINTS_ALONE.fullmatch(text) for text in texts.unique)


def _points_alone(texts: Texts) -> TightboundError:
    """The error for numbers of groups between points, as 1.234.567."""
    is_grouped = [bool(_POINTS_ALONE.fullmatch(text)) for text in texts.unique]
    number = is_grouped.index(True)
    return texts.place.bad(
        texts.first(number),
        f"is {shortened(texts.unique[number])}, whose points may separate thousands: set "
        f"data.decimal=comma if they do, or {texts.place.setting}=categorical if the cells "
        "are categories",
    )


def _separated(texts: Texts) -> str:
    """A text with a separator."""
    return next((t for t in texts.unique if _SEPARATED.search(t)), texts.unique[0])


def _readings(texts: list[str]) -> dict[str, Values]:
    """The numbers by each decimal sign that fits all texts."""
    by_comma = _by(_COMMA, texts, ".'’\u00a0\u202f", ",")
    by_point = _by(_POINT, texts, ",'’\u00a0\u202f", ".")
    readings = {"comma": by_comma, "point": by_point}
    return {sign: numbers for sign, numbers in readings.items() if numbers is not None}


def _same_sign(texts: Texts, readings: Mapping[str, Values]) -> str:
    """Any sign where both give the same numbers; refuses a column where they do not."""
    differs = readings["comma"] != readings["point"]
    if differs.any():
        raise _two_ways(texts, texts.unique[int(np.argmax(differs))])
    return "point"


def has_two_readings(texts: Texts) -> bool:
    """True for numbers such as 1,234 that may have either decimal sign."""
    if not _has_separators(texts) or texts.place.kind in ("categorical", "skip"):
        return False
    readings = _readings(texts.unique)
    if len(readings) < 2:
        return False
    return not np.array_equal(readings["comma"], readings["point"])


def _by(
    pattern: re.Pattern[str], texts: list[str], drop: str, sign: str
) -> Values | None:
    """Numbers of one way to write them; None where a text is not written so."""
    if not all(pattern.fullmatch(text) for text in texts):
        return None
    table = str.maketrans({**dict.fromkeys(drop, ""), sign: "."})
    return np.array([float(text.translate(table)) for text in texts], dtype=np.float64)


def decimal_sign(texts: Texts) -> str:
    """The decimal sign that a column of texts proves: comma, point or neither."""
    if not texts.unique or texts.place.kind in ("categorical", "skip"):
        return ""
    if plain_numbers(texts.unique).all():
        points = [text for text in texts.unique if "." in text]
        is_proof = any(_THREE_PLACES.fullmatch(text) is None for text in points)
        return "point" if is_proof else ""
    if not _has_separators(texts) or _has_points_alone(texts):
        return ""
    readings = _readings(texts.unique)
    return next(iter(readings)) if len(readings) == 1 else ""


def chosen_sign(setting: Decimal, signs: set[str]) -> Decimal:
    """The decimal sign of a file: by its setting, or the only one that columns prove."""
    if setting != "auto" or len(signs) != 1:
        return setting
    return "comma" if "comma" in signs else "point"


def _two_ways(texts: Texts, text: str) -> TightboundError:
    """The error for numbers whose decimal sign is not known."""
    return texts.place.bad(
        texts.first(texts.unique.index(text)),
        f"is {shortened(text)}, and the decimal sign of the file is not clear: set "
        "data.decimal=point, or data.decimal=comma and write all numbers with that sign",
    )


def _refuse_mixed(texts: Texts) -> None:
    """Refuse a column whose numbers are written in several ways."""
    fits = [
        bool(_COMMA.fullmatch(text) or _POINT.fullmatch(text)) for text in texts.unique
    ]
    if sum(fits) * 2 <= len(fits):
        return
    is_plain = plain_numbers(texts.unique)
    odd = [i for i, text in enumerate(texts.unique) if _SEPARATED.search(text)]
    odd = odd or [i for i, text in enumerate(texts.unique) if "." in text]
    if odd and (np.array(fits) | is_plain).all():
        raise texts.place.bad(
            texts.first(odd[0]),
            f"is {shortened(texts.unique[odd[0]])}, and other numbers of the column have "
            "another decimal sign or separator of thousands: write all of them alike",
        )
    raise not_a_number(texts, fits.index(False))


def refuse_marked(texts: Texts) -> None:
    """Refuse numbers in other signs than digits, a point and an exponent: no texts.

    These are a currency, a percent sign, spaces, negative numbers in brackets, and digits or
    a minus sign of another script.
    """
    for text in texts.unique:
        is_marked = _MARKED.fullmatch(text) and _SIGNS.search(text)
        if not (is_marked or _SPACED.fullmatch(text) or _is_written_otherwise(text)):
            return
    if texts.unique:
        text = texts.unique[0]
        raise texts.place.bad(
            texts.first(0),
            f"is {shortened(text)}: write numbers without signs and spaces, as -1234.5, or "
            f"set {texts.place.setting}=categorical if the cells are categories",
        )


def _is_written_otherwise(text: str) -> bool:
    """True for a number in brackets, with an exponent D, or in digits of another script."""
    plain = unicodedata.normalize("NFKC", text.translate(_MINUS_SIGNS))
    plain = "".join(str(unicodedata.decimal(sign, sign)) for sign in plain)
    brackets = _BRACKETS.fullmatch(plain)
    if brackets is not None:
        plain = brackets[1]
    plain = _FORTRAN.sub(r"\1e\2", plain)
    return plain != text and bool(_COMMA.fullmatch(plain) or _POINT.fullmatch(plain))


# ---- dates


def dates_of(texts: Texts) -> TypedColumn | None:
    """Dates, times and time spans; None for other texts.

    Raises:
        TightboundError: for a cell that is no date among dates, and for dates whose day
            and month are not clear.
    """
    place = texts.place
    times = read_times(texts.unique, place.dates)
    if times is None:
        return None
    if times.bad is not None:
        index, problem = times.bad
        raise place.bad(
            texts.first(index), f"is {shortened(texts.unique[index])}, {problem}"
        )
    return _dates(texts, times)


def _dates(texts: Texts, times: Times) -> TypedColumn:
    place = texts.place
    if not place.allow_missing and texts.gaps.any():
        row = int(np.argmax(texts.gaps))
        raise place.bad(
            row,
            f"is missing: {FILL}",
        )
    gap = np.array("NaT", dtype=times.values.dtype)
    values = texts.spread(times.values, gap)
    return TypedColumn(values, times.zone, times.what, dates=times.order)


def label_values(texts: Texts) -> Values:
    """A column of labels as numbers, NaN where missing, or as texts, "" where missing.

    Numbers with separators and dates are given as such: they are no classes.
    """
    if (
        texts.unique
        and plain_numbers(texts.unique).all()
        and not _are_identifiers(texts)
    ):
        numbers = np.array([float(text) for text in texts.unique])
        return texts.spread(numbers, np.nan)
    readings = _readings(texts.unique) if _has_separators(texts) else {}
    if readings:
        return texts.spread(next(iter(readings.values())), np.nan)
    times = read_times(texts.unique, texts.place.dates)
    if times is not None and times.bad is None:
        return texts.spread(times.values, np.array("NaT", dtype=times.values.dtype))
    cells = texts.cells.copy()
    cells[texts.gaps] = ""
    return cells


def with_gaps(values: Values, texts: Texts) -> Values:
    """A column of texts of a file as it is, with None where a cell is missing.

    Raises:
        TightboundError: for a missing one where none may be, unless `data.fields` calls
            the column categorical.
    """
    if _as_texts(texts) is texts.cells:
        return values
    values = values.astype(object)
    values[texts.gaps] = None
    return values


def plain_text(place: Place) -> Place:
    """The same column with any content allowed, as for labels."""
    return replace(place, allow_missing=True, kind=None)
