"""Printing of the columns of a table, in their own names, values and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tightbound.core.data_spec import Column
from tightbound.report.figures.display_scale import Array
from tightbound.report.page.blocks import Cell, Grid
from tightbound.report.page.text import number

MOST = 20  # columns that are shown
WIDE = 64  # more columns of numbers are drawn as a curve instead of a table
MISSING = "·"
DAY = 86400
LARGE = 1e7  # from here on numbers are printed with three digits
FINE = 6  # decimals; smaller numbers are printed with three digits


def is_table(columns: Sequence[Column], mixed: bool) -> bool:
    """True for named columns that are of mixed kinds or at most 64."""
    return bool(columns) and (mixed or len(columns) <= WIDE)


@dataclass(frozen=True)
class GridOptions:
    """Additions to a grid of examples.

    reference: values (n, columns) printed above in grey; mark_differences: mark
    categories that differ from them; probabilities: of the categories (n, columns),
    printed beneath; notes: one per column; columns: those to show, in this order.
    """

    reference: Array | None = None
    mark_differences: bool = False
    probabilities: Array | None = None
    notes: Sequence[str] = ()
    columns: Sequence[int] | None = None


@dataclass(frozen=True)
class TableFormat:
    """The columns of a table with the number of decimals of each.

    Decimals are as in the data, with at most three digits of the standard deviation.
    """

    columns: tuple[Column, ...]
    decimals: tuple[int, ...]

    @classmethod
    def of(cls, columns: Sequence[Column], train: Array) -> TableFormat:
        """The format for training rows (n, columns)."""
        pairs = zip(columns, train.T, strict=True)
        return cls(tuple(columns), tuple(_decimals(column, x) for column, x in pairs))

    @property
    def shown(self) -> list[int]:
        """The indices of the columns that are shown."""
        return list(range(min(MOST, len(self.columns))))

    def print(self, i: int, value: float) -> str:
        """A number or code of column i as it stands in the data."""
        if not np.isfinite(value):
            return MISSING
        if values := self.columns[i].values:
            entry = values[int(np.clip(np.rint(value), 0, len(values) - 1))]
            return str(entry).lower() if isinstance(entry, bool) else str(entry)
        if self.columns[i].type.startswith("datetime64"):
            return _time(value, self.columns[i].step)
        if abs(value) >= LARGE or self.decimals[i] > FINE:
            return number(value, ".3g")
        return number(value, f",.{self.decimals[i]}f")

    def grid(
        self,
        x: Array,
        head: Sequence[str],
        alt: str,
        options: GridOptions | None = None,
        tag: str = "",
    ) -> Grid:
        """Examples x (n, columns) side by side, one line per column."""
        options = options or GridOptions()
        lines = []
        for i in self.shown if options.columns is None else options.columns:
            values = enumerate(x[:, i])
            cells = [self._cell(i, j, value, options) for j, value in values]
            note = options.notes[i] if options.notes else ""
            lines.append((self.columns[i].name, cells, note))
        return Grid(head, lines, alt, tag)

    def _cell(self, i: int, j: int, value: float, options: GridOptions) -> Cell:
        """The cell of column i and example j."""
        printed = self.print(i, value)
        reference = None
        if options.reference is not None:
            reference = self.print(i, options.reference[j, i])
        differs = reference is not None and reference not in (printed, MISSING)
        marked = options.mark_differences and bool(self.columns[i].values)
        probability = ""
        p = options.probabilities
        if p is not None and np.isfinite(p[j, i]):
            probability = f"{p[j, i]:.0%}"
        return Cell(printed, reference or "", probability, differs and marked)


def _time(value: float, step: float) -> str:
    """A time in UTC, in days where the data are, else in seconds."""
    unit = "D" if step >= DAY else "s"
    limit = 2.0**60
    moment = np.datetime64(int(np.clip(value, -limit, limit)), "s")
    return str(moment.astype(f"datetime64[{unit}]")).replace("T", " ")


def _decimals(column: Column, x: Array) -> int:
    """The number of decimals for a column with training values x (n,)."""
    whole = column.kind == "count" or column.type.startswith(("int", "uint"))
    if column.values or whole:
        return 0
    x = x[np.isfinite(x)]
    spread = float(x.std()) if len(x) else 0.0
    size = spread or float(np.abs(x).max(initial=0.0)) or 1.0
    most = max(0, 2 - int(np.floor(np.log10(size))))
    for decimals in range(min(most, FINE + 1)):
        if np.allclose(np.round(x, decimals), x, 1e-6, 1e-6 * size):
            return decimals
    return most
