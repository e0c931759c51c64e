"""Saved training states: a kill at any time leaves a complete one."""

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
from tightbound.runtime.errors import TightboundError, cut, machine_reason
from tightbound.runtime.reading import read_bytes, special_kind
from tightbound.training.distributed.sharded_state import digest

CHECKSUM = hashlib.sha256().digest_size
State = dict[str, Any]  # nested dicts, lists and tuples of plain values
PLAIN = (int, float, bool, str, bytes, type(None))


class StateStore:
    """Training states as `state-<step>.pt` files, of which the two newest are kept.

    A file is the output of `torch.save` on plain values, followed by its SHA-256;
    `torch.load(path, weights_only=True)` reads it as well. A store has one writer, see
    `RunLock`. Tensors in shards are in the folder `shards-<step>`, which is complete
    before the file is written; "shards" in the state has the SHA-256 of each.
    """

    def __init__(self, folder: Path | str, keep: int = 2):
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, state: State) -> None:
        """Write the state of a step, then remove older states and later damaged ones.

        Args:
            state: nested dicts, lists and tuples of tensors, numbers, strings and None.

        Raises:
            TypeError: names any other value.
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
        self._remove_all_but(self._steps_to_keep(step))

    def _steps_to_keep(self, newest: int) -> list[int]:
        # A later step than the newest is damaged: the run went on from before it.
        steps = [step for step, _ in self._newest_first() if step <= newest]
        return steps[: self.keep]

    def _remove_all_but(self, steps: list[int]) -> None:
        for step, path in self._newest_first():
            if step not in steps:
                files.remove(path)
        folders = [self.shards(step) for step in steps]
        for folder in self.folder.glob("shards-*"):
            if folder not in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def shards(self, step: int) -> Path:
        """The folder for the shards of a step's state."""
        return self.folder / f"shards-{step}"

    def load(self) -> tuple[State, list[str]] | None:
        """The newest complete state, with a notice for each damaged one that is newer.

        Returns None where no state was ever saved.

        Raises:
            TightboundError: if there are states and all are damaged.
        """
        damaged: list[str] = []
        states = self._newest_first()
        for step, path in states:
            try:
                state = self._read(step, path)
            except _DAMAGES as error:
                reason = machine_reason(error)
                if reason is not None:
                    raise TightboundError(
                        f"cannot read the state {cut(path)} ({reason}): mend that, and resume again"
                    ) from error
                damaged.append(f"{cut(path)} is damaged ({cut(error)})")
                continue
            ending = f", so the run goes on from step {step}"
            return state, [sentence + ending for sentence in damaged]
        if not states:
            return None
        names = ", ".join(path.name for _, path in states)
        raise TightboundError(
            f"no state in {self.folder} is whole ({names}), so the run cannot "
            "resume: train it anew with --overwrite"
        )

    def _read(self, step: int, path: Path) -> State:
        state = _read(path)
        if not isinstance(state, dict) or state.get("step", step) != step:
            raise ValueError("it is not the state of its step")
        for name, checksum in state.get("shards", {}).items():
            if Path(name).name != name or special_kind(self.shards(step) / name):
                raise ValueError(f"it names a shard {name!r} that is none")
            if digest(self.shards(step) / name) != checksum:
                raise ValueError(f"the checksum of its shard {name} does not match")
        return state

    def _newest_first(self) -> list[tuple[int, Path]]:
        matches = [
            (re.fullmatch(r"state-(\d+)\.pt", path.name), path)
            for path in self.folder.glob("state-*.pt")
        ]
        return sorted(
            ((int(match[1]), path) for match, path in matches if match), reverse=True
        )


# What torch and its unpickler raise on damaged bytes, and the machine on reading them.
_DAMAGES = (
    OSError,
    MemoryError,
    ValueError,
    RuntimeError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    EOFError,
    OverflowError,
    RecursionError,
    AssertionError,
    pickle.UnpicklingError,
)


def _read(path: Path) -> Any:
    content = read_bytes(path)
    if hashlib.sha256(memoryview(content)[:-CHECKSUM]).digest() != content[-CHECKSUM:]:
        raise ValueError("its checksum does not match")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _plain(value: Any, where: str) -> Any:
    """The value in plain containers, with detached tensors.

    Views of a larger storage are copied, so that only the view is saved.
    """
    if isinstance(value, torch.Tensor):
        owns_storage = value.untyped_storage().nbytes() == value.nbytes
        return value.detach() if owns_storage else value.detach().clone()
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
