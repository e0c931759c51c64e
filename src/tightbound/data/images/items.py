"""Convert single examples (images, bytes, arrays) to rows of one shape."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tightbound.data.images.decode import (
    Header,
    bombs_refused,
    distinct_values,
    grey_values,
    header_of,
    is_deep,
    open_image,
    pixels,
)
from tightbound.data.images.folder import reason, target_of
from tightbound.data.images.grey_levels import GreySurvey
from tightbound.data.settings import DataSettings
from tightbound.data.source import as_tensor
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.reading import Tree, read_bytes

FEW = 256


def _image(x: object, roots: Sequence[Path] = ()) -> Image.Image | None:
    """An opened image that is not decoded yet; None for an example of another type."""
    if isinstance(x, dict) and "bytes" in x:
        is_path = x["bytes"] is None and x.get("path")
        x = _named_file(x["path"], roots) if is_path else x["bytes"]
    if isinstance(x, (bytes, bytearray, memoryview)):
        return open_image(io.BytesIO(x))
    if isinstance(x, Image.Image):
        return x
    return None


def _named_file(path: object, roots: Sequence[Path]) -> bytes:
    """The content of an image file that an example names, inside of some folders."""
    resolved = Path(str(path)).resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise ValueError(
            f"it holds no image and names the file {cut(path)} outside of these data, "
            "which is not read; store the images themselves"
        )
    return read_bytes(resolved)


def _header(x: object, roots: Sequence[Path]) -> Header | str | None:
    """The header of an image, or why it is bad; None for an example of another type."""
    try:
        image = _image(x, roots)
        if image is None:
            return None
        return header_of(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def _survey(few: Sequence[object], what: str, roots: Sequence[Path]) -> GreySurvey:
    """The values in use in images of 16 bits among some examples."""
    survey = GreySurvey()
    for x in few:
        header = _header(x, roots)
        if not isinstance(header, Header) or not (header.deep or header.upper):
            continue
        try:
            image = _image(x, roots)
            values = None if image is None else distinct_values(image)
        except Exception:  # decoders raise almost anything; it is refused when read
            continue
        if values is not None and header.deep:
            survey.add(values)
        elif values is not None:
            survey.colours[values] = True
    survey.check_colours(what)
    return survey


class Items:
    """Converts examples to rows, whose shape the first few examples decide.

    Images get one size and number of channels, by the rules for image files; arrays
    stay as they are.

    Attributes:
        shape: the shape of a row.
        dtype: the dtype of a row.
        resolved: the settings size, channels, bits and white level, for images; else
            empty.

    Args:
        few: the first examples.
        what: the name of the source in messages.
        settings: the data settings.
        notices: receives the messages about conversions.
        roots: folders in which examples may name image files; none by default.
        count: number of all examples, where it is known.
    """

    def __init__(
        self,
        few: Sequence[object],
        what: str,
        settings: DataSettings,
        notices: list[str],
        count: int | None = None,
        roots: Sequence[Path] = (),
    ) -> None:
        self.roots = tuple(roots)
        if not len(few):
            raise TightboundError(f"{what} is empty: nothing can be learned from it")
        self.what = what
        self.skip_bad = settings.skip_bad
        self.resolved: Tree = {}
        self.shape: tuple[int, ...]
        headers = [
            header for x in few if (header := _header(x, self.roots)) is not None
        ]
        if not headers:
            row = as_tensor(few[0], f"the first example of {what}", notices)
            self.shape = tuple(row.shape)
            self.dtype = row.dtype
            return
        good = [header for header in headers if isinstance(header, Header)]
        if not good:
            raise TightboundError(
                f"{what}: its first {len(few)} images cannot be read: {headers[0]}"
            )
        size, channels, messages = target_of(good, settings)
        greys = _survey(few, what, self.roots)
        self.scale = greys.scale(settings, is_complete=count == len(few))
        self.is_scale_given = settings.white_level != "auto"
        notices += [*messages, *greys.messages(self.scale)]
        notices += greys.colour_messages()
        if self.is_scale_given and self.scale.is_cut and count != len(few):
            notices.append(
                f"{what}: grey values above data.white_level={self.scale.white} are read "
                "as 255"
            )
        self.resolved = {"size": size, "channels": channels, **self.scale.resolved}
        self.shape = (channels, *size)
        self.dtype = torch.uint8 if self.scale.bits == 8 else torch.int32

    def __call__(
        self, xs: Sequence[object], keys: Sequence[object]
    ) -> tuple[Tensor, list[int]]:
        """Convert examples to rows.

        Args:
            xs: the examples.
            keys: the name of each example in messages.

        Returns:
            The rows (n, ...), and the positions in `xs` of the examples that they
            are; with `skip_bad`, bad images are left out.
        """
        rows: list[Tensor] = []
        kept: list[int] = []
        for i, row in enumerate(self._convert_all(xs)):
            if isinstance(row, Tensor):
                rows.append(row)
                kept.append(i)
            elif not (self.skip_bad and self.resolved):
                remedy = "make all examples alike"
                if self.resolved:
                    remedy = "remove it, or use --skip-bad"
                raise TightboundError(
                    f"{self.what}: example {keys[i]} cannot be used: {row}; {remedy}"
                )
        if not rows:
            return torch.empty((0, *self.shape), dtype=self.dtype), kept
        return torch.stack(rows), kept

    def _convert_all(self, xs: Sequence[object]) -> list[Tensor | str]:
        """The row of each example, or why it is bad; images are decoded in parallel."""
        if not self.resolved or len(xs) <= 8:
            return [self._convert(x) for x in xs]
        with bombs_refused(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(self._convert, xs))

    def _convert(self, x: object) -> Tensor | str:
        try:
            if self.resolved:
                return self._pixels(x)
            return self._array(x)
        except Exception as error:  # decoders of damaged files raise almost anything
            return reason(error)

    def _array(self, x: object) -> Tensor | str:
        values = np.asarray(x) if isinstance(x, list) else x
        row = as_tensor(values, "an example", [])
        if tuple(row.shape) != self.shape or row.dtype != self.dtype:
            return (
                f"it is {row.dtype} {tuple(row.shape)}, the first is "
                f"{self.dtype} {self.shape}"
            )
        return row

    def _pixels(self, x: object) -> Tensor | str:
        image = _image(x, self.roots)
        if image is None:
            return "it is not an image"
        if is_deep(image) and self.scale.is_cut and not self.is_scale_given:
            highest = int(grey_values(image).max())
            if highest > self.scale.white:
                return (
                    f"its grey values reach {highest:,}, above the white level of "
                    f"{self.scale.white:,} (data.white_level=N sets another for training)"
                )
        size = self.resolved["size"]
        array = pixels(image, size, self.resolved["channels"], self.scale)
        return torch.from_numpy(np.array(array))
