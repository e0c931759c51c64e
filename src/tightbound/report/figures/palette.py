"""Colours and fonts shared by the figures and the page."""

from __future__ import annotations

import numpy as np

INK = "#1d2229"
MUTED = "#5d6673"
LINE = "#e3e5e8"
PAPER = "#ffffff"
ACCENT = "#0f5f66"
PRIOR = "#8d95a0"
POSTERIOR = "#0f7c80"
DRAWN = "#c2410c"
DISTORTION = "#33588f"
RATE = "#d19a3a"
GAP = "#b4453c"
# The amortization gap; the approximation gap has the colour of the whole gap.
AMORTIZATION = "#e0a49b"

FONTS = (
    "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Inter,'Noto Sans',"
    "'Helvetica Neue','Liberation Sans',sans-serif"
)

CSS = {
    "ink": INK,
    "muted": MUTED,
    "line": LINE,
    "paper": PAPER,
    "accent": ACCENT,
    "prior": PRIOR,
    "posterior": POSTERIOR,
    "drawn": DRAWN,
    "distortion": DISTORTION,
    "rate": RATE,
    "gap": GAP,
    "amortization": AMORTIZATION,
}

TEN_COLOURS = (
    "#4e79a7",
    "#e28426",
    "#d1494b",
    "#55a3a0",
    "#4f9648",
    "#c9a800",
    "#a66c9b",
    "#ef7d92",
    "#8f6b52",
    "#7d8590",
)


def label_colours(n: int) -> list[str]:
    """One colour per label: a fixed set of ten, or evenly spread hues beyond ten."""
    if n <= len(TEN_COLOURS):
        return list(TEN_COLOURS[:n])
    from matplotlib.colors import hsv_to_rgb, to_hex

    hues = (np.arange(n) * 0.618034) % 1.0
    return [
        str(to_hex(tuple(hsv_to_rgb((hue, 0.6, 0.55 + 0.3 * (i % 2))))))
        for i, hue in enumerate(hues)
    ]
