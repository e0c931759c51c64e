"""Conformal p-values and the Benjamini-Hochberg procedure."""

from __future__ import annotations

import numpy as np

from tightbound.runtime.errors import TightboundError

Array = np.ndarray


def conformal_p_values(calibration: Array, scores: Array, seed: int) -> Array:
    """Conformal p-values of scores against those of held-out inliers.

    p(x) = (1 + number of calibration scores that rank at or below that of x) / (n + 1)

    with ties ranked at random. For x from the distribution of the n calibration examples, p is
    uniform on 1/(n + 1), ..., 1, and independent of how good the score is. Vovk, Gammerman
    and Shafer 2005, "Algorithmic Learning in a Random World"; Bates et al. 2023
    (arXiv:2104.08279).

    Args:
        calibration: Scores of n inliers that the model was not trained on, higher is more
            normal.
        scores: Scores (m,) of examples to test.
        seed: Of the ranks of ties.

    Returns:
        (m,), from 1/(n + 1) to 1; small for an outlier.

    Raises:
        TightboundError: There are no calibration scores.
    """
    n = len(calibration)
    if n == 0:
        raise TightboundError(
            "p-values need held-out examples to compare with: there are none"
        )
    ordered = np.sort(np.asarray(calibration, dtype=np.float64))
    scores = np.asarray(scores, dtype=np.float64)
    below = np.searchsorted(ordered, scores, side="left")
    equal = np.searchsorted(ordered, scores, side="right") - below
    # the rank of x among its ties: 0 to `equal` of them come before it
    before = np.random.default_rng(seed).integers(0, equal, endpoint=True)
    return (1 + below + before) / (n + 1)


def check_level(level: float) -> None:
    """Refuse a false discovery rate that is none.

    Raises:
        TightboundError: It is not above 0 and below 1.
    """
    if not 0 < level < 1:
        raise TightboundError(
            f"level = {level} cannot be used: give a false discovery rate above 0 and below 1"
        )


def benjamini_hochberg(p_values: Array, level: float) -> Array:
    """The hypotheses that Benjamini and Hochberg's procedure rejects.

    Those with the r smallest of m p-values, r being the largest number with
    p_(r) <= level r / m. Of conformal p-values the expected share of inliers among them is at
    most `level` (Bates et al. 2023, theorem 2). Benjamini and Hochberg 1995
    (doi:10.1111/j.2517-6161.1995.tb02031.x).

    Args:
        p_values: (m,).
        level: The false discovery rate, above 0 and below 1.

    Returns:
        Booleans (m,), True where rejected.

    Raises:
        TightboundError: The level is out of range.
    """
    check_level(level)
    p_values = np.asarray(p_values, dtype=np.float64)
    m = len(p_values)
    ordered = np.sort(p_values)
    small = np.nonzero(ordered <= level * np.arange(1, m + 1) / m)[0]
    if len(small) == 0:
        return np.zeros(m, dtype=bool)
    rejected: Array = p_values <= ordered[small[-1]]
    return rejected
