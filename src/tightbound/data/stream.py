"""LoaderSplit: a user's DataLoader or IterableDataset as a training split."""

from __future__ import annotations

from typing import Any


class LoaderSplit:
    pass


def is_stream(source: Any) -> bool:
    """True for a DataLoader or an IterableDataset."""
    from torch.utils.data import DataLoader, IterableDataset

    return isinstance(source, (DataLoader, IterableDataset))
