"""Blocks of a page.

A page consists of sections, a section of panels and a panel of blocks. The template
draws each block by its `kind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tightbound.report.figures.image_grid import Picture


@dataclass(frozen=True)
class Strip:
    """A row of examples with a symbol before it and optional numbers beneath."""

    tag: str
    picture: Picture
    alt: str
    numbers: Sequence[str] = ()
    note: str = ""
    kind: str = "strip"


@dataclass(frozen=True)
class Plot:
    """A plot."""

    picture: Picture
    alt: str
    kind: str = "plot"


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend.

    sign: dot, line, dashed, dotted, fill, frame, ring or dashed-ring; colour: a name
    of the palette or a hex code.
    """

    sign: str
    colour: str
    text: str


@dataclass(frozen=True)
class Legend:
    """The legend of a plot, in the language and font of the page."""

    entries: Sequence[LegendEntry]
    kind: str = "legend"


@dataclass(frozen=True)
class Term:
    """A value with its error: the sign before it, its name, colour and explanation."""

    sign: str
    name: str
    value: str
    se: str
    colour: str
    explanation: str = ""


@dataclass(frozen=True)
class Equation:
    """Terms in one line; the first equals the sum of the others."""

    terms: Sequence[Term]
    kind: str = "equation"


@dataclass(frozen=True)
class TermTable:
    """Terms in a table, one a row, with their explanations."""

    terms: Sequence[Term]
    kind: str = "term-table"


@dataclass(frozen=True)
class Bar:
    """A share from 0 to 1 as a bar with its interval; is_run: False for a baseline."""

    text: str
    value: float
    low: float
    high: float
    printed: str
    is_run: bool


@dataclass(frozen=True)
class Bars:
    """Bars, one below another."""

    bars: Sequence[Bar]
    alt: str
    kind: str = "bars"


@dataclass(frozen=True)
class ImageRow:
    """Single examples side by side: (picture, words beneath, alternative text)."""

    items: Sequence[tuple[Picture, str, str]]
    kind: str = "image-row"


@dataclass(frozen=True)
class Gallery:
    """Small plots side by side: (picture, words beneath, alternative text)."""

    items: Sequence[tuple[Picture, str, str]]
    kind: str = "gallery"


@dataclass(frozen=True)
class Segment:
    """A part of a stacked bar: its share of the full width, colour name and number."""

    share: float
    colour: str
    printed: str


@dataclass(frozen=True)
class StackedBars:
    """Stacked bars: (words, number at the left end, segments, number at the right)."""

    rows: Sequence[tuple[str, str, Sequence[Segment], str]]
    alt: str
    kind: str = "stacked-bars"


@dataclass(frozen=True)
class Findings:
    """Verdicts of the diagnosis: (heading, explanation, remedy).

    good: True where no fault was found.
    """

    items: Sequence[tuple[str, str, str]]
    good: bool = False
    kind: str = "findings"


@dataclass(frozen=True)
class Cell:
    """A printed value of a table.

    reference: a value printed above it for comparison; probability: of the value;
    differs: True to mark the value as different from the reference.
    """

    value: str
    reference: str = ""
    probability: str = ""
    differs: bool = False


@dataclass(frozen=True)
class Grid:
    """Rows of a data table side by side, one line per column.

    head: a word above each row; lines: (column name, a cell per row, note); tag: a
    word in the corner.
    """

    head: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Cell], str]]
    alt: str
    tag: str = ""
    kind: str = "grid"


@dataclass(frozen=True)
class Card:
    """The marginal distribution of one column: a histogram, or shares of each value.

    shares: (value, length of the held-out bar, length of the drawn bar, held-out share
    as printed, drawn share as printed).
    """

    name: str
    note: str
    picture: Picture | None = None
    shares: Sequence[tuple[str, float, float, str, str]] = ()


@dataclass(frozen=True)
class Cards:
    """Marginal distributions, as many side by side as fit."""

    cards: Sequence[Card]
    alt: str
    kind: str = "cards"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph inside a panel; step: True to number it."""

    text: str
    step: bool = False
    kind: str = "paragraph"


Block = (
    Strip
    | Plot
    | Legend
    | Equation
    | TermTable
    | Bars
    | ImageRow
    | Gallery
    | StackedBars
    | Findings
    | Grid
    | Cards
    | Paragraph
)


@dataclass(frozen=True)
class Panel:
    """The part of a section that shows one run."""

    title: str
    blocks: Sequence[Block]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: heading, introduction, and one panel per run.

    name: the anchor; nav: the entry in the contents; wide: blocks over the full width,
    with their caption; alone: True where one panel takes the full width.
    """

    name: str
    heading: str
    nav: str
    lead: str
    panels: Sequence[Panel]
    wide: Sequence[Block] = field(default=())
    caption: str = ""
    alone: bool = False
