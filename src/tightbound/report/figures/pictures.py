"""Examples side by side as one picture of pillow."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tightbound.core.data_spec import DataSpec
from tightbound.report.figures.display_scale import DisplayScale
from tightbound.report.figures.image_grid import strip
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, at_least, cut

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = (1, 3, 4)
MOST = 10_000  # images in a picture


def grid(
    x: ArrayLike | Tensor, *, run: Run | None = None, columns: int | None = None
) -> Image:
    """Images side by side on a white page.

    Args:
        x: Images (n, H, W), (n, H, W, C) or (n, C, H, W), such as `run.sample(64)` returns, or
            one image without n. Bytes are shown as they are; other values from their least to
            their greatest, or on the scale of `run`.
        run: The run whose raw units x has.
        columns: Images in a row; about as many as rows where None.

    Returns:
        A picture: `tb.grid(x).save("new.png")`; a notebook shows it.

    Raises:
        TightboundError: x holds no images.

    Example:
        >>> import numpy as np, tightbound as tb
        >>> x = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8)
        >>> tb.grid(x, columns=3).mode
        'L'
    """
    if columns is not None:
        at_least(1, columns, "columns")
    if run is not None:
        return picture(run, x, columns)
    images = _channels_first(_array(x))
    low, high = 0.0, 255.0
    if images.dtype != np.uint8:
        low, high = float(np.nanmin(images)), float(np.nanmax(images))
    scale = DisplayScale(True, low, high if high > low else low + 1.0)
    return _page(images.astype(np.float32), scale, columns)


def picture(run: Run, x: ArrayLike | Tensor, columns: int | None = None) -> Image:
    """Images or volumes in raw units of a run, on its display scale.

    Raises:
        TightboundError: The run's examples are no images or volumes.
    """
    spec = run.spec
    if spec.kind in ("vector", "signal") or spec.is_table:
        raise TightboundError(
            f"the examples of {run.name!r} are {spec.kind}s, not images: write them with "
            "tightbound sample --out F.svg, or plot them as lines"
        )
    raw = torch.as_tensor(np.asarray(x))
    one = len(spec.shape) - int("c" not in spec.layout)
    if raw.dim() == one:
        raw = raw[None]
    model_units = spec.to_model(raw).numpy()
    return _page(model_units, _scale(spec, model_units), columns)


def _scale(spec: DataSpec, x: np.ndarray) -> DisplayScale:
    return DisplayScale.of(spec, x)


def _page(x: np.ndarray, scale: DisplayScale, columns: int | None) -> Image:
    from PIL import Image

    n = len(x)
    columns = columns or max(1, math.ceil(math.sqrt(n)))
    drawn = strip(scale.unit(x), scale, min(columns, n))
    return Image.open(io.BytesIO(drawn.data))


def _array(x: object) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
    values = np.asarray(x)
    is_number = np.issubdtype(values.dtype, np.number) or values.dtype == bool
    if not is_number or values.dtype.kind == "c" or values.size == 0:
        raise TightboundError(
            f"{cut(repr(x))} holds no images: give an array (n, H, W), (n, H, W, C) or "
            "(n, C, H, W)"
        )
    return values


def _channels_first(x: np.ndarray) -> np.ndarray:
    """Images (n, C, H, W) of any layout."""
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 3 and x.shape[-1] in (3, 4) and x.shape[0] not in CHANNELS:
        x = x[None]
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[-1] in CHANNELS and x.shape[1] not in CHANNELS:
        x = np.moveaxis(x, -1, 1)
    if x.ndim != 4 or x.shape[1] not in CHANNELS or len(x) > MOST:
        raise TightboundError(
            f"an array of shape {tuple(x.shape)} is not shown as images: give (n, H, W), "
            f"(n, H, W, C) or (n, C, H, W), with 1, 3 or 4 channels and up to {MOST:,} images"
        )
    return x
