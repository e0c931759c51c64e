"""Grids of small line plots for vectors and signals, written as SVG."""

from __future__ import annotations

import numpy as np

from tightbound.report.figures.display_scale import Floats
from tightbound.report.figures.palette import DRAWN, FONTS, INK, LINE, MUTED, PRIOR

# Layout in pixels: width of a plot, margins for the numbers on the axes, height of a
# single curve, and height of each of several.
WIDE = 84
LEFT = 32
FOOT = 16
ONE = 49
EACH = 30
CURVES = 6  # channels that are drawn; further ones are left out
STEPS = 100  # a longer curve is drawn by the minimum and maximum of this many steps


class _Scale:
    """Plot coordinates for values (C, L): one band per channel, one common scale."""

    def __init__(self, every: Floats) -> None:
        low = float(np.nanmin(every))
        high = float(np.nanmax(every))
        pad = 0.0 if high > low else 0.5
        self.low = low - pad
        self.high = high + pad
        self.curves = every.shape[1]
        self.band = ONE if self.curves == 1 else EACH
        self.height = 13 + self.curves * self.band

    def traces(self, x: Floats, colour: str, thick: float) -> list[str]:
        """A line for each channel of x (C, L), or a dot where L is 1."""
        return [
            self.trace(_extremes(np.nan_to_num(y)), i, colour, thick)
            for i, y in enumerate(x)
        ]

    def trace(self, values: Floats, channel: int, colour: str, thick: float) -> str:
        inner = self.band if self.curves == 1 else self.band - 4
        share = (values - self.low) / (self.high - self.low)
        y = 4 + channel * self.band + inner * (1 - share)
        if len(y) == 1:
            return (
                f'<circle cx="{WIDE / 2:.1f}" cy="{y[0]:.1f}" r="{1.5 + thick}" '
                f'fill="{colour}"/>'
            )
        x = np.linspace(4, WIDE - 7, len(y))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        return (
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="{thick}"/>'
        )


def _extremes(y: Floats) -> Floats:
    """A curve (L,), thinned to the minimum and maximum of each step if it is long."""
    if len(y) <= 2 * STEPS:
        return y
    return np.stack(
        [f(part) for part in np.array_split(y, STEPS) for f in (np.min, np.max)]
    )


def _channels(x: Floats) -> Floats:
    """Vectors or signals as (n, C, L), limited to the channels that are drawn."""
    return x[:, None] if x.ndim == 2 else x[:, :CURVES]


def _number(x: float, y: float, anchor: str, text: str) -> str:
    text = text.replace("-", "−")
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _axis_numbers(scale: _Scale, height: int, length: int) -> str:
    """The numbers at the ends of the axes of the first plot."""
    low_at = scale.band - 1 if scale.curves > 1 else scale.height - 8
    numbers = [
        _number(LEFT - 4, 9, "end", f"{scale.high:.3g}"),
        _number(LEFT - 4, low_at, "end", f"{scale.low:.3g}"),
        _number(LEFT, height - 4, "start", "1"),
        _number(LEFT + WIDE - 5, height - 4, "end", f"{length}"),
    ]
    style = f'font-family="{FONTS}" font-size="9.5" fill="{MUTED}"'
    return f"<g {style}>{''.join(numbers)}</g>"


def draw(x: Floats, cols: int, under: Floats | None) -> tuple[str, int, int]:
    """Line plots of vectors x (n, D) or signals x (n, C, L), in rows of `cols`.

    under: (n, ...) like x, drawn beneath in grey. Returns the SVG, its width and its
    height in pixels.
    """
    x = _channels(x)
    if under is not None:
        under = _channels(under)
    scale = _Scale(x if under is None else np.concatenate([x, under]))
    width = LEFT + cols * WIDE
    height = -(-len(x) // cols) * scale.height + FOOT
    frame = (
        f'<rect x="0.5" y="0.5" width="{WIDE - 4}" height="{scale.height - 6}" '
        f'fill="none" stroke="{LINE}"/>'
    )
    parts = []
    for i, values in enumerate(x):
        lines = [] if under is None else scale.traces(under[i], PRIOR, 2.6)
        lines += scale.traces(values, INK if under is None else DRAWN, 1.3)
        left = LEFT + (i % cols) * WIDE
        top = (i // cols) * scale.height
        parts.append(
            f'<g transform="translate({left},{top})">{frame}{"".join(lines)}</g>'
        )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )
    numbers = _axis_numbers(scale, height, x.shape[2])
    return f"{head}{numbers}{''.join(parts)}</svg>", width, height
