"""Read a map-style Dataset once into memory; items are x, (x, y) or a dict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tightbound.data.images.decode import (
    AUTO_SIDE,
    bombs_refused,
    distinct_values,
    is_deep,
    loses_lower_bits,
    pixels,
)
from tightbound.data.images.grey_levels import (
    EIGHT_BITS,
    UNSCALED,
    GreyScale,
    GreySurvey,
)
from tightbound.data.settings import DataSettings
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    read_labels,
    sha256_of,
)
from tightbound.runtime.errors import TightboundError, listed

X_KEYS = ("x", "data", "image", "img", "pixel_values", "input")
Y_KEYS = ("y", "label", "labels", "target")


def item_parts(item: object, what: str) -> tuple[Any, Any]:
    """(x, y or None) of an item of a Dataset or a batch of a DataLoader."""
    if isinstance(item, dict):
        x_key = next((key for key in X_KEYS if key in item), None)
        y_key = next((key for key in Y_KEYS if key in item), None)
        if x_key is None:
            raise TightboundError(
                f"{what} is a dict with keys {listed([str(key) for key in item])}: name "
                "its data 'x' (labels 'y')"
            )
        return item[x_key], None if y_key is None else item[y_key]
    if isinstance(item, (tuple, list)):
        if not item:
            raise TightboundError(f"{what} is empty: expected x or (x, y)")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def from_dataset(dataset: Any, settings: DataSettings) -> RawSource:
    """Read all items into memory once; a TensorDataset is used in place."""
    n = len(dataset)
    kind = type(dataset).__name__
    if n == 0:
        raise TightboundError(f"the {kind} is empty: nothing can be learned from it")
    notices: list[str] = []
    tensors: Any = getattr(dataset, "tensors", None)
    resolved: dict[str, object] = {}
    labels: Tensor | np.ndarray | None = None
    if _are_tensors(tensors):
        x = as_tensor(tensors[0], kind, notices)
        if len(tensors) > 1 and tensors[1].ndim == 1:
            labels = tensors[1]
    else:
        x, labels, resolved = _read_items(dataset, kind, settings, notices)
        notices.append(
            f"the {kind} is read once into memory ({x.nbytes / 1e6:.1f} MB); "
            "random transforms are frozen with it"
        )
    y, label_names = read_labels(labels, n, f"the {kind}", notices)
    source = RawSource(
        kind,
        f"the {kind}",
        {"all": RawSplit(x, y)},
        sha256_of(x, y),
        label_names=label_names,
        notices=tuple(notices),
    )
    return source.with_images(resolved)


def _are_tensors(tensors: object) -> bool:
    """True for the tuple of tensors of a TensorDataset."""
    if not isinstance(tensors, tuple) or not tensors:
        return False
    return all(isinstance(t, Tensor) for t in tensors)


def _read_items(
    dataset: Any, kind: str, settings: DataSettings, notices: list[str]
) -> tuple[Tensor, np.ndarray | None, dict[str, object]]:
    """Examples and labels of all items, and the settings that images resolved."""
    n = len(dataset)
    labels: list[object] = []

    def xs() -> Iterator[Any]:
        """The examples in order; their labels are collected on the way."""
        for i in range(n):
            x, label = item_parts(dataset[i], f"item {i} of the {kind}")
            labels.append(plain_label(label))
            yield x

    items = xs()
    first = next(items)
    if not isinstance(first, Image.Image):
        x = _arrays(first, items, n, kind, notices)
        return x, together(labels), {}
    with bombs_refused():
        x, scale = _images(first, items, settings, notices)
    resolved = {"size": tuple(x.shape[2:]), "channels": x.shape[1], **scale.resolved}
    return x, together(labels), resolved


def together(labels: Sequence[object]) -> np.ndarray | None:
    """Labels as one array, of objects where they are not numbers or texts.

    None where some are missing.
    """
    if any(label is None for label in labels):
        return None
    if all(isinstance(label, (str, bool, int, float)) for label in labels):
        return np.array(labels)
    out = np.empty(len(labels), dtype=object)
    for i, label in enumerate(labels):
        out[i] = label
    return out


def plain_label(label: Any) -> Any:
    """A label as a Python object: the number in a tensor or numpy scalar.

    None where it is masked.
    """
    if label is np.ma.masked:
        return None
    is_wrapped = isinstance(label, (Tensor, np.generic))
    if is_wrapped and label.ndim == 0:
        return label.item()
    return label


def _arrays(
    first: object, others: Iterator[object], n: int, kind: str, notices: list[str]
) -> Tensor:
    """All examples as one tensor (n, ...), of a type that holds all values."""
    head = as_tensor(first, f"item 0 of the {kind}", notices)
    out = torch.empty((n, *head.shape), dtype=head.dtype)
    out[0] = head
    for i, x in enumerate(others, 1):
        row = as_tensor(x, f"item {i} of the {kind}", notices)
        if row.shape != head.shape:
            raise TightboundError(
                f"item {i} of the {kind} has shape {tuple(row.shape)}, item 0 "
                f"{tuple(head.shape)}: make them equal"
            )
        out = out.to(torch.promote_types(out.dtype, row.dtype))
        out[i] = row
    return out


def _images(
    first: Image.Image,
    others: Iterator[object],
    settings: DataSettings,
    notices: list[str],
) -> tuple[Tensor, GreyScale]:
    """All images as rows (n, C, H, W), by the rules for image files.

    Without `data.size`, images of one size up to 64 stay as they are. At the first of
    another size, the images before it are resized too.
    """
    size = settings.pixels
    channels = None if settings.channels == "auto" else settings.channels
    greys = GreySurvey()
    rows: list[np.ndarray] = []
    for image in itertools.chain([first], others):
        if not isinstance(image, Image.Image):
            raise TightboundError(
                f"item {len(rows)} of the list or Dataset is a {type(image).__name__}, and "
                "those before it are images: make all items images"
            )
        is_other = image.size != first.size or max(image.size) > AUTO_SIDE
        if size is None and is_other:
            size = (AUTO_SIDE, AUTO_SIDE)
            notices.append(
                f"images are resized and centre-cropped to {AUTO_SIDE}x{AUTO_SIDE} "
                "pixels (--set data.size=N or data.size=HxW for another size)"
            )
            rows = [_resized_again(row, size, channels) for row in rows]
        try:
            loses_bits = loses_lower_bits(image)
            if is_deep(image):
                greys.add(distinct_values(image))
            elif loses_bits:
                greys.colours[distinct_values(image)] = True
            rows.append(pixels(image, size, channels, _scale_of(image)))
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombWarning,
        ) as error:
            raise TightboundError(
                f"item {len(rows)} of the Dataset is an image that cannot be decoded: {error}"
            ) from None
    greys.check_colours("the list or Dataset")
    scale = greys.scale(settings)
    notices += [*greys.messages(scale), *greys.colour_messages()]
    return _scaled(rows, scale), scale


def _scale_of(image: Image.Image) -> GreyScale:
    """The scale to read an image by: 16-bit greys are scaled when all are known."""
    if is_deep(image):
        return UNSCALED
    return EIGHT_BITS


def _scaled(rows: list[np.ndarray], scale: GreyScale) -> Tensor:
    """Rows of bytes or of 16-bit greys as levels (n, C, H, W)."""
    widest = max(len(row) for row in rows)
    out = np.empty((len(rows), widest, *rows[0].shape[1:]), scale.dtype)
    for i, row in enumerate(rows):
        is_bytes = row.dtype == np.uint8
        out[i] = scale.from_bytes(row) if is_bytes else scale.levels(row)
    return torch.from_numpy(out)


def _resized_again(
    row: np.ndarray, size: tuple[int, int], channels: int | None
) -> np.ndarray:
    """Pixels (C, H, W) in another size."""
    image = _as_image(row)
    return pixels(image, size, channels, _scale_of(image))


def _as_image(row: np.ndarray) -> Image.Image:
    """Pixels (C, H, W) as an image."""
    is_grey = len(row) == 1 or row.dtype != np.uint8
    return Image.fromarray(row[0] if is_grey else row.transpose(1, 2, 0))
