"""Vectors as pictures: small line plots side by side, all on one scale, written as SVG."""

from __future__ import annotations

import numpy as np

from tightbound.report.palette import DRAWN, FONTS, INK, LINE, MUTED, PRIOR
from tightbound.report.view import Floats

WIDE, HIGH, LEFT, FOOT = 84, 62, 32, 16  # of a plot, and of the margins that hold its numbers


class _Scale:
    """From values to the coordinates of one plot."""

    def __init__(self, every: Floats) -> None:
        low, high = float(np.nanmin(every)), float(np.nanmax(every))
        self.low, self.high = (low, high) if high > low else (low - 0.5, high + 0.5)
        d = every.shape[1]
        self.x = np.linspace(4, WIDE - 7, d) if d > 1 else np.array([WIDE / 2])

    def trace(self, values: Floats, colour: str, thick: float) -> str:
        """A line, or a dot where there is one dimension only."""
        y = 4 + (HIGH - 13) * (1 - (np.nan_to_num(values) - self.low) / (self.high - self.low))
        if len(y) == 1:
            return f'<circle cx="{self.x[0]:.1f}" cy="{y[0]:.1f}" r="{1.5 + thick}" fill="{colour}"/>'
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(self.x, y, strict=True))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'


def _number(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text.replace("-", "−")}</text>'


def draw(x: Floats, cols: int, under: Floats | None) -> tuple[str, int, int]:
    """Vectors x (n, D) against their dimension's number, `under` beneath them in grey; SVG, width, height."""
    scale = _Scale(x if under is None else np.concatenate([x, under]))
    width, height = LEFT + cols * WIDE, -(-len(x) // cols) * HIGH + FOOT
    parts = []
    for i, values in enumerate(x):
        lines = [] if under is None else [scale.trace(under[i], PRIOR, 2.6)]
        lines.append(scale.trace(values, INK if under is None else DRAWN, 1.3))
        frame = f'<rect x="0.5" y="0.5" width="{WIDE - 4}" height="{HIGH - 6}" fill="none" stroke="{LINE}"/>'
        place = f"translate({LEFT + (i % cols) * WIDE},{(i // cols) * HIGH})"
        parts.append(f'<g transform="{place}">{frame}{"".join(lines)}</g>')
    numbers = [
        _number(LEFT - 4, 9, "end", f"{scale.high:.3g}"),
        _number(LEFT - 4, HIGH - 8, "end", f"{scale.low:.3g}"),
        _number(LEFT, height - 4, "start", "1"),
        _number(LEFT + WIDE - 5, height - 4, "end", f"d = {x.shape[1]}"),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    text = f'<g font-family="{FONTS}" font-size="9.5" fill="{MUTED}">{"".join(numbers)}</g>'
    return f"{head}{text}{''.join(parts)}</svg>", width, height
