"""The blocks of a page: named bytes, each described in the manifest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: A value of JSON, an object of the manifest.
Json = dict[str, object]
Array = NDArray[np.generic]

BYTE = 255


@dataclass
class Blocks:
    """Named bytes of a page, little endian.

    Attributes:
        content: The bytes of each block by its name; equal ones are kept once.
        names: The name of each content, by its SHA-256.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)

    def add(self, name: str, values: Array, dtype: str = "float32") -> Json:
        """Add an array.

        Args:
            name: Name of the block, of letters, digits, dots and hyphens.
            values: The array.
            dtype: Its type in the block.

        Returns:
            Its description in the manifest.
        """
        array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
        return self._keep(name, array.tobytes(), dtype, array.shape)

    def add_examples(self, name: str, values: Array) -> Json:
        """Add examples in raw units: one byte a value where that is exact, else float32.

        Integers from 0 to 255 take a byte. Values far from 0 keep float64.

        Args:
            name: As in `add`.
            values: (n, ...); NaN where a value is missing.
        """
        if values.dtype == np.float64 and not _fits(values):
            return self.add(name, values, "float64")
        numbers = values.astype(np.float32)
        if numbers.size and _are_bytes(numbers):
            return self.add(name, numbers, "uint8")
        return self.add(name, numbers)

    def add_image(self, name: str, pixels: NDArray[np.uint8]) -> Json:
        """Add pixels (H, W) or (H, W, 3) as a PNG."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        return self._keep(name, file.getvalue(), "png", pixels.shape)

    def add_bytes(self, name: str, content: bytes) -> str:
        """Add bytes as they are, such as a graph; returns the name of the block."""
        return str(self._keep(name, content, "uint8", (len(content),))["block"])

    def _keep(
        self, name: str, content: bytes, dtype: str, shape: tuple[int, ...]
    ) -> Json:
        if name in self.content:
            raise ValueError(f"there are two blocks {name!r}")
        digest = hashlib.sha256(content).digest()
        kept = self.names.setdefault(digest, name)
        self.content.setdefault(kept, content)
        return {"block": kept, "dtype": dtype, "shape": list(shape)}


def _fits(values: Array) -> bool:
    """Whether float32 keeps values to a millionth of their spread."""
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return True
    error = np.abs(finite.astype(np.float32) - finite).max()
    return bool(error <= 1e-6 * max(float(np.ptp(finite)), 1e-30))


def _are_bytes(values: NDArray[np.float32]) -> bool:
    whole = values == np.round(values)
    return bool((whole & (values >= 0) & (values <= BYTE)).all())


@dataclass(frozen=True)
class PageData:
    """The data of a page.

    Args:
        manifest: Everything but the blocks, a value of JSON; `docs/page-data.md` has its form.
        blocks: The blocks by name.
    """

    manifest: Json
    blocks: Mapping[str, bytes]
