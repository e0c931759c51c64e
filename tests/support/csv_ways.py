"""Ways to write a CSV file: the values of each, or the sentence that refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tightbound.data.source import RawSource

NAN = float("nan")
AB = {"a": [1.5, 2.5, 3.5], "b": [1, 2, 3]}
PLAIN = "a,b\n1.5,1\n2.5,2\n3.5,3\n"
ACCENTS = {"größe": [1.5, 2.5], "ort": ["Köln", "Zürich"]}
ACCENT_TEXT = "größe;ort\n1.5;Köln\n2.5;Zürich\n"


def dates(*texts: str) -> list[np.datetime64]:
    return [np.datetime64(text, "us") for text in texts]


def spans(*minutes: float) -> list[np.timedelta64]:
    return [np.timedelta64(round(m * 60e6), "us") for m in minutes]


def check(source: RawSource, wanted: Mapping[str, list[Any]]) -> None:
    """The table has these columns, in this order, with these values."""
    assert list(source.table.columns) == list(wanted)
    for name, values in wanted.items():
        given = source.table.columns[name].tolist()
        if source.table.columns[name].dtype.kind in "Mm":
            given = source.table.columns[name].astype(np.array(values).dtype).tolist()
            values = np.array(values).tolist()
        np.testing.assert_equal(given, values, err_msg=name)


# name: (content, settings, columns)
READ: dict[str, tuple[str | bytes, dict[str, Any], dict[str, list[Any]]]] = {
    "comma": (PLAIN, {}, AB),
    "three places after a decimal comma": (
        "p;n\n0,126;1\n-1,234;2\n12,500;3\n",
        {},
        {"p": [0.126, -1.234, 12.5], "n": [1, 2, 3]},
    ),
    "decimal commas of three places in quotes": (
        'p,n\n"0,126",1\n"1,234",2\n',
        {},
        {"p": [0.126, 1.234], "n": [1, 2]},
    ),
    "semicolon": (PLAIN.replace(",", ";"), {}, AB),
    "tab": (PLAIN.replace(",", "\t"), {}, AB),
    "bar": (PLAIN.replace(",", "|"), {}, AB),
    "all quoted": ('"a","b"\n"1.5","1"\n"2.5","2"\n"3.5","3"\n', {}, AB),
    "carriage return and line feed": (PLAIN.replace("\n", "\r\n"), {}, AB),
    "carriage return": (PLAIN.replace("\n", "\r"), {}, AB),
    "no last line end": (PLAIN[:-1], {}, AB),
    "byte order mark": (b"\xef\xbb\xbf" + PLAIN.encode(), {}, AB),
    "spaces after commas": (PLAIN.replace(",", ", "), {}, AB),
    "spaces around": (PLAIN.replace(",", " , "), {}, AB),
    "blank lines": (PLAIN.replace("\n", "\n\n"), {}, AB),
    "blank lines before": ("\n\n" + PLAIN, {}, AB),
    "lines of spaces": (PLAIN.replace("\n", "\n   \n", 2), {}, AB),
    "lines of spaces in one column": ("a\n1.5\n  \n2.5\n ", {}, {"a": [1.5, 2.5]}),
    "utf-8": (ACCENT_TEXT, {}, ACCENTS),
    "latin-1 with the setting": (
        ACCENT_TEXT.encode("latin-1"),
        {"encoding": "latin-1"},
        ACCENTS,
    ),
    "utf-16 with the setting": (
        ACCENT_TEXT.encode("utf-16"),
        {"encoding": "utf-16"},
        ACCENTS,
    ),
    "no header": ("1.5,1\n2.5,2\n", {}, {"0": [1.5, 2.5], "1": [1, 2]}),
    "no header, decimal commas": (
        "1,5;2,5\n3,5;4,5\n",
        {},
        {"0": [1.5, 3.5], "1": [2.5, 4.5]},
    ),
    "no header, dates": (
        "2020-01-02,5.5\n2020-01-03,6.5\n",
        {},
        {"0": dates("2020-01-02", "2020-01-03"), "1": [5.5, 6.5]},
    ),
    "a text without a header": (
        "5.1,setosa\n4.9,virginica\n",
        {},
        {"0": [5.1, 4.9], "1": ["setosa", "virginica"]},
    ),
    "index of pandas": (",a,b\n0,1.5,1\n1,2.5,2\n2,3.5,3\n", {}, AB),
    "index of pandas beside zeros in front": (
        ",id,b\n0,007,1.5\n1,010,2.5\n",
        {},
        {"id": ["007", "010"], "b": [1.5, 2.5]},
    ),
    "quoted index of pandas beside zeros in front": (
        '"";"id";"b"\n"0";"007";"1,5"\n"1";"010";"2,5"\n',
        {},
        {"id": ["007", "010"], "b": [1.5, 2.5]},
    ),
    "delimiter at the end": (
        "a,b,\n1.5,1,\n2.5,2,\n3.5,3,\n",
        {},
        AB,
    ),
    "one column": ("a\n1.5\n2.5\n3.5\n", {}, {"a": [1.5, 2.5, 3.5]}),
    "one row": ("a,b\n1.5,1\n", {}, {"a": [1.5], "b": [1]}),
    "an empty name": ("a,,c\n1,2,3\n", {}, {"a": [1], "1": [2], "c": [3]}),
    "a name with the delimiter": (
        '"a, in cm",b\n1.5,1\n',
        {},
        {"a, in cm": [1.5], "b": [1]},
    ),
    "a line break in a cell": (
        'a,b\n1.5,"x\ny"\n2.5,z\n',
        {},
        {"a": [1.5, 2.5], "b": ["x\ny", "z"]},
    ),
    "quotes in a cell": (
        'a,b\n1.5,"say ""x"""\n2.5,5" pipe\n',
        {},
        {"a": [1.5, 2.5], "b": ['say "x"', '5" pipe']},
    ),
    "decimal commas": (
        "price;n\n1,5;1\n22,75;2\n",
        {},
        {"price": [1.5, 22.75], "n": [1, 2]},
    ),
    "quoted decimal commas": (
        'price,n\n"1,5",1\n"22,75",2\n',
        {},
        {"price": [1.5, 22.75], "n": [1, 2]},
    ),
    "decimal commas and thousands": (
        "price;n\n1.234,5;1\n22,75;2\n",
        {},
        {"price": [1234.5, 22.75], "n": [1, 2]},
    ),
    "thousands": (
        'price,n\n"1,234.5",7\n950,8\n',
        {},
        {"price": [1234.5, 950.0], "n": [7, 8]},
    ),
    "millions": (
        'n,m\n"1,234,567",7.5\n12,8.5\n',
        {},
        {"n": [1234567, 12], "m": [7.5, 8.5]},
    ),
    "thousands that another column decides": (
        'price,n\n"1,234",7.25\n"22,500",8.5\n',
        {},
        {"price": [1234, 22500], "n": [7.25, 8.5]},
    ),
    "thousands that the setting decides": (
        'price,n\n"1,234",7\n',
        {"decimal": "point"},
        {"price": [1234], "n": [7]},
    ),
    "a decimal comma that the setting decides": (
        'price,n\n"1,234",7\n',
        {"decimal": "comma"},
        {"price": [1.234], "n": [7]},
    ),
    "points of thousands that the setting decides": (
        "price;n\n1.234;7\n",
        {"decimal": "comma"},
        {"price": [1234], "n": [7]},
    ),
    "Swiss thousands": (
        "p;n\n1'234.50;7\n12.25;8\n",
        {},
        {"p": [1234.5, 12.25], "n": [7, 8]},
    ),
    "dates of ISO": (
        "t,v\n2021-01-02,1.5\n2021-12-31,2.5\n",
        {},
        {"t": dates("2021-01-02", "2021-12-31"), "v": [1.5, 2.5]},
    ),
    "dates with a time": (
        "t,v\n2021-01-02 03:04:05.5,1.5\n2021-12-31T23:59,2.5\n",
        {},
        {"t": dates("2021-01-02T03:04:05.5", "2021-12-31T23:59"), "v": [1.5, 2.5]},
    ),
    "dates before 1678": (
        "t,v\n1492-10-12,1.5\n2021-12-31,2.5\n",
        {},
        {"t": dates("1492-10-12", "2021-12-31"), "v": [1.5, 2.5]},
    ),
    "dates, day first": (
        "t,v\n31.01.2021,1.5\n02.03.2021,2.5\n",
        {},
        {"t": dates("2021-01-31", "2021-03-02"), "v": [1.5, 2.5]},
    ),
    "dates, month first": (
        "t,v\n01/31/2021,1.5\n02/03/2021,2.5\n",
        {},
        {"t": dates("2021-01-31", "2021-02-03"), "v": [1.5, 2.5]},
    ),
    "dates that the setting decides": (
        "t,v\n01/02/2021,1.5\n",
        {"dates": "day-first"},
        {"t": dates("2021-02-01"), "v": [1.5]},
    ),
    "names of months": (
        "t;v\n5 Jan 2021;1.5\n17 Mar 2021;2.5\n",
        {},
        {"t": dates("2021-01-05", "2021-03-17"), "v": [1.5, 2.5]},
    ),
    "dates as categories": (
        "t,v\n2021-01-02,1.5\n",
        {"fields": {"t": "categorical"}},
        {"t": ["2021-01-02"], "v": [1.5]},
    ),
    "times of day": (
        "t,v\n09:30,1.5\n23:59:30,2.5\n",
        {},
        {"t": spans(570, 1439.5), "v": [1.5, 2.5]},
    ),
    "times of day with am and pm": (
        "t,v\n12:15 AM,1.5\n1:30 PM,2.5\n",
        {},
        {"t": spans(15, 810), "v": [1.5, 2.5]},
    ),
    "time spans of pandas": (
        "t,v\n1 days 02:00:00,1.5\n-1 days +23:00:00,2.5\n",
        {},
        {"t": spans(26 * 60, -60), "v": [1.5, 2.5]},
    ),
    "truth values": (
        "a,b\nTrue,1.5\nfalse,2.5\nTRUE,3.5\n",
        {},
        {"a": [True, False, True], "b": [1.5, 2.5, 3.5]},
    ),
    "integers with gaps": (
        "a,b\n1,1.5\n,2.5\n3,3.5\n",
        {"allow_missing": True},
        {"a": [1.0, NAN, 3.0], "b": [1.5, 2.5, 3.5]},
    ),
    "spellings of missing": (
        "a,b\nNA,1.5\nnan,2.5\nNULL,3.5\n#N/A,4.5\n?,5.5\n7,6.5\n",
        {"allow_missing": True},
        {"a": [NAN] * 5 + [7.0], "b": [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]},
    ),
    "gaps in texts": (
        "a,b\nx,1.5\n,2.5\n",
        {"allow_missing": True},
        {"a": ["x", None], "b": [1.5, 2.5]},
    ),
    "gaps in dates": (
        "t,v\n2021-01-02,1.5\n,2.5\n",
        {"allow_missing": True},
        {
            "t": [np.datetime64("2021-01-02", "us"), np.datetime64("NaT")],
            "v": [1.5, 2.5],
        },
    ),
    "identifiers with zeros": (
        "id,v\n007,1.5\n010,2.5\n100,3.5\n",
        {},
        {"id": ["007", "010", "100"], "v": [1.5, 2.5, 3.5]},
    ),
    "identifiers with zeros beside decimal commas": (
        "id;v\n007;1,5\n010;2,5\n",
        {},
        {"id": ["007", "010"], "v": [1.5, 2.5]},
    ),
    "identifiers with zeros as numbers": (
        "id,v\n007,1.5\n010,2.5\n",
        {"fields": {"id": "real"}},
        {"id": [7, 10], "v": [1.5, 2.5]},
    ),
    "phone numbers": (
        "p,v\n030-1234,1.5\n030-5678,2.5\n",
        {},
        {"p": ["030-1234", "030-5678"], "v": [1.5, 2.5]},
    ),
    "exponents": (
        "a,b\n1e3,1\n-2.5E-4,2\n",
        {},
        {"a": [1000.0, -0.00025], "b": [1, 2]},
    ),
    "signs and bare points": (
        "a,b\n+.5,1\n-5.,2\n",
        {},
        {"a": [0.5, -5.0], "b": [1, 2]},
    ),
    "the last digit": (
        "a,b\n0.1,1\n0.30000000000000004,2\n123456789.12345679,3\n",
        {},
        {"a": [0.1, 0.30000000000000004, 123456789.12345679], "b": [1, 2, 3]},
    ),
    "huge integers left out": (
        "id,v\n12345678901234567890,1.5\n",
        {"fields": {"id": "skip"}},
        {"id": ["12345678901234567890"], "v": [1.5]},
    ),
    "wide": (
        ",".join(f"c{i}" for i in range(3000)) + "\n" + ",".join(["0.5"] * 3000) + "\n",
        {},
        {f"c{i}": [0.5] for i in range(3000)},
    ),
    "codes that look like exponents": (
        "price;code\n1,5;E11\n2,5;e12\n3,7;-E13\n",
        {},
        {"price": [1.5, 2.5, 3.7], "code": ["E11", "e12", "-E13"]},
    ),
    "codes that look like exponents beside points": (
        "price,code\n1.5,E11\n2.5,E12\n",
        {},
        {"price": [1.5, 2.5], "code": ["E11", "E12"]},
    ),
    "exponents after decimal commas": (
        "a;b\n1,5E2;x\n,5e-1;y\n",
        {},
        {"a": [150.0, 0.05], "b": ["x", "y"]},
    ),
    "words for missing in a column of categories": (
        "a,b\nA,1.5\nNA,2.5\nNone,3.5\n",
        {"fields": {"a": "categorical"}},
        {"a": ["A", "NA", "None"], "b": [1.5, 2.5, 3.5]},
    ),
    "words for missing in texts": (
        "a,b\nA,1.5\nNA,2.5\n?,3.5\nB,4.5\n",
        {"allow_missing": True},
        {"a": ["A", None, None, "B"], "b": [1.5, 2.5, 3.5, 4.5]},
    ),
    "missing values in one column": (
        "a\n1.5\nNA\n2.5\n\n\n",
        {"allow_missing": True},
        {"a": [1.5, NAN, 2.5]},
    ),
    "empty quotes in one column": (
        'a\n1.5\n""\n2.5\n',
        {"allow_missing": True},
        {"a": [1.5, NAN, 2.5]},
    ),
    "addresses": (
        "ip,v\n192.168.100.200,1.5\n192.168.100.201,2.5\n",
        {},
        {"ip": ["192.168.100.200", "192.168.100.201"], "v": [1.5, 2.5]},
    ),
    "addresses beside decimal commas": (
        "ip;v\n192.168.100.200;1,5\n192.168.100.201;2,5\n",
        {},
        {"ip": ["192.168.100.200", "192.168.100.201"], "v": [1.5, 2.5]},
    ),
    "points of thousands beside decimal commas": (
        "n;v\n1.234.567;1,5\n12;2,5\n",
        {},
        {"n": [1234567, 12], "v": [1.5, 2.5]},
    ),
    "points of thousands by the setting": (
        "n,v\n1.234.567,7\n",
        {"decimal": "comma"},
        {"n": [1234567], "v": [7]},
    ),
    "dates with am and pm": (
        "t,v\n1/13/2020 1:05 PM,1.5\n1/14/2020 12:00:30 AM,2.5\n",
        {},
        {"t": dates("2020-01-13T13:05", "2020-01-14T00:00:30"), "v": [1.5, 2.5]},
    ),
    "dates of ISO and of months with am and pm": (
        "t;u\n2020-01-13 1:05pm;5 Jan 2021 12:30 p.m.\n2020-01-14 12:05 AM;Jan 6, 2021 1:00 AM\n",
        {},
        {
            "t": dates("2020-01-13T13:05", "2020-01-14T00:05"),
            "u": dates("2021-01-05T12:30", "2021-01-06T01:00"),
        },
    ),
    "a comment at the end of a cell": (
        "a,b\n1.5,x # y\n2.5,z\n",
        {},
        {"a": [1.5, 2.5], "b": ["x # y", "z"]},
    ),
}

# name: (content, settings, the sentence)
REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "nothing": ("", {}, "is empty"),
    "negative numbers in brackets": (
        "a,b\n(1.5),1\n(2),2\n",
        {},
        r"line 2, column 'a' is '\(1.5\)': write numbers without signs",
    ),
    "another minus sign": (
        "a,b\n\u22121.5,1\n\u22122,2\n",
        {},
        "write numbers without",
    ),
    "digits of another script": (
        "a,b\n\u0661,1\n\u0662,2\n",
        {},
        "write numbers without",
    ),
    "exponents of Fortran": (
        "a,b\n1.5D+01,1\n2.5D+01,2\n",
        {},
        "write numbers without",
    ),
    "columns in places": (
        "a   t\n1.5  u\n22.5  v\n",
        {},
        "the columns are separated by spaces",
    ),
    "the delimiter in the first row": (
        "sep=;\na;b;c\n1;2;3\n",
        {},
        "line 2 has 3 cells where 2 .* remove the first row",
    ),
    "lines without cells": ("\n\n\n", {}, "is empty"),
    "no rows": ("a,b\n", {}, "a header and no rows"),
    "too many cells": (
        "price,n\n1,234.5,7\n",
        {},
        "line 2 has 3 cells where 2 are expected",
    ),
    "too few cells": (PLAIN + "4.5\n", {}, "line 5 has 1 cells where 2 are expected"),
    "delimiter at the end of rows only": (
        "a,b\n1,2,\n3,4,\n",
        {},
        "line 2 has 3 cells where 2 are expected",
    ),
    "names of rows of R": ('"a","b"\n"1",1.5,2\n', {}, "line 2 has 3 cells where 2"),
    "a line of comments": (
        "# made by hand\na,b\n1,2\n",
        {},
        "line 2 has 2 cells where 1 .* remove the first row",
    ),
    "a comment among rows": (
        PLAIN + "# the end\n",
        {},
        "line 5 .* remove lines of comments",
    ),
    "torn after a line break in a cell": (
        'a,b\n"x\ny",1\nz\n',
        {},
        "line 4 has 1 cells where 2",
    ),
    "a forgotten quote": (
        'a,b\n1.5,"x\n' + "2.5,y\n" * 3,
        {},
        "the quotes of line 2 do not match",
    ),
    "a quote within": ('a,b\n1.5,"x" y\n', {}, "the quotes of line 2 do not match"),
    "a forgotten quote above a long file": (
        'a,b\n1.5,"x\n' + "2.5,yyyyyyyyyyyy\n" * 80_000,
        {},
        "line 2 has a cell of more than 1,048,576 characters",
    ),
    "spaces between": ("1.5 2.5\n3.5 4.5\n", {}, "separated by spaces"),
    "nan": ("a,b\n1,2\nnan,3\n", {}, "line 3, column 'a' is 'nan', not a finite"),
    "inf": ("a,b\n1,2\ninf,3\n", {}, "line 3, column 'a' is 'inf', not a finite"),
    "too large": ("a,b\n1.5,2\n1e999,3\n", {}, "line 3, column 'a' is '1e999', not a"),
    "an underscore": (
        "a,b\n1,2\n1_000,3\n",
        {},
        "line 3, column 'a' is '1_000', not a",
    ),
    "hex": ("a,b\n1,2\n0x1F,3\n", {}, "line 3, column 'a' is '0x1F', not a finite"),
    "an empty cell": (
        "a,b\n1,2\n,3\n",
        {},
        "line 3, column 'a' is empty, not a finite",
    ),
    "a text among numbers": (
        "a,b\n1.5,x\n2.5,y\noops,x\n",
        {},
        "line 4, column 'a' is 'oops'.*data.fields.a=categorical",
    ),
    "a long text among numbers": (
        "a,b\n1.5,x\n" + "z" * 5000 + ",x\n",
        {},
        r"'z{57}'\.\.\. \(5,000 characters\)",
    ),
    "NA among texts": (
        "a,b\nA,1.5\nNA,2.5\n",
        {},
        "line 3, column 'a' is 'NA', which stands for a missing value.*fields.a=categorical",
    ),
    "a question mark among texts": (
        "a,b\nA,1.5\nB,2\n?,2.5\n",
        {},
        "line 4, column 'a' is '\\?', which stands for a missing value",
    ),
    "an empty text": (
        "a,b\nA,1.5\n,2.5\n",
        {},
        "line 3, column 'a' is missing: drop such rows",
    ),
    "an empty category": (
        "a,b\nA,1.5\n,2.5\n",
        {"fields": {"a": "categorical"}},
        "line 3, column 'a' is missing: drop such rows",
    ),
    "a long name": (
        "n" * 5000 + ",b\n1.5,x\n?,y\n",
        {},
        r"\(5,000 characters\) is '\?'.*data.fields.NAME=categorical",
    ),
    "an empty line in one column with missing values": (
        "a\n1.5\n\n2.5\n",
        {"allow_missing": True},
        "line 3 is empty: write NA there",
    ),
    "a line of spaces in one column with missing values": (
        '"a"\n1.5\n  \n2.5\n',
        {"allow_missing": True},
        "line 3 is empty: write NA there",
    ),
    "groups between points": (
        "n,v\n123.456.789,1.5\n123.456.780,2.5\n",
        {},
        "column 'n' is '123.456.789', whose points may separate thousands.*decimal=comma",
    ),
    "minutes above 59": (
        "t,v\n12:30,1.5\n13:99,2.5\n",
        {},
        "line 3, column 't' is '13:99', which is no time",
    ),
    "seconds above 59": (
        "t,v\n12:30:00,1.5\n13:00:60,2.5\n",
        {},
        "line 3, column 't' is '13:00:60', which is no time",
    ),
    "minutes of spans above 59": (
        "t,v\n1 days 02:00:00,1.5\n1 days 02:75:00,2.5\n",
        {},
        "line 3, column 't' is '1 days 02:75:00', which is no time",
    ),
    "an hour above 12 with pm": (
        "t,v\n12:30 PM,1.5\n13:30 PM,2.5\n",
        {},
        "line 3, column 't' is '13:30 PM', which is no time",
    ),
    "an hour of 0 with a date and am": (
        "t,v\n2020-01-13 0:30 AM,1.5\n",
        {},
        "line 2, column 't' is '2020-01-13 0:30 AM', which is no time",
    ),
    "months without a day": (
        "t,v\n2000-01,1.5\n2000-02,2.5\n",
        {},
        "column 't' is '2000-01', which looks like a date.*data.fields.NAME=categorical",
    ),
    "names of months without a day": (
        "t,v\nJan 2020,1.5\nFeb 2020,2.5\n",
        {},
        "column 't' is 'Jan 2020', which looks like a date",
    ),
    "days of the week": (
        "t;v\nMon Jan 6 2020;1.5\nTue Jan 7 2020;2.5\n",
        {},
        "column 't' is 'Mon Jan 6 2020', which looks like a date",
    ),
    "points in dates of ISO": (
        "t,v\n2020.01.31,1.5\n2020.02.28,2.5\n",
        {},
        "column 't' is '2020.01.31', which looks like a date",
    ),
    "thousands or a decimal comma": (
        'price,n\n"1,234",7\n"22,500",8\n',
        {},
        "line 2, column 'price' is '1,234', and the decimal sign.*data.decimal",
    ),
    "points beside decimal commas": (
        "a;b\n1,5;1.234\n2,5;2.345\n",
        {},
        "column 'b' is '1.234', and the decimal sign",
    ),
    "a point where commas are said": (
        "a;b\n1.5;2\n",
        {"decimal": "comma"},
        "column 'a' is '1.5', and the decimal sign",
    ),
    "a text where commas are said": (
        "a;b\n1.5x;2\n2.5;3\n",
        {"decimal": "comma"},
        "column 'a' is '1.5x', not a finite number",
    ),
    "two decimal signs in a column": (
        "a;b\n1,5;x\n2.25;y\n",
        {},
        "column 'a' is '1,5', and other numbers of the column",
    ),
    "percent signs": ("r,n\n12%,1\n5.5%,2\n", {}, "column 'r' is '12%': write numbers"),
    "a currency": ("r;n\n€ 12,50;1\n€ 5,00;2\n", {}, "column 'r' is '€ 12,50': write"),
    "spaces as thousands": (
        "r,n\n1 234,1\n22 500,2\n",
        {},
        "column 'r' is '1 234': write",
    ),
    "day or month first": (
        "t,v\n01/02/2021,1.5\n03/04/2021,2.5\n",
        {},
        "column 't' is '01/02/2021', a date whose day and month are not clear",
    ),
    "day and month first": (
        "t,v\n31/01/2021,1.5\n01/31/2021,2.5\n",
        {},
        "a date whose day and month are not clear",
    ),
    "years of two digits": ("t,v\n31/12/99,1.5\n", {}, "a year of two digits"),
    "no date": (
        "t,v\n2021-02-30,1.5\n2021-02-03,2.5\n",
        {},
        "line 2, column 't' is '2021-02-30', which is no date",
    ),
    "a text among dates": (
        "t,v\n2021-01-02,1.5\nsoon,2.5\n2021-01-04,2.5\n",
        {},
        "line 3, column 't' is 'soon', and other cells are written as '2021-01-02'",
    ),
    "a zone in some cells": (
        "t,v\n2021-01-02 00:00Z,1.5\n2021-01-03 00:00,2.5\n",
        {},
        "line 3, column 't' is '2021-01-03 00:00', without a time zone",
    ),
    "an empty date": (
        "t,v\n2021-01-02,1.5\n,2.5\n",
        {},
        "line 3, column 't' is missing",
    ),
    "huge integers": (
        "id,v\n12345678901234567891,1.5\n",
        {},
        "more digits than float64 holds",
    ),
    "integers of 17 digits": (
        "id,v\n12345678901234567,1.5\n",
        {},
        "more digits than float64 holds",
    ),
    "columns of one name and texts": (
        "a,a\n1.5,x\n",
        {},
        "has two columns 'a': rename one",
    ),
    "numbers under one name": (
        "a,b,a\n1.5,2,3\n2.5,3,4\n",
        {},
        "has two columns 'a': rename one",
    ),
    "one name of a label and a feature": (
        "a,b,a\n1.5,2,x\n2.5,3,y\n",
        {"label": 2},
        "has two columns 'a': rename one",
    ),
    "latin-1": (
        ACCENT_TEXT.encode("latin-1"),
        {},
        "line 1 holds the byte 0xf6, which is not text in UTF-8.*data.encoding=latin-1",
    ),
    "latin-1 far below": (
        b"a;b\n" + b"1.5;x\n" * 20_000 + b"2.5;\xfc\n",
        {},
        "line 20002 holds the byte 0xfc, which is not text",
    ),
    "utf-16": (PLAIN.encode("utf-16"), {}, "text in UTF-16, not UTF-8.*utf-16"),
    "zero bytes": (b"a,b\n1,\x00\n", {}, "line 2 holds the byte 0x00"),
}
