"""`hf:NAME`: sets of the `datasets` library, from the hub or from a folder here, whole or as a
stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.data.formats.chunked import MOST_LABELS, need
from tightbound.data.formats.torch_dataset import X_KEYS, Y_KEYS
from tightbound.data.images.items import FEW, Items
from tightbound.data.on_disk import OnDisk, held
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, join_labels, sha256_text
from tightbound.data.streams.shards import Item, Shards, Stream, stream_of
from tightbound.runtime.errors import TightboundError, nearest

ALIASES = {
    "train": "train",
    "validation": "valid",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
BLOCK = 256


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """No progress bars of the library inside the block."""
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _opened(name: str, settings: DataSettings) -> dict[str, Any]:
    """The library's sets by split; NAME is one of the hub, with #CONFIG where it has several, or a
    folder.
    """
    datasets = need("datasets", f"hf:{name}", "hf")
    path, _, config = name.partition("#")
    local = Path(path).expanduser()
    try:
        with _quiet(datasets):
            if (local / "state.json").is_file() or (
                local / "dataset_dict.json"
            ).is_file():
                found = datasets.load_from_disk(str(local))
                if settings.streaming:
                    raise TightboundError(
                        f"hf:{name} was saved with save_to_disk, which is read "
                        "in place: drop data.streaming"
                    )
            else:
                where = str(local) if local.is_dir() else path
                found = datasets.load_dataset(
                    where, config or None, streaming=settings.streaming
                )
    except TightboundError:
        raise
    # the library's own are many: no network, no such set, a config to choose
    except Exception as error:
        line = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise TightboundError(
            f"hf:{name} cannot be opened ({line}): check the name, and NAME#CONFIG for one"
        ) from None
    splits = found if isinstance(found, dict) else {"train": found}
    named = {
        ALIASES[key]: split
        for key, split in reversed(list(splits.items()))
        if key in ALIASES
    }
    if "train" not in named and len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    if "train" not in named:
        raise TightboundError(
            f"hf:{name} has splits {', '.join(splits)} and none is 'train': "
            "save one under that name"
        )
    return {key: named[key] for key in ("train", "valid", "test") if key in named}


def _columns(
    name: str, columns: list[str], settings: DataSettings
) -> tuple[str, str | None]:
    """The columns of x and of labels."""
    y = next((k for k in Y_KEYS if k in columns), None)
    if settings.key is not None and settings.key not in columns:
        raise TightboundError(
            f"hf:{name} has no column {settings.key!r} for data.key: "
            f"{nearest(settings.key, columns)}"
        )
    x = settings.key or next((k for k in X_KEYS if k in columns), None)
    rest = [k for k in columns if k != y]
    if x is None and len(rest) != 1:
        raise TightboundError(
            f"hf:{name} has columns {', '.join(columns)}: name the one to learn from with data.key"
        )
    return x or rest[0], y


def _undecoded(datasets: Any, split: Any, x: str) -> Any:
    """The set with images as bytes, which are decoded when they are wanted."""
    feature = (split.features or {}).get(x)
    return (
        split.cast_column(x, datasets.Image(decode=False))
        if isinstance(feature, datasets.Image)
        else split
    )


def _names(split: Any, y: str | None) -> tuple[str, ...] | None:
    names = getattr((split.features or {}).get(y), "names", None) if y else None
    return None if names is None else tuple(names)


def load_hf(name: str, settings: DataSettings) -> Source:
    """A set that is here, or fetched once: in memory where it fits, else read in place as it is
    needed.
    """
    datasets = need("datasets", f"hf:{name}", "hf")
    splits, notices = _opened(name, settings), list[str]()
    x, y = _columns(name, splits["train"].column_names, settings)
    plain = {key: _undecoded(datasets, split, x) for key, split in splits.items()}
    if not len(plain["train"]):
        raise TightboundError(f"hf:{name} is empty: nothing can be learned from it")
    items = Items(plain["train"][:FEW][x], f"hf:{name}", settings, notices)
    parts, labels = {}, {}
    for key, split in plain.items():
        parts[key if len(plain) > 1 else "all"] = Part(
            held(_rows(name, split, x, items), settings, f"hf:{name} ({key})", notices)
        )
        if y is not None and len(split) <= MOST_LABELS:
            labels[key if len(plain) > 1 else "all"] = np.asarray(split[y])
    known = join_labels(parts, labels, f"hf:{name}", notices)
    image = bool(items.resolved)
    return Source(
        Path(name.partition("#")[0]).name,
        f"hf:{name}",
        parts,
        sha256_text(
            "hf", *(f"{key}={split._fingerprint}" for key, split in splits.items())
        ),
        layout="chw" if image else None,
        levels=256 if image else None,
        label_names=_names(splits["train"], y) if known else None,
        resolved=dict(items.resolved),
        notices=notices,
    )


def _rows(name: str, split: Any, x: str, items: Items) -> OnDisk:
    """The rows of one split, decoded as they are read."""

    def read(start: int, stop: int) -> Tensor:
        rows, kept = items(split[start:stop][x], range(start, stop))
        if len(kept) < stop - start:
            raise TightboundError(
                f"hf:{name}: an image among rows {start} to {stop - 1} is bad, "
                "and rows of a table stay"
            )
        return rows

    return OnDisk(
        (len(split), *items.shape),
        items.dtype,
        read,
        min(BLOCK, max(1, (1 << 24) // _size(items))),
    )


def _size(items: Items) -> int:
    return torch.Size(items.shape).numel()


def open_hf(name: str, settings: DataSettings, seed: int) -> Stream:
    """A set as a stream: nothing is fetched before it is needed."""
    splits = hf_shards(name, settings)
    keys = [(key, len(shards)) for key, shards in splits.items()]
    return stream_of(
        Path(name.partition("#")[0]).name,
        splits,
        sha256_text("hf-stream", name, *keys),
        settings,
        seed,
    )


def hf_shards(name: str, settings: DataSettings) -> dict[str, Shards]:
    """The shards of each split of a streaming set."""
    datasets = need("datasets", f"hf:{name}", "hf")
    return {
        key: _shards(datasets, name, key, split, settings)
        for key, split in _opened(name, settings).items()
    }


def _shards(
    datasets: Any, name: str, key: str, split: Any, settings: DataSettings
) -> Shards:
    columns = split.column_names or list(next(iter(split), {}))
    x, y = _columns(name, columns, settings)
    plain = _undecoded(datasets, split, x)

    def open_(shard: int) -> Iterator[Item]:
        for number, item in enumerate(plain.shard(plain.num_shards, shard)):
            yield str(number), item[x], None if y is None else item[y]

    return Shards(
        f"hf:{name}",
        [f"hf:{name}, {key} shard {i}" for i in range(plain.num_shards)],
        open_,
    )
