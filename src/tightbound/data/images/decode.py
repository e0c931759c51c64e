"""Decode an image to pixels: upright, 8 bits, opaque, cropped and resized."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_ORIENTATION = 0x0112
AUTO_SIDE = 64


@dataclass(frozen=True)
class Header:
    """Properties of an image that need no decoding.

    Attributes:
        height: height in pixels, after the rotation in its metadata.
        width: width in pixels, after the same.
        grey: whether it has greys only.
        alpha: whether it has transparency.
        deep: whether it has 16 bits.
        frames: whether it has several frames.
    """

    height: int
    width: int
    grey: bool
    alpha: bool
    deep: bool
    frames: bool


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Turn Pillow's warning of a decompression bomb into an error.

    Warning filters are global, so this context surrounds a whole pass over the images.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(file: IO[bytes]) -> Image.Image:
    """Open an image in a format that Pillow reads itself, without decoding it."""
    try:
        return Image.open(file, formats=_FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(
            f"it unpacks to more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, "
            "as a decompression bomb does"
        ) from None


def is_grey(image: Image.Image) -> bool:
    """Whether the image has greys only, by its mode or by its palette."""
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;")


def header_of(image: Image.Image) -> Header:
    """The header of an opened image."""
    width, height = image.size
    if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        height, width = image.size
    return Header(
        height,
        width,
        grey=is_grey(image),
        alpha=image.has_transparency_data,
        deep=image.mode.startswith("I"),
        frames=getattr(image, "n_frames", 1) > 1,
    )


def pixels(
    image: Image.Image, size: tuple[int, int] | None, channels: int | None
) -> np.ndarray:
    """Decode an image: upright, 8 bits, on white, the largest centred crop resized.

    Args:
        image: the opened image.
        size: (height, width) of the result; None keeps the size.
        channels: 1 or 3; None gives 1 for greys and 3 for all others.

    Returns:
        uint8 (C, H, W).

    Raises:
        Exception: any error of Pillow on a damaged file.
    """
    if size is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * max(size), 2 * max(size)))
    channels = channels or (1 if is_grey(image) else 3)
    upright = ImageOps.exif_transpose(image)
    plain = _eight_bits_opaque(upright).convert("L" if channels == 1 else "RGB")
    if size is not None and plain.size != (size[1], size[0]):
        plain = plain.resize(
            (size[1], size[0]),
            Image.Resampling.LANCZOS,
            box=_centre(plain.size, size),
            reducing_gap=3.0,
        )
    array = np.asarray(plain)
    if channels == 1:
        return array[None]
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _centre(
    size: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The largest centred box with the aspect ratio of a target.

    Args:
        size: (width, height) of the image.
        target: (height, width) to resize to.

    Returns:
        (left, top, right, bottom).
    """
    scale = min(size[0] / target[1], size[1] / target[0])
    left = (size[0] - scale * target[1]) / 2
    top = (size[1] - scale * target[0]) / 2
    return left, top, left + scale * target[1], top + scale * target[0]


def _eight_bits_opaque(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel (16-bit levels / 257, rounded), on white."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its pixels are 32-bit integers; save it as an .npy array")
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers; save it as an .npy array"
        )
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, (255, 255, 255, 255))
        white.alpha_composite(colour)
        return white.convert("RGB")
    return image
