"""Examples of a data set as a report shows them, with labels, colours and scale."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tightbound.data import Split
from tightbound.evaluation.diagnosis.table_distances import in_columns
from tightbound.report.content.linear_probe import Accuracy, majority, probe, probeable
from tightbound.report.content.table_format import TableFormat, is_table
from tightbound.report.figures.display_scale import Array, DisplayScale, Floats
from tightbound.report.figures.image_grid import columns
from tightbound.report.figures.palette import label_colours
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from tightbound.core.data_spec import DataSpec
    from tightbound.data import Data, LoaderSplit, ShardSplit

    AnySplit = Split | LoaderSplit | ShardSplit

MOST_TEST = 2000
MOST_TRAIN = 4000
MOST_TYPICAL = 256
MOST_FINGERPRINT = 256


def read_batches(
    split: AnySplit, most: int, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(row numbers, x in model units) of at most `most` examples, `size` at a time.

    They are evenly spread over a split in memory, and the first ones of a stream.
    """
    if isinstance(split, Split):
        n = min(len(split), most)
        rows = torch.linspace(0, len(split) - 1, n, dtype=torch.float64).round().long()
        yield from ((part, split.batch(part)) for part in rows.split(size))
        return
    left = most
    for rows, x in split.batches(size):
        yield rows[:left], x[:left]
        left -= len(x)
        if left <= 0:
            return


def _length(split: AnySplit) -> int | None:
    """Number of examples, or None for a stream of unknown length."""
    return len(split) if isinstance(split, Split) else split.size


@dataclass(frozen=True)
class Examples:
    """Rows of a split.

    x: (n, *shape) in model units, missing values replaced by the training mean; y:
    labels (n,), -1 where unknown; rows: their numbers in the split; gaps: (n, *shape),
    True where x was missing.
    """

    x: Tensor
    y: Array | None
    rows: Array
    split: str = "test"
    gaps: Array | None = None

    @classmethod
    def of(cls, split: AnySplit, most: int, name: str = "test") -> Examples:
        """At most `most` rows of a split."""
        batches = list(read_batches(split, most, 1024))
        if not batches:
            raise TightboundError(
                "the data have no examples to show: give a test split of one or more"
            )
        rows = torch.cat([rows for rows, _ in batches])
        x = torch.cat([x for _, x in batches])
        gaps = None
        if split.spec.missing:
            gaps = x.isnan().cpu().numpy()
            x = torch.where(x.isnan(), split.spec.centre, x)
        return cls(x.cpu(), _labels(split, rows), rows.numpy(), name, gaps)


def _labels(split: AnySplit, rows: Tensor) -> Array | None:
    """The labels of some rows, or None where none of them has one."""
    y = split.labels(rows) if isinstance(split, Split) else None
    if y is None or not bool((y >= 0).any()):
        return None
    labels: Array = y.cpu().numpy()
    return labels


@dataclass(frozen=True)
class DataSample:
    """Examples of one data set, shared by all runs that were trained on it.

    test, train: the examples read; shown_rows: rows of `test` with one example of each
    label; counts: number of examples in each split; held_out: False where the examples
    shown were trained on; table: how to print a row, if the data are a table.
    """

    dataset: Data
    scale: DisplayScale
    test: Examples
    train: Examples
    names: list[str]
    colours: list[str]
    shown_rows: Array
    counts: dict[str, int | None]
    held_out: bool
    table: TableFormat | None = None

    @property
    def spec(self) -> DataSpec:
        """The spec of the data, before a likelihood reads them in another domain."""
        return self.dataset.spec

    @property
    def test_unit(self) -> Floats:
        """The test examples on the display scale, (n, *shape)."""
        return self.scale.unit(self.test.x.numpy())

    def table_values(self, unit: Floats, gaps: Array | None = None) -> Array:
        """Rows on the display scale as a number or code per column, (n, columns).

        gaps: (n, *shape), True where the result is NaN.
        """
        assert self.table is not None
        x = torch.from_numpy(self.scale.back(unit))
        values = in_columns(self.spec, self.table.columns, x)
        if gaps is None:
            return values
        first = [place.start for place in self.column_slices]
        return np.where(gaps[:, first], np.nan, values)

    def probabilities(self, unit: Floats) -> Array:
        """Probability of the most likely value of each column, (n, columns).

        NaN for a column of numbers.
        """
        assert self.table is not None
        x = self.scale.back(unit)
        result = np.full((len(unit), len(self.table.columns)), np.nan)
        pairs = zip(self.table.columns, self.column_slices, strict=True)
        for i, (column, place) in enumerate(pairs):
            p = x[:, place]
            if not column.values:
                continue
            if column.kind == "categorical":
                result[:, i] = p.max(1)
            else:
                result[:, i] = np.maximum(p[:, 0], 1 - p[:, 0])
        return result

    @property
    def column_slices(self) -> list[slice]:
        """The dimensions in model units that belong to each column of a table."""
        return self.spec.places or [slice(k, k + 1) for k in range(self.spec.dims)]

    def label(self, row: int) -> str | None:
        """The name of a test example's label."""
        if self.test.y is None or self.test.y[row] < 0:
            return None
        return self.names[int(self.test.y[row])]

    def partner(self, example: int) -> int:
        """A test example to interpolate to, of another label if there are labels."""
        n = len(self.test.x)
        if n == 1:
            return example
        y = self.test.y
        others = [
            row
            for row in self.shown_rows.tolist()
            if row != example and (y is None or y[row] != y[example])
        ]
        return int(others[len(others) // 2]) if others else (example + 1) % n

    def baselines(self) -> dict[str, Accuracy] | None:
        """Accuracy of a probe on raw values and of the majority label.

        None without labels.
        """
        train = self.train
        test = self.test
        if train.y is None or test.y is None or not probeable(train.y, test.y):
            return None
        train_x = train.x.flatten(1).numpy()
        raw = probe(train_x, train.y, test.x.flatten(1).numpy(), test.y)
        return {"raw": raw, "majority": majority(train.y, test.y)}


def data_sample(dataset: Data) -> DataSample:
    """Read test and training examples of a data set, with labels and colours."""
    splits = dataset.splits
    shown = next((k for k in ("test", "valid") if len(splits[k])), "train")
    test = Examples.of(splits[shown], MOST_TEST, shown)
    train = Examples.of(dataset.train, MOST_TRAIN, "train")
    table = None
    if is_table(dataset.spec.fields, dataset.spec.is_mixed):
        values = in_columns(dataset.spec, dataset.spec.fields, train.x)
        table = TableFormat.of(dataset.spec.fields, values)
    scale = DisplayScale.of(dataset.spec, train.x.numpy(), table is not None)
    names = _label_names(dataset, test, train)
    cols = columns(scale, dataset.spec.shape)
    return DataSample(
        dataset=dataset,
        scale=scale,
        test=test,
        train=train,
        names=names,
        colours=label_colours(len(names)),
        shown_rows=_one_of_each(test.y, len(test.x), cols),
        counts={name: _length(split) for name, split in splits.items()},
        held_out=shown != "train" and dataset.held_out,
        table=table,
    )


def _label_names(dataset: Data, test: Examples, train: Examples) -> list[str]:
    """A name for each label: the data's own, otherwise its number."""
    labels = [int(e.y.max()) + 1 for e in (test, train) if e.y is not None]
    if not labels:
        return []
    given = [str(name) for name in dataset.label_names or ()]
    n = max([len(given), *labels])
    return given + [str(k) for k in range(len(given), n)]


def fingerprint(dataset: Data) -> str:
    """A string that is equal for data sets with the same examples.

    It does not depend on the domain in which a likelihood reads them: values are rounded to
    three decimals of the largest power of ten in them.
    """
    sizes = [_length(split) for split in dataset.splits.values()]
    split = dataset.test if len(dataset.test) else dataset.train
    batches = read_batches(split, MOST_FINGERPRINT, MOST_FINGERPRINT)
    raw = torch.cat([dataset.spec.to_raw(x) for _, x in batches]).numpy()
    largest = float(np.abs(np.nan_to_num(raw)).max(initial=0))
    size = 10.0 ** np.floor(np.log10(largest)) if largest else 1.0
    digest = hashlib.sha256(np.round(raw / size, 3).tobytes()).hexdigest()
    return f"{sizes} {raw.shape} {digest}"


def _one_of_each(y: Array | None, n: int, cols: int) -> Array:
    """`cols` row numbers: the first example of each label, then any others."""
    first: list[int] = []
    if y is not None:
        labels = np.unique(y[y >= 0])[:cols]
        first = [int(np.flatnonzero(y == label)[0]) for label in labels]
    others = [row for row in range(n) if row not in set(first)]
    return np.array((first + others)[:cols])
