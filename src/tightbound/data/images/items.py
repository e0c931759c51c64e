"""Items: single examples as files and libraries hand them out (pictures, bytes, arrays) to rows of
one shape.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tightbound.data.images.decode import (
    Header,
    bombs_refused,
    header_of,
    open_image,
    pixels,
)
from tightbound.data.images.folder import reason, target_of
from tightbound.data.settings import DataSettings
from tightbound.data.source import as_tensor
from tightbound.runtime.errors import TightboundError

FEW = 256


def _image(x: Any) -> Image.Image | None:
    """An image, opened and not decoded; None for what is no image."""
    if isinstance(x, dict) and "bytes" in x:
        x = (
            Path(x["path"]).read_bytes()
            if x["bytes"] is None and x.get("path")
            else x["bytes"]
        )
    if isinstance(x, (bytes, bytearray, memoryview)):
        return open_image(io.BytesIO(x))
    return x if isinstance(x, Image.Image) else None


def _header(x: Any) -> Header | str | None:
    """What is known of an image without decoding it, or why it is a bad one; None for what is no
    image.
    """
    try:
        image = _image(x)
        return None if image is None else header_of(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


class Items:
    """Decides from the first few examples what a row is, and makes such rows of all.

    Images get one size and number of channels, by the rules for image files; arrays stay as they
    are. shape, dtype: of a row.  settings: with size and channels resolved, where they are images.
    """

    def __init__(
        self, few: Sequence[Any], what: str, settings: DataSettings, notices: list[str]
    ) -> None:
        if not len(few):
            raise TightboundError(f"{what} is empty: nothing can be learned from it")
        self.what, self.skip_bad = what, settings.skip_bad
        self.resolved: dict[str, Any] = {}
        self.shape: tuple[int, ...]
        headers = [found for x in few if (found := _header(x)) is not None]
        if headers:
            good = [found for found in headers if isinstance(found, Header)]
            if not good:
                raise TightboundError(
                    f"{what}: its first {len(few)} images cannot be read: {headers[0]}"
                )
            size, channels, messages = target_of(good, settings)
            notices += messages
            self.resolved = {"size": size, "channels": channels}
            self.shape, self.dtype = (channels, *size), torch.uint8
        else:
            row = as_tensor(few[0], f"the first example of {what}", notices)
            self.shape, self.dtype = tuple(row.shape), row.dtype

    def __call__(
        self, xs: Sequence[Any], keys: Sequence[Any]
    ) -> tuple[Tensor, list[int]]:
        """The rows (n, ...) of some examples, and which of them they are: with `skip_bad`, bad
        images are left out.
        """
        if self.resolved and len(xs) > 8:
            with (
                bombs_refused(),
                ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
            ):
                made = list(pool.map(self._row, xs))
        else:
            made = [self._row(x) for x in xs]
        kept = []
        for i, row in enumerate(made):
            if not isinstance(row, str):
                kept.append(i)
            elif not (self.skip_bad and self.resolved):
                fix = (
                    "make all examples alike"
                    if not self.resolved
                    else "remove it, or use --skip-bad"
                )
                raise TightboundError(
                    f"{self.what}: example {keys[i]} cannot be used: {row}; {fix}"
                )
        rows = [row for row in made if isinstance(row, Tensor)]
        return torch.stack(rows) if rows else torch.empty(
            (0, *self.shape), dtype=self.dtype
        ), kept

    def _row(self, x: Any) -> Tensor | str:
        try:
            if not self.resolved:
                row = as_tensor(
                    np.asarray(x) if isinstance(x, list) else x, "an example", []
                )
                if tuple(row.shape) != self.shape or row.dtype != self.dtype:
                    return (
                        f"it is {row.dtype} {tuple(row.shape)}, the first is "
                        f"{self.dtype} {self.shape}"
                    )
                return row
            image = _image(x)
            if image is None:
                return "it is not an image"
            return torch.from_numpy(
                np.array(
                    pixels(image, self.resolved["size"], self.resolved["channels"])
                )
            )
        except Exception as error:  # decoders of damaged files raise almost anything
            return reason(error)
