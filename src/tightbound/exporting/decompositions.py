"""Operators that ONNX lacks, in terms of those that it has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def qr(matrix: Tensor, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """QR decomposition of (..., d, m), m <= d, by Householder reflections, as LAPACK does.

    Golub and Van Loan 2013, Matrix Computations, algorithm 5.2.1. The last column of a square
    matrix is not reflected, so that signs are those of LAPACK.
    """
    d, m = matrix.shape[-2:]
    r = matrix
    rows = torch.arange(d, device=matrix.device)
    reflections = []
    for k in range(min(m, d - 1)):
        column = torch.where(rows >= k, r[..., k], torch.zeros_like(r[..., k]))
        length = column.square().sum(-1, keepdim=True).sqrt()
        first = column[..., k : k + 1]
        beta = torch.where(first < 0, length, -length)
        v = column - beta * (rows == k).to(column)
        scale = 2 / v.square().sum(-1, keepdim=True).clamp(min=1e-30)
        r = _reflected(r, v, scale)
        reflections.append((v, scale))
    q = torch.eye(d, dtype=matrix.dtype, device=matrix.device)[:, :m]
    q = q.expand(*matrix.shape[:-2], d, m)
    for v, scale in reversed(reflections):
        q = _reflected(q, v, scale)
    return q, r[..., :m, :].triu()


def _reflected(matrix: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """(I - scale v v') matrix."""
    along = (v.unsqueeze(-1) * matrix).sum(-2, keepdim=True)
    return matrix - (scale * v).unsqueeze(-1) * along


def searchsorted(edges: Tensor, values: Tensor, **options: object) -> Tensor:
    """Number of edges (..., M) below each value (..., N)."""
    below = edges.unsqueeze(-2) < values.unsqueeze(-1)
    return below.sum(-1)


def solve_triangular(
    matrix: Tensor,
    target: Tensor,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Tensor:
    """Solution X of matrix X = target for a lower triangle, row by row."""
    if upper or not left or unitriangular:
        raise NotImplementedError("only matrix X = target with a lower triangle")
    solved: list[Tensor] = []
    for k in range(matrix.shape[-1]):
        right = target[..., k, :]
        if solved:
            before = torch.stack(solved, -2)
            right = right - (matrix[..., k, :k].unsqueeze(-1) * before).sum(-2)
        solved.append(right / matrix[..., k, k].unsqueeze(-1))
    return torch.stack(solved, -2)


def ndtr(x: Tensor) -> Tensor:
    """Distribution function of the standard normal, of a float32 argument."""
    return (0.5 * (1 + torch.erf(x.float() * 0.5**0.5))).to(x.dtype)


def table() -> dict[object, Callable[..., object]]:
    """The decompositions by operator of torch."""
    aten = torch.ops.aten
    return {
        aten.linalg_qr.default: qr,
        aten.searchsorted.Tensor: searchsorted,
        aten.linalg_solve_triangular.default: solve_triangular,
        aten.special_ndtr.default: ndtr,
    }
