"""Any map-style Dataset, read once into memory: items are x, (x, y) or a dict; x is an array or an
image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tightbound.data.images.decode import AUTO_SIDE, bombs_refused, pixels
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, as_tensor, read_labels, sha256_of
from tightbound.runtime.errors import TightboundError

X_KEYS = ("x", "data", "image", "img", "pixel_values", "input")
Y_KEYS = ("y", "label", "labels", "target")


def item_parts(item: Any, what: str) -> tuple[Any, Any]:
    """(x, y or None) of an item of a Dataset or a batch of a DataLoader."""
    if isinstance(item, dict):
        keys = [
            next((k for k in names if k in item), None) for names in (X_KEYS, Y_KEYS)
        ]
        if keys[0] is None:
            raise TightboundError(
                f"{what} is a dict with keys {', '.join(map(str, item))}: name "
                "its data 'x' (labels 'y')"
            )
        return item[keys[0]], None if keys[1] is None else item[keys[1]]
    if isinstance(item, (tuple, list)):
        if not item:
            raise TightboundError(f"{what} is empty: expected x or (x, y)")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def from_dataset(dataset: Any, settings: DataSettings) -> Source:
    """A source over all items, decoded once and kept in memory; a TensorDataset is used in
    place.
    """
    n, kind = len(dataset), type(dataset).__name__
    if n == 0:
        raise TightboundError(f"the {kind} is empty: nothing can be learned from it")
    notices: list[str] = []
    resolved: dict[str, object] = {}
    layout = None
    tensors = getattr(dataset, "tensors", None)
    if (
        isinstance(tensors, tuple)
        and tensors
        and all(isinstance(t, Tensor) for t in tensors)
    ):
        x, labels = (
            as_tensor(tensors[0], kind, notices),
            tensors[1] if len(tensors) > 1 and tensors[1].ndim == 1 else None,
        )
    else:
        items = (
            (i, *item_parts(dataset[i], f"item {i} of the {kind}")) for i in range(n)
        )
        first = next(items)
        labels = []
        if isinstance(first[1], Image.Image):
            with bombs_refused():
                x = _images(first, items, labels, settings, notices)
            layout, resolved = (
                "chw",
                {"size": tuple(x.shape[2:]), "channels": x.shape[1]},
            )
        else:
            x = _arrays(first, items, labels, n, kind, notices)
        notices.append(
            f"the {kind} is read once into memory ({x.nbytes / 1e6:.1f} MB); "
            "random transforms are frozen with it"
        )
        labels = together(labels)
    y, label_names = read_labels(labels, n, f"the {kind}", notices)
    return Source(
        kind,
        f"the {kind}",
        {"all": Part(x, y)},
        sha256_of(x, y),
        layout,
        levels=256 if layout else None,
        label_names=label_names,
        resolved=resolved,
        notices=notices,
    )


def together(labels: list[Any]) -> np.ndarray | None:
    """Labels as one array, of objects where they are no single numbers or words; None if some are
    missing.
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
    """A label without its wrapping: the number in a tensor or numpy scalar."""
    return (
        label.item()
        if isinstance(label, (Tensor, np.generic)) and getattr(label, "ndim", 0) == 0
        else label
    )


def _arrays(
    first: Any, items: Any, labels: list[Any], n: int, kind: str, notices: list[str]
) -> Tensor:
    """All x as one tensor (n, ...)."""
    head = as_tensor(first[1], f"item 0 of the {kind}", notices)
    out = torch.empty((n, *head.shape), dtype=head.dtype)
    out[0] = head
    labels.append(plain_label(first[2]))
    for i, x, label in items:
        row = as_tensor(x, f"item {i} of the {kind}", notices)
        if row.shape != head.shape:
            raise TightboundError(
                f"item {i} of the {kind} has shape {tuple(row.shape)}, item 0 "
                f"{tuple(head.shape)}: make them equal"
            )
        out[i] = row
        labels.append(plain_label(label))
    return out


def _images(
    first: Any,
    items: Any,
    labels: list[Any],
    settings: DataSettings,
    notices: list[str],
) -> Tensor:
    """All images as bytes (n, C, H, W), by the rules for image files."""
    size = (
        (settings.size, settings.size)
        if isinstance(settings.size, int)
        else settings.size
    )
    channels = None if settings.channels == "auto" else settings.channels
    rows: list[np.ndarray] = []
    todo = first
    while todo is not None:
        i, image, label = todo
        if size == "auto" and (
            image.size != first[1].size or max(image.size) > AUTO_SIDE
        ):
            size = (AUTO_SIDE, AUTO_SIDE)
            notices.append(
                "images are resized and centre-cropped to "
                f"{AUTO_SIDE}x{AUTO_SIDE} pixels (--set data.size=N or "
                "data.size=HxW for another size)"
            )
            rows = [
                pixels(
                    Image.fromarray(
                        row[0] if len(row) == 1 else row.transpose(1, 2, 0)
                    ),
                    size,
                    channels,
                )
                for row in rows
            ]
        try:
            rows.append(pixels(image, None if size == "auto" else size, channels))
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombWarning,
        ) as error:
            raise TightboundError(
                f"item {i} of the Dataset is an image that cannot be decoded: {error}"
            ) from None
        labels.append(plain_label(label))
        todo = next(items, None)
    widest = max(len(row) for row in rows)
    return torch.from_numpy(
        np.stack([np.broadcast_to(row, (widest, *row.shape[1:])) for row in rows])
    )
