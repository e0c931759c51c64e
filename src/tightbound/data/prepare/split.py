"""A split of a data set: raw rows, and their conversion to the input of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data.on_disk import ExcludingIndex, OnDisk, spread
from tightbound.data.prepare.binarize import bernoulli
from tightbound.data.prepare.infer import check_read
from tightbound.data.tables.table import Table
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import WHOLE, Share

NO_CONDITION = (
    "this model is conditional and these examples come without their condition: give "
    "(x, y), data with labels, or a condition for all of them"
)


@dataclass(frozen=True)
class Transform:
    """Random changes of training rows at each visit: augmentation, then binarisation.

    Attributes:
        levels: number of grey levels to binarise from, or None for no binarisation.
        augment: the augmentations, "flip" and "shift".
        shift: the largest shift in pixels.
    """

    levels: int | None = None
    augment: tuple[str, ...] = ()
    shift: int = 0

    def __call__(
        self, raw: Tensor, layout: str, generator: torch.Generator, share: Share = WHOLE
    ) -> Tensor:
        """Transform raw rows (n, ...); all random numbers come from `generator`."""
        if self.augment:
            raw = _move(raw, layout, self.augment, self.shift, generator, share)
        if self.levels is None:
            return raw
        return bernoulli(raw, self.levels, generator, share)


def _move(
    raw: Tensor,
    layout: str,
    augment: Sequence[str],
    shift: int,
    generator: torch.Generator,
    share: Share,
) -> Tensor:
    """Flip and shift each image by a gather of rows and columns, with edges repeated."""
    x = raw.movedim(1, -1) if layout == "chw" else raw
    n, height, width = x.shape[:3]
    rank, world = share

    def random(low: int, high: int) -> Tensor:
        """Uniform integers low..high-1 (n, 1); drawn for the batch of all processes."""
        drawn = torch.randint(
            low, high, (n * world, 1), generator=generator, device=generator.device
        )
        return drawn[n * rank : n * (rank + 1)].to(x.device)

    rows = torch.arange(height, device=x.device).expand(n, height)
    cols = torch.arange(width, device=x.device).expand(n, width)
    if "flip" in augment:
        cols = torch.where(random(0, 2) == 1, width - 1 - cols, cols)
    if "shift" in augment:
        rows = (rows + random(-shift, shift + 1)).clamp(0, height - 1)
        cols = (cols + random(-shift, shift + 1)).clamp(0, width - 1)
    example = torch.arange(n, device=x.device)[:, None, None]
    x = x[example, rows[:, :, None], cols[:, None, :]]
    if layout == "chw":
        return x.movedim(-1, 1)
    return x


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One split of a data set; rows are converted to model units when they are read.

    `y`, `names`, `factors` and `c` are in the order of the split: entry i belongs to
    row i.

    Attributes:
        x: raw rows (N, ...) in the user's layout, perhaps memory-mapped or on the disk.
        spec: the spec of the model's input.
        index: numbers of the rows of x that belong to the split; None for all.
        y: class ids (n,), -1 where unknown.
        names: the name of each example.
        factors: ground-truth factors (n, F).
        c: conditions, class ids (n,) or numbers (n, C).
        transform: random changes of training rows, applied if `batch` is given a
            generator.
        fixed: the evaluation view of dynamically binarised rows: a function that
            returns (n, ...) in the order of the split, or rows on the disk in the
            order of x.
        notices: messages for the user.
        checks: the spec that raw rows on the disk must satisfy when they are read.
        digest: sha256 of the source, for data that were read for a trained model.
        label_names: the classes of these data, for the same.
        table: the columns of these rows as they were given, of a table read for a
            trained model.
    """

    x: Tensor | OnDisk
    spec: DataSpec
    index: Tensor | ExcludingIndex | None = None
    y: Tensor | None = None
    names: Sequence[str] | None = None
    factors: Tensor | None = None
    c: Tensor | None = None
    transform: Transform | None = None
    fixed: Callable[[], Tensor] | OnDisk | None = None
    notices: tuple[str, ...] = ()
    checks: DataSpec | None = None
    digest: str = ""
    label_names: tuple[str, ...] | None = None
    table: Table | None = None

    def __len__(self) -> int:
        if self.index is None:
            return len(self.x)
        return len(self.index)

    def __repr__(self) -> str:
        return f"Split({len(self)} x {tuple(self.x.shape[1:])}, {self.spec.domain})"

    @functools.cached_property
    def _fixed_rows(self) -> Tensor:
        """The result of `fixed`, computed once."""
        assert self.fixed is not None and not isinstance(self.fixed, OnDisk)
        return self.fixed()

    def _take(self, rows: Tensor, x: Tensor | OnDisk) -> Tensor:
        rows = rows.to(x.device)
        at = rows if self.index is None else self.index[rows]
        taken = x.index_select(0, at)
        if self.checks is not None and x is self.x:
            check_read(taken, self.checks, "the data", at)
        return taken

    def raw(self, rows: Tensor) -> Tensor:
        """The evaluation view of these rows.

        Args:
            rows: row numbers (n,) of the split.

        Returns:
            (n, ...) in raw units and the user's layout.
        """
        if self.fixed is None:
            return self._take(rows, self.x)
        if isinstance(self.fixed, OnDisk):
            return self._take(rows, self.fixed)
        return self._fixed_rows.index_select(0, rows.to(self._fixed_rows.device))

    def batch(
        self,
        rows: Tensor,
        generator: torch.Generator | None = None,
        share: Share = WHOLE,
    ) -> Tensor:
        """These rows in model units.

        Args:
            rows: row numbers (n,) of the split.
            generator: source of the random training transforms; None for the
                evaluation view.
            share: (rank, world size): which part of the batch of all processes these
                rows are.

        Returns:
            float32 (n, *shape).
        """
        if generator is None or self.transform is None:
            return self.spec.to_model(self.raw(rows))
        raw = self._take(rows, self.x)
        return self.spec.to_model(
            self.transform(raw, self.spec.layout, generator, share)
        )

    def examples(
        self,
        rows: Tensor,
        generator: torch.Generator | None = None,
        share: Share = WHOLE,
    ) -> Batch:
        """`batch` together with the labels and conditions that the model uses."""
        x = self.batch(rows, generator, share)
        y = None
        if self.spec.labels is not None and self.y is not None:
            y = self.y[rows.to(self.y.device)].to(x.device)
        condition = self.spec.condition
        if condition is None:
            return Batch(x, y=y)
        if self.c is None:
            raise TightboundError(NO_CONDITION)
        c = condition.encode(self.c[rows.to(self.c.device)])
        return Batch(x, c.to(x.device), y)

    def labels(self, rows: Tensor) -> Tensor | None:
        """Labels of these rows, or None where the source has none."""
        if self.y is None:
            return None
        return self.y[rows.to(self.y.device)]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(row numbers, x) of the evaluation view in order, `size` rows at a time."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield rows, self.batch(rows)

    def spread(self, n: int) -> Tensor:
        """n row numbers, evenly spaced, so that rows sorted by class give all classes."""
        return spread(len(self), self.x.piece if isinstance(self.x, OnDisk) else 1, n)

    def select(self, rows: Tensor) -> Split:
        """The split of these rows in this order; x itself is not copied."""
        rows = rows.long().cpu()
        index = rows if self.index is None else self.index[rows]
        names = None if self.names is None else [self.names[int(i)] for i in rows]
        return replace(
            self._mapped(lambda t: t[rows]),
            index=index,
            names=names,
            digest="",
            label_names=None,
            table=None if self.table is None else self.table.take(rows.numpy()),
        )

    def to(self, device: torch.device | str) -> Split:
        """The split with its rows copied to a device; rows on the disk stay there."""
        if isinstance(self.x, OnDisk):
            return self
        index = self.index.to(device) if isinstance(self.index, Tensor) else None
        return replace(
            self._mapped(lambda t: t.to(device)),
            x=self.x.to(device),
            index=index,
            digest="",
            label_names=None,
        )

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Split:
        """A copy with `change` applied to all tensors in the order of the split."""

        def changed(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            return change(values)

        def changed_fixed() -> Tensor:
            return change(self._fixed_rows)

        is_function = self.fixed is not None and not isinstance(self.fixed, OnDisk)
        return replace(
            self,
            y=changed(self.y),
            factors=changed(self.factors),
            c=changed(self.c),
            fixed=changed_fixed if is_function else self.fixed,
        )
