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
from typing import Any

from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.evaluation.estimators.estimate import Options
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
class CachedResult:
    """Tensors with a row per example, facts as JSON, and the seconds that they took."""

    values: Mapping[str, Tensor]
    facts: Options
    seconds: float


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
                stored_facts = json.loads(about["facts"])
                self.used.append(path)
                return CachedResult(stored, stored_facts, float(about["seconds"]))
        start = time.perf_counter()
        values, facts = compute()
        seconds = time.perf_counter() - start
        if path is not None:
            make_folder(path.parent)
            header = {"facts": json.dumps(dict(facts)), "seconds": repr(seconds)}
            save_weights(path, dict(values), header)
            self.used.append(path)
        return CachedResult(values, facts, seconds)

    def decision(
        self, key: Options, decide: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result of `decide`, which may depend on timing; the cached one, if any."""
        content = json.dumps(key, sort_keys=True).encode()
        path = self._path(f"plan-{hashlib.sha256(content).hexdigest()[:16]}.json")
        if path is not None and path.is_file():
            with suppress(ValueError, OSError):
                cached: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                self.used.append(path)
                return cached
        decided = decide()
        if path is not None:
            make_folder(path.parent)
            write_atomic(path, json.dumps(decided))
            self.used.append(path)
        return decided

    def clear(self) -> None:
        """Removes the results that this process read or wrote."""
        for path in self.used:
            remove(path)

    def clear_stale(self) -> None:
        """Removes results of other weights, and empty folders."""
        if self.root is None or not self.root.is_dir():
            return
        for folder in self.root.iterdir():
            if folder.name != self.weights or not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            self.root.rmdir()
