"""Make sparse matrices of scipy and torch dense, within the memory limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from tightbound.data.formats.limits import check_declared
from tightbound.data.settings import DataSettings
from tightbound.data.source import SparseMatrix
from tightbound.runtime.errors import TightboundError

_FORMATS = ("csr", "csc", "coo")


def densify(
    x: SparseMatrix | Tensor, settings: DataSettings, what: str
) -> np.ndarray | Tensor:
    """A sparse matrix as a dense one.

    Raises:
        TightboundError: where it would need more than `data.memory`.
    """
    check_dense(tuple(x.shape), x.dtype.itemsize, settings, what)
    if isinstance(x, Tensor):
        return x.detach().cpu().to_dense()
    return x.toarray()


def check_dense(
    shape: tuple[int, ...], itemsize: int, settings: DataSettings, what: str
) -> None:
    """Refuse a sparse matrix that is too large to be made dense."""
    size = math.prod(shape) * itemsize
    needs = f"{what} is sparse, and its {shape} values made dense need"
    check_declared(needs, size, settings, "choose fewer columns")


def is_sparse_file(keys: list[str]) -> bool:
    """True for the arrays that `scipy.sparse.save_npz` writes."""
    return {"format", "shape", "data"} <= set(keys)


def read_sparse(
    arrays: Mapping[str, np.ndarray], path: Path, settings: DataSettings
) -> np.ndarray:
    """The dense matrix of a file of `scipy.sparse.save_npz`.

    Raises:
        TightboundError: for another format than csr, csc and coo, for places outside the
            matrix, and for one that is too large.
    """
    name = str(np.asarray(arrays["format"]).astype(str)).strip()
    what = f"{path} (a sparse matrix in {name or 'no'} format)"
    if name not in _FORMATS:
        raise TightboundError(
            f"{what} is not read: save it as csr, csc or coo, or dense as .npy"
        )
    values = arrays["data"]
    shape = tuple(int(side) for side in arrays["shape"].reshape(-1))
    if len(shape) != 2 or values.ndim != 1 or values.dtype.kind not in "iufb":
        raise TightboundError(f"{what} is no matrix of numbers: save it again")
    if min(shape) < 1:
        raise TightboundError(
            f"{what} of shape {shape} is empty: nothing to learn from"
        )
    check_dense(shape, values.dtype.itemsize, settings, str(path))
    rows, columns = _places(arrays, name, shape, what)
    is_inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    if rows.shape != values.shape or not is_inside.all():
        raise _damaged(what)
    dense = np.zeros(shape, values.dtype)
    np.add.at(dense, (rows, columns), values)
    return dense


def _places(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], what: str
) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each value."""
    wanted = ("row", "col") if name == "coo" else ("indices", "indptr")
    if any(key not in arrays or arrays[key].dtype.kind not in "iu" for key in wanted):
        raise _damaged(what)
    first, second = (arrays[key].reshape(-1).astype(np.int64) for key in wanted)
    if name == "coo":
        if len(first) != len(second):
            raise _damaged(what)
        return first, second
    line = _lines(second, shape[0] if name == "csr" else shape[1], len(first), what)
    return (line, first) if name == "csr" else (first, line)


def _lines(starts: np.ndarray, lines: int, count: int, what: str) -> np.ndarray:
    """The line of each of the values by the places where the lines start."""
    counts = np.diff(starts)
    is_whole = len(starts) == lines + 1 and starts[0] == 0 and starts[-1] == count
    if not is_whole or (counts < 0).any():
        raise _damaged(what)
    return np.repeat(np.arange(lines), counts)


def _damaged(what: str) -> TightboundError:
    return TightboundError(f"{what} has places outside of it: save it again")
