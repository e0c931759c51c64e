"""Finished parts of a long evaluation, kept in the run folder, so that an interrupted one goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.runs.folder import EVALUATION_PARTS
from tightbound.runtime.atomic_files import (
    load_weights,
    make_folder,
    remove,
    save_weights,
    write_atomic,
)
from tightbound.runtime.errors import TightboundError

FOLDER = EVALUATION_PARTS


@dataclass(frozen=True)
class Piece:
    """Figures of some examples, tensors with a row each; facts about them; and the seconds that
    they took.
    """

    values: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    seconds: float


class Pieces:
    """A store of pieces by what they are: the weights, what was computed with which settings, and
    the examples.

    A figure is a function of these alone, so a piece that is found again is the one that would be
    computed.  Each is written whole or not at all; one that is damaged is computed again.  Without
    a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, weights: str) -> None:
        self.root = None if folder is None else folder / FOLDER
        self.weights, self.used = weights, list[Path]()

    def _path(self, name: str) -> Path | None:
        return None if self.root is None else self.root / self.weights / name

    def get(
        self,
        what: Mapping[str, Any],
        x: Batch,
        compute: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]],
    ) -> Piece:
        """The piece of examples x, from the store or from `compute`, which gives values and
        facts.
        """
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
        digest.update(x.key.numpy().tobytes())
        path = self._path(digest.hexdigest()[:32] + ".safetensors")
        if path is not None and path.is_file():
            with suppress(TightboundError, KeyError, ValueError):
                kept, held = load_weights(path)
                self.used.append(path)
                return Piece(kept, json.loads(held["facts"]), float(held["seconds"]))
        start = time.perf_counter()
        values, facts = compute()
        seconds = time.perf_counter() - start
        if path is not None:
            make_folder(path.parent)
            save_weights(
                path,
                dict(values),
                {"facts": json.dumps(dict(facts)), "seconds": repr(seconds)},
            )
            self.used.append(path)
        return Piece(values, facts, seconds)

    def settled(
        self, what: Mapping[str, Any], decide: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What was decided by timing, once: a continued evaluation keeps to it."""
        content = json.dumps(what, sort_keys=True).encode()
        path = self._path(f"plan-{hashlib.sha256(content).hexdigest()[:16]}.json")
        if path is not None and path.is_file():
            with suppress(ValueError, OSError):
                found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                self.used.append(path)
                return found
        decided = decide()
        if path is not None:
            make_folder(path.parent)
            write_atomic(path, json.dumps(decided))
            self.used.append(path)
        return decided

    def clear(self) -> None:
        """Removes the pieces that this evaluation kept, those of this process."""
        for path in self.used:
            remove(path)

    def clear_rest(self) -> None:
        """Removes all that belongs to other weights, and folders that are empty: they are in no use
        any more.
        """
        if self.root is None or not self.root.is_dir():
            return
        for folder in self.root.iterdir():
            if folder.name != self.weights or not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            self.root.rmdir()
