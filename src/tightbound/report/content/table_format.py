"""Sheet: how the columns of a table are printed, in the user's own names, values and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightbound.core.data_spec import Column
from tightbound.report.page.blocks import Cell, Grid
from tightbound.report.page.text import number

Array = NDArray[Any]
MOST, WIDE = (
    20,
    64,
)  # columns that are shown, and how many make a table of numbers a curve rather than a table
MISSING, LARGE, FINE = "·", 1e7, 6


def is_table(columns: Sequence[Column], mixed: bool) -> bool:
    """True for columns with names, of several kinds or few enough to be read one by one."""
    return bool(columns) and (mixed or len(columns) <= WIDE)


@dataclass(frozen=True)
class Sheet:
    """The columns of a table; decimals: places after the point of each, three digits of its spread
    at most.
    """

    columns: tuple[Column, ...]
    decimals: tuple[int, ...]

    @classmethod
    def of(cls, columns: Sequence[Column], train: Array) -> Sheet:
        """Reads the places off training rows (n, columns)."""
        return cls(
            tuple(columns),
            tuple(
                _places(column, x) for column, x in zip(columns, train.T, strict=True)
            ),
        )

    @property
    def shown(self) -> list[int]:
        """The columns that have room on the page."""
        return list(range(min(MOST, len(self.columns))))

    def print(self, i: int, value: float) -> str:
        """A number or code of column i as the user wrote it."""
        if not np.isfinite(value):
            return MISSING
        if values := self.columns[i].values:
            own = values[int(np.clip(np.rint(value), 0, len(values) - 1))]
            return str(own).lower() if isinstance(own, bool) else str(own)
        if abs(value) >= LARGE or self.decimals[i] > FINE:
            return number(value, ".3g")
        return number(value, f",.{self.decimals[i]}f")

    def grid(
        self,
        x: Array,
        head: Sequence[str],
        alt: str,
        *,
        under: Array | None = None,
        marked: bool = False,
        chances: Array | None = None,
        notes: Sequence[str] = (),
        some: Sequence[int] | None = None,
        tag: str = "",
    ) -> Grid:
        """Examples x (n, columns) side by side, a line for each column.

        under: values (n, columns) that stand over them in grey; marked: categories that differ from
        them are marked. chances: of categories, (n, columns), printed beneath.  some: the columns
        to show, in this order.
        """
        rows = []
        for i in self.shown if some is None else some:
            cells = []
            for j, value in enumerate(x[:, i]):
                now, was = (
                    self.print(i, value),
                    None if under is None else self.print(i, under[j, i]),
                )
                off = (
                    marked
                    and bool(self.columns[i].values)
                    and was is not None
                    and was not in (now, MISSING)
                )
                chance = (
                    ""
                    if chances is None or not np.isfinite(chances[j, i])
                    else f"{chances[j, i]:.0%}"
                )
                cells.append(Cell(now, was or "", chance, off))
            rows.append((self.columns[i].name, cells, notes[i] if notes else ""))
        return Grid(head, rows, alt, tag)


def _places(column: Column, x: Array) -> int:
    if (
        column.values
        or column.kind == "count"
        or column.type.startswith(("int", "uint"))
    ):
        return 0
    x = x[np.isfinite(x)]
    spread = float(x.std()) if len(x) else 0.0
    size = spread or float(np.abs(x).max(initial=0.0)) or 1.0
    most = max(0, 2 - int(np.floor(np.log10(size))))
    return next(
        (
            d
            for d in range(min(most, FINE + 1))
            if np.allclose(np.round(x, d), x, 1e-6, 1e-6 * size)
        ),
        most,
    )
