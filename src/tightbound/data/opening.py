"""open_source: from whatever the user names to a Source; the one place that knows which reader serves what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.data.builtin import BUILTIN
from tightbound.data.part import Part, Source, as_tensor, read_labels, sha256_of
from tightbound.data.settings import DataSettings
from tightbound.errors import TightboundError, nearest


def open_source(source: Any, settings: DataSettings) -> Source:
    """Reads a built-in name, a path, an array, a tensor, an (x, y) tuple or a map-style Dataset."""
    if isinstance(source, str) and source in BUILTIN:
        found = BUILTIN[source].read(settings)
    elif isinstance(source, (str, Path)):
        raise TightboundError(f"no file, folder or built-in set {source!r}: {nearest(str(source), BUILTIN)}")
    else:
        found = _in_memory(source, settings)
    return found


def _in_memory(source: Any, settings: DataSettings) -> Source:
    if isinstance(source, tuple) and len(source) == 2:
        return from_arrays(source[0], source[1], "the array")
    return from_arrays(source, None, "the array")


def from_arrays(x: Any, y: Any, what: str) -> Source:
    """A source over an array or tensor, uncopied, and its labels."""
    notices: list[str] = []
    rows = as_tensor(x, what, notices)
    labels, names = read_labels(y, len(rows), what, notices)
    return Source(
        "array", what, {"all": Part(rows, labels)}, sha256_of(rows, labels), label_names=names, notices=notices
    )
