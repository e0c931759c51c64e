"""Examples of any source in order, in parts that can be read each by itself: for what is done with
millions of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.data.conform import conform_stream, plain_settings, read
from tightbound.data.formats.chunked import stamps
from tightbound.data.formats.torch_dataset import plain_label
from tightbound.data.images.items import FEW, Items
from tightbound.data.prepare.split import Split
from tightbound.data.settings import DataSettings
from tightbound.data.source import Source, sha256_text
from tightbound.data.streams.huggingface import hf_shards
from tightbound.data.streams.shards import Item, Shards, wds_shards
from tightbound.runtime.errors import TightboundError


@dataclass(frozen=True)
class Rows:
    """Some examples in order: their numbers, x (n, *shape) in domain units, names, labels,
    conditions.
    """

    numbers: Tensor
    x: Tensor
    names: Sequence[str] | None
    labels: Sequence[int | str | None] | None
    c: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


def class_words(names: Sequence[str] | None) -> Sequence[str] | None:
    """The names of classes; None where they are the numbers 0, 1, ...

    themselves, or there are none.
    """
    return (
        None
        if names is None or list(names) == [str(i) for i in range(len(names))]
        else names
    )


class Ordered(ABC):
    """Parts of a source in order.  digest: of the source.  origins: what each part is from, where
    rows count from 0.

    total: all examples, None where a stream does not know.  named, labelled: what rows have; labels
    are int or str.
    """

    digest: str
    notices: list[str]
    origins: Sequence[str] | None = None
    total: int | None = None
    named = True
    labelled: type | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        """The examples of a part, at most so many at a time, cut in the same way each time."""


class Ranges(Ordered):
    """A split in parts of `size` rows."""

    def __init__(self, split: Split, size: int) -> None:
        self.split, self.size, self.total = split, size, len(split)
        self.digest, self.notices = split.digest, split.notices
        self.words = class_words(split.label_names)
        self.named = split.names is not None
        self.labelled = None if split.y is None else str if self.words else int

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        split, stop = self.split, min((part + 1) * self.size, len(self.split))
        for start in range(part * self.size, stop, at_once):
            numbers = torch.arange(start, min(start + at_once, stop))
            names = (
                None
                if split.names is None
                else [str(n) for n in split.names[start : start + len(numbers)]]
            )
            labels = split.labels(numbers)
            batch = (
                Batch(split.batch(numbers))
                if split.c is None
                else split.examples(numbers)
            )
            yield Rows(
                numbers,
                batch.x,
                names,
                None if labels is None else self._known(labels.tolist()),
                batch.c,
            )

    def _known(self, labels: list[int]) -> list[int | str | None]:
        """Classes by their names, an unknown one as an empty text; numbers where they have no other
        names.
        """
        return (
            [self.words[y] if y >= 0 else "" for y in labels]
            if self.words
            else [*labels]
        )


class Streamed(Ordered):
    """A stream: each of its shards is a part, and rows are counted in it.

    conform: raw rows to domain units, see `reading.conform_stream`.
    """

    def __init__(
        self,
        shards: Shards,
        digest: str,
        conform: Callable[..., Tensor],
        labelled: type | None,
        notices: list[str],
    ) -> None:
        self.shards, self.digest, self.conform = shards, digest, conform
        self.labelled, self.notices, self.origins = labelled, notices, shards.names

    def __len__(self) -> int:
        return len(self.shards)

    def rows(self, part: int, at_once: int) -> Iterator[Rows]:
        held: list[tuple[Tensor, list[Item]]] = []
        start = 0
        for found in self.shards.decoded(part):
            held.append(found)
            while sum(len(raw) for raw, _ in held) >= at_once:
                every, items = _joined(held)
                yield self._rows(part, start, every[:at_once], items[:at_once])
                held, start = [(every[at_once:], items[at_once:])], start + at_once
        if sum(len(raw) for raw, _ in held):
            yield self._rows(part, start, *_joined(held))

    def _rows(self, part: int, start: int, raw: Tensor, items: list[Item]) -> Rows:
        where, names = self.shards.names[part], [str(name) for name, _, _ in items]
        labels = [
            self._label(plain_label(y), where, name)
            for name, (_, _, y) in zip(names, items, strict=True)
        ]
        x = self.conform(raw, where, part, start)
        return Rows(
            torch.arange(start, start + len(raw)),
            x,
            names,
            labels if self.labelled else None,
        )

    def _label(self, label: Any, where: str, name: str) -> int | str | None:
        if label is None or self.labelled is None:
            return None
        if self.labelled is int and not isinstance(label, int):
            raise TightboundError(
                f"{where}: example {name} has the label {label!r}, the first "
                "ones have whole numbers: make them alike"
            )
        return label if self.labelled is int else str(label)


def _joined(held: list[tuple[Tensor, list[Item]]]) -> tuple[Tensor, list[Item]]:
    return torch.cat([raw for raw, _ in held]), [
        item for _, items in held for item in items
    ]


def read_parts(
    source: Any, spec: DataSpec, settings: DataSettings, size: int
) -> Ordered:
    """New data for a trained model, as `read` takes them, or a stream, in order: parts of `size`
    rows, or shards.

    Raises TightboundError as `read` does, for rows of a disk or a stream when they are read.
    """
    opened = _stream(source, settings)
    if opened is None:
        return Ranges(read(source, spec, settings), size)
    shards, digest = opened
    plain, notices = plain_settings(spec, settings), list[str]()
    few = list(shards.some(FEW))
    items = Items([x for _, x, _ in few], shards.where, plain, notices)
    raw, _ = items([x for _, x, _ in few], [name for name, _, _ in few])
    image = bool(items.resolved)
    about = Source(
        shards.where,
        shards.where,
        {},
        digest,
        layout="chw" if image else None,
        levels=256 if image else None,
        notices=notices,
    )
    conform = conform_stream(raw, about, spec, settings)
    labels = [plain_label(y) for _, _, y in few]
    labelled = (
        None
        if all(y is None for y in labels)
        else int
        if all(isinstance(y, int) for y in labels)
        else str
    )
    return Streamed(replace(shards, decode=items), digest, conform, labelled, notices)


def _stream(source: Any, settings: DataSettings) -> tuple[Shards, str] | None:
    """The shards of a stream and a digest of them; None for a source that is no stream."""
    kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind == "wds":
        shards = wds_shards(name, settings)
        return shards, sha256_text(
            "wds", *(key for n in shards.names for key in (n, *stamps(Path(n))))
        )
    if kind == "hf" and settings.streaming:
        splits = hf_shards(name, settings)
        key = "test" if "test" in splits else "train"
        local = Path(name.partition("#")[0]).expanduser()
        keys = stamps(local) if local.is_dir() else []
        return splits[key], sha256_text("hf-stream", name, key, len(splits[key]), *keys)
    return None
