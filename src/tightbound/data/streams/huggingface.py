"""`hf:NAME`: data sets of the `datasets` library, from the hub or a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.data.cache import writable_or_private
from tightbound.data.formats.chunked import MOST_LABELS, need
from tightbound.data.formats.torch_dataset import X_KEYS, Y_KEYS
from tightbound.data.images.items import FEW, Items
from tightbound.data.on_disk import OnDisk, load_if_small
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, join_labels, sha256_text
from tightbound.data.streams.shards import Item, Shards, Stream, stream_of
from tightbound.runtime.errors import TightboundError, cut, listed, nearest, shortened
from tightbound.runtime.reading import expanded

ALIASES = {
    "train": "train",
    "validation": "valid",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
BLOCK = 256
DataSet = Any  # of the library, which is imported when data of it are read


@contextmanager
def _quiet(datasets: ModuleType) -> Iterator[None]:
    """Disable the progress bars of the library inside the block."""
    enabled = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


def _opened(name: str, settings: DataSettings) -> dict[str, DataSet]:
    """The library's data sets by split.

    Args:
        name: a folder, or a data set of the hub, with #CONFIG where it has several.
        settings: the data settings.
    """
    datasets = need("datasets", f"hf:{name}", "hf")
    opened = _open_any(datasets, name, settings)
    splits = opened if isinstance(opened, dict) else {"train": opened}
    # of several names for one split, the first counts
    named = {
        ALIASES[key]: split
        for key, split in reversed(list(splits.items()))
        if key in ALIASES
    }
    if "train" in named:
        return {key: named[key] for key in ("train", "valid", "test") if key in named}
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    raise TightboundError(
        f"hf:{name} has splits {listed(list(splits))} and none is 'train': "
        "save one under that name"
    )


def _open_any(
    datasets: ModuleType, name: str, settings: DataSettings
) -> DataSet | dict[str, DataSet]:
    """A data set, or a dict of them by split, from a folder or from the hub."""
    path, _, config = name.partition("#")
    folder = expanded(path)
    files = ("state.json", "dataset_dict.json")
    is_saved = any((folder / file).is_file() for file in files)
    if is_saved and settings.streaming:
        raise TightboundError(
            f"hf:{name} was saved with save_to_disk, which is read in place: drop "
            "data.streaming"
        )
    try:
        with _quiet(datasets):
            if is_saved:
                return datasets.load_from_disk(str(folder))
            where = str(folder) if folder.is_dir() else path
            return datasets.load_dataset(
                where,
                config or None,
                cache_dir=str(_cache(datasets)),
                streaming=settings.streaming,
            )
    # the library has many errors: no network, no such set, a config to choose
    except Exception as error:
        reason = cut(str(error).strip().rstrip(".") or type(error).__name__)
        raise TightboundError(
            f"{cut(f'hf:{name}')} cannot be opened ({reason}): check the name, and "
            "NAME#CONFIG for one"
        ) from None


def _columns(
    name: str, columns: list[str], settings: DataSettings
) -> tuple[str, str | None]:
    """The names of the columns of examples and of labels."""
    y = next((key for key in Y_KEYS if key in columns), None)
    if settings.key is not None:
        if settings.key not in columns:
            raise TightboundError(
                f"hf:{name} has no column {shortened(settings.key)} for data.key: "
                f"{nearest(settings.key, columns)}"
            )
        return settings.key, y
    usual = [key for key in X_KEYS if key in columns]
    others = [column for column in columns if column != y]
    if not usual and len(others) != 1:
        raise TightboundError(
            f"hf:{name} has columns {listed(columns)}: name the one to learn from with data.key"
        )
    return (usual or others)[0], y


def _undecoded(datasets: ModuleType, split: DataSet, x: str, y: str | None) -> DataSet:
    """The columns of examples and labels, images as bytes that are decoded later.

    Other columns are left out, as the library would decode them too.
    """
    split = split.select_columns([x] if y is None else [x, y])
    feature = (split.features or {}).get(x)
    if feature is not None and not isinstance(feature, datasets.Image):
        _refuse_files(datasets, feature, x)
    if isinstance(feature, datasets.Image):
        return split.cast_column(x, datasets.Image(decode=False))
    return split


def _refuse_files(datasets: ModuleType, feature: object, x: str) -> None:
    """Refuse a column of lists of images or sounds, which may name files anywhere."""
    kinds = [datasets.Image, datasets.Audio, datasets.Video]
    names = [kind.__name__ for kind in kinds if f"{kind.__name__}(" in repr(feature)]
    if names:
        raise TightboundError(
            f"column {x!r} holds {names[0].lower()}s inside of other values, which cannot "
            "be read: name a column of images or numbers with data.key"
        )


def _roots(datasets: ModuleType, name: str) -> list[Path]:
    """The folders in which a data set may name image files: its own, and the library's."""
    import huggingface_hub.constants

    folder = expanded(name.partition("#")[0])
    caches = [_cache(datasets), Path(huggingface_hub.constants.HF_HUB_CACHE)]
    return [*([folder] if folder.is_dir() else []), *caches]


def _cache(datasets: ModuleType) -> Path:
    """The folder in which the library keeps data sets, one that can be written."""
    return writable_or_private(Path(datasets.config.HF_DATASETS_CACHE))


def _label_names(split: DataSet, y: str | None) -> tuple[str, ...] | None:
    """The class names that the data set defines for its column of labels."""
    if y is None:
        return None
    names = getattr((split.features or {}).get(y), "names", None)
    if names is None:
        return None
    return tuple(names)


def load_hf(name: str, settings: DataSettings) -> RawSource:
    """Read a data set that is local, or downloaded once by the library.

    It is held in memory where it fits `data.memory`, else read on access.
    """
    datasets = need("datasets", f"hf:{name}", "hf")
    notices: list[str] = []
    opened = _opened(name, settings)
    x, y = _columns(name, opened["train"].column_names, settings)
    undecoded = {
        key: _undecoded(datasets, split, x, y) for key, split in opened.items()
    }
    if not len(undecoded["train"]):
        raise TightboundError(f"hf:{name} is empty: nothing can be learned from it")
    roots = _roots(datasets, name)
    train = undecoded["train"]
    few = train[:FEW][x]
    items = Items(few, f"hf:{name}", settings, notices, len(train), roots)
    splits = {}
    labels = {}
    for key, split in undecoded.items():
        part = key if len(undecoded) > 1 else "all"
        rows = _rows(name, split, x, items)
        splits[part] = RawSplit(
            load_if_small(rows, settings, f"hf:{name} ({key})", notices)
        )
        if y is not None and len(split) <= MOST_LABELS:
            labels[part] = np.asarray(split[y])
    labelled, names = join_labels(splits, labels, f"hf:{name}", notices)
    fingerprints = [f"{key}={split._fingerprint}" for key, split in opened.items()]
    source = RawSource(
        Path(name.partition("#")[0]).name,
        f"hf:{name}",
        labelled,
        sha256_text("hf", *fingerprints),
        label_names=_label_names(opened["train"], y) if names else None,
        notices=tuple(notices),
    )
    return source.with_images(items.resolved)


def _rows(name: str, split: DataSet, x: str, items: Items) -> OnDisk:
    """The rows of one split, decoded when they are read."""

    def read(start: int, stop: int) -> Tensor:
        rows, kept = items(split[start:stop][x], range(start, stop))
        if len(kept) < stop - start:
            raise TightboundError(
                f"hf:{name}: an image among rows {start} to {stop - 1} cannot be "
                "read, and rows of a table cannot be left out"
            )
        return rows

    size = torch.Size(items.shape).numel()
    block = min(BLOCK, max(1, (1 << 24) // size))
    return OnDisk((len(split), *items.shape), items.dtype, read, block)


def open_hf(name: str, settings: DataSettings, seed: int) -> Stream:
    """Open a data set as a stream, of which nothing is downloaded in advance."""
    datasets = need("datasets", f"hf:{name}", "hf")
    splits = hf_shards(name, settings)
    keys = [(key, len(shards)) for key, shards in splits.items()]
    return stream_of(
        Path(name.partition("#")[0]).name,
        splits,
        sha256_text("hf-stream", name, *keys),
        settings,
        seed,
        _roots(datasets, name),
    )


def hf_shards(name: str, settings: DataSettings) -> dict[str, Shards]:
    """The shards of each split of a streaming data set."""
    datasets = need("datasets", f"hf:{name}", "hf")
    return {
        key: _shards(datasets, name, key, split, settings)
        for key, split in _opened(name, settings).items()
    }


def _shards(
    datasets: ModuleType, name: str, key: str, split: DataSet, settings: DataSettings
) -> Shards:
    columns = split.column_names or list(next(iter(split), {}))
    x, y = _columns(name, columns, settings)
    undecoded = _undecoded(datasets, split, x, y)
    count = undecoded.num_shards

    def open_shard(shard: int) -> Iterator[Item]:
        for number, item in enumerate(undecoded.shard(count, shard)):
            yield str(number), item[x], None if y is None else item[y]

    names = [f"hf:{name}, {key} shard {i}" for i in range(count)]
    return Shards(f"hf:{name}", names, open_shard)
