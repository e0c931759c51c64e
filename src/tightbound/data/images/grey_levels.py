"""Grey levels of 16-bit images: the values in use, and the scale that they are read by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tightbound.data.settings import DataSettings
from tightbound.runtime.errors import TightboundError

DEEPEST = 65535
_BYTE = 255
_DIM = 63  # colours of 16 bits whose upper bytes are at most this lose two bits or more


@dataclass(frozen=True)
class GreyScale:
    """Scale of the grey values of 16-bit images.

    Attributes:
        white: the grey value that is read as the highest level.
        bits: 8 for levels 0 to 255, or 16 to keep the grey values as they are.
    """

    white: int = DEEPEST
    bits: int = 8

    @property
    def top(self) -> int:
        """The highest level."""
        if self.bits == 8:
            return _BYTE
        return self.white

    @property
    def is_cut(self) -> bool:
        """True where values above `white` become the highest level."""
        return self.bits == 8 and self.white < DEEPEST

    @property
    def dtype(self) -> type[np.uint8 | np.int32]:
        """The numpy type of the levels: uint8, or int32 for 16 bits."""
        if self.bits == 8:
            return np.uint8
        return np.int32

    @property
    def resolved(self) -> dict[str, object]:
        """The data settings that give this scale."""
        return {"bits": self.bits, "white_level": self.white}

    def levels(self, grey: np.ndarray) -> np.ndarray:
        """The nearest levels of the grey values of a 16-bit image.

        In 8 bits, values above `white` become 255; in 16 bits they stay.
        """
        scaled = np.floor(grey * (self.top / self.white) + 0.5)
        if self.bits == 8:
            scaled = scaled.clip(0, self.top)
        return scaled.astype(self.dtype)

    def from_bytes(self, pixels: np.ndarray) -> np.ndarray:
        """The levels of the bytes of an 8-bit image, whose 255 is the highest level."""
        if self.bits == 8:
            return pixels
        return np.floor(pixels * (self.top / _BYTE) + 0.5).astype(self.dtype)


EIGHT_BITS = GreyScale()
#: Grey values of 16-bit images as they are.
UNSCALED = GreyScale(bits=16)


@dataclass
class GreySurvey:
    """Grey values in use in the 16-bit images of a data set.

    Attributes:
        used: which of the values 0..65535 occur in the training images.
        highest: the highest value of each 16-bit image, training or not.
        colours: which values the upper bytes of colours of 16 bits have.
    """

    used: np.ndarray = field(default_factory=lambda: np.zeros(DEEPEST + 1, bool))
    highest: list[int] = field(default_factory=list)
    colours: np.ndarray = field(default_factory=lambda: np.zeros(_BYTE + 1, bool))

    def add(self, values: np.ndarray, is_training: bool = True) -> None:
        """Add the distinct grey values of one image."""
        self.highest.append(int(values.max()))
        if is_training:
            self.used[values] = True

    def check_colours(self, where: str) -> None:
        """Refuse colours of 16 bits of which the upper bytes tell too little."""
        values = self.colours.nonzero()[0]
        if len(values) and values[-1] <= _DIM:
            raise TightboundError(
                f"{where}: of colours of 16 bits only the upper 8 bits are read, and these "
                f"have {len(values)} levels here, up to {values[-1]} of 255: save the images "
                "as an .npy array, or with colours of 8 bits"
            )

    def scale(self, settings: DataSettings, is_complete: bool = True) -> GreyScale:
        """The scale of the settings, or the one that fits the training images.

        The white level is the highest value in use, at least 255. For 16 bits, and where
        not all images are known, it is the highest one of a camera of 8, 10, 12, 14 or 16
        bits.
        """
        if settings.white_level != "auto":
            return GreyScale(settings.white_level, settings.bits)
        if not self.used.any():
            return EIGHT_BITS
        white = max(_BYTE, int(self.used.nonzero()[0][-1]))
        if settings.bits == 16 or not is_complete:
            white = (1 << (white.bit_length() + 1) // 2 * 2) - 1
        return GreyScale(white, settings.bits)

    def colour_messages(self) -> list[str]:
        """What is lost of colours of 16 bits, if there are any."""
        if not self.colours.any():
            return []
        return [
            "images with colours of 16 bits are read by the upper 8 bits (an .npy array "
            "keeps all)"
        ]

    def messages(self, scale: GreyScale) -> list[str]:
        """The number of grey levels before and after scaling, and images beyond it."""
        if not self.highest:
            return []
        values = self.used.nonzero()[0]
        n = len(self.highest)
        images = f"{n:,} image{'s' if n > 1 else ''} of 16 bits"
        messages = []
        if len(values):
            span = f"grey values {values[0]:,} to {values[-1]:,}"
            messages = [f"{images}: {span} {_change(values, scale)}"]
        above = [value for value in self.highest if value > scale.white]
        if above and scale.bits == 8:
            messages.append(
                f"{len(above):,} of {images} have grey values above "
                f"data.white_level={scale.white}, up to {max(above):,}: they are read as 255"
            )
        return messages


def _change(values: np.ndarray, scale: GreyScale) -> str:
    """The effect of a scale on the grey values in use, for a message."""
    if scale.bits == 16:
        return f"are kept, as {len(values):,} of {scale.top + 1:,} levels"
    after = len(np.unique(scale.levels(values)))
    if scale.white == scale.top and after == len(values):
        return f"are kept ({after:,} levels)"
    return (
        f"are scaled from 0..{scale.white:,} to 0..255, so their {len(values):,} levels "
        f"become {after:,} (--set data.bits=16 keeps all; data.white_level=N is the "
        "grey value that becomes 255)"
    )
