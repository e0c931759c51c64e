"""What a page is made of: sections of panels, one panel a run, each a stack of blocks.

The template draws each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tightbound.report.figures.image_grid import Picture


@dataclass(frozen=True)
class Strip:
    """A row of examples with a short mathematical tag before it and, perhaps, a number
    under each.
    """

    tag: str
    picture: Picture
    alt: str
    numbers: Sequence[str] = ()
    note: str = ""
    kind: str = "strip"


@dataclass(frozen=True)
class Plot:
    """A figure."""

    picture: Picture
    alt: str
    kind: str = "plot"


@dataclass(frozen=True)
class Mark:
    """An entry of a legend: its sign (dot, line, dashed, fill, ring, ...), a colour by name or hex
    code, its words.
    """

    sign: str
    colour: str
    text: str


@dataclass(frozen=True)
class Key:
    """A legend, in the page's own language and type."""

    marks: Sequence[Mark]
    kind: str = "key"


@dataclass(frozen=True)
class Term:
    """A term of log p(x): its sign before it, its name, value, error, colour, and a
    sentence.
    """

    sign: str
    name: str
    value: str
    se: str
    colour: str
    says: str = ""


@dataclass(frozen=True)
class Equation:
    """Terms in a line: the first equals the rest."""

    terms: Sequence[Term]
    kind: str = "equation"


@dataclass(frozen=True)
class Ledger:
    """Terms in a table, each with its sentence."""

    terms: Sequence[Term]
    kind: str = "ledger"


@dataclass(frozen=True)
class Bar:
    """A share as a bar: words, value in 0..1, its print, and whether it is a run or a baseline."""

    text: str
    value: float
    low: float
    high: float
    shown: str
    own: bool


@dataclass(frozen=True)
class Bars:
    """Shares, one under another."""

    bars: Sequence[Bar]
    alt: str
    kind: str = "bars"


@dataclass(frozen=True)
class Trio:
    """A few single examples side by side, each with a word under it."""

    items: Sequence[tuple[Picture, str, str]]
    kind: str = "trio"


@dataclass(frozen=True)
class Gallery:
    """Small figures side by side, each with words under it."""

    items: Sequence[tuple[Picture, str, str]]
    kind: str = "gallery"


@dataclass(frozen=True)
class Segment:
    """A part of a stacked bar: its share of the whole width, its colour by name, and its number."""

    share: float
    colour: str
    shown: str


@dataclass(frozen=True)
class Stack:
    """Stacked bars, one under another: words, the number at the left end, segments, the number at
    the right end.
    """

    rows: Sequence[tuple[str, str, Sequence[Segment], str]]
    alt: str
    kind: str = "stack"


@dataclass(frozen=True)
class Findings:
    """What was found to be wrong: a heading, what it means, and the setting to change; good:
    nothing was.
    """

    items: Sequence[tuple[str, str, str]]
    good: bool = False
    kind: str = "findings"


@dataclass(frozen=True)
class Cell:
    """A value as it is printed; was: one over it to compare it with; chance: how likely it is; off:
    unlike `was`.
    """

    now: str
    was: str = ""
    chance: str = ""
    off: bool = False


@dataclass(frozen=True)
class Grid:
    """Rows of a table side by side, a line for each column: its name, a cell for each row, a note;
    tag: of all.
    """

    head: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Cell], str]]
    alt: str
    tag: str = ""
    kind: str = "grid"


@dataclass(frozen=True)
class Card:
    """One column's marginal: its name, a histogram or shares (value, held out, drawn, both as
    printed), and a note.
    """

    name: str
    note: str
    picture: Picture | None = None
    shares: Sequence[tuple[str, float, float, str, str]] = ()


@dataclass(frozen=True)
class Cards:
    """Marginals, as many side by side as have room."""

    cards: Sequence[Card]
    alt: str
    kind: str = "cards"


@dataclass(frozen=True)
class Words:
    """A paragraph inside a panel; `step` numbers it."""

    text: str
    step: bool = False
    kind: str = "words"


Block = (
    Strip
    | Plot
    | Key
    | Equation
    | Ledger
    | Bars
    | Trio
    | Gallery
    | Stack
    | Findings
    | Grid
    | Cards
    | Words
)


@dataclass(frozen=True)
class Panel:
    """One run's part of a section."""

    title: str
    blocks: Sequence[Block]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph that says what to look for, and the runs side by side; alone: one
    panel over all.
    """

    name: str
    heading: str
    nav: str
    lead: str
    panels: Sequence[Panel]
    wide: Sequence[Block] = field(default=())
    caption: str = ""
    alone: bool = False
