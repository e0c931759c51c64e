"""The folder of an export: checked before the work, and whole or absent after it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tightbound.runtime.atomic_files import make_folder, sync_folder
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import read_json

#: The file with the metadata; a folder with it is an export.
ABOUT = "export.json"


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is taken.

    Raises:
        TightboundError: It is a file, holds an export that is not to be replaced, or other files.
    """
    if folder.is_file():
        raise TightboundError(f"{str(folder)!r} is a file: choose another --out")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not is_export(folder):
        raise TightboundError(
            f"folder {str(folder)!r} holds files and is not an export: choose another --out"
        )
    if not overwrite:
        raise TightboundError(
            f"{str(folder)!r} is an export already: add --overwrite to replace it, or choose "
            "another --out"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder was written by an export and holds nothing else."""
    try:
        files = read_json(folder / ABOUT).get("files")
    except ValueError:
        return False
    if not isinstance(files, Mapping | list):
        return False
    names = {ABOUT, *map(str, files)}
    return {path.name for path in folder.iterdir()} <= names


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder that takes the name of `folder` when the block ends without an error.

    After an error or Ctrl-C the new folder is removed and `folder` is as it was. A kill leaves
    a folder with a name of its own, `.NAME.XXXXXXXX.tmp`, beside it.
    """
    check_target(folder, overwrite=overwrite)
    make_folder(folder.parent)
    name = f".{folder.name}.{secrets.token_hex(4)}"
    temporary = make_folder(folder.with_name(f"{name}.tmp"))
    try:
        yield temporary
        check_target(folder, overwrite=overwrite)
        _take_place(temporary, folder, folder.with_name(f"{name}.old"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(folder.parent)


def _take_place(temporary: Path, folder: Path, aside: Path) -> None:
    """Rename; an older folder is moved aside first, and back where that fails."""
    try:
        if not folder.exists():
            temporary.replace(folder)
            return
        folder.replace(aside)
        try:
            temporary.replace(folder)
        except OSError:
            aside.replace(folder)
            raise
    except OSError as error:
        raise TightboundError(
            f"cannot write {folder} ({error.strerror or error}): check that its folder exists and "
            "is writable"
        ) from error
    shutil.rmtree(aside, ignore_errors=True)
