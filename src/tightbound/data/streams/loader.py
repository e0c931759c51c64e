"""A DataLoader or IterableDataset as a training split, and its fixed sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from itertools import chain, islice
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tightbound.core.data_spec import DataSpec
from tightbound.data.formats.torch_dataset import item_parts, plain_label, together
from tightbound.data.images.decode import is_deep, pixels
from tightbound.data.images.grey_levels import EIGHT_BITS, UNSCALED
from tightbound.data.prepare.binarize import FIXED_SEED
from tightbound.data.prepare.infer import check_values
from tightbound.data.prepare.split import Transform
from tightbound.data.source import (
    RawSource,
    RawSplit,
    as_tensor,
    read_labels,
    sha256_text,
)
from tightbound.runtime.errors import TightboundError

Loader = DataLoader[object] | IterableDataset[object]

_SAMPLE = 2_000
_ITEM = "an item of the IterableDataset"


def is_stream(source: object) -> TypeGuard[Loader]:
    """True for a DataLoader or an IterableDataset."""
    return isinstance(source, (DataLoader, IterableDataset))


def _batches(stream: Loader, size: int) -> Iterator[tuple[Tensor, Any]]:
    """Raw (x, y or None): the batches of a loader, or `size` items at a time."""
    if not isinstance(stream, DataLoader):
        yield from _item_batches(stream, size)
        return
    for number, batch in enumerate(stream):
        what = f"batch {number} of the DataLoader"
        x, y = item_parts(batch, what)
        yield as_tensor(x, what, []), y


def _item_batches(stream: Loader, size: int) -> Iterator[tuple[Tensor, Any]]:
    """The items of an IterableDataset, `size` at a time."""
    items = iter(stream)
    while group := [item_parts(item, _ITEM) for item in islice(items, size)]:
        rows = [_row(x) for x, _ in group]
        try:
            x = torch.stack(rows)
        except RuntimeError:
            raise TightboundError(
                "items of the IterableDataset have different shapes: resize them alike"
            ) from None
        yield x, together([plain_label(y) for _, y in group])


def _row(x: object) -> Tensor:
    if not isinstance(x, Image.Image):
        return as_tensor(x, _ITEM, [])
    # the values of a stream are not known in advance, so 16-bit greys are not scaled
    scale = UNSCALED if is_deep(x) else EIGHT_BITS
    return as_tensor(pixels(x, None, None, scale), _ITEM, [])


def _started(stream: Loader, size: int, seed: int) -> Iterator[tuple[Tensor, Any]]:
    """One pass over a stream, whose order is a function of the seed.

    The order comes from torch's global generator, whose state is restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = _batches(stream, size)
        first = list(islice(batches, 1))
    return chain(first, batches)


def _labels(
    xs: list[Tensor], ys: Sequence[object], limit: int | None
) -> np.ndarray | None:
    """The labels of some batches as one array, or None without one per example."""
    try:
        arrays = [np.asarray(y) for y in ys]
        for x, y, array in zip(xs, ys, arrays, strict=True):
            if y is None or array.ndim == 0 or len(array) != len(x):
                return None
        return np.concatenate(arrays)[:limit]
    except ValueError:
        return None


def sample(stream: Loader, seed: int) -> RawSource:
    """The first 2,000 examples of the pass with this seed, as a training split."""
    source = gather(stream, _SAMPLE, seed, "train")
    return source.with_notices(
        f"{source.where} is read as a stream: an interrupted run resumes at the "
        "start of its epoch, not within it"
    )


def gather(
    stream: Loader, limit: int | None = None, seed: int = 0, split: str = "all"
) -> RawSource:
    """Read the examples of one pass into memory.

    Args:
        stream: a DataLoader or IterableDataset.
        limit: the largest number of examples, or None for all.
        seed: the seed of the pass.
        split: the name of the split that the examples form.
    """
    kind = type(stream).__name__
    xs: list[Tensor] = []
    ys: list[Any] = []
    n = 0
    for x, y in _started(stream, 256, seed):
        xs.append(x)
        ys.append(y)
        n += len(x)
        if limit is not None and n >= limit:
            break
    if n == 0:
        raise TightboundError(f"the {kind} is empty: nothing can be learned from it")
    try:
        rows = torch.cat(xs)[:limit]
    except RuntimeError:
        raise TightboundError(
            f"batches of the {kind} have different shapes: resize their examples alike"
        ) from None
    notices: list[str] = []
    labels = _labels(xs, ys, limit)
    y, names = read_labels(labels, len(rows), f"the {kind}", notices)
    return RawSource(
        kind,
        f"the {kind}",
        {split: RawSplit(rows, y)},
        sha256_text(kind, tuple(rows.shape[1:]), rows.dtype),
        label_names=names,
        notices=tuple(notices),
    )


class LoaderSplit:
    """A training split over a DataLoader or IterableDataset, in model units.

    Args:
        stream: the DataLoader or IterableDataset.
        spec: the spec that its examples must satisfy.
        transform: random changes of the raw examples.
        seed: epoch e is read with the seed + e.
    """

    resumable_within_epoch = False

    def __init__(
        self, stream: Loader, spec: DataSpec, transform: Transform | None, seed: int
    ) -> None:
        self.stream = stream
        self.spec = spec
        self.transform = transform
        self.seed = seed

    @property
    def size(self) -> int | None:
        """Examples in one pass, or None where the stream has no length."""
        sized: object = self.stream
        if isinstance(self.stream, DataLoader):
            sized = self.stream.dataset
        if isinstance(sized, Sized):
            return len(sized)
        return None

    def __len__(self) -> int:
        """Examples in one pass.

        Raises:
            TypeError: where the stream has no length.
        """
        if self.size is None:
            raise TypeError(
                f"{type(self.stream).__name__} does not say how many examples it has"
            )
        return self.size

    def __repr__(self) -> str:
        return f"LoaderSplit({type(self.stream).__name__}, {self.spec.shape}, {self.spec.domain})"

    def epochs(
        self, size: int, generator: torch.Generator | None = None, first: int = 0
    ) -> Iterator[Iterator[tuple[Tensor, Tensor | None]]]:
        """One iterator of (x in model units, labels) for each epoch from `first` on.

        Args:
            size: examples per batch, for an IterableDataset.
            generator: source of the random numbers of the transform.
            first: number of the first epoch; its order is a function of the number.
        """
        for epoch in range(first, 2**31):
            yield self._epoch(epoch, size, generator)

    def _epoch(
        self, epoch: int, size: int, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        fixed = torch.Generator().manual_seed(FIXED_SEED)
        batches = _started(self.stream, size, self.seed + epoch)
        for number, (raw, y) in enumerate(batches):
            what = f"batch {number} of the {type(self.stream).__name__}"
            if self.transform is not None:
                raw = self.transform(raw, self.spec.layout, generator or fixed)
            try:
                x = self.spec.to_model(raw)
            except RuntimeError:
                raise TightboundError(
                    f"{what} has shape {tuple(raw.shape)}, unlike the batches before it"
                ) from None
            check_values(raw, self.spec, what)
            yield x, _label_tensor(y)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(running numbers, x in model units) over the pass that the sample is from."""
        start = 0
        for x, _ in self._epoch(0, size, None):
            yield torch.arange(start, start + len(x)), x
            start += len(x)


def _label_tensor(y: object) -> Tensor | None:
    """The labels of a batch as a tensor; None where they are not whole numbers."""
    if y is None or isinstance(y, Tensor):
        return y
    if np.asarray(y).dtype.kind in "iu":
        return torch.as_tensor(y)
    return None
