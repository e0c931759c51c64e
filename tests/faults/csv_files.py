"""Tables written as CSV in many ways: the right values are read, or one sentence refuses.

The first numbers are the ways of `csv_ways`, each with its values or its sentence. The numbers
above them draw a table and how it is written; what is read must be equal to it, and a table that
is written plainly must not be refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from csv_ways import READ, REFUSED, check
from faults.process import ERROR, Verdict, fault, in_process

from tightbound.data import DataSettings
from tightbound.data.opening import open_source
from tightbound.runtime.errors import TightboundError

Cells = list[str]
Values = list[Any]
WORDS = (
    "Köln",
    "a b",
    "x;y",
    'say "hi"',
    "1,5 m",
    "tab\there",
    "naïve",
    "éa",
    "-",
    "0x",
)


@dataclass(frozen=True)
class Written:
    """A table as text, its values, and whether nothing in it may be refused.

    Attributes:
        content: The bytes of the file.
        name: The name of the file.
        columns: The values of each column.
        settings: The settings of the data that the writing needs.
        is_plain: Whether the table must be read.
    """

    content: bytes
    name: str
    columns: Mapping[str, Values]
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_plain: bool = True


def drawn(number: int) -> Written:
    """A table and how it is written, as a function of a number."""
    chance = random.Random(f"csv {number}")
    delimiter = chance.choice(",,;\t|")
    comma = delimiter != "," and chance.random() < 0.4
    quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    n = chance.choice([3, 17, 60])
    kinds = [_reals, *chance.choices(_KINDS, k=chance.randrange(1, 5))]
    chance.shuffle(kinds)
    names = [
        f"{chance.choice(['c', 'größe', 'a-', 'x.'])}{i}" for i in range(len(kinds))
    ]
    columns: dict[str, Values] = {}
    cells: list[Cells] = []
    gaps = chance.random() < 0.3
    is_plain = True
    for name, kind in zip(names, kinds, strict=True):
        texts, columns[name] = kind(chance, n, comma)
        if gaps and kind is _reals:
            _leave_out(chance, texts, columns[name])
        cells.append(texts)
    rows = [list(row) for row in zip(*cells, strict=True)]
    settings: dict[str, Any] = {"allow_missing": True} if gaps else {}
    header = [names]
    if chance.random() < 0.2:  # an index, as pandas writes it
        header = [["", *names]]
        rows = [[str(i), *row] for i, row in enumerate(rows)]
    file = io.StringIO(newline="")
    end = chance.choice(["\n", "\n", "\r\n"])
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows(header + rows)
    text = file.getvalue()
    if chance.random() < 0.2:
        text = text.removesuffix(end)
    if chance.random() < 0.1:
        text = end + text
    content, encoding = _encoded(chance, text)
    if encoding:
        settings["encoding"] = encoding
    name = "t.tsv" if delimiter == "\t" else "t.csv"
    if chance.random() < 0.2:
        return Written(
            gzip.compress(content), f"{name}.gz", columns, settings, is_plain
        )
    return Written(content, name, columns, settings, is_plain)


def _encoded(chance: random.Random, text: str) -> tuple[bytes, str]:
    """A text in an encoding, and the setting that it needs."""
    kind = chance.random()
    if kind < 0.15:
        return b"\xef\xbb\xbf" + text.encode(), ""
    if kind < 0.25:
        return text.encode("latin-1"), "latin-1"
    if kind < 0.35:
        return text.encode("utf-16"), "utf-16"
    return text.encode(), ""


def _leave_out(chance: random.Random, cells: Cells, values: Values) -> None:
    """Some cells of numbers without a value."""
    word = chance.choice(["", "NA", "nan", "?", "NULL"])
    for i in range(1, len(cells), chance.choice([2, 5])):
        cells[i] = word
        values[i] = float("nan")


def _reals(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    """Numbers with a fraction, of any size."""
    scale = 10.0 ** chance.randrange(-4, 9)
    values = [round(chance.gauss(0, 1), 6) * scale + 0.25 for _ in range(n)]
    values[0] = 0.5  # a cell that is a number with one decimal sign alone
    cells = [repr(value) for value in values]
    if comma:
        cells = [cell.replace(".", ",") for cell in cells]
    return cells, list(values)


def _wholes(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    values = [chance.randrange(-(10**15), 10**15) for _ in range(n)]
    return [str(value) for value in values], list(values)


def _words(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    words = [f"word {chance.choice(WORDS)}" for _ in range(n)]
    return words, list(words)


def _zeros(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    cells = [f"{chance.randrange(1000):05}" for _ in range(n)]
    return cells, list(cells)


def _truth(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    values = [chance.random() < 0.5 for _ in range(n)]
    return [str(value) for value in values], list(values)


def _days(chance: random.Random, n: int, comma: bool) -> tuple[Cells, Values]:
    days = [np.datetime64("2020-01-13") + chance.randrange(4000) for _ in range(n)]
    days[0] = np.datetime64("2020-01-31")  # day and month are clear
    form = chance.choice(["{2}.{1}.{0}", "{1}/{2}/{0}", "{0}-{1}-{2}"])
    cells = [form.format(*str(day).split("-")) for day in days]
    return cells, [day.astype("datetime64[us]") for day in days]


_KINDS: list[Callable[[random.Random, int, bool], tuple[Cells, Values]]] = [
    *(_reals, _wholes, _words, _zeros, _truth, _days)
]


class CsvFiles:
    """Ways to write a CSV file."""

    def __init__(self, folder: Path) -> None:
        self.read = list(READ)
        self.refused = list(REFUSED)

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Write a table and read it."""
        listed = len(self.read) + len(self.refused)
        sentence = ""
        if number < len(self.read):
            name = self.read[number]
            content, settings, columns = READ[name]
            written = Written(_bytes(content), "t.csv", columns, settings)
        elif number < listed:
            name = self.refused[number - len(self.read)]
            content, settings, sentence = REFUSED[name]
            written = Written(_bytes(content), "t.csv", {}, settings, False)
        else:
            name = f"drawn {number}"
            written = drawn(number)
        outcome = in_process(lambda: _compare(written, folder), folder, wait)
        wrong = fault(outcome, lambda: "was read" if sentence else None)
        if wrong is None and sentence and not re.search(sentence, outcome.error):
            wrong = f"was refused for another reason: {outcome.error[-400:]}"
        if wrong is None and written.is_plain and outcome.status == 2:
            wrong = f"was refused: {outcome.error[-400:]}"
        shown = json.dumps(written.content[:300].decode(errors="replace"))
        text = wrong and f"{name}, {written.settings}, {shown}: {wrong}"
        return Verdict(text, outcome.status == 2)


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _compare(written: Written, folder: Path) -> int:
    """Read a table: 2 and a sentence where it is refused, an error where it differs."""
    path = folder / written.name
    path.write_bytes(written.content)
    try:
        source = open_source(str(path), DataSettings(**written.settings))
    except TightboundError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return 2
    check(source, written.columns)
    return 0
