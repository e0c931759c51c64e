"""Cache of finished parts of a long evaluation, so that it can be interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
from tightbound.runtime.reading import Options, Tree, parse_json, read_text

FOLDER = EVALUATION_PARTS


@dataclass(frozen=True)
class CachedResult:
    """Tensors with a row per example, facts as JSON, and the seconds that they took."""

    values: Mapping[str, Tensor]
    facts: Options
    seconds: float


def _table(text: str) -> Tree:
    """A JSON object; raises ValueError for any other text."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return dict(value)


class Cache:
    """Results by the model's weights, the computation's settings, and the examples.

    A result is a function of these alone, so a cached one equals the one that would be
    computed. Each is written whole or not at all; a damaged one is computed again.
    Without a folder nothing is cached.
    """

    def __init__(self, folder: Path | None, weights: str) -> None:
        self.root = None if folder is None else folder / FOLDER
        self.weights = weights
        self.used: list[Path] = []

    def _path(self, name: str) -> Path | None:
        return None if self.root is None else self.root / self.weights / name

    def get(
        self,
        key: Options,
        x: Batch,
        compute: Callable[[], tuple[dict[str, Tensor], Options]],
    ) -> CachedResult:
        """The result for examples x, cached or computed.

        `compute` gives the values and the facts.
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
        digest.update(x.key.numpy().tobytes())
        path = self._path(digest.hexdigest()[:32] + ".safetensors")
        if path is not None and path.is_file():
            with suppress(TightboundError, KeyError, ValueError):
                stored, about = load_weights(path)
                result = CachedResult(
                    stored, _table(about["facts"]), float(about["seconds"])
                )
                if all(len(value) == len(x) for value in stored.values()):
                    self.used.append(path)
                    return result
        start = time.perf_counter()
        values, facts = compute()
        seconds = time.perf_counter() - start
        if path is not None:
            header = {"facts": json.dumps(dict(facts)), "seconds": repr(seconds)}
            self._write(path, lambda: save_weights(path, dict(values), header))
        return CachedResult(values, facts, seconds)

    def decision(self, key: Options, decide: Callable[[], Tree]) -> Tree:
        """The result of `decide`, which may depend on timing; the cached one, if any."""
        content = json.dumps(key, sort_keys=True).encode()
        path = self._path(f"plan-{hashlib.sha256(content).hexdigest()[:16]}.json")
        if path is not None and path.is_file():
            with suppress(ValueError, OSError):
                cached = _table(read_text(path))
                self.used.append(path)
                return cached
        decided = decide()
        if path is not None:
            self._write(path, lambda: write_atomic(path, json.dumps(decided)))
        return decided

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        """Keep a result; without room or permission the evaluation goes on uncached.

        Another evaluation of the run that ends removes the folder when it is empty.
        """
        for _ in range(2):
            with suppress(TightboundError):
                make_folder(path.parent)
                write()
                self.used.append(path)
                return

    def clear(self) -> None:
        """Removes the results that this process read or wrote."""
        for path in self.used:
            remove(path)

    def clear_stale(self) -> None:
        """Removes results of other weights, and empty folders."""
        if self.root is None or not self.root.is_dir():
            return
        with suppress(OSError):  # another evaluation may remove them now, too
            for folder in self.root.iterdir():
                if folder.name != self.weights:
                    shutil.rmtree(folder, ignore_errors=True)
                elif not any(folder.iterdir()):
                    folder.rmdir()
            self.root.rmdir()
