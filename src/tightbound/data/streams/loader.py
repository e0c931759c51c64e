"""LoaderSplit: a user's DataLoader or IterableDataset as a training split, and the fixed sample
that stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tightbound.core.data_spec import DataSpec
from tightbound.data.formats.torch_dataset import item_parts, plain_label, together
from tightbound.data.images.decode import pixels
from tightbound.data.prepare.binarize import FIXED_SEED
from tightbound.data.prepare.infer import check_values
from tightbound.data.prepare.split import Transform
from tightbound.data.source import Part, Source, as_tensor, read_labels, sha256_text
from tightbound.runtime.errors import TightboundError

_SAMPLE = 2_000


def is_stream(source: Any) -> bool:
    """True for a DataLoader or an IterableDataset."""
    return isinstance(source, (DataLoader, IterableDataset))


def _batches(stream: Any, size: int) -> Iterator[tuple[Tensor, Any]]:
    """(x, y or None) raw: a loader's own batches, or `size` items of an IterableDataset at
    a time.
    """
    if isinstance(stream, DataLoader):
        for number, batch in enumerate(stream):
            x, y = item_parts(batch, f"batch {number} of the DataLoader")
            yield as_tensor(x, f"batch {number} of the DataLoader", []), y
        return
    items = iter(stream)
    while group := [
        item_parts(item, "an item of the IterableDataset")
        for item in islice(items, size)
    ]:
        rows = [
            pixels(x, None, None) if isinstance(x, Image.Image) else x for x, _ in group
        ]
        try:
            x = torch.stack(
                [as_tensor(row, "an item of the IterableDataset", []) for row in rows]
            )
        except RuntimeError:
            raise TightboundError(
                "items of the IterableDataset have different shapes: resize them alike"
            ) from None
        labels = [y for _, y in group]
        yield x, together([plain_label(y) for y in labels])


def _started(stream: Any, size: int, seed: int) -> Iterator[tuple[Tensor, Any]]:
    """One pass whose order is a function of the seed: torch's global state decides it, and is put
    back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = _batches(stream, size)
        first = list(islice(batches, 1))
    return chain(first, batches)


def _labels(xs: list[Tensor], ys: list[Any], limit: int | None) -> np.ndarray | None:
    """The labels of some batches as one array, or None where they are not one for each example."""
    try:
        arrays = [np.asarray(y) for y in ys]
        if any(
            y is None or a.ndim == 0 or len(a) != len(x)
            for x, y, a in zip(xs, ys, arrays, strict=True)
        ):
            return None
        return np.concatenate(arrays)[:limit]
    except ValueError:
        return None


def sample(stream: Any, seed: int) -> Source:
    """The first 2,000 examples of the pass with this seed, as a Source with one training part."""
    found = gather(stream, _SAMPLE, seed, "train")
    found.notices.append(
        f"{found.where} is read as a stream: an interrupted run resumes at the "
        "start of its epoch, not within it"
    )
    return found


def gather(
    stream: Any, limit: int | None = None, seed: int = 0, split: str = "all"
) -> Source:
    """The examples of one pass, or the first `limit`, in memory, as a Source with one part of this
    name.
    """
    kind = type(stream).__name__
    xs, ys, n = [], [], 0
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
    y, names = read_labels(_labels(xs, ys, limit), len(rows), f"the {kind}", notices)
    part = Part(rows, y)
    return Source(
        kind,
        f"the {kind}",
        {split: part},
        sha256_text(kind, tuple(rows.shape[1:]), rows.dtype),
        label_names=names,
        notices=notices,
    )


class LoaderSplit:
    """A training split that streams: what a DataLoader or IterableDataset yields, checked, in
    domain units.
    """

    resumable_within_epoch = False

    def __init__(
        self, stream: Any, spec: DataSpec, transform: Transform | None, seed: int
    ) -> None:
        self.stream, self.spec, self.transform, self.seed = (
            stream,
            spec,
            transform,
            seed,
        )

    @property
    def size(self) -> int | None:
        """Examples in one pass, or None where the stream does not know."""
        sized: Any = (
            self.stream.dataset if isinstance(self.stream, DataLoader) else self.stream
        )
        return len(sized) if hasattr(sized, "__len__") else None

    def __len__(self) -> int:
        """Examples in one pass; TypeError where the stream does not know."""
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
        """One iterator of (x in domain units, labels) for each epoch from `first` on, in the order
        of its number.
        """
        for epoch in range(first, 2**31):
            yield self._epoch(epoch, size, generator)

    def _epoch(
        self, epoch: int, size: int, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        fixed = torch.Generator().manual_seed(FIXED_SEED)
        for number, (raw, y) in enumerate(
            _started(self.stream, size, self.seed + epoch)
        ):
            what = f"batch {number} of the {type(self.stream).__name__}"
            if self.transform is not None:
                raw = self.transform(raw, self.spec.layout, generator or fixed)
            try:
                x = self.spec.to_domain(raw)
            except RuntimeError:
                raise TightboundError(
                    f"{what} has shape {tuple(raw.shape)}, unlike the batches before it"
                ) from None
            check_values(raw, self.spec, what)
            labels = (
                torch.as_tensor(y)
                if isinstance(y, Tensor)
                or (y is not None and np.asarray(y).dtype.kind in "iu")
                else None
            )
            yield x, labels

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(running numbers, x in domain units) over the pass that the sample was taken from."""
        start = 0
        for x, _ in self._epoch(0, size, None):
            yield torch.arange(start, start + len(x)), x
            start += len(x)
