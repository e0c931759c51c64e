"""Vectors and signals as pictures: small line plots side by side, all on one scale, written
as SVG.
"""

from __future__ import annotations

import numpy as np

from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.palette import DRAWN, FONTS, INK, LINE, MUTED, PRIOR

WIDE, LEFT, FOOT = 84, 32, 16  # of a plot, and of the margins that hold its numbers
ONE, EACH, CURVES = (
    49,
    30,
    6,
)  # height of one curve, and of each of several; of more channels the first are drawn
STEPS = 100  # a longer curve is drawn by the extremes of so many steps


class _Scale:
    """From values (C, L) to the coordinates of one plot: a band for each channel, all on
    one scale.
    """

    def __init__(self, every: Floats) -> None:
        low, high = float(np.nanmin(every)), float(np.nanmax(every))
        self.low, self.high = (low, high) if high > low else (low - 0.5, high + 0.5)
        self.curves = every.shape[1]
        self.band = ONE if self.curves == 1 else EACH
        self.height = 13 + self.curves * self.band

    def traces(self, x: Floats, colour: str, thick: float) -> list[str]:
        """A line for each channel of x (C, L); a dot where it has one value only."""
        return [
            self.trace(_extremes(np.nan_to_num(y)), i, colour, thick)
            for i, y in enumerate(x)
        ]

    def trace(self, values: Floats, channel: int, colour: str, thick: float) -> str:
        inner = self.band if self.curves == 1 else self.band - 4
        y = (
            4
            + channel * self.band
            + inner * (1 - (values - self.low) / (self.high - self.low))
        )
        if len(y) == 1:
            return (
                f'<circle cx="{WIDE / 2:.1f}" cy="{y[0]:.1f}" r="{1.5 + thick}" '
                f'fill="{colour}"/>'
            )
        points = " ".join(
            f"{a:.1f},{b:.1f}"
            for a, b in zip(np.linspace(4, WIDE - 7, len(y)), y, strict=True)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'


def _extremes(y: Floats) -> Floats:
    """A curve (L,), or where it is long the least and the greatest value of each of its steps, in
    turn.
    """
    if len(y) <= 2 * STEPS:
        return y
    return np.stack(
        [f(part) for part in np.array_split(y, STEPS) for f in (np.min, np.max)]
    )


def _channels(x: Floats) -> Floats:
    """(n, C, L) of the channels that are drawn."""
    return x[:, None] if x.ndim == 2 else x[:, :CURVES]


def _number(x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text.replace("-", "−")}</text>'
    )


def draw(x: Floats, cols: int, under: Floats | None) -> tuple[str, int, int]:
    """Vectors x (n, D) or signals (n, C, L) by the number of a value, `under` beneath in grey; SVG,
    width, height.
    """
    x, under = _channels(x), None if under is None else _channels(under)
    scale = _Scale(x if under is None else np.concatenate([x, under]))
    high = scale.height
    width, height = LEFT + cols * WIDE, -(-len(x) // cols) * high + FOOT
    parts = []
    for i, values in enumerate(x):
        lines = [] if under is None else scale.traces(under[i], PRIOR, 2.6)
        lines += scale.traces(values, INK if under is None else DRAWN, 1.3)
        frame = (
            f'<rect x="0.5" y="0.5" width="{WIDE - 4}" height="{high - 6}" '
            f'fill="none" stroke="{LINE}"/>'
        )
        place = f"translate({LEFT + (i % cols) * WIDE},{(i // cols) * high})"
        parts.append(f'<g transform="{place}">{frame}{"".join(lines)}</g>')
    numbers = [
        _number(LEFT - 4, 9, "end", f"{scale.high:.3g}"),
        _number(
            LEFT - 4,
            scale.band - 1 if scale.curves > 1 else high - 8,
            "end",
            f"{scale.low:.3g}",
        ),
        _number(LEFT, height - 4, "start", "1"),
        _number(LEFT + WIDE - 5, height - 4, "end", f"{x.shape[2]}"),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )
    text = f'<g font-family="{FONTS}" font-size="9.5" fill="{MUTED}">{"".join(numbers)}</g>'
    return f"{head}{text}{''.join(parts)}</svg>", width, height
