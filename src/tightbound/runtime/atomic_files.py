"""Files that are, whatever happens, either the old one or the new one; and weights that prove
themselves whole.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = "*.tmp"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)


class Ops:
    """The operations on the disk that a write is made of; a test replaces `_ops` to fail or to die
    at each of them.
    """

    def open(self, path: Path) -> BinaryIO:
        return path.open("xb")

    def fsync(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def replace(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Makes a rename last through a power cut, on the file systems that can."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NO_FOLDER_SYNC:
                raise
        finally:
            os.close(handle)


_ops = Ops()


def write_atomic(
    path: Path | str, data: bytes | str | Callable[[BinaryIO], None]
) -> None:
    """Writes a file so that a reader, a kill or a power cut finds the old content or the new, never
    a part.

    data: the content (text as UTF-8), or a function that writes it to the open file. Raises
    `TightboundError` where the disk refuses, for instance full; the old file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _ops.open(temporary) as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            _ops.fsync(file)
        _ops.replace(temporary, path)
        _ops.sync_folder(path.parent)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def _refused(path: Path, error: OSError) -> TightboundError:
    if error.errno in NO_ROOM:
        return TightboundError(
            f"no room on the disk for {path}: free some space and run the "
            "command again (a training: with --resume)"
        )
    return TightboundError(
        f"cannot write {path} ({error.strerror or error}): check that its "
        "folder exists and is writable"
    )


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last through a power cut."""
    _ops.sync_folder(folder)


def make_folder(folder: Path | str) -> Path:
    """Creates a folder with its parents, or raises a `TightboundError` where the disk refuses."""
    folder = Path(folder)
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _ops.sync_folder(folder.parent)
        except OSError as error:
            raise _refused(folder, error) from error
    return folder


def remove(path: Path) -> None:
    """Removes a file that is no longer needed; a disk that refuses keeps it."""
    with suppress(OSError):
        _ops.unlink(path)


def remove_temporaries(folder: Path, head: str = "") -> None:
    """Removes what killed writes left in a folder that nobody else is writing to, of files whose
    names begin so.
    """
    for path in folder.glob(f".{glob.escape(head)}{TEMPORARY}"):
        remove(path)


def save_weights(
    path: Path | str,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors and text to a safetensors file, atomically; equal content gives equal bytes.

    The file's metadata also holds `sha256`, of the header (without it) and the tensors, so that
    damage is found.
    """
    import torch
    from safetensors.torch import save

    # A clone of each, because safetensors refuses tensors that share memory, as tied weights do.
    blob = save(
        {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in state.items()
        }
    )
    header, tensors = _split(blob)
    header["__metadata__"] = dict(metadata or {})
    header["__metadata__"]["sha256"] = _digest(header, tensors)
    text = _canonical(header)
    text += b" " * (-len(text) % 8)
    write_atomic(path, b"".join([len(text).to_bytes(8, "little"), text, tensors]))


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors and the metadata of a safetensors file; raises `TightboundError` if it is
    missing or damaged.

    A file without `sha256` in its metadata, so one that another program wrote, is taken as it is.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    try:
        blob = path.read_bytes()
        header, tensors = _split(blob)
        metadata = header.pop("__metadata__", {})
        expected = metadata.pop("sha256", None)
        if expected is not None and expected != _digest(
            {**header, "__metadata__": metadata}, tensors
        ):
            raise ValueError("its checksum does not match")
        return load(blob), metadata
    except OSError as error:
        raise TightboundError(
            f"cannot read the weights {path} ({error.strerror or error}): is this a run folder?"
        ) from error
    except (ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise TightboundError(
            f"the weights {path} are damaged or no safetensors file ({error}): "
            "restore them from a copy or train again"
        ) from error


def _split(blob: bytes) -> tuple[dict[str, Any], memoryview]:
    start = 8 + int.from_bytes(blob[:8], "little")
    return json.loads(blob[8:start]), memoryview(blob)[start:]


def _canonical(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _digest(header: Mapping[str, Any], tensors: memoryview) -> str:
    unsigned = {k: v for k, v in header["__metadata__"].items() if k != "sha256"}
    digest = hashlib.sha256(_canonical({**header, "__metadata__": unsigned}))
    digest.update(tensors)
    return digest.hexdigest()
