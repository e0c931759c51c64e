"""The colours that the figures and the page share."""

from __future__ import annotations

import numpy as np

INK, MUTED, LINE, PAPER = "#1d2229", "#5d6673", "#e3e5e8", "#ffffff"
ACCENT = "#0f5f66"
PRIOR, POSTERIOR, DRAWN = "#8d95a0", "#0f7c80", "#c2410c"
DISTORTION, RATE, GAP = "#33588f", "#d19a3a", "#b4453c"
# the part of the gap that a better encoder would close; the other part has the gap's own colour
MISSED = "#e0a49b"

FONTS = (
    "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Inter,'Noto "
    "Sans','Helvetica Neue','Liberation Sans',sans-serif"
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
    "missed": MISSED,
}

_TEN = (
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
    """One colour per label: ten told apart at a glance, and beyond ten a walk round the hues."""
    if n <= len(_TEN):
        return list(_TEN[:n])
    from matplotlib.colors import hsv_to_rgb, to_hex

    turns = (np.arange(n) * 0.618034) % 1.0
    return [
        str(to_hex(tuple(hsv_to_rgb((t, 0.6, 0.55 + 0.3 * (i % 2))))))
        for i, t in enumerate(turns)
    ]
