"""A folder or zip of images: listed, split and labelled by its sub-folders, decoded once into a
memory-mapped cache.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch

from tightbound.data.cache import cached_rows, known_also_as
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
from tightbound.data.source import Part, Source, read_labels, sha256_text
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
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
_NO_IMAGE = "not an image file"
_BLOCK = 256
_LARGEST_FILE = 1 << 29


@dataclass(frozen=True)
class Entry:
    """One file of the source: its name below the root, with /, and how to open it."""

    name: str
    open: Callable[[], IO[bytes]]


def file_entry(path: Path, name: str) -> Entry:
    """The entry of a file on disk."""
    return Entry(name, lambda: path.open("rb"))


def _hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _SYSTEM
        for part in PurePosixPath(name).parts
    )


def list_folder(root: Path) -> list[Entry]:
    """All files below a folder, links to folders followed once, hidden and system files
    left out.
    """
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(folders)
        files = [] if real in seen else files
        seen.add(real)
        for file in files:
            path = Path(folder, file)
            found.append(file_entry(path, path.relative_to(root).as_posix()))
    return [entry for entry in found if not _hidden(entry.name)]


def list_zip(path: Path) -> list[Entry]:
    """All files of a zip, read in place: nothing is extracted, so their names never become paths on
    this machine.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise TightboundError(
            f"{path} is truncated or not a zip file: {error}"
        ) from None
    infos = [
        i for i in archive.infolist() if not i.is_dir() and not _hidden(i.filename)
    ]
    if locked := next((i for i in infos if i.flag_bits & 1), None):
        raise TightboundError(
            f"{path}: {locked.filename} is encrypted with a password: unpack it and name the folder"
        )
    return [Entry(i.filename, partial(_open_member, archive, i)) for i in infos]


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.file_size > _LARGEST_FILE:
        raise ValueError(f"it unpacks to {info.file_size} bytes, too many for an image")
    return archive.open(info)


def load_images(entries: list[Entry], where: str, settings: DataSettings) -> Source:
    """The Source over image files; `where` names them in messages."""
    entries, split_of, label_of, notices = _arrange(entries)
    if not any(entry.name.lower().endswith(EXTENSIONS) for entry in entries):
        kind = (
            f"none of its {len(entries)} files is an image"
            if entries
            else "it is empty"
        )
        raise TightboundError(
            f"{where} holds no images ({kind}): expected {', '.join(EXTENSIONS)} files"
        )
    strange = {
        e.name: _NO_IMAGE for e in entries if not e.name.lower().endswith(EXTENSIONS)
    }
    _refuse(strange, where, settings.skip_bad)
    digest = _content(entries)
    key = sha256_text("images-1", digest, settings.size, settings.channels)
    rows, notes = cached_rows(key, partial(_decode_all, entries, where, settings))
    resolved = {"size": (rows.shape[2], rows.shape[3]), "channels": rows.shape[1]}
    known_also_as(
        key, sha256_text("images-1", digest, *resolved.values())
    )  # as a trained run will ask for them
    bad = dict(notes["bad"])
    _refuse(bad, where, settings.skip_bad)
    entries = [entry for entry in entries if entry.name not in bad]
    x = torch.from_numpy(rows)
    y, label_names = None, None
    labels = [label_of[entry.name] for entry in entries]
    if len(set(labels)) > 1:
        y, label_names = _labels(labels)
    parts: dict[str, Part] = {}
    for name in ("train", "valid", "test", "all"):
        mine = [i for i, entry in enumerate(entries) if split_of[entry.name] == name]
        if mine:
            own = slice(
                mine[0], mine[-1] + 1
            )  # entries are in the order of their splits
            parts[name] = Part(
                x[own],
                None if y is None else y[own],
                [entry.name for entry in entries[own]],
            )
    if "train" not in parts and "all" not in parts:
        raise TightboundError(
            f"{where} has no readable training image: all of them were left out"
        )
    return Source(
        Path(where).stem,
        where,
        parts,
        digest,
        "chw",
        levels=256,
        label_names=label_names,
        resolved=resolved,
        notices=[*notices, *notes["messages"], *([_left_out(bad)] if bad else [])],
    )


def _labels(labels: list[str]) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    """Class ids from folder names; files outside of any folder are unknown (-1)."""
    known = sorted(set(labels) - {""})
    ids = {name: i for i, name in enumerate(known)}
    y, _ = read_labels(
        [ids.get(label, -1) for label in labels], len(labels), "the folder", []
    )
    return y, tuple(known)


def _arrange(
    entries: list[Entry],
) -> tuple[list[Entry], dict[str, str], dict[str, str], list[str]]:
    """Entries in the order of their splits, the split and the label of each by name, and what to
    announce.
    """
    parts = {entry.name: PurePosixPath(entry.name).parts for entry in entries}
    folders = [p[:-1] for p in parts.values()]
    common = 0
    while folders and all(
        len(f) > common and f[common] == folders[0][common] for f in folders
    ):
        common += 1
    below = {name: p[common:] for name, p in parts.items()}
    tops = {p[0].lower() for p in below.values() if len(p) > 1}
    published = "train" in {_SPLITS.get(top) for top in tops}
    notices: list[str] = []
    strange = sorted(
        {p[0] for p in below.values() if len(p) == 1 or p[0].lower() not in _SPLITS}
    )
    if published and strange:
        published = False
        notices.append(
            f"{strange[0]!r} lies beside the splits, so folders are read as "
            "labels, not as train, valid and test"
        )
    inside = sorted(
        {
            p[:2]
            for p in below.values()
            if len(p) > 2 and p[1].lower() in _SPLITS and not published
        }
    )
    if inside:
        label, split = inside[0]
        notices.append(
            f"folders such as {label}/{split} are not read as splits, so all "
            "images are split anew: a published split "
            f"is {split}/{label}/..., with train outermost"
        )
    split_of = {
        name: _SPLITS[p[0].lower()] if published else "all" for name, p in below.items()
    }
    inner = {name: p[1:] if published else p for name, p in below.items()}
    label_of = {name: p[0] if len(p) > 1 else "" for name, p in inner.items()}
    order = {"train": 0, "valid": 1, "test": 2, "all": 3}
    return (
        sorted(entries, key=lambda e: (order[split_of[e.name]], e.name)),
        split_of,
        label_of,
        notices,
    )


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
        except (
            Exception
        ) as error:  # a zip member may fail in many ways; the decoder names it
            total.update(f"unreadable: {error}".encode())
    return total.hexdigest()


def _refuse(bad: dict[str, str], where: str, skip_bad: bool) -> None:
    if bad and not skip_bad:
        name, reason = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise TightboundError(
            f"{where}: {name} cannot be read as an image: {reason}{more}; "
            "remove it, or use --skip-bad"
        )


def _left_out(bad: dict[str, str]) -> str:
    listed = ", ".join(f"{name} ({reason})" for name, reason in list(bad.items())[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return (
        f"{len(bad)} file{'s are' if len(bad) > 1 else ' is'} left out: {listed}{more}"
    )


def _decode_all(
    entries: list[Entry], where: str, settings: DataSettings, notes: dict[str, Any]
) -> Iterator[np.ndarray]:
    """Blocks of uint8 rows (n, C, H, W) of all good files, and the bad ones and the announcements
    in `notes`.
    """
    bad: dict[str, str] = {}
    with bombs_refused(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers: list[tuple[Entry, Header]] = []
        for entry, found in zip(entries, pool.map(_header, entries), strict=True):
            if isinstance(found, str):
                bad[entry.name] = found
            else:
                headers.append((entry, found))
        _refuse(bad, where, settings.skip_bad)
        if not headers:
            raise TightboundError(
                f"{where} holds no image that can be read: {_left_out(bad)}"
            )
        size, channels, messages = target_of([h for _, h in headers], settings)
        steady = Steady("decoding images, once", len(headers))
        for start in range(0, len(headers), _BLOCK):
            block = [entry for entry, _ in headers[start : start + _BLOCK]]
            rows = []
            for entry, row in zip(
                block,
                pool.map(partial(_row, size=size, channels=channels), block),
                strict=True,
            ):
                if isinstance(row, str):
                    bad[entry.name] = row
                    _refuse(bad, where, settings.skip_bad)
                else:
                    rows.append(row)
            steady.add(len(block))
            if rows:
                yield np.stack(rows)
    if len(bad) == len(entries):
        raise TightboundError(
            f"{where} holds no image that can be read: {_left_out(bad)}"
        )
    notes.update(bad=sorted(bad.items()), messages=messages)


def reason(error: Exception) -> str:
    """Why an image is bad, short and without the name of a file object."""
    text = str(error).split("\n")[0]
    return (
        "not an image that Pillow can read"
        if "cannot identify" in text
        else text or type(error).__name__
    )


def _header(entry: Entry) -> Header | str:
    if not entry.name.lower().endswith(EXTENSIONS):
        return _NO_IMAGE
    try:
        with entry.open() as file, open_image(file) as image:
            return header_of(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def _row(entry: Entry, size: tuple[int, int], channels: int) -> np.ndarray | str:
    try:
        with entry.open() as file, open_image(file) as image:
            return pixels(image, size, channels)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def target_of(
    headers: list[Header], settings: DataSettings
) -> tuple[tuple[int, int], int, list[str]]:
    """The size and channels that all images get, and one line for each thing done to them."""
    sizes = Counter((h.height, h.width) for h in headers)
    same = next(iter(sizes)) if len(sizes) == 1 else None
    if settings.size != "auto":
        size = (
            (settings.size, settings.size)
            if isinstance(settings.size, int)
            else settings.size
        )
    else:
        size = (
            same
            if same is not None and max(same) <= AUTO_SIDE
            else (AUTO_SIDE, AUTO_SIDE)
        )
    messages = []
    if same != size:
        found = (
            f"{same[0]}x{same[1]}"
            if same
            else f"{len(sizes)} sizes up to {max(sizes)[0]}x{max(s[1] for s in sizes)}"
        )
        messages.append(
            f"images of {found} are resized and centre-cropped to "
            f"{size[0]}x{size[1]} pixels (height x width; "
            "--set data.size=N or data.size=HxW for another size)"
        )
    grey = sum(h.grey for h in headers)
    channels = (
        settings.channels
        if settings.channels != "auto"
        else 1
        if grey == len(headers)
        else 3
    )
    if channels == 1 and grey < len(headers):
        messages.append(f"{len(headers) - grey} colour images are read as greyscale")
    for count, what in (
        (sum(h.alpha for h in headers), "with transparency are put on white"),
        (sum(h.deep for h in headers), "of 16 bits are scaled to 8 bits"),
        (sum(h.frames for h in headers), "with several frames give their first frame"),
    ):
        if count:
            messages.append(f"{count} image{'s' * (count > 1)} {what}")
    return size, channels, messages
