"""Features (n, latent) from the tables that `encode` writes: CSV and parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tightbound.runtime.errors import TightboundError, cut, nearest, shortened
from tightbound.runtime.foreign_errors import first_line

ENDINGS = (".csv", ".parquet")


def read_features(path: Path, names: Sequence[str]) -> NDArray[np.float32]:
    """The columns of these names side by side (n, latent).

    Raises:
        TightboundError: for a file that cannot be read, that lacks a column, or that has
            a cell that is no number.
    """
    import pandas

    try:
        if path.suffix.lower() == ".csv":
            table = pandas.read_csv(path)
        else:
            table = pandas.read_parquet(path)
    except FileNotFoundError:
        raise TightboundError(
            f"there is no file {cut(path)}: name one that encode wrote"
        ) from None
    except Exception as error:  # pandas and pyarrow raise many kinds
        raise TightboundError(
            f"{cut(path)} is no table of features ({first_line(error)}): write it with encode"
        ) from None
    missing = [name for name in names if name not in table]
    if missing:
        raise TightboundError(
            f"{cut(path)} has no column {shortened(missing[0])} of features, as encode writes "
            f"for this model: {nearest(missing[0], map(str, table.columns))}"
        )
    try:
        numbers: NDArray[np.float32] = table[list(names)].to_numpy(dtype=np.float32)
        return numbers
    except ValueError as error:
        raise TightboundError(
            f"{cut(path)} has features that are no numbers ({first_line(error)}): correct them"
        ) from None
