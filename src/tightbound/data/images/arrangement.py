"""Splits and labels of image files by the names of their folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from tightbound.runtime.errors import TightboundError

Parts = tuple[str, ...]

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
ORDER = ("train", "valid", "test", "all")


@dataclass(frozen=True)
class Arrangement:
    """Splits and labels of files.

    Attributes:
        names: the names in the order of their splits.
        split_of: the split of each name: train, valid, test, or all.
        label_of: the label of each name, "" for a file outside of any folder of a label.
        notices: messages for the user.
    """

    names: list[str]
    split_of: dict[str, str]
    label_of: dict[str, str]
    notices: list[str]


def arrange(names: list[str], where: str) -> Arrangement:
    """Split and label files by their folders: [split/]label/file, or label/split/file.

    Args:
        names: the names of image files below a common root, with "/".
        where: the root in messages.

    Raises:
        TightboundError: where only a part of the files is in folders of splits.
    """
    notices: list[str] = []
    parts = {name: PurePosixPath(name).parts for name in names}
    common, below = _below_common_folder(parts)
    split_of = _split_of(below, common, where, notices)
    if split_of is None:
        split_of = dict.fromkeys(names, "all")
        inner = below
    else:
        without = {name: _without_split(below[name], split_of[name]) for name in names}
        _, inner = _below_common_folder(without)
    label_of = {name: p[0] if len(p) > 1 else "" for name, p in inner.items()}
    notices += _nested_classes(inner)
    notices += _classes_without_training(split_of, label_of)
    ordered = sorted(names, key=lambda name: (ORDER.index(split_of[name]), name))
    return Arrangement(ordered, split_of, label_of, notices)


def _below_common_folder(
    parts: Mapping[str, Parts],
) -> tuple[Parts, dict[str, Parts]]:
    """The folders that all files have in common, and the parts of each name below."""
    folders = [p[:-1] for p in parts.values()]
    common = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    shared = folders[0][:common] if folders else ()
    return shared, {name: p[common:] for name, p in parts.items()}


def _split_named(part: str) -> str | None:
    """The split that a folder name stands for, or None."""
    return _SPLITS.get(part.lower())


def _split_of(
    below: Mapping[str, Parts], common: Parts, where: str, notices: list[str]
) -> dict[str, str] | None:
    """The split of each name by its folders, or None where no folder is a split."""
    split = _only_split(common, where)
    if split is not None:
        return dict.fromkeys(below, split)
    named = {p[0] for p in below.values() if len(p) > 1 and _split_named(p[0])}
    others = {p[0] for p in below.values()} - named
    if named and not others:
        return {name: _SPLITS[p[0].lower()] for name, p in below.items()}
    if named:
        _check_class_named_train(below, named, others, where, notices)
        return None
    return _inner_split_of(below, where, notices)


def _only_split(common: Parts, where: str) -> str | None:
    """The split of all images by the folders around them: valid or test, or None.

    A folder that only repeats the name of the source is none.
    """
    splits = [split for part in common if (split := _split_named(part)) is not None]
    if not splits or splits[-1] == "train":
        return None
    is_wrapper = common[-1].lower() == PurePosixPath(where).stem.lower()
    return None if is_wrapper else splits[-1]


def _check_class_named_train(
    below: Mapping[str, Parts],
    named: set[str],
    others: set[str],
    where: str,
    notices: list[str],
) -> None:
    """Accept a class "train" among other classes; refuse images beside splits."""
    files = {p[0] for p in below.values() if len(p) == 1}
    is_nested = any(len(p) > 2 for p in below.values() if p[0] in named)
    splits = {_split_named(name) for name in named}
    other = min(others)
    if splits == {"train"} and len(named) == 1 and not files and not is_nested:
        notices.append(
            f"the folder {min(named)!r} is read as a class, as {other!r} lies beside it"
        )
        return
    plural = "s" if len(named) > 1 else ""
    raise TightboundError(
        f"{where}: {other!r} lies beside the folder{plural} {', '.join(sorted(named))} "
        f"of published split{plural}, so its images have no split: move it into one of "
        "them, or out of the folder"
    )


def _inner_split_of(
    below: Mapping[str, Parts], where: str, notices: list[str]
) -> dict[str, str] | None:
    """The split of each name where all are label/split/file, else None."""
    pairs = sorted({p[:2] for p in below.values() if len(p) > 2 and _split_named(p[1])})
    if not pairs:
        return None
    label, folder = pairs[0]
    splits = {_split_named(pair[1]) for pair in pairs}
    is_published = all(len(p) > 2 and _split_named(p[1]) for p in below.values())
    if is_published and len(splits) > 1:
        return {name: _SPLITS[p[1].lower()] for name, p in below.items()}
    if splits != {"train"}:
        raise TightboundError(
            f"{where}: {label}/{folder} is named as a split, and other images are in no "
            "split: a published split is split/label/file, such as "
            f"{folder}/{label}, for all images"
        )
    notices.append(
        f"folders such as {label}/{folder} are not read as splits: a published split is "
        f"{folder}/{label}/..., with train outermost"
    )
    return None


def _without_split(parts: Parts, split: str) -> Parts:
    """The parts of a name without its folder of a split, the first or the second."""
    for level in range(min(2, len(parts) - 1)):
        if _split_named(parts[level]) == split:
            return (*parts[:level], *parts[level + 1 :])
    return parts


def _nested_classes(inner: Mapping[str, Parts]) -> list[str]:
    """The message about folders inside of classes, where there are some."""
    nested = sorted(p[:2] for p in inner.values() if len(p) > 2)
    if not nested:
        return []
    label, folder = nested[0]
    return [
        f"classes are the outermost folders: {label}/{folder} belongs to class {label!r}"
    ]


def _classes_without_training(
    split_of: Mapping[str, str], label_of: Mapping[str, str]
) -> list[str]:
    """The message about classes of other splits that no training image has."""
    classes: dict[str, set[str]] = {name: set() for name in ORDER}
    for name, split in split_of.items():
        classes[split].add(label_of[name])
    messages = []
    for split in ("valid", "test"):
        missing = sorted(classes[split] - classes["train"] - {""})
        if missing and classes["train"]:
            listed = ", ".join(repr(name) for name in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            messages.append(
                f"the {split} images have classes that no training image has: {listed}{more}"
            )
    return messages
