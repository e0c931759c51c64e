"""Decode an image to pixels: upright, opaque, cropped, resized, in 8 or 16 bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from tightbound.data.images.grey_levels import DEEPEST, EIGHT_BITS, GreyScale

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
        deep: whether it has greys of 16 bits.
        upper: whether only the upper 8 of its 16 bits are read: colours of 16 bits.
        frames: whether it has several frames.
    """

    height: int
    width: int
    grey: bool
    alpha: bool
    deep: bool
    upper: bool
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


def is_deep(image: Image.Image) -> bool:
    """Whether the image has grey values of 16 or 32 bits."""
    return image.mode.startswith("I")


def loses_lower_bits(image: Image.Image) -> bool:
    """Whether only the upper 8 of an image's 16 bits are read: colours of 16 bits.

    Of an image that has been decoded, the file is opened again, where it has a name.
    """
    if is_deep(image) or not isinstance(image, ImageFile.ImageFile):
        return False
    tiles = [tuple(tile) for tile in image.tile]
    if not tiles and isinstance(image.filename, str) and image.filename:
        try:
            with Image.open(image.filename, formats=_FORMATS) as again:
                tiles = [tuple(tile) for tile in again.tile]
        except (OSError, ValueError, SyntaxError):
            return False  # it has moved or changed
    return any(";16" in str(tile[3]) for tile in tiles)


def header_of(image: Image.Image) -> Header:
    """The header of an opened image."""
    upper = loses_lower_bits(image)  # first: reading the metadata may decode a PNG
    width, height = image.size
    if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        height, width = image.size
    return Header(
        height,
        width,
        grey=is_grey(image),
        alpha=image.has_transparency_data and not is_deep(image),
        deep=is_deep(image),
        upper=upper,
        frames=getattr(image, "n_frames", 1) > 1,
    )


def pixels(
    image: Image.Image,
    size: tuple[int, int] | None,
    channels: int | None,
    scale: GreyScale = EIGHT_BITS,
) -> np.ndarray:
    """Decode an image: upright, on white, the largest centred crop resized.

    Args:
        image: the opened image.
        size: (height, width) of the result; None keeps the size.
        channels: 1 or 3; None gives 1 for greys and 3 for all others.
        scale: the levels of the result, and the scale of 16-bit images.

    Returns:
        uint8 (C, H, W), or int32 for a scale of 16 bits.

    Raises:
        Exception: any error of Pillow on a damaged file.
    """
    if size is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * max(size), 2 * max(size)))
    channels = channels or (1 if is_grey(image) else 3)
    upright = ImageOps.exif_transpose(image)
    if is_deep(upright):
        array = scale.levels(_resized_greys(upright, size))
    else:
        plain = _on_white(upright).convert("L" if channels == 1 else "RGB")
        array = scale.from_bytes(np.asarray(_resized(plain, size)))
    if array.ndim == 2:
        return np.repeat(array[None], channels, 0) if channels > 1 else array[None]
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _resized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The largest centred crop of an image, resized; unchanged without a size."""
    if size is None or image.size == (size[1], size[0]):
        return image
    return image.resize(
        (size[1], size[0]),
        Image.Resampling.LANCZOS,
        box=_centre(image.size, size),
        reducing_gap=3.0,
    )


def grey_values(image: Image.Image) -> np.ndarray:
    """The grey values 0..65535 of a 16-bit image, int64 (H, W).

    Raises:
        ValueError: for integers that 16 bits cannot hold.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > DEEPEST:
        raise ValueError("its pixels are 32-bit integers; save it as an .npy array")
    return values


def distinct_values(image: Image.Image) -> np.ndarray:
    """The distinct grey values of a 16-bit image, or the upper bytes of its colours."""
    if is_deep(image):
        return np.unique(grey_values(image))
    colours = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        colours = colours[..., :-1]
    return np.unique(colours)


def _resized_greys(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """The grey values of a 16-bit image, resized within their range, float (H, W)."""
    values = grey_values(image)
    if size is None or values.shape == size:
        return values.astype(np.float64)
    resized = _resized(Image.fromarray(values.astype(np.float32)), size)
    return np.asarray(resized).astype(np.float64).clip(values.min(), values.max())


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


def _on_white(image: Image.Image) -> Image.Image:
    """An image of 8 bits a channel on a white background, where it is transparent."""
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
