"""Distances between two samples in a feature space: Frechet, KID, kNN manifolds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEIGHBOURS = 5
BLOCKS = 10  # of KID, from which its standard error is taken


def frechet(a: Array, b: Array) -> float:
    """Frechet distance between normals fitted to rows a (n, d) and b (m, d).

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), the squared Wasserstein-2 distance.
    Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).
    """
    return frechet_of(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def frechet_of(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Frechet distance between two normals with these means and covariances."""
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ cov_b @ root).clip(0)
    apart = float(np.square(mean_a - mean_b).sum())
    trace = float(np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross).sum())
    return apart + max(0.0, trace)


def _covariance(x: Array) -> Array:
    centred = x - x.mean(0)
    covariance: Array = centred.T @ centred / max(1, len(x) - 1)
    return covariance


def kernel_distance(a: Array, b: Array) -> float:
    """Squared maximum mean discrepancy with kernel (x . y / d + 1)^3, unbiased (KID).

    Binkowski et al. 2018 (arXiv:1801.01401).
    """
    d = a.shape[1]
    within_a = (a @ a.T / d + 1) ** 3
    within_b = (b @ b.T / d + 1) ** 3
    across = (a @ b.T / d + 1) ** 3
    n = len(a)
    m = len(b)
    first = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    second = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(first + second - 2 * across.mean())


def kernel_distance_error(a: Array, b: Array) -> float | None:
    """Standard error of `kernel_distance`, from ten disjoint blocks of both samples.

    It is that of the mean over blocks, an upper bound of that of the whole. None where
    blocks have fewer than four rows.
    """
    size = min(len(a), len(b)) // BLOCKS
    if size < 4:
        return None
    values = [
        kernel_distance(
            a[i * size : (i + 1) * size],
            b[i * size : (i + 1) * size],
        )
        for i in range(BLOCKS)
    ]
    return float(np.std(values, ddof=1) / np.sqrt(BLOCKS))


def squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances (n, m) between rows a (n, d) and b (m, d)."""
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    distances: Array = (squares - 2 * a @ b.T).clip(0)
    return distances


def manifolds(real: Array, drawn: Array, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage by balls to the k-th nearest neighbour.

    Kynkaanniemi et al. 2019 (arXiv:1904.06991): precision is the share of drawn rows in a
    ball around a real row, recall the share of real rows in a ball around a drawn row.
    Naeem et al. 2020 (arXiv:2002.09797): density is the number of balls around real rows
    that hold a drawn row, over k; coverage the share of these balls that hold one.

    Args:
        real: rows (n, d) of the reference.
        drawn: rows (m, d) of the model.
        k: neighbours, fewer where there are not as many rows.
    """
    radius_real = _radii(real, k)
    radius_drawn = _radii(drawn, k)
    # One tolerance for equal rows, whose squared distance is not exactly 0 by rounding
    apart = squared_distances(real, drawn)
    tolerance = 1e-9 * max(1.0, float(np.square(real).sum(1).max()))
    in_real = apart <= radius_real[:, None] + tolerance
    in_drawn = apart <= radius_drawn + tolerance
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_drawn.any(1).mean()),
        "density": float(in_real.sum(0).mean() / min(k, len(real) - 1)),
        "coverage": float(in_real.any(1).mean()),
    }


def _radii(x: Array, k: int) -> Array:
    """Squared distance of each row to its k-th nearest other row."""
    distances = squared_distances(x, x)
    np.fill_diagonal(distances, np.inf)
    k = min(k, len(x) - 1)
    radii: Array = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii
