"""Read a folder or zip of images, split and labelled by its sub-folders.

Images are decoded once into a memory-mapped cache.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch
from torch import Tensor

from tightbound.data.cache import Notes, cached_rows, link_rows
from tightbound.data.images.decode import (
    AUTO_SIDE,
    EXTENSIONS,
    Header,
    bombs_refused,
    header_of,
    open_image,
    pixels,
)
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, read_labels, sha256_text
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, steadily

_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
_ORDER = ("train", "valid", "test", "all")
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
_NO_IMAGE = "not an image file"
_BLOCK = 256
_LARGEST_FILE = 1 << 29


@dataclass(frozen=True)
class Entry:
    """A file of the source: its name below the root, and a function to open it."""

    name: str
    open: Callable[[], IO[bytes]]


def file_entry(path: Path, name: str) -> Entry:
    """The entry of a file on disk."""
    return Entry(name, lambda: path.open("rb"))


def _is_image(entry: Entry) -> bool:
    return entry.name.lower().endswith(EXTENSIONS)


def _hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _SYSTEM
        for part in PurePosixPath(name).parts
    )


def list_folder(root: Path) -> list[Entry]:
    """All files below a folder, except hidden and system files.

    Links to folders are followed, each folder once.
    """
    entries = []
    visited = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            folders[:] = []
            continue
        visited.add(real)
        folders.sort()
        for file in files:
            path = Path(folder, file)
            entries.append(file_entry(path, path.relative_to(root).as_posix()))
    return [entry for entry in entries if not _hidden(entry.name)]


def list_zip(path: Path) -> list[Entry]:
    """All files of a zip, read in place.

    Nothing is extracted, so the names in the zip are never used as paths.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise TightboundError(
            f"{path} is truncated or not a zip file: {error}"
        ) from None
    infos = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not _hidden(info.filename)
    ]
    locked = next((info for info in infos if info.flag_bits & 1), None)
    if locked is not None:
        raise TightboundError(
            f"{path}: {locked.filename} is encrypted with a password: unpack it and name the folder"
        )
    return [Entry(i.filename, partial(_open_member, archive, i)) for i in infos]


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.file_size > _LARGEST_FILE:
        raise ValueError(f"it unpacks to {info.file_size} bytes, too many for an image")
    return archive.open(info)


def load_images(entries: list[Entry], where: str, settings: DataSettings) -> RawSource:
    """The source over image files; `where` is its name in messages."""
    arrangement = _arrange(entries)
    entries = arrangement.entries
    _check_images(entries, where, settings)
    digest = _content(entries)
    key = sha256_text("images-1", digest, settings.size, settings.channels)
    rows, notes = cached_rows(key, partial(_decode_all, entries, where, settings))
    resolved = {"size": (rows.shape[2], rows.shape[3]), "channels": rows.shape[1]}
    # a trained run reads the images with these settings resolved
    link_rows(key, sha256_text("images-1", digest, *resolved.values()))
    bad = dict(notes["bad"])
    _refuse(bad, where, settings.skip_bad)
    good = [entry for entry in entries if entry.name not in bad]
    labels = [arrangement.label_of[entry.name] for entry in good]
    y, label_names = _labels(labels)
    splits = _splits(torch.from_numpy(rows), y, good, arrangement.split_of)
    if "train" not in splits and "all" not in splits:
        raise TightboundError(
            f"{where} has no readable training image: all of them were left out"
        )
    notices = [*arrangement.notices, *notes["messages"]]
    if bad:
        notices.append(_left_out(bad))
    return RawSource(
        Path(where).stem,
        where,
        splits,
        digest,
        layout="chw",
        levels=256,
        label_names=label_names,
        resolved=resolved,
        notices=tuple(notices),
    )


def _check_images(entries: list[Entry], where: str, settings: DataSettings) -> None:
    """Refuse a source without images, and, unless `skip_bad`, one with other files."""
    if not any(_is_image(entry) for entry in entries):
        problem = "it is empty"
        if entries:
            problem = f"none of its {len(entries)} files is an image"
        raise TightboundError(
            f"{where} holds no images ({problem}): expected {', '.join(EXTENSIONS)} files"
        )
    others = {entry.name: _NO_IMAGE for entry in entries if not _is_image(entry)}
    _refuse(others, where, settings.skip_bad)


def _splits(
    x: Tensor, y: Tensor | None, entries: list[Entry], split_of: dict[str, str]
) -> dict[str, RawSplit]:
    """The rows of each split; entries are in the order of their splits."""
    splits = {}
    start = 0
    for name in _ORDER:
        names = [entry.name for entry in entries if split_of[entry.name] == name]
        stop = start + len(names)
        if names:
            labels = None if y is None else y[start:stop]
            splits[name] = RawSplit(x[start:stop], labels, names)
        start = stop
    return splits


def _labels(labels: list[str]) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Class ids from folder names, -1 for files outside of any folder.

    None where all files have the same label.
    """
    if len(set(labels)) < 2:
        return None, None
    names = sorted(set(labels) - {""})
    ids = {name: i for i, name in enumerate(names)}
    values = [ids.get(label, -1) for label in labels]
    y, _ = read_labels(values, len(labels), "the folder", [])
    return y, tuple(names)


@dataclass(frozen=True)
class _Arrangement:
    """Entries in the order of their splits, split and label of each, and notices."""

    entries: list[Entry]
    split_of: dict[str, str]
    label_of: dict[str, str]
    notices: list[str]


def _arrange(entries: list[Entry]) -> _Arrangement:
    """Split and label image files by their folders: [train/]label/file."""
    notices: list[str] = []
    below = _below_common_folder([entry.name for entry in entries])
    is_published = _has_splits(below, notices)
    split_of = {}
    label_of = {}
    for name, parts in below.items():
        split_of[name] = "all"
        inner = parts
        if is_published:
            split_of[name] = _SPLITS[parts[0].lower()]
            inner = parts[1:]
        label_of[name] = ""
        if len(inner) > 1:
            label_of[name] = inner[0]
    ordered = sorted(entries, key=lambda e: (_ORDER.index(split_of[e.name]), e.name))
    return _Arrangement(ordered, split_of, label_of, notices)


def _below_common_folder(names: list[str]) -> dict[str, tuple[str, ...]]:
    """The parts of each name below the folder that all files have in common."""
    parts = {name: PurePosixPath(name).parts for name in names}
    folders = [p[:-1] for p in parts.values()]
    common = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return {name: p[common:] for name, p in parts.items()}


def _has_splits(below: dict[str, tuple[str, ...]], notices: list[str]) -> bool:
    """True where the outermost folders are splits, with train among them.

    A layout that resembles one with splits is reported in `notices`.
    """
    folders = {p[0]: _SPLITS.get(p[0].lower()) for p in below.values() if len(p) > 1}
    files = {p[0] for p in below.values() if len(p) == 1}
    if "train" in folders.values():
        others = files | {name for name, split in folders.items() if split is None}
        if not others:
            return True
        notices.append(
            f"{min(others)!r} lies beside the splits, so folders are read as "
            "labels, not as train, valid and test"
        )
    notices += _inner_splits_notice(below)
    return False


def _inner_splits_notice(below: dict[str, tuple[str, ...]]) -> list[str]:
    """The message about splits inside of folders of labels, where there are some."""
    pairs = {p[:2] for p in below.values() if len(p) > 2}
    inner = sorted(pair for pair in pairs if pair[1].lower() in _SPLITS)
    if not inner:
        return []
    label, split = inner[0]
    return [
        f"folders such as {label}/{split} are not read as splits, so all images are "
        f"split at random: a published split is {split}/{label}/..., with train outermost"
    ]


def _content(entries: list[Entry]) -> str:
    """sha256 over the names and the bytes of all files."""
    total = hashlib.sha256()
    for entry in steadily("reading images", entries, len(entries)):
        total.update(entry.name.encode() + b"\0")
        try:
            with entry.open() as file:
                content = hashlib.sha256()
                while block := file.read(1 << 20):
                    content.update(block)
                total.update(content.digest())
        # a zip member may fail in many ways; the decoder reports it
        except Exception as error:
            total.update(f"unreadable: {error}".encode())
    return total.hexdigest()


def _refuse(bad: dict[str, str], where: str, skip_bad: bool) -> None:
    """Raise for the first bad file, unless bad files are left out."""
    if bad and not skip_bad:
        name, problem = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise TightboundError(
            f"{where}: {name} cannot be read as an image: {problem}{more}; "
            "remove it, or use --skip-bad"
        )


def _left_out(bad: dict[str, str]) -> str:
    """The notice that lists the first five files that were left out."""
    first = list(bad.items())[:5]
    listed = ", ".join(f"{name} ({problem})" for name, problem in first)
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    files = "files are" if len(bad) > 1 else "file is"
    return f"{len(bad)} {files} left out: {listed}{more}"


def _decode_all(
    entries: list[Entry], where: str, settings: DataSettings, notes: Notes
) -> Iterator[np.ndarray]:
    """Decode all good files to blocks of uint8 rows (n, C, H, W).

    Args:
        entries: the files.
        where: the name of the source in messages.
        settings: the data settings.
        notes: receives the bad files and the messages about conversions.
    """
    bad: dict[str, str] = {}
    with bombs_refused(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers: dict[Entry, Header] = {}
        for entry, header in zip(entries, pool.map(_header, entries), strict=True):
            if isinstance(header, str):
                bad[entry.name] = header
            else:
                headers[entry] = header
        _refuse(bad, where, settings.skip_bad)
        if not headers:
            raise _no_images(where, bad)
        size, channels, messages = target_of([*headers.values()], settings)
        progress = Steady("decoding images, once", len(headers))
        decode = partial(_row, size=size, channels=channels)
        good = [*headers]
        for start in range(0, len(good), _BLOCK):
            block = good[start : start + _BLOCK]
            rows = _decode_block(block, decode, pool, bad)
            _refuse(bad, where, settings.skip_bad)
            progress.add(len(block))
            if rows:
                yield np.stack(rows)
    if len(bad) == len(entries):
        raise _no_images(where, bad)
    notes.update(bad=sorted(bad.items()), messages=messages)


def _no_images(where: str, bad: dict[str, str]) -> TightboundError:
    return TightboundError(f"{where} holds no image that can be read: {_left_out(bad)}")


def _decode_block(
    block: list[Entry],
    decode: Callable[[Entry], np.ndarray | str],
    pool: Executor,
    bad: dict[str, str],
) -> list[np.ndarray]:
    """The pixels of the good files of a block; the bad ones are added to `bad`."""
    rows = []
    for entry, row in zip(block, pool.map(decode, block), strict=True):
        if isinstance(row, str):
            bad[entry.name] = row
        else:
            rows.append(row)
    return rows


def reason(error: Exception) -> str:
    """Why an image is bad, in one line without the name of a file object."""
    text = str(error).split("\n")[0]
    if "cannot identify" in text:
        return "not an image that Pillow can read"
    return text or type(error).__name__


def _header(entry: Entry) -> Header | str:
    """The header of an image file, or why it is bad."""
    if not _is_image(entry):
        return _NO_IMAGE
    try:
        with entry.open() as file, open_image(file) as image:
            return header_of(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def _row(entry: Entry, size: tuple[int, int], channels: int) -> np.ndarray | str:
    """The pixels of an image file, or why it is bad."""
    try:
        with entry.open() as file, open_image(file) as image:
            return pixels(image, size, channels)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def target_of(
    headers: list[Header], settings: DataSettings
) -> tuple[tuple[int, int], int, list[str]]:
    """The common size and number of channels of some images.

    Returns:
        (height, width), channels, and one message for each conversion of images.
    """
    messages: list[str] = []
    size = _common_size(headers, settings, messages)
    colours = sum(not header.grey for header in headers)
    channels = 3 if colours else 1
    if settings.channels != "auto":
        channels = settings.channels
    if channels == 1 and colours:
        messages.append(f"{colours} colour images are read as greyscale")
    conversions = {
        "with transparency are put on white": sum(h.alpha for h in headers),
        "of 16 bits are scaled to 8 bits": sum(h.deep for h in headers),
        "with several frames give their first frame": sum(h.frames for h in headers),
    }
    for conversion, count in conversions.items():
        if count:
            plural = "s" if count > 1 else ""
            messages.append(f"{count} image{plural} {conversion}")
    return size, channels, messages


def _common_size(
    headers: list[Header], settings: DataSettings, messages: list[str]
) -> tuple[int, int]:
    """The (height, width) of all images: `data.size`, their own up to 64, or 64 x 64."""
    sizes = Counter((h.height, h.width) for h in headers)
    same = next(iter(sizes)) if len(sizes) == 1 else None
    size = settings.pixels
    if size is None:
        is_small = same is not None and max(same) <= AUTO_SIDE
        size = same if same is not None and is_small else (AUTO_SIDE, AUTO_SIDE)
    if same == size:
        return size
    if same is not None:
        given = f"{same[0]}x{same[1]}"
    else:
        height = max(sizes)[0]
        width = max(width for _, width in sizes)
        given = f"{len(sizes)} sizes up to {height}x{width}"
    messages.append(
        f"images of {given} are resized and centre-cropped to {size[0]}x{size[1]} pixels "
        "(height x width; --set data.size=N or data.size=HxW for another size)"
    )
    return size
