"""Shards: examples that come in order from tar files (`wds:PATTERN`) or from a library (`hf:NAME`
with streaming).
"""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.core.data_spec import DataSpec
from tightbound.data.formats.chunked import need
from tightbound.data.formats.torch_dataset import plain_label, together
from tightbound.data.images.decode import EXTENSIONS
from tightbound.data.images.items import FEW, Items
from tightbound.data.prepare.infer import check_read
from tightbound.data.prepare.split import Transform
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, join_labels, sha256_text
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady

Item = tuple[str, Any, Any]  # name, undecoded x, label or None
AT_ONCE = 64
MIX = 8192
FROM_STREAM, SAMPLE = 5_000, 2_000
WHOLE = 20  # with so many shards, some are held out whole
ROLES = {"valid": 0, "test": 1}


@dataclass(frozen=True)
class Shards:
    """Examples in shards; `Pieces` of training.  A shard's examples are read anew each time, in
    their order.

    names: of the shards.  open_(shard): its examples, undecoded.  keep: which of them, by their
    number in the shard, are ours.  decode: makes rows of them, once a few were seen.  checks: what
    rows are checked against.
    """

    where: str
    names: Sequence[str]
    open_: Callable[[int], Iterator[Item]]
    keep: Callable[[int], bool] = lambda number: True
    decode: Items | None = None
    checks: DataSpec | None = None
    mix: int | None = MIX

    def __len__(self) -> int:
        return len(self.names)

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded example."""
        assert self.decode is not None
        return torch.Size(self.decode.shape).numel() * self.decode.dtype.itemsize

    def items(self, piece: int) -> Iterator[Item]:
        """Our examples of a shard, undecoded; damage is told with the shard's name."""
        number = -1
        try:
            for number, item in enumerate(self.open_(piece)):
                if self.keep(number):
                    yield item
        except TightboundError:
            raise
        except Exception as error:  # what libraries raise on damaged files
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise TightboundError(
                f"{self.names[piece]} is damaged after {number + 1} examples "
                f"({line}): restore it, or leave it out"
            ) from None

    def decoded(
        self, piece: int, start: int = 0
    ) -> Iterator[tuple[Tensor, list[Item]]]:
        """Rows of a shard from its row `start` on, a few at a time, with the examples that they
        were made of.
        """
        assert self.decode is not None
        skip = (
            0 if self.decode.skip_bad else start
        )  # a bad example has no number, so that those before must be decoded
        items, left = islice(self.items(piece), skip, None), start - skip
        while some := list(islice(items, AT_ONCE)):
            rows, kept = self.decode(
                [x for _, x, _ in some], [name for name, _, _ in some]
            )
            rows, kept, left = rows[left:], kept[left:], max(0, left - len(rows))
            if len(rows):
                if self.checks is not None:
                    check_read(rows, self.checks, self.names[piece])
                yield rows, [some[i] for i in kept]

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        return (rows for rows, _ in self.decoded(piece, start))

    def only(self, pieces: Sequence[int]) -> Shards:
        """These shards alone."""
        return replace(
            self,
            names=[self.names[i] for i in pieces],
            open_=lambda i: self.open_(pieces[i]),
        )

    def some(self, most: int) -> Iterator[Item]:
        """At most so many examples, evenly from all shards."""
        each = -(-most // max(1, len(self)))
        every = (
            item
            for piece in range(len(self))
            for item in islice(self.items(piece), each)
        )
        return islice(every, most)

    def part(self, most: int, what: str) -> tuple[Part, np.ndarray | None]:
        """Some of the rows in memory, and their labels."""
        assert self.decode is not None
        most = min(most, max(16, (1 << 27) // self.row_bytes))
        steady, xs, items = Steady(f"reading {what}", most), [], self.some(most)
        ys: list[Any] = []
        while group := list(islice(items, AT_ONCE)):
            rows, kept = self.decode(
                [x for _, x, _ in group], [name for name, _, _ in group]
            )
            xs.append(rows)
            ys += [plain_label(group[i][2]) for i in kept]
            steady.add(len(group))
        if not xs:
            raise TightboundError(
                f"{what} has no examples: nothing can be learned from it"
            )
        return Part(torch.cat(xs)), together(ys)


@dataclass
class Stream:
    """A source that streams: what there is to train on, and the source of the rows that are
    held.
    """

    shards: Shards
    source: Source
    held_out: bool = True


def stream_of(
    name: str, splits: dict[str, Shards], digest: str, settings: DataSettings, seed: int
) -> Stream:
    """Splits of shards to a Stream: what is not published is held out, whole shards or every so
    many-th example.
    """
    train, notices = splits["train"], list[str]()
    if not len(train):
        raise TightboundError(
            f"{train.where} has no shards: nothing can be learned from it"
        )
    decode = Items([x for _, x, _ in train.some(FEW)], train.where, settings, notices)
    splits = {key: replace(shards, decode=decode) for key, shards in splits.items()}
    splits |= _held_out(splits, settings, seed, notices)
    found = {
        key: splits[key].part(
            SAMPLE if key == "train" else FROM_STREAM, f"{train.where} ({key})"
        )
        for key in splits
    }
    parts = {key: part for key, (part, _) in found.items()}
    labels = {key: y for key, (_, y) in found.items() if y is not None}
    notices.append(
        f"{train.where} is read as it comes: {len(splits['train'])} shards to train on, "
        f"{len(parts['valid'].x):,} examples held in memory to validate and "
        f"{len(parts['test'].x):,} to test"
    )
    image = bool(decode.resolved)
    source = Source(
        name,
        train.where,
        parts,
        digest,
        layout="chw" if image else None,
        levels=256 if image else None,
        label_names=join_labels(parts, labels, train.where, notices),
        resolved=dict(decode.resolved),
        notices=notices,
    )
    return Stream(splits["train"], source)


def _held_out(
    splits: dict[str, Shards], settings: DataSettings, seed: int, notices: list[str]
) -> dict[str, Shards]:
    """The missing splits, and the training shards without them."""
    train, missing = splits["train"], [name for name in ROLES if name not in splits]
    out: dict[str, Shards] = {}
    if missing and len(train) >= WHOLE:
        order = torch.randperm(
            len(train), generator=torch.Generator().manual_seed(seed)
        ).tolist()
        for name in missing:
            share = getattr(settings, name)
            own = [
                order.pop()
                for _ in range(
                    max(
                        1,
                        min(MIX // 512, round(len(train) * share) if share < 1 else 1),
                    )
                )
            ]
            out[name] = train.only(sorted(own))
            notices.append(
                f"{train.where}: {len(own)} of its {len(train)} shards are held out ({name})"
            )
        return {**out, "train": train.only(sorted(order))}
    period = {
        name: max(2, round(1 / share)) if (share := getattr(settings, name)) < 1 else 10
        for name in missing
    }

    def keeps(name: str) -> Callable[[int], bool]:
        return lambda n: (
            name == next((m for m in missing if n % period[m] == ROLES[m]), "train")
        )

    for name in missing:
        out[name] = replace(train, keep=keeps(name))
        notices.append(
            f"{train.where}: one example in {period[name]} is held out ({name})"
        )
    return {**out, "train": replace(train, keep=keeps("train"))} if missing else out


# ---- wds:PATTERN


def open_wds(pattern: str, settings: DataSettings, seed: int) -> Stream:
    """Tar files in the WebDataset format: files of one name make an example, their endings say what
    they are.
    """
    shards = wds_shards(pattern, settings)
    about = [(name, Path(name).stat().st_size) for name in shards.names]
    return stream_of(
        Path(pattern).name.split(".")[0],
        {"train": shards},
        sha256_text("wds", *about),
        settings,
        seed,
    )


def wds_shards(pattern: str, settings: DataSettings) -> Shards:
    """The shards that a pattern names: {000..123} and * are expanded; files of this machine
    only.
    """
    tar = need("webdataset.tariterators", f"wds:{pattern}", "webdataset")
    if "://" in pattern or pattern.startswith("pipe:"):
        raise TightboundError(
            f"wds:{pattern} is not a file of this machine: copy the shards "
            "here, and name their path"
        )
    import braceexpand

    named = [
        name
        for p in braceexpand.braceexpand(str(Path(pattern).expanduser()))
        for name in _globbed(p)
    ]
    if not named:
        raise TightboundError(
            f"wds:{pattern} names no file: write it as wds:/data/train-{{000..099}}.tar"
        )
    if lost := next((name for name in named if not Path(name).is_file()), None):
        raise TightboundError(
            f"wds:{pattern}: {lost} does not exist: check the pattern"
        )

    def open_(shard: int) -> Iterator[Item]:
        with open(named[shard], "rb") as file:
            entries = (
                {**entry, "__url__": named[shard]}
                for entry in tar.tar_file_iterator(file)
            )
            for sample in tar.group_by_keys(entries):
                yield _sample(sample, named[shard], settings)
            file.seek(0)
            if file.read(2) != b"\x1f\x8b" and (
                file.seek(-1024, 2) < 0 or file.read().strip(b"\0")
            ):
                raise EOFError(
                    "it does not end as a tar file does"
                )  # which Python's reader takes for the end

    return Shards(f"wds:{pattern}", named, open_)


def _globbed(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern)) if any(c in pattern for c in "*?[") else [pattern]


def _sample(sample: dict[str, Any], shard: str, settings: DataSettings) -> Item:
    """Name, x and label of one sample: an image or an .npy; a .cls, .label or .y with its class."""
    name = sample["__key__"]
    kinds = [kind for kind in sample if not kind.startswith("__")]
    wanted = settings.key or next(
        (k for k in kinds if f".{k}" in EXTENSIONS or k == "npy"), None
    )
    if wanted not in kinds:
        raise TightboundError(
            f"{shard}: example {name} has {', '.join(kinds) or 'no files'} and no "
            f"{wanted or 'image or .npy'}: name what to learn from with data.key"
        )
    x = sample[wanted]
    if wanted == "npy" or wanted.endswith(".npy"):
        x = np.load(io.BytesIO(x), allow_pickle=False)
    label = next(
        (sample[k].decode().strip() for k in ("cls", "label", "y") if k in kinds), None
    )
    return (
        name,
        x,
        int(label) if label is not None and label.lstrip("-").isdigit() else label,
    )


@dataclass
class ShardSplit:
    """A training split that streams from shards; training reads it by lanes."""

    shards: Shards
    spec: DataSpec
    transform: Transform | None
    size: int | None = None
    notices: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        raise TypeError(f"{self.shards.where} does not say how many examples it has")

    def __repr__(self) -> str:
        return f"ShardSplit({len(self.shards)} shards, {self.spec.shape}, {self.spec.domain})"

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(running numbers, x in domain units), shard after shard; greys of a binarised model by a
        fixed draw.
        """
        start, fixed = 0, torch.Generator().manual_seed(0)
        for piece in range(len(self.shards)):
            for raw, _ in self.shards.decoded(piece):
                if self.transform is not None:
                    raw = self.transform(raw, self.spec.layout, fixed)
                for part in raw.split(size):
                    yield (
                        torch.arange(start, start + len(part)),
                        self.spec.to_domain(part),
                    )
                    start += len(part)
