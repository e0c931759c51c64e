"""Scene: the data side of a report, gathered once for all runs that were trained on the
same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.data import Split
from tightbound.report.content.linear_probe import Accuracy, majority, probe, probeable
from tightbound.report.content.table_format import Sheet, is_table
from tightbound.report.content.table_marginals import in_columns
from tightbound.report.figures.display_scale import Floats, View
from tightbound.report.figures.image_grid import columns
from tightbound.report.figures.palette import label_colours
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from tightbound.core.data_spec import DataSpec

Array = NDArray[Any]
MOST_TEST, MOST_TRAIN, MOST_TYPICAL = 2000, 4000, 256


def walk(split: Any, most: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, x) of at most `most` examples in domain units: evenly spread over a split, the first
    ones of a stream.
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


@dataclass(frozen=True)
class Examples:
    """Some rows of a split: x (n, *shape) in the data's domain units, their labels (n,), row
    numbers and split.

    gaps: where x was not observed, and the training mean stands for it.
    """

    x: Tensor
    y: Array | None
    rows: Array
    split: str = "test"
    gaps: Array | None = None

    @classmethod
    def of(cls, split: Any, most: int, name: str = "test") -> Examples:
        """At most `most` rows of a split."""
        found = list(walk(split, most, 1024))
        if not found:
            raise TightboundError(
                "the data have no examples to show: give a test split of one or more"
            )
        rows, x = torch.cat([r for r, _ in found]), torch.cat([x for _, x in found])
        gaps = x.isnan().cpu().numpy() if split.spec.missing else None
        if gaps is not None:
            x = torch.where(
                x.isnan(), split.spec.centre, x
            )  # shown as the mean of training
        y = split.labels(rows) if isinstance(split, Split) else None
        known = y is not None and bool((y >= 0).any())
        return cls(
            x.cpu(),
            y.cpu().numpy() if y is not None and known else None,
            rows.numpy(),
            name,
            gaps,
        )


@dataclass(frozen=True)
class Scene:
    """One data set as the report shows it.

    hero: the row of `test` that is followed through, its distance to the training data the median
    one; partner: another one, of another label where there are labels, for the interpolation;
    shown: rows of one example per label. typical: distances of test examples to their nearest
    training example, once searched.  sheet: how to print a table.
    """

    data: Any
    view: View
    test: Examples
    train: Examples
    names: list[str]
    colours: list[str]
    shown: Array
    counts: dict[str, int | None]
    held_out: bool
    sheet: Sheet | None = None

    @property
    def spec(self) -> DataSpec:
        """The spec of the data, before a likelihood reads them in another domain."""
        spec: DataSpec = self.data.spec
        return spec

    @property
    def test_unit(self) -> Floats:
        """The test examples on the display scale, (n, *shape)."""
        return self.view.unit(self.test.x.numpy())

    def raw(self, unit: Floats, gaps: Array | None = None) -> Array:
        """Rows of a table on the display scale as a number or code for each column, (n, columns);
        NaN at gaps.
        """
        assert self.sheet is not None
        found = in_columns(
            self.spec, self.sheet.columns, torch.from_numpy(self.view.back(unit))
        )
        return (
            found
            if gaps is None
            else np.where(gaps[:, [span.start for span in self.spans]], np.nan, found)
        )

    def chances(self, unit: Floats) -> Array:
        """How likely the likeliest value of each column is, (n, columns); NaN where it has none of
        its own.
        """
        assert self.sheet is not None
        x, found = (
            self.view.back(unit),
            np.full((len(unit), len(self.sheet.columns)), np.nan),
        )
        for i, (column, span) in enumerate(
            zip(self.sheet.columns, self.spans, strict=True)
        ):
            if column.values:
                p = x[:, span]
                found[:, i] = (
                    p.max(1)
                    if column.kind == "categorical"
                    else np.maximum(p[:, 0], 1 - p[:, 0])
                )
        return found

    @property
    def spans(self) -> list[slice]:
        """Which domain dimensions belong to each column of a table."""
        return self.spec.places or [slice(k, k + 1) for k in range(self.spec.dims)]

    def label(self, row: int) -> str | None:
        """The name of a test example's label."""
        return (
            None
            if self.test.y is None or self.test.y[row] < 0
            else self.names[int(self.test.y[row])]
        )

    def partner(self, hero: int) -> int:
        """A test example to interpolate to: the nearest in number of another label."""
        if len(self.test.x) == 1:
            return hero
        y = self.test.y
        other = [
            r
            for r in self.shown.tolist()
            if r != hero and (y is None or y[r] != y[hero])
        ]
        return int(other[len(other) // 2]) if other else (hero + 1) % len(self.test.x)

    def baselines(self) -> dict[str, Accuracy] | None:
        """What features are measured against: raw values and the most frequent label; None without
        labels.
        """
        train, test = self.train, self.test
        if train.y is None or test.y is None or not probeable(train.y, test.y):
            return None
        raw = probe(
            train.x.flatten(1).numpy(), train.y, test.x.flatten(1).numpy(), test.y
        )
        return {"raw": raw, "majority": majority(train.y, test.y)}


def scene(data: Any) -> Scene:
    """Gathers what a report shows of the data: some test and training examples, their labels and
    colours.
    """
    held = next((name for name in ("test", "valid") if len(data.splits[name])), "train")
    test = Examples.of(data.splits[held], MOST_TEST, held)
    train = Examples.of(data.train, MOST_TRAIN, "train")
    labels = [int(e.y.max()) + 1 for e in (test, train) if e.y is not None]
    named = [str(name) for name in data.label_names or ()]
    n = max([len(named), *labels]) if labels else 0
    names = [named[k] if k < len(named) else str(k) for k in range(n)]
    sheet = None
    if is_table(data.columns, bool(data.spec.fields)):
        sheet = Sheet.of(data.columns, in_columns(data.spec, data.columns, train.x))
    view = View.of(data.spec, train.x.numpy(), sheet is not None)
    counts = {
        "train": getattr(data.train, "__len__", lambda: None)(),
        "valid": len(data.valid),
        "test": len(data.test),
    }
    shown = _one_of_each(test.y, len(test.x), columns(view, data.spec.shape))
    out = held != "train" and data.held_out
    return Scene(
        data, view, test, train, names, label_colours(n), shown, counts, out, sheet
    )


def fingerprint(data: Any) -> str:
    """Equal for data that hold the same examples, in whichever domain a likelihood reads them."""
    sizes = [
        len(s) for s in (data.train, data.valid, data.test) if hasattr(s, "__len__")
    ]
    split = data.test if len(data.test) else data.train
    raw = torch.cat([data.spec.to_raw(x) for _, x in walk(split, 256, 256)]).numpy()
    return (
        f"{sizes} {raw.shape} {hashlib.sha256(np.round(raw, 3).tobytes()).hexdigest()}"
    )


def _one_of_each(y: Array | None, n: int, cols: int) -> Array:
    """Rows of the first example of each label, then of any, `cols` in all."""
    first = (
        []
        if y is None
        else [int(np.flatnonzero(y == k)[0]) for k in np.unique(y[y >= 0])[:cols]]
    )
    rest = [row for row in range(n) if row not in set(first)]
    return np.array((first + rest)[:cols])
