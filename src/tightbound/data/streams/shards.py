"""Examples in shards: tar files (`wds:PATTERN`), or a streaming set (`hf:NAME`)."""

from __future__ import annotations

import glob
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from tightbound.core.data_spec import DataSpec
from tightbound.data.formats.chunked import need
from tightbound.data.formats.tar import tar_members
from tightbound.data.formats.torch_dataset import plain_label, together
from tightbound.data.images.decode import EXTENSIONS
from tightbound.data.images.items import FEW, Items
from tightbound.data.prepare.infer import check_read
from tightbound.data.prepare.split import Transform
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, join_labels, sha256_text
from tightbound.runtime.errors import TightboundError, cut, machine_reason
from tightbound.runtime.foreign_errors import first_line
from tightbound.runtime.progress import Steady
from tightbound.runtime.reading import expanded

Item = tuple[str, object, object]  # name, undecoded x, label or None
AT_ONCE = 64
SHUFFLE_BUFFER = 8192
MOST_HELD_OUT = 16  # shards of a split that are held out whole, at most
EVALUATION_SAMPLE = 5_000
TRAINING_SAMPLE = 2_000
WHOLE = 20  # with so many shards, some are held out whole
MOST_SHARDS = 100_000  # files that a pattern may name
_CHOICE = re.compile(r"\{[^{}]*,[^{}]*\}")
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?\}")
REMAINDERS = {"valid": 0, "test": 1}


@dataclass(frozen=True)
class Shards:
    """Examples in shards, the `Pieces` of training; a shard is read again each time.

    Attributes:
        where: the name of the data in messages.
        names: the names of the shards.
        open_shard: `open_shard(number)` yields the undecoded examples of a shard.
        keep: which examples belong to the split, by their number in the shard.
        decode: converts examples to rows.
        checks: the spec that rows must satisfy.
        shuffle_buffer: rows to shuffle at a time.
    """

    where: str
    names: Sequence[str]
    open_shard: Callable[[int], Iterator[Item]]
    keep: Callable[[int], bool] = lambda number: True
    decode: Items | None = None
    checks: DataSpec | None = None
    shuffle_buffer: int | None = SHUFFLE_BUFFER

    def __len__(self) -> int:
        return len(self.names)

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded example."""
        assert self.decode is not None
        return torch.Size(self.decode.shape).numel() * self.decode.dtype.itemsize

    def items(self, piece: int) -> Iterator[Item]:
        """The undecoded examples of a shard that belong to the split.

        Raises:
            TightboundError: with the name of the shard, where it is damaged.
        """
        number = -1
        try:
            for number, item in enumerate(self.open_shard(piece)):
                if self.keep(number):
                    yield item
        except TightboundError:
            raise
        except Exception as error:  # libraries raise many kinds on damaged files
            line = first_line(error)
            reason = machine_reason(error)
            if reason is not None:
                raise TightboundError(
                    f"cannot read {cut(self.names[piece])} ({reason})"
                ) from error
            raise TightboundError(
                f"{cut(self.names[piece])} is damaged after {number + 1} examples "
                f"({line}): restore it, or leave it out"
            ) from None

    def decode_items(self, items: Sequence[Item]) -> tuple[Tensor, list[Item]]:
        """The rows of some examples, and the examples without those left out as bad."""
        assert self.decode is not None
        rows, kept = self.decode(
            [x for _, x, _ in items], [name for name, _, _ in items]
        )
        return rows, [items[i] for i in kept]

    def decoded(
        self, piece: int, start: int = 0
    ) -> Iterator[tuple[Tensor, list[Item]]]:
        """Rows of a shard from its row `start` on, a few at a time, with their examples."""
        assert self.decode is not None
        # bad examples are not counted as rows, so that those before are decoded too
        skip = 0 if self.decode.skip_bad else start
        before = start - skip
        items = islice(self.items(piece), skip, None)
        while group := list(islice(items, AT_ONCE)):
            rows, kept = self.decode_items(group)
            wanted = rows[before:]
            kept = kept[before:]
            before = max(0, before - len(rows))
            if len(wanted):
                if self.checks is not None:
                    check_read(wanted, self.checks, self.names[piece])
                yield wanted, kept

    def rows(self, piece: int, start: int) -> Iterator[Tensor]:
        """Rows of a shard from its row `start` on, a few at a time."""
        return (rows for rows, _ in self.decoded(piece, start))

    def only(self, pieces: Sequence[int]) -> Shards:
        """These shards alone."""
        return replace(
            self,
            names=[self.names[i] for i in pieces],
            open_shard=lambda i: self.open_shard(pieces[i]),
        )

    def sample_items(self, most: int) -> Iterator[Item]:
        """At most so many examples, the same number from each shard."""
        from_each = -(-most // max(1, len(self)))
        items = (
            item
            for piece in range(len(self))
            for item in islice(self.items(piece), from_each)
        )
        return islice(items, most)

    def sample(self, most: int, what: str) -> tuple[RawSplit, np.ndarray | None]:
        """Some rows in memory, at most 128 MB of them, and their labels."""
        most = min(most, max(16, (1 << 27) // self.row_bytes))
        progress = Steady(f"reading {what}", most)
        blocks: list[Tensor] = []
        labels: list[object] = []
        items = self.sample_items(most)
        while group := list(islice(items, AT_ONCE)):
            rows, kept = self.decode_items(group)
            blocks.append(rows)
            labels += [plain_label(label) for _, _, label in kept]
            progress.add(len(group))
        if not blocks:
            raise TightboundError(
                f"{what} has no examples: nothing can be learned from it"
            )
        return RawSplit(torch.cat(blocks)), together(labels)


@dataclass(frozen=True)
class Stream:
    """A streaming source: shards to train on, and samples that are held in memory."""

    shards: Shards
    source: RawSource


def stream_of(
    name: str,
    splits: dict[str, Shards],
    digest: str,
    settings: DataSettings,
    seed: int,
    roots: Sequence[Path] = (),
) -> Stream:
    """Make a stream of shards; splits that are not published are held out.

    Args:
        name: short name of the data set.
        splits: the shards of each published split.
        digest: sha256 that identifies the content.
        settings: the data settings.
        seed: the seed of the random splits.
        roots: folders in which examples may name image files.
    """
    train = splits["train"]
    where = train.where
    notices: list[str] = []
    if not len(train):
        raise TightboundError(f"{where} has no shards: nothing can be learned from it")
    first = [x for _, x, _ in train.sample_items(FEW)]
    decode = Items(first, where, settings, notices, roots=roots)
    splits = {key: replace(shards, decode=decode) for key, shards in splits.items()}
    splits |= _hold_out(splits, settings, seed, notices)
    samples = {}
    labels = {}
    for key, shards in splits.items():
        most = TRAINING_SAMPLE if key == "train" else EVALUATION_SAMPLE
        samples[key], y = shards.sample(most, f"{where} ({key})")
        if y is not None:
            labels[key] = y
    notices.append(
        f"{where} is read as it comes: {len(splits['train'])} shards to train on, "
        f"{len(samples['valid'].x):,} examples held in memory to validate and "
        f"{len(samples['test'].x):,} to test"
    )
    labelled, label_names = join_labels(samples, labels, where, notices)
    source = RawSource(
        name,
        where,
        labelled,
        digest,
        label_names=label_names,
        notices=tuple(notices),
    )
    return Stream(splits["train"], source.with_images(decode.resolved))


def _hold_out(
    splits: Mapping[str, Shards],
    settings: DataSettings,
    seed: int,
    notices: list[str],
) -> dict[str, Shards]:
    """The missing splits, and the training shards without them."""
    train = splits["train"]
    missing = [name for name in REMAINDERS if name not in splits]
    if not missing:
        return {}
    shares = {name: getattr(settings, name) for name in missing}
    if len(train) >= WHOLE:
        return _hold_out_shards(train, shares, seed, notices)
    return _hold_out_examples(train, shares, notices)


def _hold_out_shards(
    train: Shards, shares: dict[str, float], seed: int, notices: list[str]
) -> dict[str, Shards]:
    """Random whole shards as the missing splits, and the others to train on."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=random).tolist()
    out: dict[str, Shards] = {}
    for name, share in shares.items():
        wanted = round(len(train) * share) if share < 1 else 1
        count = max(1, min(MOST_HELD_OUT, wanted))
        chosen = [order.pop() for _ in range(count)]
        out[name] = train.only(sorted(chosen))
        notices.append(
            f"{train.where}: {count} of its {len(train)} shards are held out ({name})"
        )
    return {**out, "train": train.only(sorted(order))}


def _hold_out_examples(
    train: Shards, shares: dict[str, float], notices: list[str]
) -> dict[str, Shards]:
    """Every so many-th example of each shard as the missing splits."""
    periods = {name: _period(share) for name, share in shares.items()}

    def split_of(number: int) -> str:
        """The split of an example, by its number in the shard."""
        for name, period in periods.items():
            if number % period == REMAINDERS[name]:
                return name
        return "train"

    def part(name: str) -> Shards:
        return replace(train, keep=lambda number: split_of(number) == name)

    for name, period in periods.items():
        notices.append(f"{train.where}: one example in {period} is held out ({name})")
    return {name: part(name) for name in [*shares, "train"]}


def _period(share: float) -> int:
    """One example in how many is held out; 10 where a number of rows is given."""
    if share < 1:
        return max(2, round(1 / share))
    return 10


# ---- wds:PATTERN


def open_wds(pattern: str, settings: DataSettings, seed: int) -> Stream:
    """Open tar files in the WebDataset format.

    Files of one name form an example, and their extensions are its parts.
    """
    shards = wds_shards(pattern, settings)
    sizes = [(name, Path(name).stat().st_size) for name in shards.names]
    return stream_of(
        Path(pattern).name.split(".")[0],
        {"train": shards},
        sha256_text("wds", *sizes),
        settings,
        seed,
    )


def wds_shards(pattern: str, settings: DataSettings) -> Shards:
    """The local tar files that a pattern names; {000..123} and * are expanded."""
    group_by_keys = need(
        "webdataset.tariterators", f"wds:{cut(pattern)}", "webdataset"
    ).group_by_keys
    if "://" in pattern or pattern.startswith("pipe:"):
        raise TightboundError(
            f"wds:{pattern} is not a file of this machine: copy the shards "
            "here, and name their path"
        )
    names = _expanded(pattern)
    if not names:
        raise TightboundError(
            f"wds:{pattern} names no file: write it as wds:/data/train-{{000..099}}.tar"
        )
    lost = next((name for name in names if not Path(name).is_file()), None)
    if lost is not None:
        raise TightboundError(
            f"wds:{pattern}: {lost} does not exist: check the pattern"
        )

    def open_shard(shard: int) -> Iterator[Item]:
        name = names[shard]
        with open(name, "rb") as file:
            for sample in group_by_keys(tar_members(file, name, settings)):
                yield _sample(sample, name, settings)

    return Shards(f"wds:{pattern}", names, open_shard)


def _expanded(pattern: str) -> list[str]:
    """The paths that a pattern with braces and wildcards names."""
    import braceexpand

    try:
        ranges = [(int(a), int(b)) for a, b in _RANGE.findall(pattern)]
    except ValueError:  # a number of thousands of digits
        ranges = [(0, MOST_SHARDS)]
    choices = [group.count(",") + 1 for group in _CHOICE.findall(pattern)]
    expected = math.prod([*(abs(b - a) + 1 for a, b in ranges), *choices])
    paths: list[str] = []
    if expected <= MOST_SHARDS:
        names = braceexpand.braceexpand(str(expanded(pattern)))
        for path in islice(names, MOST_SHARDS + 1):
            has_wildcard = any(mark in path for mark in "*?[")
            paths += sorted(glob.glob(path)) if has_wildcard else [path]
    if max(expected, len(paths)) > MOST_SHARDS:
        raise TightboundError(
            f"wds:{cut(pattern)} names more than {MOST_SHARDS:,} files: correct the "
            "numbers in its braces"
        )
    return paths


def _sample(sample: dict[str, Any], shard: str, settings: DataSettings) -> Item:
    """Name, x and label of one example.

    x is an image or an .npy, the label a .cls, .label or .y file.
    """
    name = sample["__key__"]
    kinds = [kind for kind in sample if not kind.startswith("__")]
    usual = [kind for kind in kinds if f".{kind}" in EXTENSIONS or kind == "npy"]
    wanted = settings.key or next(iter(usual), None)
    if wanted not in kinds:
        raise TightboundError(
            f"{shard}: example {name} has {', '.join(kinds) or 'no files'} and no "
            f"{wanted or 'image or .npy'}: name what to learn from with data.key"
        )
    x = sample[wanted]
    if wanted == "npy" or wanted.endswith(".npy"):
        x = npy.read_array(io.BytesIO(x), allow_pickle=False)
    return name, x, _label(sample)


def _label(sample: Mapping[str, bytes]) -> int | str | None:
    """The label of an example: a whole number, a text or None."""
    kind = next((kind for kind in ("cls", "label", "y") if kind in sample), None)
    if kind is None:
        return None
    text = sample[kind].decode().strip()
    if text.lstrip("-").isdigit():
        return int(text)
    return text


@dataclass(frozen=True)
class ShardSplit:
    """A training split of examples in shards, which training reads interleaved.

    Attributes:
        shards: the shards.
        spec: the spec of the model's input.
        transform: random changes of the raw rows.
        size: examples in an epoch, which is not known.
    """

    shards: Shards
    spec: DataSpec
    transform: Transform | None
    size: int | None = None

    def __len__(self) -> int:
        raise TypeError(f"{self.shards.where} does not say how many examples it has")

    def __repr__(self) -> str:
        return f"ShardSplit({len(self.shards)} shards, {self.spec.shape}, {self.spec.domain})"

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(running numbers, x in model units), shard after shard, at most `size` rows.

        Greys of a binarised model are drawn from a fixed seed.
        """
        start = 0
        fixed = torch.Generator().manual_seed(0)
        for piece in range(len(self.shards)):
            for raw, _ in self.shards.decoded(piece):
                if self.transform is not None:
                    raw = self.transform(raw, self.spec.layout, fixed)
                for block in raw.split(size):
                    numbers = torch.arange(start, start + len(block))
                    yield numbers, self.spec.to_model(block)
                    start += len(block)
