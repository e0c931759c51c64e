"""Atomic writes, and files of weights with a checksum."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tightbound.runtime.errors import TightboundError, cut, machine_reason, os_reason
from tightbound.runtime.reading import Options, Tree, parse_json, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = "*.tmp"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
)
LONGEST_NAME = 255  # bytes of one name in a path, on the usual disks
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)


class Ops:
    """The disk operations of a write; tests replace `_ops` to fail at each of them."""

    def open(self, path: Path) -> BinaryIO:
        return path.open("x+b")

    def fsync(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def replace(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make a rename last through a power cut, where the file system can."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NO_FOLDER_SYNC:
                raise
        finally:
            os.close(handle)


_ops = Ops()


@dataclass(frozen=True)
class Advice:
    """The last part of the messages about a write that the disk refuses."""

    no_room: str
    not_writable: str


OF_A_RUN = Advice(
    "free some space and run the command again (a training: with --resume)",
    "check that its folder exists and is writable",
)


@contextmanager
def open_atomic(path: Path | str, advice: Advice = OF_A_RUN) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when the block ends without an error.

    The file is flushed to the disk first. A reader, a kill or a power cut finds the old
    content or the new. After an error the new file is removed.

    Raises:
        TightboundError: The disk is full or not writable.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with _ops.open(temporary) as file:
            yield file
            file.flush()
            _ops.fsync(file)
        _ops.replace(temporary, path)
        _ops.sync_folder(path.parent)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError) and error.errno in (*NO_ROOM, *NOT_WRITABLE):
            raise _refused(path, error, advice) from error
        raise


def _temporary_name(name: str) -> str:
    """`.name.1a2b3c4d.tmp`, cut to a length that the disk takes."""
    ending = f".{secrets.token_hex(4)}.tmp"
    head = os.fsencode(f".{name}")[: LONGEST_NAME - len(ending)]
    return head.decode("utf-8", "ignore") + ending


def write_atomic(
    path: Path | str, data: bytes | str | Callable[[BinaryIO], None]
) -> None:
    """Replace the content of a file atomically.

    Args:
        path: The file.
        data: The content, text as UTF-8 (where a name in it is not UTF-8, as \\udcff), or
            a function that writes it to the open file.

    Raises:
        TightboundError: The disk refuses; the old file is then unchanged.
    """
    path = Path(path)
    try:
        with open_atomic(path) as file:
            if callable(data):
                data(file)
            else:
                file.write(_encoded(data))
    except OSError as error:
        raise _refused(path, error, OF_A_RUN) from error


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that is not to be replaced.

    A command checks before its work, and again before it writes.

    Raises:
        TightboundError: It exists, and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise TightboundError(
            f"{cut(path)} exists: add --overwrite to replace it, or choose another --out"
        )


def _encoded(data: bytes | str) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace")
    return data


def _refused(path: Path, error: OSError, advice: Advice) -> TightboundError:
    where = cut(path)
    if error.errno in NO_ROOM:
        return TightboundError(f"no room on the disk for {where}: {advice.no_room}")
    remedy = _REMEDIES.get(error.errno or 0, advice.not_writable)
    return TightboundError(f"cannot write {where} ({os_reason(error)}): {remedy}")


_REMEDIES = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "raise the limit, or write to another disk",
    errno.EMFILE: "raise the limit and run the command again",
    errno.ENFILE: "close other programs and run the command again",
}


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    _ops.sync_folder(folder)


def make_folder(folder: Path | str, advice: Advice = OF_A_RUN) -> Path:
    """Create a folder with its parents; raises TightboundError if the disk refuses."""
    folder = Path(folder)
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _ops.sync_folder(folder.parent)
        except OSError as error:
            raise _refused(folder, error, advice) from error
    return folder


def is_writable(folder: Path) -> bool:
    """True if a file can be made in a folder; one is made and removed."""
    probe = folder / f".probe.{secrets.token_hex(4)}.tmp"
    try:
        with _ops.open(probe):
            pass
    except OSError:
        return False
    remove(probe)
    return True


def remove(path: Path) -> None:
    """Remove a file that is no longer needed; where the disk refuses, it stays."""
    with suppress(OSError):
        _ops.unlink(path)


def remove_temporaries(folder: Path, head: str = "") -> None:
    """Remove the unfinished files of killed writes.

    Args:
        folder: A folder that no other process is writing to.
        head: Only those of files whose names begin so.
    """
    for path in folder.glob(f".{glob.escape(head)}{TEMPORARY}"):
        remove(path)


def save_weights(
    path: Path | str,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors and text to a safetensors file, atomically.

    Equal content gives equal bytes. The metadata also hold `sha256`, a checksum of the header
    (without it) and the tensors.
    """
    import torch
    from safetensors.torch import save

    # A clone of each, because safetensors refuses tensors that share memory, as tied weights do.
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
    header, tensors = _split(save(copies))
    header["__metadata__"] = dict(metadata or {})
    header["__metadata__"]["sha256"] = _digest(header, tensors)
    text = _canonical(header)
    text += b" " * (-len(text) % 8)
    write_atomic(path, b"".join([len(text).to_bytes(8, "little"), text, tensors]))


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    A file without `sha256` in its metadata, which another program wrote, is not checked.

    Raises:
        TightboundError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    try:
        blob = read_bytes(path)
        header, tensors = _split(blob)
        metadata = _texts(header.pop("__metadata__", {}))
        expected = metadata.pop("sha256", None)
        signed = {**header, "__metadata__": metadata}
        if expected is not None and expected != _digest(signed, tensors):
            raise ValueError("its checksum does not match")
        return load(blob), metadata
    except (OSError, MemoryError) as error:
        reason = machine_reason(error) or cut(error)
        raise TightboundError(
            f"cannot read the weights {cut(path)} ({reason}): is this a run folder?"
        ) from error
    except (*_DAMAGES, SafetensorError) as error:
        raise TightboundError(
            f"the weights {cut(path)} are damaged or no safetensors file ({cut(error)}): "
            "restore them from a copy or train again"
        ) from error


_DAMAGES = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OverflowError,
    RuntimeError,
)


def _texts(metadata: object) -> dict[str, str]:
    """The metadata of a safetensors file, which are texts by name."""
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are no table")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"its metadata {name!r} are no text")
    return dict(metadata)


def _split(blob: bytes) -> tuple[Tree, memoryview]:
    start = 8 + int.from_bytes(blob[:8], "little")
    if start > len(blob):
        raise ValueError("it is cut short")
    header = parse_json(blob[8:start])
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return dict(header), memoryview(blob)[start:]


def _canonical(header: Options) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _digest(header: Options, tensors: memoryview) -> str:
    unsigned = {k: v for k, v in header["__metadata__"].items() if k != "sha256"}
    digest = hashlib.sha256(_canonical({**header, "__metadata__": unsigned}))
    digest.update(tensors)
    return digest.hexdigest()
