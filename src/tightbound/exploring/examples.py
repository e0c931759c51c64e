"""Rows of the data of a run for a page: raw values, labels, conditions, thumbnails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data import Split
from tightbound.exploring.blocks import Array, Blocks, Json
from tightbound.report.content.data_samples import read_batches
from tightbound.report.figures.display_scale import DisplayScale
from tightbound.report.figures.palette import label_colours
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

SPLITS = ("test", "valid", "train")
MOST_VALUES = 32_000_000  # values of x in a block
MOST_TILES = 20_000  # thumbnails in one image
LARGEST_TILE = 32  # pixels on a side
WIDEST_SPRITE = 8192  # pixels, which every browser draws
MOST_SCALE = 4000  # training rows from which the display scale is taken
LOWEST = (
    0.002  # share of the values that may be below what is drawn of curves, or above it
)
MARGIN = 0.05  # of the height of curves, left free at the foot and at the top


@dataclass(frozen=True)
class Examples:
    """Rows of a split.

    Args:
        split: Name of the split.
        batch: In model units, with conditions.
        raw: In raw units and layout (n, ...), NaN where a value is missing.
        labels: Class numbers (n,), -1 where unknown; None without labels.
        condition: Raw conditions: class numbers (n,), or numbers (n, width); None without.
        rows: Their numbers in the split.
    """

    split: str
    batch: Batch
    raw: Tensor
    labels: NDArray[np.int64] | None
    condition: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.raw)


def shown_split(run: Run) -> str:
    """The split whose rows are points of a page: test, or the first one with rows."""
    splits = run.data.splits
    for name in SPLITS:
        split = splits[name]
        if not isinstance(split, Split) or len(split):
            return name
    raise TightboundError(
        f"the data of {run.name!r} have no rows to show: give data with one or more"
    )


def read_examples(run: Run, split: str, most: int) -> Examples:
    """At most `most` rows of a split, evenly spread over one in memory.

    The values of x are bounded by MOST_VALUES as well.
    """
    most = max(1, min(most, MOST_VALUES // run.spec.dims))
    source = run.data.splits[split]
    if isinstance(source, Split):
        rows = _spread(len(source), most)
        batch = _in_domain_of(run, source, rows)
        condition = None
        if run.spec.condition is not None and source.c is not None:
            condition = source.c[rows]
        raw = source.raw(rows)
        return Examples(split, batch, raw, _labels(source, rows), condition, rows)
    parts = list(read_batches(source, most, 1024))
    x = torch.cat([x for _, x in parts]).cpu()
    rows = torch.cat([rows for rows, _ in parts]).cpu()
    raw = source.spec.to_raw(x)
    return Examples(split, Batch(run.spec.to_model(raw)), raw, None, None, rows)


def _spread(n: int, most: int) -> Tensor:
    places = torch.linspace(0, n - 1, min(n, most), dtype=torch.float64)
    return places.round().long()


def _in_domain_of(run: Run, source: Split, rows: Tensor) -> Batch:
    """Rows in the model units of the run, whose likelihood may read another domain."""
    x = run.spec.to_model(source.raw(rows))
    if run.spec.condition is None and run.spec.labels is None:
        return Batch(x)
    batch = source.examples(rows)
    # a model without a condition must not be given one that its data have
    return Batch(x, None if run.spec.condition is None else batch.c, batch.y)


def _labels(split: Split, rows: Tensor) -> NDArray[np.int64] | None:
    y = split.labels(rows)
    if y is None or not bool((y >= 0).any()):
        return None
    return y.cpu().numpy().astype(np.int64)


# ---- how the data are drawn


@dataclass(frozen=True)
class Drawing:
    """How the examples of a run are drawn.

    Args:
        scale: Of raw training values, in the units of the spec of the data.
        names: Of the labels.
        ranges: Of curves and vectors without columns, the least and the largest raw value that
            is drawn, of each channel or dimension.
    """

    scale: DisplayScale
    names: list[str]
    ranges: list[tuple[float, float]] | None = None


def drawing_of(run: Run, points: Examples) -> Drawing:
    """The display scale of a run's data, and the names of its labels."""
    train = run.data.train
    x = torch.cat([x for _, x in read_batches(train, MOST_SCALE, 1024)]).cpu()
    x = torch.where(x.isnan(), train.spec.centre, x)
    scale = DisplayScale.of(train.spec, x.numpy(), train.spec.is_table)
    names: list[str] = []
    if points.labels is not None:
        given = [str(name) for name in run.data.label_names or ()]
        count = max(len(given), int(points.labels.max()) + 1)
        names = given + [str(k) for k in range(len(given), count)]
    return Drawing(scale, names, _curve_ranges(train.spec, x.numpy()))


def _curve_ranges(
    spec: DataSpec, train: NDArray[np.float32]
) -> list[tuple[float, float]] | None:
    """Raw values of training examples (n, channels, ...) between which curves are drawn."""
    if spec.kind not in ("vector", "signal") or spec.fields:
        return None
    by_channel = train.reshape(len(train), train.shape[1], -1)
    low, high = np.quantile(by_channel, (LOWEST, 1 - LOWEST), axis=(0, 2))
    margin = np.where(high > low, MARGIN * (high - low), 0.5)
    offset = np.asarray(spec.offset or 0.0)
    bounds = [(end * spec.divisor + offset) for end in (low - margin, high + margin)]
    return [(float(a), float(b)) for a, b in zip(*bounds, strict=True)]


def described(run: Run, drawing: Drawing) -> Json:
    """The data of a run in the manifest: kind, shape, range, columns, classes, condition."""
    spec = run.data.spec
    low, high = _raw_range(run, drawing)
    is_curve = not drawing.scale.image
    colours = label_colours(len(drawing.names)) if drawing.names else []
    return {
        "name": run.data.name,
        "kind": "table" if spec.is_table else spec.kind,
        "shape": list(spec.shape),
        "raw_shape": _raw_shape(run),
        "layout": spec.layout,
        "domain": run.spec.domain,
        "missing": spec.missing,
        "range": [low, high],
        "ranges": drawing.ranges,
        "columns": [_column(run, i) for i in range(len(spec.fields))],
        "classes": drawing.names or None,
        "colours": colours,
        "condition": _condition(run),
        "standardised": is_curve and drawing.scale.standardised,
    }


def _raw_shape(run: Run) -> list[int]:
    if run.spec.is_mixed:
        return [len(run.spec.fields)]
    return list(run.spec.to_raw(torch.zeros(1, *run.spec.shape)).shape[1:])


def _raw_range(run: Run, drawing: Drawing) -> tuple[float, float]:
    """Raw values that are drawn as 0 and 1 of images, at the foot and the top of curves."""
    if drawing.ranges is not None:
        lows, highs = zip(*drawing.ranges, strict=True)
        return min(lows), max(highs)
    divisor = run.data.spec.divisor
    return drawing.scale.low * divisor, drawing.scale.high * divisor


def _column(run: Run, i: int) -> Json:
    """Name, kind and values of a column, with mean and spread of numbers in raw units."""
    spec = run.spec
    column = spec.fields[i]
    about: Json = {
        "name": column.name,
        "kind": column.kind,
        "values": [str(value) for value in column.values],
        "whole": column.is_whole,
        "time": column.is_time,
    }
    if column.kind == "categorical":
        return about
    place = spec.places[i]
    # of the model: the spec of a run that is read from its folder has none of its own
    mean = float(run.model.get_buffer("centre")[place][0])
    sd = float(run.model.get_buffer("spread")[place][0])
    if spec.offset:
        mean += spec.offset[i]
    return {**about, "mean": mean, "sd": sd}


def _condition(run: Run) -> Json | None:
    condition = run.spec.condition
    if condition is None:
        return None
    return {
        "kind": "numbers" if condition.mean else "class",
        "names": list(condition.names),
        "mean": list(condition.mean),
        "sd": list(condition.std),
    }


# ---- thumbnails


def add_sprite(
    blocks: Blocks, name: str, run: Run, points: Examples, drawing: Drawing
) -> Json | None:
    """One image of thumbnails of the first points, row by row; None where x is no image.

    Args:
        blocks: Takes the image.
        name: Name of the block.
        run: The run.
        points: The rows.
        drawing: How they are drawn.
    """
    if not drawing.scale.image or run.data.spec.kind not in ("image", "volume"):
        return None
    count = min(len(points), MOST_TILES)
    first = _tiles(run, points, drawing, slice(0, 1))
    height, width = first.shape[1:3]
    columns = int(np.ceil(np.sqrt(count * height / width)))
    columns = max(1, min(columns, WIDEST_SPRITE // width, count))
    count = min(count, columns * (WIDEST_SPRITE // height))
    grid_rows = -(-count // columns)
    shape = (grid_rows * height, columns * width, *first.shape[3:])
    sheet = np.zeros(shape, np.uint8)
    for start in range(0, count, 1024):
        at = slice(start, min(start + 1024, count))
        for i, tile in enumerate(_tiles(run, points, drawing, at), start):
            top, left = divmod(i, columns)
            y, x = top * height, left * width
            sheet[y : y + height, x : x + width] = tile
    block = blocks.add_image(name, sheet)
    return {**block, "tile": [width, height], "columns": columns, "n": count}


def _tiles(
    run: Run, points: Examples, drawing: Drawing, at: slice
) -> NDArray[np.uint8]:
    """Thumbnails (n, h, w) or (n, h, w, 3) of at most LARGEST_TILE pixels on a side."""
    spec = run.data.spec
    x = spec.to_model(points.raw[at])
    x = torch.where(x.isnan(), spec.centre, x)
    pixels = drawing.scale.pixels(drawing.scale.unit(x.numpy()))
    height, width = pixels.shape[1:3]
    largest = max(height, width)
    if largest <= LARGEST_TILE:
        return pixels
    factor = LARGEST_TILE / largest
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = [
        Image.fromarray(tile).resize(size, Image.Resampling.BOX) for tile in pixels
    ]
    return np.stack([np.asarray(tile) for tile in small])


def as_array(values: Tensor) -> Array:
    """A tensor on the CPU as an array."""
    array: Array = values.detach().cpu().numpy()
    return array
