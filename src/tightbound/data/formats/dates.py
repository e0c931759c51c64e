"""Read texts as dates, times of day and time spans."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

Values = np.ndarray

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_ZONE = r"\s?(?:Z|UTC|[+-]\d{2}:?\d{2})"
_HALF_OF_DAY = r"(?:\s?[AaPp]\.?[Mm]\.?)"
_TIME = rf"(?:,?[T ]{_CLOCK}{_HALF_OF_DAY}?(?:{_ZONE})?)?"
_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sep(?:t|tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_WEEKDAY = r"(?:mon|tue(?:s)?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_FORMS = {
    "iso": re.compile(rf"\d{{4}}([-/])\d{{1,2}}\1\d{{1,2}}{_TIME}"),
    "numbers": re.compile(rf"(\d{{1,2}})([-./])(\d{{1,2}})\2(\d{{4}}){_TIME}"),
    "short": re.compile(rf"\d{{1,2}}([-./])\d{{1,2}}\1\d{{2}}{_TIME}"),
    "named": re.compile(
        rf"(?:\d{{1,2}}[- ](?:{_MONTHS})[-, ]+\d{{4}}|(?:{_MONTHS}) \d{{1,2}},? \d{{4}}){_TIME}",
        re.IGNORECASE,
    ),
    "clock": re.compile(rf"{_CLOCK}{_HALF_OF_DAY}?"),
    "span": re.compile(rf"[+-]?\d+ days?,?(?: [+-]?{_CLOCK})?"),
    "unclear": re.compile(
        rf"(?:1[5-9]|20)\d\d[-/](?:0[1-9]|1[0-2])|\d{{4}}\.\d{{1,2}}\.\d{{1,2}}{_TIME}|"
        rf"(?:{_MONTHS})(?:[- ,]+\d{{4}}|-\d{{2}})|\d{{1,2}}[- ](?:{_MONTHS})[- ]\d{{2}}|"
        rf"{_WEEKDAY},? .*(?:{_MONTHS}|\d[-./]\d).*\d{{4}}.*|\d{{8}}T\d{{4,6}}Z?",
        re.IGNORECASE,
    ),
}
_YEAR = re.compile(r"\b\d{4}\b")
_PARTS = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_HAS_ZONE = re.compile(rf".*\d:\d.*?({_ZONE})")
_LONGEST = 60  # characters of a date
_KEEP = "set data.fields.NAME=categorical to keep the texts"
_CORRECT = f"correct it, or {_KEEP}"


@dataclass(frozen=True)
class Times:
    """Texts as times.

    Attributes:
        values: datetime64 (in UTC where there is a zone) or timedelta64.
        zone: the zone, or "".
        what: how they were read where it is not plain, or "".
        order: "day-first" or "month-first" where the texts prove it, or "".
        bad: the number of a text that is no time, and what is wrong with it.
    """

    values: Values
    zone: str = ""
    what: str = ""
    order: str = ""
    bad: tuple[int, str] | None = None


def form_of(text: str) -> str:
    """How a date, time or span is written: iso, numbers, short, named, clock, span."""
    if len(text) > _LONGEST:
        return ""
    return next((name for name, form in _FORMS.items() if form.fullmatch(text)), "")


def read_times(texts: list[str], order: str) -> Times | None:
    """Texts as times; None where most of them are none.

    Args:
        texts: the different texts of a column.
        order: "day-first" or "month-first" for dates such as 01/02/2020, or "auto".
    """
    if not texts or not any(form_of(text) for text in texts[:100]):
        return None
    forms = [form_of(text) for text in texts]
    form, count = Counter(forms).most_common(1)[0]
    if not form or count * 2 <= len(texts):
        return None
    if count < len(texts):
        odd = [other != form for other in forms].index(True)
        return _bad(odd, f"and other cells are written as {texts[forms.index(form)]!r}")
    bad = _refused(texts, form)
    return _of_form(texts, form, order) if bad is None else bad


def _of_form(texts: list[str], form: str, order: str) -> Times:
    """Texts of one form as times."""
    if form == "numbers":
        return _numbered(texts, order)
    if form == "clock":
        return _clock(texts)
    if form == "span":
        return _span(texts)
    return _dated(texts, "ISO8601" if form == "iso" else "mixed", "")


def _refused(texts: list[str], form: str) -> Times | None:
    """What is wrong with texts of one form; None for those that can be read."""
    if form == "short":
        return _bad(0, "a date with a year of two digits: write 1999-12-31")
    if form == "unclear":
        return _bad(
            0,
            f"which looks like a date and is not read as one: write 2020-12-31, or {_KEEP}",
        )
    wrong = next((i for i, text in enumerate(texts) if not _has_clock(text)), None)
    if wrong is not None:
        return _bad(wrong, "which is no time")
    return None


def may_be_dates(values: Values) -> bool:
    """True for whole numbers of which each is a date from 1900 to 2099, as 20200131."""
    if values.dtype.kind not in "iu" or not len(values):
        return False
    if values.min() < 19_000_101 or values.max() > 20_991_231:
        return False
    month, day = np.divmod(values % 10_000, 100)
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _bad(index: int, problem: str) -> Times:
    if ":" not in problem:
        problem = f"{problem}: {_CORRECT}"
    return Times(np.zeros(0), bad=(index, problem))


def _numbered(texts: list[str], order: str) -> Times:
    """Dates with day and month as numbers, whose order the setting or the texts give."""
    matches = [match for text in texts if (match := _FORMS["numbers"].fullmatch(text))]
    first = max(int(match[1]) for match in matches)
    second = max(int(match[3]) for match in matches)
    if order == "auto" and (first > 12) == (second > 12):
        return _bad(
            0,
            "a date whose day and month are not clear: write 2020-12-31, or set "
            "data.dates=day-first or month-first",
        )
    if order == "auto":
        order = "day-first" if first > 12 else "month-first"
    day, month = (1, 3) if order == "day-first" else (3, 1)
    iso = []
    for match in matches:
        date = f"{match[4]}-{int(match[month]):02d}-{int(match[day]):02d}"
        iso.append(date + match.string[match.end(4) :])
    times = _dated(iso, "ISO8601", f"dates, {order.replace('-', ' ')}")
    return replace(times, order=order)


def _dated(texts: list[str], form: str, what: str) -> Times:
    """Texts of one form as datetime64."""
    import pandas

    zones = [
        match[1].strip() if (match := _HAS_ZONE.fullmatch(t)) else "" for t in texts
    ]
    if "" in zones and any(zones):
        return _bad(zones.index(""), "without a time zone, which other cells have")
    cells = [_written(text, zone) for text, zone in zip(texts, zones, strict=True)]
    read = pandas.to_datetime(
        pandas.Series(cells, dtype=object), format=form, errors="coerce", utc=True
    )
    is_bad = read.isna().to_numpy()
    if is_bad.any():
        index = int(np.argmax(is_bad))
        return _bad(index, _problem(cells[index], pandas.__version__))
    values = read.dt.tz_localize(None).to_numpy()
    different = {_zone_name(zone) for zone in zones}
    if len(different) == 1:
        return Times(values, different.pop(), what)
    return Times(values, "UTC", "times of several zones, in UTC")


def _written(text: str, zone: str) -> str:
    """A time as the parser of pandas takes it: -, two digits, and the zone at the end."""
    clock = text[: len(text) - len(zone)].strip() if zone else text
    clock = re.sub(r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})", _padded, clock)
    clock = re.sub(r",?([T ])(\d{1,2}):", _padded_hour, clock)
    clock = _by_24_hours(clock)
    return clock + ("+00:00" if zone in ("Z", "UTC") else zone)


def _padded(match: re.Match[str]) -> str:
    return f"{match[1]}-{int(match[2]):02d}-{int(match[3]):02d}"


def _padded_hour(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]):02d}:"


def _has_clock(text: str) -> bool:
    """Whether the hours, minutes and seconds of a text are below their bounds."""
    time = _PARTS.search(text)
    if time is None:
        return True
    if re.search(_HALF_OF_DAY, text[time.end() :]) and not 1 <= int(time[1]) <= 12:
        return False
    return int(time[2]) < 60 and int(time[3] or 0) < 60


def _by_24_hours(text: str) -> str:
    """A text with a time of AM or PM as one of 24 hours."""
    half = re.search(rf"{_HALF_OF_DAY}$", text)
    time = _PARTS.search(text)
    if half is None or time is None:
        return text
    hour = int(time[1]) % 12
    if "p" in half[0].lower():
        hour += 12
    return f"{text[: time.start()]}{hour:02d}{text[time.end(1) : half.start()]}"


def _problem(cell: str, version: str) -> str:
    """Why a cell is no date: pandas before 3 has only those from 1678 to 2262."""
    year = _YEAR.search(cell)
    is_far = year is not None and not 1678 <= int(year[0]) <= 2262
    if is_far and int(version.split(".")[0]) < 3:
        return f"a date that pandas {version} does not have: install pandas 3"
    return "which is no date"


def _zone_name(zone: str) -> str:
    """The name of an offset: UTC, UTC+02:00, or "" without one."""
    digits = re.sub(r"\D", "", zone)
    if not zone:
        return ""
    if not digits or int(digits) == 0:
        return "UTC"
    return f"UTC{zone[0]}{digits[:2]}:{digits[2:]}"


def _clock(texts: list[str]) -> Times:
    """Times of day as time spans from midnight."""
    import pandas

    clocks = [_by_24_hours(text) for text in texts]
    spans = [clock + (":00" if clock.count(":") == 1 else "") for clock in clocks]
    return _spans(pandas.to_timedelta(pandas.Series(spans), errors="coerce"))


def _span(texts: list[str]) -> Times:
    """Spans of days and hours."""
    import pandas

    spans = [re.sub(r"( [+-]?\d{1,2}:\d{2})$", r"\1:00", text) for text in texts]
    cells = pandas.Series([span.replace(",", "") for span in spans])
    return _spans(pandas.to_timedelta(cells, errors="coerce"))


def _spans(read: pandas.Series) -> Times:
    is_bad = read.isna().to_numpy()
    if is_bad.any():
        return _bad(int(np.argmax(is_bad)), "which is no time")
    return Times(read.to_numpy())
