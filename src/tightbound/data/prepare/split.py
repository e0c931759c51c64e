"""Split: rows of raw data, and the one way from them to what a model sees; LoaderSplit, the same
for a stream.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data.on_disk import OnDisk, Without, spread
from tightbound.data.prepare.binarize import bernoulli
from tightbound.data.prepare.infer import check_read
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import WHOLE, Share

NO_CONDITION = (
    "this model is conditional and these examples come without their "
    "condition: give (x, y), data with labels, or a "
    "condition for all of them"
)


@dataclass(frozen=True)
class Transform:
    """What happens to training rows at each visit: augmentation, then a fresh binary draw of greys
    0..levels-1.
    """

    levels: int | None = None
    augment: tuple[str, ...] = ()
    shift: int = 0

    def __call__(
        self, raw: Tensor, layout: str, generator: torch.Generator, share: Share = WHOLE
    ) -> Tensor:
        """Raw rows (n, ...) in their layout to raw rows, every random number from `generator`."""
        if self.augment:
            raw = _move(raw, layout, self.augment, self.shift, generator, share)
        return (
            raw
            if self.levels is None
            else bernoulli(raw, self.levels, generator, share)
        )


def _move(
    raw: Tensor,
    layout: str,
    augment: Sequence[str],
    shift: int,
    generator: torch.Generator,
    share: Share,
) -> Tensor:
    """Flips and shifts each image by itself: one gather over rows and columns; the edge is
    repeated.
    """
    x = raw.movedim(1, -1) if layout == "chw" else raw
    n, height, width = x.shape[:3]

    def random(low: int, high: int) -> Tensor:
        """Uniform integers low..high-1, one for each image, drawn where the generator lives."""
        drawn = torch.randint(
            low, high, (n * share[1], 1), generator=generator, device=generator.device
        )
        return drawn[n * share[0] : n * (share[0] + 1)].to(x.device)

    rows = torch.arange(height, device=x.device).expand(n, height)
    cols = torch.arange(width, device=x.device).expand(n, width)
    if "flip" in augment:
        cols = torch.where(random(0, 2) == 1, width - 1 - cols, cols)
    if "shift" in augment:
        rows = (rows + random(-shift, shift + 1)).clamp(0, height - 1)
        cols = (cols + random(-shift, shift + 1)).clamp(0, width - 1)
    example = torch.arange(n, device=x.device)[:, None, None]
    x = x[example, rows[:, :, None], cols[:, None, :]]
    return x.movedim(-1, 1) if layout == "chw" else x


class Split:
    """One split: `x` holds raw rows in the user's layout (perhaps memory-mapped), `index` says
    which of them are ours.

    y (labels, -1 unknown), names and factors, where known, are in the order of the split: entry i
    belongs to row i. c: what a conditional model is told, class numbers (n,) or numbers (n, C), in
    the same order. transform: what a generator switches on; with it, and only with it, `batch`
    differs from the fixed evaluation view. fixed: makes the evaluation view of rows that are
    binarised dynamically, (n, ...) in the order of the split; for rows on a disk, the view itself,
    in the order of x.  checks: what raw rows of a disk are checked against when read. digest,
    label_names: of data that were read for a trained model, the sha256 of their source and their
    classes.
    """

    digest = ""
    label_names: tuple[str, ...] | None = None

    def __init__(
        self,
        x: Tensor | OnDisk,
        spec: DataSpec,
        *,
        index: Tensor | Without | None = None,
        y: Tensor | None = None,
        names: Sequence[str] | None = None,
        factors: Tensor | None = None,
        c: Tensor | None = None,
        transform: Transform | None = None,
        fixed: Callable[[], Tensor] | OnDisk | None = None,
        notices: Sequence[str] = (),
        checks: DataSpec | None = None,
    ) -> None:
        self.checks = checks
        self.x, self.spec, self.index, self.y, self.names = x, spec, index, y, names
        self.factors, self.c, self.transform, self.notices = (
            factors,
            c,
            transform,
            list(notices),
        )
        self._fixed = (
            fixed
            if fixed is None or isinstance(fixed, OnDisk)
            else functools.cache(fixed)
        )

    def __len__(self) -> int:
        return len(self.x) if self.index is None else len(self.index)

    def __repr__(self) -> str:
        return f"Split({len(self)} x {tuple(self.x.shape[1:])}, {self.spec.domain})"

    def _take(self, rows: Tensor, x: Tensor | OnDisk) -> Tensor:
        rows = rows.to(x.device)
        at = rows if self.index is None else self.index[rows]
        found = x.index_select(0, at)
        if self.checks is not None and x is self.x:
            check_read(found, self.checks, "the data", at)
        return found

    def raw(self, rows: Tensor) -> Tensor:
        """The fixed evaluation view of these rows (LongTensor), in raw units and the user's layout,
        (n, ...).
        """
        if self._fixed is None:
            return self._take(rows, self.x)
        if isinstance(self._fixed, OnDisk):
            return self._take(rows, self._fixed)
        fixed = self._fixed()
        return fixed.index_select(0, rows.to(fixed.device))

    def batch(
        self,
        rows: Tensor,
        generator: torch.Generator | None = None,
        share: Share = WHOLE,
    ) -> Tensor:
        """These rows in domain units, float32 (n, *shape); a generator switches the training
        transforms on.

        share: which part of a batch of the generator these rows are.
        """
        if generator is None or self.transform is None:
            return self.spec.to_domain(self.raw(rows))
        return self.spec.to_domain(
            self.transform(self._take(rows, self.x), self.spec.layout, generator, share)
        )

    def examples(
        self,
        rows: Tensor,
        generator: torch.Generator | None = None,
        share: Share = WHOLE,
    ) -> Batch:
        """`batch`, with all that the spec says a model is told of each example beside x."""
        x, told = self.batch(rows, generator, share), self.spec.condition
        y = (
            None
            if self.spec.labels is None or self.y is None
            else self.y[rows.to(self.y.device)].to(x.device)
        )
        if told is None:
            return Batch(x, y=y)
        if self.c is None:
            raise TightboundError(NO_CONDITION)
        return Batch(x, told.encode(self.c[rows.to(self.c.device)]).to(x.device), y)

    def labels(self, rows: Tensor) -> Tensor | None:
        """Labels of these rows, or None where the source has none."""
        return None if self.y is None else self.y[rows.to(self.y.device)]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows, x) in order, the evaluation view, `size` rows at a time; the last may be
        smaller.
        """
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield rows, self.batch(rows)

    def spread(self, n: int) -> Tensor:
        """n row numbers spread evenly over the split, so that rows sorted by class give all
        classes.
        """
        return spread(len(self), self.x.piece if isinstance(self.x, OnDisk) else 1, n)

    def select(self, rows: Tensor) -> Split:
        """The split made of these rows, in this order; nothing is copied but indices and labels."""
        rows = rows.long().cpu()
        index = rows if self.index is None else self.index[rows]
        names = None if self.names is None else [self.names[int(i)] for i in rows]
        return self._like(lambda t: t[rows], self.x, index, names)

    def to(self, device: torch.device | str) -> Split:
        """The same split with its rows copied to a device, for training there; rows on a disk stay
        there.
        """
        if isinstance(self.x, OnDisk):
            return self
        index = self.index.to(device) if isinstance(self.index, Tensor) else None
        return self._like(lambda t: t.to(device), self.x.to(device), index, self.names)

    def _like(
        self,
        change: Callable[[Tensor], Tensor],
        x: Tensor | OnDisk,
        index: Tensor | Without | None,
        names: Sequence[str] | None,
    ) -> Split:
        """A split with other rows or another device: `change` is applied to whatever is kept in the
        split's order.
        """
        y, factors, c = (
            None if t is None else change(t) for t in (self.y, self.factors, self.c)
        )
        made = self._fixed
        fixed = (
            made if made is None or isinstance(made, OnDisk) else lambda: change(made())
        )
        return Split(
            x,
            self.spec,
            index=index,
            y=y,
            names=names,
            factors=factors,
            c=c,
            transform=self.transform,
            fixed=fixed,
            notices=self.notices,
            checks=self.checks,
        )
