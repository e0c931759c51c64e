"""Read a folder or zip of images, split and labelled by its sub-folders.

Images are decoded once into a memory-mapped cache.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

import numpy as np
import torch
from torch import Tensor

from tightbound.data.cache import Notes, cached_rows, link_rows
from tightbound.data.formats.limits import check_method
from tightbound.data.images.arrangement import ORDER, arrange
from tightbound.data.images.decode import (
    AUTO_SIDE,
    EXTENSIONS,
    Header,
    bombs_refused,
    distinct_values,
    header_of,
    open_image,
    pixels,
)
from tightbound.data.images.grey_levels import GreyScale, GreySurvey
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, read_labels, sha256_text
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady, steadily
from tightbound.runtime.reading import special_kind

_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
# images by name, in formats that are not read
_OTHER_FORMATS = (
    *(".heic", ".heif", ".avif", ".jp2", ".jpx", ".j2k", ".jxl", ".jfif", ".svg"),
    *(".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".ico", ".psd"),
    *(".dng", ".cr2", ".nef", ".arw", ".dcm", ".nii", ".czi", ".nd2", ".lif", ".mrc"),
)
_BLOCK = 256
_CACHE = "images-2"
_LARGEST_FILE = 1 << 29


@dataclass(frozen=True)
class Entry:
    """A file of the source.

    Attributes:
        name: its name below the root.
        open: a function that opens it.
        problem: why it cannot be read, where that is known before it is opened.
    """

    name: str
    open: Callable[[], IO[bytes]]
    problem: str = ""


def file_entry(path: Path, name: str) -> Entry:
    """The entry of a file on disk."""
    return Entry(name, partial(_open_file, path))


def _open_file(path: Path) -> IO[bytes]:
    """A regular file, opened; refuses pipes and devices, which may wait or never end."""
    kind = special_kind(path)
    if kind is not None:
        raise ValueError(f"it is {kind}, not a file")
    return path.open("rb")


def _is_image(entry: Entry) -> bool:
    """Whether a file is an image by its name, or stands for images that are lost."""
    if _hidden(entry.name):
        return False
    ending = PurePosixPath(entry.name).suffix.lower()
    return ending in EXTENSIONS or ending in _OTHER_FORMATS or bool(entry.problem)


def _hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _SYSTEM
        for part in PurePosixPath(name).parts
    )


def list_folder(root: Path) -> list[Entry]:
    """All files below a folder; a hidden folder is one entry.

    Links to folders are followed, except one to a folder that it is in.

    Raises:
        TightboundError: for a folder that cannot be listed.
    """
    entries = []
    first_name: dict[str, str] = {}  # of each folder, by its real path
    walk = os.walk(root, onerror=partial(_refuse_folder, root), followlinks=True)
    for folder, folders, files in walk:
        here = Path(folder)
        name = here.relative_to(root).as_posix()
        real = os.path.realpath(folder)
        if real in first_name:
            folders[:] = []
            if not Path(os.path.realpath(here.parent)).is_relative_to(real):
                problem = f"the same folder as {first_name[real]}"
                entries.append(replace(file_entry(here, name), problem=problem))
            continue
        first_name[real] = name
        hidden = [part for part in folders if _hidden(part)]
        entries += [_entry_below(root, here / part) for part in hidden]
        folders[:] = sorted(set(folders) - set(hidden))
        entries += [_entry_below(root, here / file) for file in files]
    return entries


def _refuse_folder(root: Path, error: OSError) -> NoReturn:
    """Refuse a folder that cannot be listed, whose images would be lost."""
    raise TightboundError(
        f"{error.filename or root} cannot be listed ({error.strerror}): make it "
        f"readable, or move it out of {root}"
    )


def _entry_below(root: Path, path: Path) -> Entry:
    """The entry of a file below a folder, or of a link to nothing."""
    entry = file_entry(path, path.relative_to(root).as_posix())
    if path.is_symlink() and not path.exists():
        return replace(entry, problem="a link to a file or folder that does not exist")
    return entry


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
    infos = [info for info in archive.infolist() if not info.is_dir()]
    locked = next((info for info in infos if info.flag_bits & 1), None)
    if locked is not None:
        raise TightboundError(
            f"{path}: {locked.filename} is encrypted with a password: unpack it and name the folder"
        )
    return [Entry(i.filename, partial(_open_member, archive, i)) for i in infos]


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.file_size > _LARGEST_FILE:
        raise ValueError(f"it unpacks to {info.file_size} bytes, too many for an image")
    check_method(info)
    return archive.open(info)


def load_images(entries: list[Entry], where: str, settings: DataSettings) -> RawSource:
    """The source over image files; `where` is its name in messages."""
    images = {entry.name: entry for entry in entries if _is_image(entry)}
    ignored = [entry.name for entry in entries if not _is_image(entry)]
    _check_images([*images.values()], len(entries), where)
    arrangement = arrange([*images], where)
    images = {name: images[name] for name in arrangement.names}
    split_of = arrangement.split_of
    in_training = frozenset(n for n in images if split_of[n] in ("train", "all"))
    digest = _content([*images.values()])
    choices = (settings.size, settings.channels, settings.bits, settings.white_level)
    key = sha256_text(_CACHE, digest, *choices)
    files = [*images.values()]
    rows, notes = cached_rows(
        key, partial(_decode_all, files, in_training, where, settings)
    )
    size = {"size": (rows.shape[2], rows.shape[3]), "channels": rows.shape[1]}
    resolved = {**size, **notes["scale"]}
    # a trained run reads the images with these settings resolved
    link_rows(key, sha256_text(_CACHE, digest, *resolved.values()))
    bad = dict(notes["bad"])
    _refuse(bad, where, settings.skip_bad)
    good = [name for name in images if name not in bad]
    y, label_names = _labels([arrangement.label_of[name] for name in good])
    notices = [*arrangement.notices, *notes["messages"], *_not_read(ignored, bad)]
    if notes["deep"]:
        digest = sha256_text(digest, *notes["scale"].values())
    source = RawSource(
        Path(where).stem,
        where,
        _splits(torch.from_numpy(rows), y, good, split_of),
        digest,
        label_names=label_names,
        notices=tuple(notices),
    )
    return source.with_images(resolved)


def _check_images(images: list[Entry], count: int, where: str) -> None:
    """Refuse a source without images among its `count` files."""
    if images:
        return
    problem = f"none of its {count} files is an image" if count else "it is empty"
    raise TightboundError(
        f"{where} holds no images ({problem}): expected {', '.join(EXTENSIONS)} files"
    )


def _not_read(ignored: list[str], bad: dict[str, str]) -> list[str]:
    """The messages about files that are no images, and images that cannot be read."""
    messages = _ignored(ignored)
    if bad:
        messages.append(_left_out(bad))
    return messages


def _ignored(names: list[str]) -> list[str]:
    """The message about files that are not read because of their names."""
    if not names:
        return []
    example = min(names, key=lambda name: (_hidden(name), name))
    if len(names) == 1:
        return [f"1 file is ignored, as it is no image by its name: {example}"]
    return [
        f"{len(names)} files are ignored, as they are no images by their names, such as {example}"
    ]


def _splits(
    x: Tensor, y: Tensor | None, files: list[str], split_of: dict[str, str]
) -> dict[str, RawSplit]:
    """The rows of each split; files are in the order of their splits."""
    splits = {}
    start = 0
    for name in ORDER:
        names = [file for file in files if split_of[file] == name]
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


def _content(entries: list[Entry]) -> str:
    """sha256 over the names and the bytes of all files."""
    total = hashlib.sha256()
    for entry in steadily("reading images", entries, len(entries)):
        total.update(entry.name.encode(errors="surrogateescape") + b"\0")
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
    entries: list[Entry],
    in_training: Collection[str],
    where: str,
    settings: DataSettings,
    notes: Notes,
) -> Iterator[np.ndarray]:
    """Decode all good files to blocks of rows (n, C, H, W), uint8 or int32.

    Args:
        entries: the files.
        in_training: the names of the files that decide the scale of 16-bit images.
        where: the name of the source in messages.
        settings: the data settings.
        notes: receives the bad files, the scale and the messages about conversions.
    """
    bad: dict[str, str] = {}
    with bombs_refused(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers: dict[Entry, Header] = {}
        for entry, header in zip(entries, pool.map(_header, entries), strict=True):
            if isinstance(header, str):
                bad[entry.name] = header
            else:
                headers[entry] = header
        greys = _survey(headers, in_training, pool, bad)
        good = [entry for entry in headers if entry.name not in bad]
        _refuse(bad, where, settings.skip_bad)
        if not good:
            raise _no_images(where, bad)
        size, channels, messages = target_of([headers[e] for e in good], settings)
        greys.check_colours(where)
        scale = greys.scale(settings)
        messages += greys.messages(scale)
        progress = Steady("decoding images, once", len(good))
        decode = partial(_row, size=size, channels=channels, scale=scale)
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
    notes.update(scale=scale.resolved, deep=len(greys.highest))


def _survey(
    headers: Mapping[Entry, Header],
    in_training: Collection[str],
    pool: Executor,
    bad: dict[str, str],
) -> GreySurvey:
    """The values in use in images of 16 bits; those that are bad are added to `bad`."""
    survey = GreySurvey()
    entries = [
        entry for entry, header in headers.items() if header.deep or header.upper
    ]
    if not entries:
        return survey
    progress = Steady("reading the range of images of 16 bits", len(entries))
    for entry, values in zip(entries, pool.map(_values, entries), strict=True):
        progress.add(1)
        is_training = entry.name in in_training
        if isinstance(values, str):
            bad[entry.name] = values
        elif headers[entry].deep:
            survey.add(values, is_training)
        elif is_training:
            survey.colours[values] = True
    return survey


def _values(entry: Entry) -> np.ndarray | str:
    """The distinct values of an image file of 16 bits, or why it is bad."""
    try:
        with entry.open() as file, open_image(file) as image:
            return distinct_values(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


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
    if entry.problem:
        return entry.problem
    if not entry.name.lower().endswith(EXTENSIONS):
        return "its format is not read (convert it to .png)"
    try:
        with entry.open() as file, open_image(file) as image:
            return header_of(image)
    except Exception as error:  # decoders of damaged files raise almost anything
        return reason(error)


def _row(
    entry: Entry, size: tuple[int, int], channels: int, scale: GreyScale
) -> np.ndarray | str:
    """The pixels of an image file, or why it is bad."""
    try:
        with entry.open() as file, open_image(file) as image:
            return pixels(image, size, channels, scale)
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
        "with colours of 16 bits are read by the upper 8 bits (an .npy array keeps all)": sum(
            h.upper for h in headers
        ),
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
