"""The state that a run resumes from: a kill at any instant leaves a whole one, and it has one
writer at a time.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tightbound.runtime import atomic_files as files
from tightbound.runtime.errors import TightboundError
from tightbound.training.distributed.sharded_state import digest

CHECKSUM = hashlib.sha256().digest_size
PLAIN = (int, float, bool, str, bytes, type(None))


class StateStore:
    """Training states as `state-<step>.pt`, the two newest kept: `torch.save` of plain values, then
    their SHA-256.

    `torch.load(path, weights_only=True)` reads one too. A store has one writer: see `RunLock`. A
    state whose tensors are in shards has them in the folder `shards-<step>`, which is complete
    before the file is written; "shards" in the state is the SHA-256 of each.
    """

    def __init__(self, folder: Path | str, keep: int = 2):
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Writes the state of a step; only once it is on the disk are older ones, and damaged later
        ones, removed.

        state: nested dicts, lists and tuples of tensors, numbers, strings and None; `TypeError`
        names anything else.
        """
        buffer = io.BytesIO()
        torch.save(_plain(state, "state"), buffer)
        content = buffer.getbuffer()

        def write(file: BinaryIO) -> None:
            file.write(content)
            file.write(hashlib.sha256(content).digest())

        files.make_folder(self.folder)
        files.remove_temporaries(self.folder)
        files.write_atomic(self.folder / f"state-{step}.pt", write)
        # A step later than this one was found damaged when the run went on from before it.
        found = self._newest_first()
        kept = [path for at, path in found if at <= step][: self.keep]
        for _, path in found:
            if path not in kept:
                files.remove(path)
        for folder in self.folder.glob("shards-*"):
            if not any(folder == self.shards(at) for at, path in found if path in kept):
                shutil.rmtree(folder, ignore_errors=True)

    def shards(self, step: int) -> Path:
        """The folder for the shards of a step's state."""
        return self.folder / f"shards-{step}"

    def load(self) -> tuple[dict[str, Any], list[str]] | None:
        """The newest whole state with a notice for each damaged one passed over; None where no
        state was ever saved.

        Raises `TightboundError` if there are states and all are damaged.
        """
        notices: list[str] = []
        found = self._newest_first()
        for step, path in found:
            try:
                state = _read(path)
                for name, known in state.get("shards", {}).items():
                    if digest(self.shards(step) / name) != known:
                        raise ValueError(
                            f"the checksum of its shard {name} does not match"
                        )
                return state, [
                    f"{notice}, so the run goes on from step {step}"
                    for notice in notices
                ]
            except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
                notices.append(f"{path} is damaged ({error})")
        if not found:
            return None
        names = ", ".join(path.name for _, path in found)
        raise TightboundError(
            f"no state in {self.folder} is whole ({names}), so the run cannot "
            "resume: train it anew with --overwrite"
        )

    def _newest_first(self) -> list[tuple[int, Path]]:
        matches = [
            (re.fullmatch(r"state-(\d+)\.pt", path.name), path)
            for path in self.folder.glob("state-*.pt")
        ]
        return sorted(
            ((int(match[1]), path) for match, path in matches if match), reverse=True
        )


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    if hashlib.sha256(memoryview(content)[:-CHECKSUM]).digest() != content[-CHECKSUM:]:
        raise ValueError("its checksum does not match")
    state: dict[str, Any] = torch.load(
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    return state


def _plain(value: Any, where: str) -> Any:
    """The value in plain containers, its tensors detached and owning their storage, so a view saves
    only itself.
    """
    if isinstance(value, torch.Tensor):
        own = value.untyped_storage().nbytes() == value.nbytes
        return value.detach() if own else value.detach().clone()
    if isinstance(value, dict):
        return {
            _plain(k, where): _plain(v, f"{where}[{k!r}]") for k, v in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(_plain(v, f"{where}[{i}]") for i, v in enumerate(value))
    if type(value) not in PLAIN:
        raise TypeError(
            f"{where} is a {type(value).__name__}, which a state cannot hold"
        )
    return value
