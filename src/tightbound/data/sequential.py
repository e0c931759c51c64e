"""Read examples in order, in parts that can be read independently.

Commands that process millions of examples use this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tightbound.core.data_spec import DataSpec
from tightbound.data.conform import conform_stream, plain_settings, read
from tightbound.data.formats.chunked import stamps
from tightbound.data.formats.torch_dataset import plain_label
from tightbound.data.images.items import FEW, Items
from tightbound.data.prepare.split import Split
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, sha256_text
from tightbound.data.streams.huggingface import hf_shards
from tightbound.data.streams.shards import Item, Shards, wds_shards
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import expanded


@dataclass(frozen=True)
class Rows:
    """Some examples in order.

    Attributes:
        numbers: their row numbers (n,).
        x: the examples (n, *shape) in model units.
        names: the name of each example, or None.
        labels: the label of each example, or None.
        c: the conditions of the examples, or None.
    """

    numbers: Tensor
    x: Tensor
    names: Sequence[str] | None
    labels: Sequence[int | str | None] | None
    c: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


def class_words(names: Sequence[str] | None) -> Sequence[str] | None:
    """The names of classes, or None where they are the numbers 0, 1, ..."""
    if names is None or list(names) == [str(i) for i in range(len(names))]:
        return None
    return names


class Ordered(ABC):
    """The examples of a source in order, in parts.

    Attributes:
        digest: sha256 that identifies the source.
        notices: messages for the user.
        origins: the name of each part, in which rows count from 0; None where row
            numbers count over all parts.
        total: number of all examples, or None for a stream.
        named: whether rows have names.
        labelled: the type of the labels, int or str, or None.
    """

    digest: str
    notices: tuple[str, ...]
    origins: Sequence[str] | None = None
    total: int | None = None
    named = True
    labelled: type | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        """The examples of a part, at most `at_once` at a time, always cut the same way."""


class Ranges(Ordered):
    """A split in parts of `size` rows."""

    def __init__(self, split: Split, size: int) -> None:
        self.split = split
        self.size = size
        self.total = len(split)
        self.digest = split.digest
        self.notices = split.notices
        self.words = class_words(split.label_names)
        self.named = split.names is not None
        self.labelled = None
        if split.y is not None:
            self.labelled = str if self.words else int

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        stop = min((part + 1) * self.size, len(self.split))
        for start in range(part * self.size, stop, at_once):
            yield self._rows(torch.arange(start, min(start + at_once, stop)))

    def _rows(self, numbers: Tensor) -> Rows:
        split = self.split
        names = None
        if split.names is not None:
            names = [str(split.names[i]) for i in numbers.tolist()]
        labels = split.labels(numbers)
        values = None if labels is None else self._label_values(labels.tolist())
        if split.c is None:
            return Rows(numbers, split.batch(numbers), names, values)
        batch = split.examples(numbers)
        return Rows(numbers, batch.x, names, values, batch.c)

    def _label_values(self, labels: list[int]) -> list[int | str | None]:
        """Class names, with "" for an unknown class; ids where classes have no names."""
        if not self.words:
            return [*labels]
        return [self.words[y] if y >= 0 else "" for y in labels]


class Streamed(Ordered):
    """A stream, each of whose shards is a part in which rows are counted.

    Args:
        shards: the shards.
        digest: sha256 that identifies the source.
        conform: converts raw rows to model units, see `conform.conform_stream`.
        labelled: the type of the labels, or None.
        notices: messages for the user.
    """

    def __init__(
        self,
        shards: Shards,
        digest: str,
        conform: Callable[..., Tensor],
        labelled: type | None,
        notices: tuple[str, ...],
    ) -> None:
        self.shards = shards
        self.digest = digest
        self.conform = conform
        self.labelled = labelled
        self.notices = notices
        self.origins = shards.names

    def __len__(self) -> int:
        return len(self.shards)

    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        blocks: list[Tensor] = []
        items: list[Item] = []
        start = 0
        for raw, decoded in self.shards.decoded(part):
            blocks.append(raw)
            items += decoded
            while len(items) >= at_once:
                joined = torch.cat(blocks)
                yield self._rows(part, start, joined[:at_once], items[:at_once])
                blocks = [joined[at_once:]]
                items = items[at_once:]
                start += at_once
        if items:
            yield self._rows(part, start, torch.cat(blocks), items)

    def _rows(self, part: int, start: int, raw: Tensor, items: list[Item]) -> Rows:
        where = self.shards.names[part]
        names = [str(name) for name, _, _ in items]
        labels = [self._label(plain_label(y), where, str(name)) for name, _, y in items]
        return Rows(
            torch.arange(start, start + len(raw)),
            self.conform(raw, where, part, start),
            names,
            labels if self.labelled else None,
        )

    def _label(self, label: object, where: str, name: str) -> int | str | None:
        if label is None or self.labelled is None:
            return None
        if self.labelled is str:
            return str(label)
        if not isinstance(label, int):
            raise TightboundError(
                f"{where}: example {name} has the label {label!r}, the first "
                "ones have whole numbers: make them alike"
            )
        return label


def read_parts(
    source: object, spec: DataSpec, settings: DataSettings, size: int
) -> Ordered:
    """Read new data for a trained model in parts.

    Args:
        source: a source as `read` takes it, or a stream.
        spec: the spec of the model.
        settings: the data settings of the model.
        size: rows of a part; a part of a stream is a shard.

    Raises:
        TightboundError: as `read` does; for rows on the disk or of a stream, when they
            are read.
    """
    stream = _open_shards(source, settings)
    if stream is None:
        return Ranges(read(source, spec, settings), size)
    shards, digest = stream
    notices: list[str] = []
    few = list(shards.sample_items(FEW))
    xs = [x for _, x, _ in few]
    items = Items(xs, shards.where, plain_settings(spec, settings), notices)
    raw, _ = items(xs, [name for name, _, _ in few])
    properties = RawSource(shards.where, shards.where, {}, digest)
    properties = properties.with_images(items.resolved)
    conform = conform_stream(raw, properties, spec, settings, notices)
    label_type = _label_type([plain_label(y) for _, _, y in few])
    decoding = replace(shards, decode=items)
    return Streamed(decoding, digest, conform, label_type, tuple(notices))


def _label_type(labels: Sequence[object]) -> type | None:
    """int where all labels are whole numbers, else str; None without labels."""
    if all(label is None for label in labels):
        return None
    if all(isinstance(label, int) for label in labels):
        return int
    return str


def _open_shards(source: object, settings: DataSettings) -> tuple[Shards, str] | None:
    """The shards of a stream and a digest of them; None for any other source."""
    kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind == "wds":
        shards = wds_shards(name, settings)
        keys: list[object] = []
        for path in shards.names:
            keys += [path, *stamps(Path(path))]
        return shards, sha256_text("wds", *keys)
    if kind == "hf" and settings.streaming:
        splits = hf_shards(name, settings)
        key = "test" if "test" in splits else "train"
        folder = expanded(name.partition("#")[0])
        keys = stamps(folder) if folder.is_dir() else []
        digest = sha256_text("hf-stream", name, key, len(splits[key]), *keys)
        return splits[key], digest
    return None
